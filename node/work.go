package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
)

// drive is one job that this worker drives.
type drive struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	bell   *bus.Delivery // the doorbell that came for it, if one did
	remote *bus.RemoteDestination
}

// work drives this host's jobs: those whose doorbell rings, and those that a
// worker before this one left behind. The record is the truth; a doorbell only
// says where to look.
func (n *Node) work(ctx context.Context) error {
	queue, err := n.queue(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// No limit of its own: the queue gives no more doorbells than Moves, and
	// what was left behind may be a guest that stands still.
	g, ctx := errgroup.WithContext(ctx)
	n.leftBehind(ctx, g)
	for {
		bell, err := queue.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return g.Wait()
			}
			n.log.Warn().Err(err).Msg("no doorbell can be taken; trying again")
			if sleep(ctx, time.Second) != nil {
				return g.Wait()
			}
			if jobs.CodeOf(err) == jobs.CodeNotFound { // the bus was lost, and made anew
				if again, err := n.queue(ctx); err == nil {
					queue = again
				}
			}
			continue
		}
		n.start(ctx, g, bell.Job, bell)
	}
}

// queue opens the queue of this host. A bus that went away right after it was
// reached is waited for, as it is at any later time.
func (n *Node) queue(ctx context.Context) (*bus.Queue, error) {
	for {
		q, err := n.bus.Queue(ctx, n.cfg.Name, bus.QueueConfig{AckWait: 3 * n.cfg.Heartbeat, Parallel: n.cfg.Moves})
		if err == nil || !errors.Is(err, jobs.ErrAway) {
			return q, err
		}
		n.log.Warn().Err(err).Msg("the queue of this host cannot be opened; trying again")
		if sleep(ctx, time.Second) != nil {
			return nil, err
		}
	}
}

// leftBehind starts what was running when this host's last worker ended. Their
// doorbells are still counted to that worker and would ring only later.
func (n *Node) leftBehind(ctx context.Context, g *errgroup.Group) {
	all, err := n.bus.Records().List(ctx)
	if err != nil {
		n.log.Warn().Err(err).Msg("cannot list records; jobs left behind wait for their doorbells")
	}
	for _, rec := range all {
		if rec.Source == n.cfg.Name && rec.State == jobs.Running {
			n.start(ctx, g, rec.ID, nil)
		}
	}
}

// start drives a job, or only keeps its doorbell if it is driven already.
func (n *Node) start(ctx context.Context, g *errgroup.Group, job string, bell *bus.Delivery) {
	n.mu.Lock()
	d := n.active[job]
	if d != nil {
		if bell != nil {
			d.bell = bell
		}
		n.mu.Unlock()
		return
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(jobs.ErrShutdown) })
	d = &drive{cancel: cancel, done: make(chan struct{}), bell: bell}
	n.active[job] = d
	n.mu.Unlock()
	g.Go(func() error {
		defer close(d.done)
		defer stop()
		err := n.drive(run, job)
		n.mu.Lock()
		delete(n.active, job)
		bell := d.bell
		n.mu.Unlock()
		cancel(nil)
		n.answer(context.WithoutCancel(ctx), job, bell, err)
		return nil
	})
}

// drive runs one job as far as it goes.
func (n *Node) drive(ctx context.Context, id string) error {
	rec, err := n.bus.Records().Load(ctx, id)
	if err != nil {
		return err
	}
	if rec.State.Final() || rec.State == jobs.Indeterminate {
		return nil
	}
	if rec.Source != n.cfg.Name {
		return jobs.NotOurs("job %s belongs to %s", id, rec.Source)
	}
	if rec.State != jobs.Planned && rec.State != jobs.Running {
		return jobs.RetryLater(jobs.CodeConflict, "job %s is %s", id, rec.State)
	}
	beat, end := context.WithCancel(context.WithoutCancel(ctx))
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		n.keepBell(beat, id)
	}()
	defer func() { end(); <-beats }()
	lease := &lease{n: n, job: id}
	defer lease.release()
	door := &gate{n: n, job: id}
	defer door.Leave()
	remote := n.bus.Destination(rec.Destination)
	n.mu.Lock()
	n.active[id].remote = remote
	n.mu.Unlock()
	runner := &jobs.Runner{
		Source: n.src, Destination: remote, Store: n.bus.Records(), Owners: n.bus.Owners(),
		Events: n.bus, Node: n.cfg.Name, Limits: n.cfg.Limits, Clock: n.now, Sleep: sleep, Guard: lease.guard, Gate: door,
	}
	log := n.log.With().Str("job", id).Str("vm", rec.VM.Name).Str("to", rec.Destination).Logger()
	log.Info().Str("step", string(rec.Step)).Int("attempt", rec.Attempt).Msg("driving")
	rec, err = runner.Run(ctx, rec)
	n.src.close(id)
	event := log.Info()
	if err != nil {
		event = log.Warn().Err(err)
	}
	if jobs.ClassOf(err) == jobs.Lost && err != nil {
		n.unresolved.Store(true) // whoever took it may have ended it without this host
	}
	event.Str("state", string(rec.State)).Str("step", string(rec.Step)).Dur("blackout", rec.Report.Blackout).Msg("ended driving")
	return err
}

