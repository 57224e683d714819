package coordinator

import (
	"context"
	"errors"
	"fmt"

	"xmig/jobs"
)

// apply does what was decided for one job. What fails for want of an answer is
// decided anew later; a job that cannot ever start ends with the reasons.
func (l *lead) apply(ctx context.Context, a Action) {
	switch {
	case len(a.Candidates) > 0 && a.Job.Spec.To != "":
		// A host that was named is not asked here: the job's own check tells
		// its blockers.
		l.handOver(ctx, a.Job, a.Candidates[0])
	case len(a.Candidates) > 0:
		l.examine(ctx, a.Job, a.Candidates[0])
	case a.Wait != "":
		l.hold(ctx, a.Job, a.Wait)
	default:
		blocked := &jobs.BlockedError{VM: a.Job.VM.Name, Blockers: a.Against}
		l.fail(ctx, a.Job, jobs.Failure{Code: jobs.CodeBlocked, Text: blocked.Error(), Blockers: a.Against})
	}
}

// examine asks both hosts whether the VM can go to one of them, and hands the
// job over if they agree; the decider goes on meanwhile, with the job's place
// kept. Where too many are asked already the job is looked at again later.
func (l *lead) examine(ctx context.Context, r jobs.Record, to string) {
	select {
	case l.ask <- struct{}{}:
	default:
		return
	}
	if !l.view.ask(r.ID, to) {
		<-l.ask
		return
	}
	l.work.Go(func() error {
		defer func() { <-l.ask }()
		job := r.Job()
		job.Destination = to
		job.Spec.Map = l.mapping(r, to)
		ask, cancel := context.WithTimeout(ctx, examineFor)
		blockers, err := l.Nodes.Examine(ask, job)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			l.Log.Warn().Err(err).Str("job", r.ID).Str("source", r.Source).Str("destination", to).Msg("cannot be placed now; trying again")
		case err == nil && len(blockers) == 0:
			l.handOver(ctx, r, to)
		}
		l.view.answered(r.ID, to, blockers, l.Clock())
		return nil
	})
}

// mapping is what a move to a host maps: what was asked for, and the pools of
// both hosts.
func (l *lead) mapping(r jobs.Record, to string) jobs.Mapping {
	from, vm, ok := l.view.find(r.Source, r.VM.UUID)
	dest, there := l.view.at(to)
	if !ok || !there {
		return r.Spec.Map
	}
	return r.Spec.Map.With(Mapping(vm, from, dest, r.Spec.Map))
}

// claimStands makes sure that the VM is still the job's to move.
func (c *Coordinator) claimStands(ctx context.Context, r jobs.Record) error {
	if r.Spec.Kind != jobs.KindMigrate {
		return nil
	}
	_, err := c.Claims.Claim(ctx, r.VM, r.Source, r.ID)
	return err
}

// handOver gives the job to its source node. From the save on, the record is
// that node's; a doorbell that is lost here is rung again later.
func (l *lead) handOver(ctx context.Context, r jobs.Record, to string) {
	if err := l.claimStands(ctx, r); err != nil {
		if errors.Is(err, jobs.ErrConflict) {
			l.fail(ctx, r, jobs.Failure{Code: jobs.CodeConflict, Text: err.Error()})
		}
		return
	}
	r.Map = l.mapping(r, to)
	r.Destination, r.Held = to, nil
	if !l.save(ctx, r, jobs.Planned) {
		return
	}
	l.emit(ctx, r, jobs.Planned, "from "+r.Source+" to "+to)
}

// hold notes why a job waits, once per reason.
func (l *lead) hold(ctx context.Context, r jobs.Record, why string) {
	if r.Held != nil && r.Held.Reason == why {
		return
	}
	told := r.Held != nil
	r.Held = &jobs.Flag{Reason: why, Since: l.Clock()}
	if l.save(ctx, r, jobs.Queued) && !told {
		l.emit(ctx, r, jobs.Queued, why)
	}
}

