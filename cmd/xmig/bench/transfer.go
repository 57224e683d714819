package bench

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"xmig/blocksync"
	"xmig/bus"
)

// receive opens the lanes, tells their tickets, and writes all disks.
func (e *end) receive(ctx context.Context, o order) (a answer, err error) {
	if e.lanes == nil {
		return a, errors.New("no server of the lanes was started")
	}
	var ends []*bus.LaneEnd
	defer func() {
		for _, l := range ends {
			l.Close()
		}
	}()
	var first answer
	for _, l := range o.Lanes {
		lane, ticket, err := e.lanes.Open(ctx, bus.LaneSpec{Job: l.Job, Epoch: 1, Channels: channels(l)})
		if err != nil {
			return a, err
		}
		ends = append(ends, lane)
		first.Tickets = append(first.Tickets, ticket)
	}
	g, gctx := errgroup.WithContext(ctx)
	devices, err := openAll(o.Lanes, func(d Disk) (*blocksync.Device, error) { return blocksync.OpenDestination(d.Destination) })
	defer func() { err = errors.Join(err, closeAll(devices)) }()
	if err != nil {
		return a, err
	}
	a.Disks = make([]Disk, len(devices))
	each(o.Lanes, func(i, lane int, d Disk) {
		g.Go(func() error {
			r, err := blocksync.Receive(gctx, ends[lane].Channel(d.Name), devices[i], o.Settings.sync(d))
			d.Counts, d.Root = r.Counts, r.Root
			a.Disks[i] = d
			return err
		})
	})
	if err := e.ready(first); err != nil {
		return a, err
	}
	if err := g.Wait(); err != nil {
		return a, err
	}
	return a, left(ctx, ends)
}

// left waits until the source has closed its lanes: what was said last may
// still be on its way, and goes with the lane.
func left(ctx context.Context, ends []*bus.LaneEnd) error {
	for _, l := range ends {
		select {
		case <-l.Lost():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// send enters the lanes and sends all disks, each in one final pass.
func (e *end) send(ctx context.Context, o order) (a answer, err error) {
	if len(o.Tickets) != len(o.Lanes) {
		return a, fmt.Errorf("%d tickets for %d lanes", len(o.Tickets), len(o.Lanes))
	}
	var ends []*bus.LaneEnd
	defer func() {
		for _, l := range ends {
			l.Close()
		}
	}()
	for _, t := range o.Tickets {
		lane, err := bus.DialLane(ctx, t, e.log)
		if err != nil {
			return a, err
		}
		ends = append(ends, lane)
	}
	devices, err := openAll(o.Lanes, func(d Disk) (*blocksync.Device, error) { return blocksync.OpenSource(d.Source) })
	defer func() { err = errors.Join(err, closeAll(devices)) }()
	if err != nil {
		return a, err
	}
	a.Disks = make([]Disk, len(devices))
	turns := make([]*semaphore.Weighted, len(ends))
	for i := range turns {
		turns[i] = semaphore.NewWeighted(blocksync.BlanksAtOnce)
	}
	g, gctx := errgroup.WithContext(ctx)
	each(o.Lanes, func(i, lane int, d Disk) {
		g.Go(func() error {
			set := o.Settings.sync(d)
			set.Turns = turns[lane]
			r, err := blocksync.Send(gctx, ends[lane].Channel(d.Name), devices[i], blocksync.Pass{Number: 1, Final: true, Since: d.Since}, set)
			d.Counts, d.Root = r.Counts, r.Root
			a.Disks[i] = d
			return err
		})
	})
	return a, g.Wait()
}

func channels(l Lane) []string {
	names := make([]string, len(l.Disks))
	for i, d := range l.Disks {
		names[i] = d.Name
	}
	return names
}

// each calls f for every disk: its number among all, and that of its lane.
func each(lanes []Lane, f func(i, lane int, d Disk)) {
	i := 0
	for n, l := range lanes {
		for _, d := range l.Disks {
			f(i, n, d)
			i++
		}
	}
}

func openAll(lanes []Lane, open func(Disk) (*blocksync.Device, error)) (all []*blocksync.Device, err error) {
	each(lanes, func(_, _ int, d Disk) {
		if err != nil {
			return
		}
		var dev *blocksync.Device
		if dev, err = open(d); err == nil {
			all = append(all, dev)
		}
	})
	return all, err
}

func closeAll(devices []*blocksync.Device) error {
	var errs []error
	for _, d := range devices {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
