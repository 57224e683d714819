package main

import (
	"context"
	"errors"
	"fmt"

	"xmig/blocksync"
	"xmig/cmd/xmig/bench"
)

// Workloads of xmig alone.
const (
	sizeSeed      = "size W1" // one disk, several sizes, on a disk and not in memory
	sizeUnchanged = "size W2"
	disksSeed     = "disks W1" // the same bytes as one disk, or as many, over one lane
	disksSame     = "disks W2"
	lanesSeed     = "lanes W1" // several lanes into one process
	articleFirst  = "A first"
	articleSecond = "A second"
)

// off: one setting for all bars but those of compression.
var off = bench.Settings{Compress: blocksync.CompressOff}

// sync measures lanes with two new processes and compares all disks.
func (c *contest) sync(ctx context.Context, name string, round int, stages []*bench.Stage, lanes []bench.Lane, set bench.Settings) (result, error) {
	done, err := c.turn(ctx)
	if err != nil {
		return result{}, err
	}
	defer done()
	r, err := c.pair(ctx, bench.Options{}, func(p *bench.Pair) (bench.Run, error) { return p.Sync(lanes, set) })
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	for _, s := range stages {
		if err := s.Compare(); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		r.Bytes += s.Image.Size
	}
	r.Workload, r.Tool, r.Round, r.Disks, r.Lanes = name, xmigOff, round+1, len(stages), len(lanes)
	c.tell(r)
	return r, nil
}

// sizes measures W1 and W2 of disks of several sizes.
func (c *contest) sizes(ctx context.Context, dir string, sizes []int64) (all []result, err error) {
	for _, size := range sizes {
		if err := c.sized(ctx, dir, size, &all); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (c *contest) sized(ctx context.Context, dir string, size int64, all *[]result) (err error) {
	s, err := bench.NewStage(dir, "xvda", bench.Usual(size, imageSeed))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Remove()) }()
	for round := range c.rounds {
		if round > 0 {
			if err := s.Blank(); err != nil {
				return err
			}
		}
		for _, name := range []string{sizeSeed, sizeUnchanged} { // the first makes both ends equal
			r, err := c.sync(ctx, name, round, []*bench.Stage{s}, s.Lane(), off)
			if err != nil {
				return err
			}
			*all = append(*all, r)
		}
	}
	return nil
}

// many measures the same bytes as 1, 4 and 16 disks over one lane, in turn.
func (c *contest) many(ctx context.Context, counts []int) (all []result, err error) {
	for round := range c.rounds {
		for _, n := range counts {
			stages, lane, err := c.stages(n, c.size/int64(n))
			if err == nil {
				for _, name := range []string{disksSeed, disksSame} {
					var r result
					if r, err = c.sync(ctx, name, round, stages, []bench.Lane{lane}, off); err != nil {
						break
					}
					all = append(all, r)
				}
			}
			if err := errors.Join(err, removeAll(stages)); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// lanes seeds n disks at once, each over a lane of its own, as n migrations do.
func (c *contest) lanes(ctx context.Context, counts []int) (all []result, err error) {
	for round := range c.rounds {
		for _, n := range counts {
			stages, one, err := c.stages(n, c.size/4)
			var lanes []bench.Lane
			for i, d := range one.Disks {
				lanes = append(lanes, bench.Lane{Job: fmt.Sprintf("bench%d", i), Disks: []bench.Disk{d}})
			}
			if err == nil {
				var r result
				if r, err = c.sync(ctx, lanesSeed, round, stages, lanes, off); err == nil {
					all = append(all, r)
				}
			}
			if err := errors.Join(err, removeAll(stages)); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// stages makes n disks and the lane that has them all.
func (c *contest) stages(n int, size int64) (all []*bench.Stage, lane bench.Lane, err error) {
	lane.Job = "bench"
	for i := range n {
		s, err := bench.NewStage(c.dir, fmt.Sprintf("disk%d", i), bench.Usual(size, imageSeed+uint64(i)))
		if err != nil {
			return all, lane, err
		}
		all = append(all, s)
		lane.Disks = append(lane.Disks, s.Disk())
	}
	return all, lane, nil
}

func removeAll(stages []*bench.Stage) error {
	var errs []error
	for _, s := range stages {
		errs = append(errs, s.Remove())
	}
	return errors.Join(errs...)
}

// article moves the machine of the old article twice: 40 % zero, onto new
// files, and again after 1 % of it has changed. Settings are a worker's.
func (c *contest) article(ctx context.Context, dir string, sizes []int64) (all []result, err error) {
	var stages []*bench.Stage
	defer func() { err = errors.Join(err, removeAll(stages)) }()
	lane := bench.Lane{Job: "bench"}
	for i, size := range sizes {
		fmt.Fprintf(c.log, "A: disk %d of %d\n", i+1, len(sizes))
		s, err := bench.NewStage(dir, fmt.Sprintf("xvd%c", 'a'+i), bench.Image{Size: size, Seed: imageSeed + uint64(i), Zero: 0.4, Random: 0.3})
		if err != nil {
			return nil, err
		}
		stages, lane.Disks = append(stages, s), append(lane.Disks, s.Disk())
		if err := s.Fresh(); err != nil {
			return nil, err
		}
	}
	first, err := c.sync(ctx, articleFirst, 0, stages, []bench.Lane{lane}, bench.Settings{})
	if err != nil {
		return nil, err
	}
	for i, s := range stages {
		if err := s.Change(bench.Scattered(s.Image.Size, 0.01, uint64(i)), contentSeed); err != nil {
			return nil, err
		}
	}
	second, err := c.sync(ctx, articleSecond, 0, stages, []bench.Lane{lane}, bench.Settings{})
	return []result{first, second}, err
}