// fail ends a job that never started.
func (l *lead) fail(ctx context.Context, r jobs.Record, f jobs.Failure) {
	f.Class, f.At = jobs.Final, l.Clock()
	r.Failure, r.Held, r.Ended = &f, nil, l.Clock()
	if l.save(ctx, r, jobs.FailedState) {
		l.emit(ctx, r, jobs.FailedState, f.Text)
		l.unclaim(ctx, r)
	}
}

// save writes the record in its new state if nobody was faster, and has the
// view know before the watch tells it.
func (l *lead) save(ctx context.Context, r jobs.Record, s jobs.State) bool {
	if err := r.To(s); err != nil {
		l.Log.Error().Err(err).Str("job", r.ID).Msg("decided what is not legal")
		return false
	}
	r.Updated = l.Clock()
	saved, err := l.office.Save(ctx, r)
	if err != nil && jobs.ClassOf(err) == jobs.Lost {
		l.end(err)
		return false
	}
	if err != nil {
		if !errors.Is(err, jobs.ErrConflict) && ctx.Err() == nil {
			l.Log.Warn().Err(err).Str("job", r.ID).Msg("record not saved; deciding anew")
		}
		return false
	}
	l.view.record(saved)
	return true
}

// unclaim lets go of the VM of a job that is final. Where that fails, the next
// submission sees that the claim's job is final.
func (c *Coordinator) unclaim(ctx context.Context, r jobs.Record) {
	if r.Spec.Kind != jobs.KindMigrate {
		return
	}
	if err := c.Claims.Unclaim(ctx, r.VM.UUID, r.ID); err != nil {
		c.Log.Warn().Err(err).Str("job", r.ID).Str("vm", r.VM.Name).Msg("claim not taken off; the next submission does it")
	}
}

// ringLost rings for jobs that were handed over and whose node is there.
func (l *lead) ringLost(ctx context.Context) {
	s := l.view.snapshot(l.Clock()) // with those that were handed over just now
	alive := map[string]bool{}
	for _, h := range s.Hosts {
		alive[h.Node] = true
	}
	for _, r := range s.Records {
		if r.State != jobs.Planned && r.State != jobs.Running || !alive[r.Source] || !l.view.ring(r.ID, s.Now) {
			continue
		}
		if err := l.Nodes.Ring(ctx, r); err != nil && ctx.Err() == nil {
			l.Log.Warn().Err(err).Str("job", r.ID).Msg("doorbell not rung; trying again")
		}
	}
}

// dropWishes takes away what was wished of jobs that have ended.
func (l *lead) dropWishes(ctx context.Context) {
	for _, w := range l.view.wishesOfEnded() {
		rec, err := l.Records.Load(ctx, w.Key)
		if err == nil && !rec.State.Final() {
			l.view.record(rec)
			continue
		}
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return // looked at again in the next round
		}
		if err := l.Wishes.Remove(ctx, w); err != nil && !errors.Is(err, jobs.ErrConflict) && ctx.Err() == nil {
			l.Log.Warn().Err(err).Str("job", w.Key).Msg("wish of an ended job not removed")
		}
	}
}

// tellHosts writes down which hosts came and went, and which jobs wait for
// one that went.
func (l *lead) tellHosts(ctx context.Context) {
	came, went := l.view.hostChanges()
	for _, n := range came {
		l.tellHost(ctx, n, "seen", "the worker of "+n+" is there")
	}
	for _, n := range went {
		l.Log.Warn().Str("host", n).Msg("host lost")
		l.tellHost(ctx, n, "lost", "the worker of "+n+" is not seen any more")
		for _, r := range l.view.snapshot(l.Clock()).Records {
			if r.Source == n || r.Destination == n {
				l.emitAs(ctx, r, "host.lost", fmt.Sprintf("the worker of %s is not seen any more; the job goes on when it is back", n))
			}
		}
	}
}

func (c *Coordinator) emit(ctx context.Context, r jobs.Record, s jobs.State, text string) {
	r.State = s
	c.emitAs(ctx, r, "state", text)
}

func (c *Coordinator) emitAs(ctx context.Context, r jobs.Record, what, text string) {
	c.Events.Emit(ctx, jobs.Event{Time: c.Clock(), Node: c.Name, Job: r.ID, VM: r.VM, What: what, State: r.State, Step: r.Step, Attempt: r.Attempt, Text: text})
}
