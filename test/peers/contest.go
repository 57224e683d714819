package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"xmig/cmd/xmig/bench"
)

// contest is one measurement of all tools.
type contest struct {
	m      *machine
	d      *daemons
	xmig   string // binary
	dir    string // where the disks lie
	size   int64
	rounds int
	needed bool    // no tools but those that bars speak of
	turns  string  // file to lock during each run
	quiet  float64 // a run during which others had more of the machine is repeated,
	again  int     // so often at most
	log    io.Writer
}

// result is one run of one tool.
type result struct {
	Workload string `json:"workload"`
	Tool     string `json:"tool"`
	Round    int    `json:"round"`
	Bytes    int64  `json:"bytes"` // of all disks together
	Disks    int    `json:"disks"`
	Lanes    int    `json:"lanes"`
	cost
	SourcePeak      int64 `json:"source_peak_rss_bytes,omitempty"`      // of xmig's processes
	DestinationPeak int64 `json:"destination_peak_rss_bytes,omitempty"` //
	Read            int64 `json:"read_bytes,omitempty"`                 // of both disks, as xmig counts
}

// workload is what lies at both ends before a tool runs.
type workload struct {
	name    string
	changes func(size int64) []bench.Span // since both were equal
	blank   bool                          // the destination is all zeroes, written
	copies  bool                          // both must be equal afterwards
}

// share of the disk that W3 and W3b change.
const share = 0.02

const (
	imageSeed   = 1
	contentSeed = 1 << 32
)

func scattered(size int64) []bench.Span { return bench.Scattered(size, share, 2) }
func clustered(size int64) []bench.Span { return bench.Clustered(size, share, 3) }
func nothing(int64) []bench.Span        { return nil }

// workloads in the order of a round; tools say which of them they are in.
func workloads() []workload {
	return []workload{
		{"W1", nothing, true, true},
		{"W2", nothing, false, true},
		{"W3", scattered, false, true},
		{"W3b", clustered, false, true},
		{"D", scattered, false, true},
		{"lane", nothing, false, false},
	}
}

// run measures every tool in every workload, in turn, round after round.
func (c *contest) run(ctx context.Context, only []string) (all []result, err error) {
	fmt.Fprintf(c.log, "images of %d MiB in %s\n", c.size>>20, c.dir)
	stage, err := bench.NewStage(c.dir, "xvda", bench.Usual(c.size, imageSeed))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Remove()) }()
	for round := range c.rounds {
		runs, err := c.round(ctx, stage, round, only)
		all = append(all, runs...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// round gives every tool one run in each of its workloads.
func (c *contest) round(ctx context.Context, stage *bench.Stage, round int, only []string) (all []result, err error) {
	for _, w := range workloads() {
		if len(only) > 0 && !slices.Contains(only, w.name) {
			continue
		}
		for _, t := range tools() {
			if !t.measured(w.name, c.needed) {
				continue
			}
			r, err := c.quietest(ctx, stage, w, t)
			if err != nil {
				return all, fmt.Errorf("%s, %s: %w", w.name, t.name, err)
			}
			r.Workload, r.Tool, r.Round, r.Bytes, r.Disks, r.Lanes = w.name, t.name, round+1, c.size, 1, 1
			all = append(all, r)
			c.tell(r)
		}
	}
	return all, nil
}

// turn waits for this machine's turn, if work takes turns here.
func (c *contest) turn(ctx context.Context) (done func(), err error) {
	if c.turns == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(c.turns, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { f.Close() }, nil // which lets it go
		case err != unix.EWOULDBLOCK && err != unix.EINTR:
			return nil, errors.Join(fmt.Errorf("lock %s: %w", c.turns, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(turnEvery):
		}
	}
}

// turnEvery is how often a lock that others have is tried.
const turnEvery = 100 * time.Millisecond

// tell says how a run went.
func (c *contest) tell(r result) {
	fmt.Fprintf(c.log, "round %d of %d  %-9s %-18s %6.2f GiB  wall %6.2f s  CPU %5.2f + %5.2f s  wire %8.2f MiB  others %2.0f %%\n", r.Round, c.rounds, r.Workload, r.Tool,
		gib(r.Bytes), r.Wall.Seconds(), r.Source.Seconds(), r.Destination.Seconds(), float64(r.Wire)/(1<<20), 100*r.Others)
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// quietest repeats a run that others disturbed, and keeps the one that they
// disturbed least. Which one that is has nothing to do with how well it went.
func (c *contest) quietest(ctx context.Context, s *bench.Stage, w workload, t tool) (best result, err error) {
	for try := range c.again + 1 {
		r, err := c.once(ctx, s, w, t)
		if err != nil {
			return r, err
		}
		if try == 0 || r.Others < best.Others {
			best = r
		}
		if best.Others <= c.quiet {
			break
		}
	}
	return best, nil
}

// once has one tool do one workload. Whatever the last one left, both ends are
// as the workload wants them when it starts.
func (c *contest) once(ctx context.Context, s *bench.Stage, w workload, t tool) (r result, err error) {
	done, err := c.turn(ctx)
	if err != nil {
		return r, err
	}
	defer done()
	if err := ready(s, w); err != nil {
		return r, err
	}
	if r, err = t.run(ctx, c, s); err != nil {
		return r, err
	}
	if w.copies {
		err = s.Compare()
	}
	return r, errors.Join(err, s.Undo())
}

func ready(s *bench.Stage, w workload) error {
	if w.blank {
		return s.Blank()
	}
	if err := s.Equalize(); err != nil {
		return err
	}
	return s.Change(w.changes(s.Image.Size), contentSeed)
}
