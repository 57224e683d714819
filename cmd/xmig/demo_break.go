package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/xen/xlsim"
)

// The negative controls: each spoils one thing of the first VM's migration, so
// that whoever runs the demo sees that it is noticed. Nothing in coordinator,
// worker or data path knows of them. They use what a simulated host can do: its
// `xl` is made slow at two moments, and meanwhile the copy is tampered with
// behind everybody's back.
//
//	save at the source slow     the destination's disks are as the last delta
//	                            pass left them: kept, for skip-delta
//	unpause at the destination  the copy is whole, promised and paused: spoiled
//	slow
const (
	slowSave    = 4 * time.Second
	slowUnpause = 6 * time.Second
)

// sabotage is one negative control on its way.
type sabotage struct {
	d    *simulation
	gu   guest
	disk int    // the one that is kept and put back
	kept string // copy of it before the final pass
	seen []show.Finding
	stop context.CancelFunc
	run  *errgroup.Group
}

// sabotage begins to watch the job, and strikes when its time has come. With
// nothing to break it does nothing.
func (d *simulation) sabotage(ctx context.Context, job string) (*sabotage, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &sabotage{d: d, gu: d.guests[0], stop: stop, run: &errgroup.Group{}}
	if d.cmd.Break == "" {
		return s, nil
	}
	for i, size := range d.cmd.Disks {
		if size < d.cmd.Disks[s.disk] {
			s.disk = i // the smallest is copied quickest
		}
	}
	err := errors.Join(d.slow(s.gu.from, "save", slowSave), d.slow(s.gu.to, "unpause", slowUnpause))
	if err != nil {
		stop()
		return nil, err
	}
	// A step is never waited for: the watch must not be held up by a copy.
	steps := make(chan jobs.StepName, 4*len(jobs.Steps()))
	s.run.Go(func() error { return s.strike(ctx, steps) })
	s.run.Go(func() error {
		defer close(steps)
		var last jobs.StepName
		_ = d.bus.Records().WatchOne(ctx, job, func(r jobs.Record) { // ends with ctx
			if r.Step != last && len(steps) < cap(steps) {
				last = r.Step
				steps <- last
			}
			if r.State.Final() {
				stop()
			}
		})
		return nil
	})
	return s, nil
}

func (d *simulation) slow(host, command string, by time.Duration) error {
	return xlsim.ChangeHost(d.host(host), func(h *xlsim.HostSpec) {
		if h.Delays == nil {
			h.Delays = map[string]time.Duration{}
		}
		h.Delays[command] = by
	})
}

// end says if the strike never came, or failed. The job has ended.
func (s *sabotage) end() error {
	s.stop()
	if err := s.run.Wait(); err != nil {
		return fmt.Errorf("--break %s could not be carried out: %w", s.d.cmd.Break, err)
	}
	return nil
}

func (s *sabotage) strike(ctx context.Context, steps <-chan jobs.StepName) error {
	for step := range steps {
		switch step {
		case jobs.Stream:
			if s.d.cmd.Break == "skip-delta" {
				if err := s.keep(); err != nil {
					return err
				}
			}
		case jobs.Resume:
			if err := s.awaitUnpause(ctx); err != nil {
				return err
			}
			return s.spoil(ctx)
		}
	}
	return errors.New("the job never came to its resume step")
}

// awaitUnpause gives the worker the moment from the step's beginning to its
// slow `xl unpause`: it looks at the paused copy once more before.
func (s *sabotage) awaitUnpause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(slowUnpause / 3):
		return nil
	}
}

func (s *sabotage) spoil(ctx context.Context) error {
	host, name := s.d.host(s.gu.to), s.gu.name
	switch s.d.cmd.Break {
	case "skip-delta":
		return errors.Join(s.putBack(), s.look(ctx))
	case "stale-page":
		return errors.Join(xlsim.StalePage(ctx, host, name), s.look(ctx))
	case "drop-record":
		return errors.Join(xlsim.DropRecord(ctx, host, name), s.look(ctx))
	case "two-copies":
		domains, err := xlsim.Domains(s.d.host(s.gu.from))
		if err != nil {
			return err
		}
		for _, dom := range domains {
			if dom.UUID == s.gu.uuid {
				return simulatedXL(ctx, s.d.self, s.d.host(s.gu.from), "unpause", fmt.Sprint(dom.ID))
			}
		}
		return fmt.Errorf("%s has no copy any more", s.gu.from)
	}
	return fmt.Errorf("no way to break %q", s.d.cmd.Break)
}

// look judges the copy as it arrived, while it stands still: one page or record
// may be written over by the guest, rightly, before the demo looks at its end.
func (s *sabotage) look(ctx context.Context) error {
	seen, err := s.d.content(ctx, s.gu)
	if err != nil {
		seen = oneLine(err)
	}
	s.seen = append(s.seen, show.Finding{What: "content on arrival", OK: err == nil, Seen: seen})
	return nil
}

// keep copies the disk at the destination as the last delta pass left it.
func (s *sabotage) keep() error {
	s.kept = filepath.Join(s.d.dir, "before-final-pass.img")
	return copyFile(s.kept, s.d.diskPath(s.gu.to, s.gu, s.disk))
}

// putBack undoes the final pass: as if it had never been made.
func (s *sabotage) putBack() error {
	if s.kept == "" {
		return errors.New("no disk was kept before the final pass")
	}
	return copyFile(s.d.diskPath(s.gu.to, s.gu, s.disk), s.kept)
}

// copyFile overwrites to in place: the guest has it open.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}