// callOver lets calls about a job travel over its lane while the bus is away.
func (n *Node) callOver(job string, lane *bus.LaneEnd) {
	n.mu.Lock()
	d := n.active[job]
	n.mu.Unlock()
	if d != nil && d.remote != nil {
		d.remote.Over(lane)
	}
}

// keepBell keeps the doorbell from ringing elsewhere while the job is driven.
func (n *Node) keepBell(ctx context.Context, job string) {
	for sleep(ctx, n.cfg.Heartbeat) == nil {
		n.mu.Lock()
		var bell *bus.Delivery
		if d := n.active[job]; d != nil {
			bell = d.bell
		}
		n.mu.Unlock()
		if bell == nil {
			continue
		}
		if err := bell.Touch(ctx); err != nil && ctx.Err() == nil {
			n.log.Debug().Err(err).Str("job", job).Msg("doorbell not touched")
		}
	}
}

// answer ends a doorbell as the job's end says.
func (n *Node) answer(ctx context.Context, job string, bell *bus.Delivery, err error) {
	if bell == nil || jobs.ClassOf(err) == jobs.Lost && err != nil {
		return // whoever has the job now answers
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var aerr error
	switch {
	case err == nil:
		aerr = bell.Done(ctx)
	case errors.Is(err, jobs.ErrNotFound):
		aerr = bell.Drop(ctx, fmt.Sprintf("no record: %v", err))
	case errors.Is(err, jobs.ErrShutdown):
		aerr = bell.Later(ctx, time.Second)
	default:
		aerr = bell.Later(ctx, n.cfg.Heartbeat)
	}
	if aerr != nil {
		n.log.Debug().Err(aerr).Str("job", job).Msg("doorbell not answered; it will ring again")
	}
}

// lease guards the starting of steps. It is taken when first asked for, and
// again when a bus that was away is back.
type lease struct {
	n    *Node
	job  string
	held context.Context
	end  context.CancelFunc // of held
	l    *bus.Lease
}

func (l *lease) guard(ctx context.Context) error {
	for backoff := 200 * time.Millisecond; l.held == nil || l.held.Err() != nil; backoff = min(2*backoff, 5*time.Second) {
		l.release()
		err := l.take(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, jobs.ErrConflict) {
			return jobs.NotOurs("job %s: %w", l.job, err)
		}
		if err := sleep(ctx, backoff); err != nil {
			return err
		}
	}
	return nil
}

// take asks for the lease for as long as ctx lasts; once held it outlives ctx,
// for the way back is driven with it too.
func (l *lease) take(ctx context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end) // a bus that is away would keep a worker from ending
	held, got, err := l.n.bus.Leases().Hold(life, l.job, bus.Holder{Node: l.n.cfg.Name, Instance: l.n.instance}, bus.IsDead)
	stop()
	if err != nil {
		end()
		return err
	}
	l.held, l.end, l.l = held, end, got
	return nil
}

func (l *lease) release() {
	if l.l == nil {
		return
	}
	defer l.end()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	l.l.Release(ctx)
	l.l = nil
}

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cancel asks for the end of a job that this worker drives.
func (n *Node) cancel(id, by string) error {
	n.mu.Lock()
	d := n.active[id]
	n.mu.Unlock()
	if d == nil {
		return jobs.Failed(jobs.CodeNotFound, "job %s is not driven by %s", id, n.cfg.Name)
	}
	d.cancel(fmt.Errorf("%w by %s", jobs.ErrCancelled, by))
	return nil
}
