package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"xmig/jobs"
	"xmig/xen"
)

// Up to Xen 4.19 the monitor of a domain, the xl that carries out what its
// config wants at its end, is gone once the guest was suspended. A guest that ran
// on after an abort would not come back from a reboot, and its domain would stay
// behind after a poweroff. So this worker does for such guests what their
// monitor did, until their domain is gone. A file each keeps them over restarts.
//
// Whatever the Xen, such a guest may still answer the request to suspend that was
// taken back (xen.MaySuspendLate). Where the worker that waited for it died, it
// is woken here.

// watched is a guest that runs on after it was, or was to be, suspended.
type watched struct {
	VM        jobs.VMRef
	DomID     int
	Config    string // what a restart boots from; empty: nothing does
	On        xen.Endings
	Monitored bool      // its xl still sees to its end
	Since     time.Time // of the attempt's end
}

func (n *Node) watchedDir() string { return filepath.Join(n.cfg.StateDir, "watched") }

func (n *Node) watchedPath(vm jobs.VMRef) string {
	return filepath.Join(n.watchedDir(), vm.UUID+".json")
}

// standIn takes the monitor's place for a guest that runs on after it was suspended.
func (n *Node) standIn(ctx context.Context, job jobs.Job) error {
	info, err := n.xl.Info(ctx)
	if err != nil {
		return err
	}
	dom, err := n.domain(ctx, job.VM)
	if err != nil {
		return err
	}
	cfg, err := n.xl.Config(ctx, dom.ID)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(watched{VM: job.VM, DomID: dom.ID, Config: job.Plan.Guest.Config, On: cfg.On,
		Monitored: info.Version.AtLeast(xen.MonitorSurvivesSince), Since: n.now()})
	if err != nil {
		return err
	}
	return writeDurably(n.watchedPath(job.VM), raw, 0o600)
}

// watchEvery is how often guests without a monitor are looked at.
const watchEvery = time.Second

// watcher looks after them. Whether a guest has a monitor cannot be asked: one
// whose migration ended before it was suspended has its own still. That acts at
// once, so a domain that stays behind for a while has none.
type watcher struct {
	*Node
	ended map[int]time.Time // domains whose guest has ended, since when
}

// watchGuests is the monitor of all guests that lost theirs.
func (n *Node) watchGuests(ctx context.Context) error {
	w := &watcher{n, map[int]time.Time{}}
	for took := time.Duration(0); sleep(ctx, xen.AskAgain(watchEvery, took)) == nil; {
		begin := time.Now()
		if err := w.watchOnce(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn().Err(err).Msg("a guest without a monitor could not be looked after; trying again")
		}
		took = time.Since(begin)
	}
	return nil
}

func (n *watcher) watchOnce(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(n.watchedDir(), "*.json"))
	if err != nil || len(files) == 0 {
		return err
	}
	all, err := n.domains(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var g watched
		if err == nil {
			err = json.Unmarshal(raw, &g)
		}
		if err == nil {
			err = n.watchGuest(ctx, g, all)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
		}
	}
	return errors.Join(errs...)
}

// watchGuest does what the guest's config wants at its end, where nobody else
// does, and wakes one that was suspended too late.
func (n *watcher) watchGuest(ctx context.Context, g watched, all []xen.Domain) error {
	dom, there := xen.Domain{}, false
	for _, d := range all {
		if d.ID == g.DomID && d.UUID == g.VM.UUID {
			dom, there = d, true
		}
	}
	if !there {
		delete(n.ended, g.DomID)
		return removeIfThere(n.watchedPath(g.VM))
	}
	// Behind that time a guest that stands was suspended by somebody: an image of
	// it is being written, and if it ran on it would be older than its disks.
	mayBeLate := n.now().Sub(g.Since) <= lateSuspend
	switch {
	case dom.State.Suspended() && mayBeLate:
		return n.wakeLate(ctx, g)
	case g.Monitored && !mayBeLate:
		return removeIfThere(n.watchedPath(g.VM))
	case g.Monitored:
		return nil
	}
	ending, ended := dom.State.Ending()
	since, known := n.ended[g.DomID]
	switch {
	case !ended:
		delete(n.ended, g.DomID)
		return nil
	case !known:
		n.ended[g.DomID] = n.now()
		return nil
	case n.now().Sub(since) < n.cfg.MonitorWait:
		return nil
	}
	return n.hold(ctx, g.VM, func(h *held) error {
		// Under the lock it may have been taken away meanwhile, by its own move too.
		now, err := n.domain(ctx, g.VM)
		if err != nil || now.ID != g.DomID || now.State != dom.State {
			return err
		}
		what := g.On.For(ending)
		n.log.Info().Str("vm", g.VM.Name).Str("ending", string(ending)).Str("action", what).Msg("a guest without a monitor has ended")
		if what == xen.ActionPreserve {
			return removeIfThere(n.watchedPath(g.VM))
		}
		if err := h.xl.Destroy(ctx, now.ID); err != nil && !errors.Is(err, xen.ErrNoDomain) {
			return err
		}
		if what == xen.ActionRestart {
			if g.Config == "" {
				return fmt.Errorf("vm %s rebooted and has no config to boot from: start it by hand", g.VM.Name)
			}
			job := jobs.Job{ID: "watched-" + g.VM.UUID, VM: g.VM}
			if err := n.boot(ctx, h, job, g.Config, xen.Running); err != nil { // with a monitor of its own
				return err
			}
		}
		return removeIfThere(n.watchedPath(g.VM))
	})
}

// wakeLate has a guest run on that was suspended though its last attempt was
// taken back. One that is being moved is left to whoever moves it.
func (n *watcher) wakeLate(ctx context.Context, g watched) error {
	ours := func(said jobs.Journal) bool { return jobs.MayResume(said, said.Highest()) == nil }
	_, entries, err := n.open(g.VM)
	if err != nil || !ours(promises(entries)) {
		return err // looked at first: a move may hold the lock for long
	}
	return n.hold(ctx, g.VM, func(h *held) error {
		now, err := n.domain(ctx, g.VM)
		if err != nil || now.ID != g.DomID || !now.State.Suspended() || !ours(h.said) {
			return err
		}
		n.log.Info().Str("vm", g.VM.Name).Msg("a guest was suspended after its move was taken back; it is woken")
		return n.src.wake(ctx, h, now)
	})
}
