package bench

import (
	"context"
	"errors"
	"fmt"

	"xmig/blocksync"
)

// Series is what `xmig bench` measures: every workload and every floor, once
// in each round, so that a machine that is busy for a while is so for all.
type Series struct {
	Dir     string
	Size    int64
	Rounds  int
	Options Options
	// Tell, if not nil, hears what is being done.
	Tell func(what string)
}

// Measured is one workload or floor and all its runs.
type Measured struct {
	Name    string
	Floor   bool
	Bytes   int64 // what CPU time and rate are per: the disk, or what was moved
	Changed int64 // of the disk, since both ends were equal
	Runs    []Run
}

// changedShare of the disk is what scattered and clustered changes make up.
const changedShare = 0.02

// seeds of the workloads; any would do, as long as they stay.
const (
	imageSeed     = 1
	scatteredSeed = 2
	clusteredSeed = 3
	contentSeed   = 1 << 32
)

// step is one measurement of a round.
type step struct {
	name    string
	floor   bool
	changes []Span
	prepare func() error // of the images, before the run
	run     func(p *Pair) (Run, error)
	restore func() error // after it; nil: nothing was changed
	copies  bool         // both images must be equal afterwards
}

// Run measures. The images are removed at the end.
func (s Series) Run(ctx context.Context) (all []Measured, err error) {
	s.tell("writing images of %d MiB", s.Size>>20)
	stage, err := NewStage(s.Dir, "xvda", Usual(s.Size, imageSeed))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Remove()) }()
	steps := s.steps(stage)
	all = make([]Measured, len(steps))
	for round := range s.Rounds {
		for i, st := range steps {
			s.tell("round %d of %d: %s", round+1, s.Rounds, st.name)
			r, err := s.measure(ctx, stage, st)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", st.name, err)
			}
			all[i].Name, all[i].Floor, all[i].Bytes, all[i].Changed = st.name, st.floor, s.Size, Total(st.changes)
			all[i].Runs = append(all[i].Runs, r)
		}
	}
	return all, nil
}

func (s Series) tell(format string, args ...any) {
	if s.Tell != nil {
		s.Tell(fmt.Sprintf(format, args...))
	}
}

func (s Series) steps(st *Stage) []step {
	sync := func(set Settings) func(*Pair) (Run, error) {
		return func(p *Pair) (Run, error) { return p.Sync(st.Lane(), set) }
	}
	pump := func(f Floor) func(*Pair) (Run, error) {
		return func(p *Pair) (Run, error) { return p.Pump(f, s.Size) }
	}
	change := func(spans []Span) func() error {
		return func() error { return st.Change(spans, contentSeed) }
	}
	back := func() error { return errors.Join(st.Undo(), st.Equalize()) }
	scattered := Scattered(s.Size, changedShare, scatteredSeed)
	clustered := Clustered(s.Size, changedShare, clusteredSeed)
	plain := Settings{Compress: blocksync.CompressOff}
	return []step{
		{name: "seed", prepare: st.Blank, run: sync(plain), copies: true},
		{name: "seed, compressed", prepare: st.Blank, run: sync(Settings{Compress: blocksync.CompressOn}), copies: true},
		{name: "unchanged", run: sync(plain), copies: true},
		{name: "scattered", changes: scattered, prepare: change(scattered), run: sync(plain), restore: back, copies: true},
		{name: "clustered", changes: clustered, prepare: change(clustered), run: sync(plain), restore: back, copies: true},
		{name: "TCP", floor: true, run: pump(RawTCP)},
		{name: "TCP with TLS", floor: true, run: pump(TLSTCP)},
		{name: "lane alone", floor: true, run: pump(BareLane)},
		{name: "digest, one core", floor: true, run: func(p *Pair) (Run, error) { return p.Digest(s.Size) }},
		{name: "read, one reader", floor: true, run: func(p *Pair) (Run, error) { return p.Read(st.Source) }},
	}
}

// measure does one step with two new processes.
func (s Series) measure(ctx context.Context, stage *Stage, st step) (r Run, err error) {
	if st.prepare != nil {
		if err := st.prepare(); err != nil {
			return r, err
		}
	}
	if r, err = once(ctx, s.Options, st.run); err != nil {
		return r, err
	}
	if st.copies {
		err = stage.Compare()
	}
	if err == nil && st.restore != nil {
		err = st.restore()
	}
	return r, err
}

// once runs with a pair of its own.
func once(ctx context.Context, o Options, run func(*Pair) (Run, error)) (r Run, err error) {
	p, err := StartPair(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return run(p)
}
