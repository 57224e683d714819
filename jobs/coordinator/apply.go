package coordinator

import (
	"context"
	"errors"
	"fmt"

	"xmig/jobs"
)

// apply does what was decided for one job. What fails for want of an answer is
// decided anew later; a job that cannot ever start ends with the reasons.
func (c *Coordinator) apply(ctx context.Context, v *view, a Action) {
	to, err := c.choose(ctx, &a)
	switch {
	case err != nil:
		c.Log.Warn().Err(err).Str("job", a.Job.ID).Msg("cannot be placed now; trying again")
	case to != "":
		c.handOver(ctx, v, a.Job, to)
	case a.Wait != "":
		c.hold(ctx, v, a.Job, a.Wait)
	default:
		blocked := &jobs.BlockedError{VM: a.Job.VM.Name, Blockers: a.Against}
		c.fail(ctx, v, a.Job, jobs.Failure{Code: jobs.CodeBlocked, Text: blocked.Error(), Blockers: a.Against})
	}
}

// claimStands makes sure that the VM is still the job's to move.
func (c *Coordinator) claimStands(ctx context.Context, r jobs.Record) error {
	if r.Spec.Kind != jobs.KindMigrate {
		return nil
	}
	_, err := c.Claims.Claim(ctx, r.VM, r.Source, r.ID)
	return err
}

// choose takes the first candidate that both hosts agree to, and notes what
// stands against the others. A host that was named is not asked here: the
// job's own check tells its blockers.
func (c *Coordinator) choose(ctx context.Context, a *Action) (string, error) {
	for _, node := range a.Candidates {
		if a.Job.Spec.To != "" {
			return node, nil
		}
		job := a.Job.Job()
		job.Destination = node
		ask, cancel := context.WithTimeout(ctx, examineFor)
		blockers, err := c.Nodes.Examine(ask, job)
		cancel()
		if err != nil {
			return "", fmt.Errorf("ask %s and %s: %w", a.Job.Source, node, err)
		}
		if len(blockers) == 0 {
			return node, nil
		}
		a.Against = append(a.Against, blockers...)
	}
	return "", nil
}

// handOver gives the job to its source node. From the save on, the record is
// that node's; a doorbell that is lost here is rung again later.
func (c *Coordinator) handOver(ctx context.Context, v *view, r jobs.Record, to string) {
	if err := c.claimStands(ctx, r); err != nil {
		if errors.Is(err, jobs.ErrConflict) {
			c.fail(ctx, v, r, jobs.Failure{Code: jobs.CodeConflict, Text: err.Error()})
		}
		return
	}
	r.Destination, r.Held = to, nil
	if !c.save(ctx, v, r, jobs.Planned) {
		return
	}
	c.emit(ctx, r, jobs.Planned, "from "+r.Source+" to "+to)
}

// hold notes why a job waits, once per reason.
func (c *Coordinator) hold(ctx context.Context, v *view, r jobs.Record, why string) {
	if r.Held != nil && r.Held.Reason == why {
		return
	}
	r.Held = &jobs.Flag{Reason: why, Since: c.Clock()}
	if c.save(ctx, v, r, jobs.Queued) {
		c.emit(ctx, r, jobs.Queued, why)
	}
}

// fail ends a job that never started.
func (c *Coordinator) fail(ctx context.Context, v *view, r jobs.Record, f jobs.Failure) {
	f.Class, f.At = jobs.Final, c.Clock()
	r.Failure, r.Held, r.Ended = &f, nil, c.Clock()
	if c.save(ctx, v, r, jobs.FailedState) {
		c.emit(ctx, r, jobs.FailedState, f.Text)
		c.unclaim(ctx, r)
	}
}

// save writes the record in its new state if nobody was faster, and has the
// view know before the watch tells it.
func (c *Coordinator) save(ctx context.Context, v *view, r jobs.Record, s jobs.State) bool {
	if err := r.To(s); err != nil {
		c.Log.Error().Err(err).Str("job", r.ID).Msg("decided what is not legal")
		return false
	}
	r.Updated = c.Clock()
	saved, err := c.Records.Save(ctx, r)
	if err != nil {
		if !errors.Is(err, jobs.ErrConflict) && ctx.Err() == nil {
			c.Log.Warn().Err(err).Str("job", r.ID).Msg("record not saved; deciding anew")
		}
		return false
	}
	v.record(saved)
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
func (c *Coordinator) ringLost(ctx context.Context, v *view, s Snapshot) {
	alive := map[string]bool{}
	for _, h := range s.Hosts {
		alive[h.Node] = true
	}
	for _, r := range v.snapshot().Records { // with those that were handed over just now
		if r.State != jobs.Planned && r.State != jobs.Running || !alive[r.Source] || !v.ring(r.ID, c.Clock()) {
			continue
		}
		if err := c.Nodes.Ring(ctx, r); err != nil && ctx.Err() == nil {
			c.Log.Warn().Err(err).Str("job", r.ID).Msg("doorbell not rung; trying again")
		}
	}
}

// tellHosts writes down which hosts came and went, and which jobs wait for
// one that went.
func (c *Coordinator) tellHosts(ctx context.Context, v *view) {
	came, went := v.hostChanges()
	for _, n := range came {
		c.Events.Emit(ctx, jobs.Event{Time: c.Clock(), Node: n, What: "seen", Text: "the worker of " + n + " is there"})
	}
	for _, n := range went {
		c.Log.Warn().Str("host", n).Msg("host lost")
		c.Events.Emit(ctx, jobs.Event{Time: c.Clock(), Node: n, What: "lost", Text: "the worker of " + n + " is not seen any more"})
		for _, r := range v.snapshot().Records {
			if r.Source == n || r.Destination == n {
				c.emitAs(ctx, r, "host.lost", fmt.Sprintf("the worker of %s is not seen any more; the job goes on when it is back", n))
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
