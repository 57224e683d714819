package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// finish is the way forward: the hand-over and what follows. From COMMITTING
// on nothing but the hand-over's own rules turns back; a cancel is too late
// once the key was swapped, and no signal ends a verb half-way.
func (j *run) finish(ctx context.Context, at place) error {
	if j.rec.Spec.Kind == KindSync {
		return j.conclude(ctx, Succeeded)
	}
	life, stop := untilShutdown(ctx)
	defer stop()
	steps := j.m.afterHandOver()
	if at == given {
		j.rec.HandedOver, steps = true, steps[1:]
	} else if back, err := j.line(ctx, at); err != nil {
		return err
	} else if back != nil {
		return j.goBack(ctx, fmt.Errorf("%s: %w", HandOver, back))
	}
	for _, st := range steps {
		do := st.Do
		st.Do = func(ctx context.Context) error { return do(context.WithoutCancel(ctx)) }
		for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
			err := j.step(life, st)
			if err == nil {
				break
			}
			switch {
			case ClassOf(err) == Lost:
				return err
			case CodeOf(err) == CodeTwoCopies: // no repetition cures it
				j.fail(err)
				return j.conclude(life, Indeterminate)
			case st.Name == Resume:
				if done, err := j.refused(ctx, err); done {
					return err
				}
			}
			j.hold(life, err)
			if err := j.Sleep(life, backoff); err != nil {
				_ = j.saveFor(life, true) // the journals know; the record may be told later
				return cause(life, err)
			}
		}
	}
	return j.conclude(ctx, Succeeded)
}

// way is what one try to cross the line came to.
type way string

const (
	across way = "across" // the destination owns the VM
	back   way = "back"   // the source may go back, by R3 or R5
	unsure way = "unsure" // neither is known: both copies stay paused
)

// line crosses the line; it may be crossed again after a crash. It returns why
// the attempt goes back, or why nobody can tell before the worker is back.
func (j *run) line(ctx context.Context, at place) (turned, err error) {
	life, stop := untilShutdown(ctx)
	defer stop()
	j.rec.Step = HandOver
	j.emit(ctx, "step.begin", "", 0)
	c := &crossing{run: j, committed: at == committed, look: at == committed}
	begin := j.Clock()
	for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
		where, err := c.try(ctx)
		switch where {
		case back:
			return err, nil
		case across:
			j.rec.HandedOver = true
			j.rec.Report.addStep(StepReport{Step: HandOver, Attempt: j.rec.Attempt, Begin: begin, Elapsed: j.Clock().Sub(begin)})
			j.emit(ctx, "handover", fmt.Sprintf("%s owns the VM", j.rec.Destination), j.Clock().Sub(begin))
			return nil, j.saveFor(ctx, true)
		}
		j.hold(ctx, err)
		if serr := j.Sleep(life, backoff); serr != nil {
			_ = j.saveFor(ctx, true) // the journals know
			return nil, cause(life, serr)
		}
		c.look = true
	}
}

// crossing is one worker's going at the line.
type crossing struct {
	*run
	committed bool
	look      bool      // it is not known how the destination is
	silent    time.Time // since when it has not answered; zero: it did
}

// try decides by what is known now. Nothing here is interrupted by a cancel:
// it is looked at before COMMITTING and before the swap, and then no more.
func (c *crossing) try(ctx context.Context) (way, error) {
	work := context.WithoutCancel(ctx)
	if !c.committed {
		if where, err := c.commit(ctx); !c.committed {
			return where, err
		}
	}
	if c.m.released {
		return across, nil // by R6 only the destination turns back now: it is asked by Go
	}
	if c.look {
		if where, err := c.ask(work); where != unsure || err != nil && c.patient() {
			return where, err
		}
	}
	if why := c.unwanted(ctx); why != nil {
		return c.giveUp(work, why)
	}
	err := c.m.handOver(work)
	switch {
	case err == nil:
		return across, nil
	case !errors.Is(err, ErrConflict):
		return unsure, err
	case c.m.known.Key.Is(c.rec.Job().aborted()):
		return back, err // R5b
	}
	return c.giveUp(work, err) // only the destination's word helps now
}

// commit journals COMMITTING, unless a cancel came first.
func (c *crossing) commit(ctx context.Context) (way, error) {
	if ctx.Err() != nil {
		return back, context.Cause(ctx)
	}
	err := c.m.commit(ctx)
	if err == nil {
		c.committed = true
		return across, nil
	}
	if ClassOf(err) == Lost {
		return back, err
	}
	at, werr := c.where(context.WithoutCancel(ctx))
	if c.committed = at == committed; !c.committed && werr == nil {
		return back, cause(ctx, err)
	}
	return unsure, errors.Join(err, werr)
}

// ask hears the destination, which may have ended the attempt, or may have
// taken the guest over.
func (c *crossing) ask(ctx context.Context) (way, error) {
	there, err := c.Destination.Evidence(ctx, c.rec.VM)
	if err != nil {
		if c.silent.IsZero() {
			c.silent = c.Clock()
		}
		return unsure, err
	}
	c.look, c.silent = false, time.Time{}
	c.m.learn(there.Journal)
	return c.told(RetryLater(CodeAborted, "%s ended the attempt", c.rec.Destination))
}

// told is what the destination's word comes to.
func (c *crossing) told(why error) (way, error) {
	switch d := c.m.known.Destination; {
	case d.Has(ABORTED, c.rec.Epoch):
		return back, why // R5a
	case d.Has(GO, c.rec.Epoch):
		return across, nil
	}
	return unsure, nil
}

// patient: a destination that is silent gets some time, for its worker may
// just start again.
func (c *crossing) patient() bool {
	return c.Clock().Sub(c.silent) < c.Limits.BusPatience
}

// unwanted tells why the VM shall not be handed over although it could be.
func (c *crossing) unwanted(ctx context.Context) error {
	if why := c.cancelled(ctx); why != nil && !c.rec.HandedOver {
		return why
	}
	if !c.silent.IsZero() {
		return RetryLater(CodeAway, "%s does not answer since %s", c.rec.Destination, c.silent.Format(time.TimeOnly))
	}
	return nil
}

// giveUp has the destination abort (R5a). If that does not answer, the abort's
// own swap lets the source go back without it (R5b).
func (c *crossing) giveUp(ctx context.Context, why error) (way, error) {
	var err error
	if c.silent.IsZero() { // else it is not asked again: the guest waits
		err = c.m.retire(ctx)
		if where, why := c.told(why); where != unsure {
			return where, why
		}
	}
	if errors.Is(why, ErrConflict) {
		return unsure, errors.Join(why, err) // the key is somebody else's: no swap of ours counts
	}
	switch serr := c.m.abortSwap(ctx); {
	case serr == nil:
		return back, why
	case errors.Is(serr, ErrConflict) && c.m.known.Key.Is(c.rec.Job().handed()):
		return across, nil // our swap of before was written after all
	default:
		return unsure, errors.Join(why, err, serr)
	}
}

// refused looks at a destination that would not resume: where it aborted, the
// source goes back (R5a); where its copy may have run, nobody runs.
func (j *run) refused(ctx context.Context, err error) (done bool, _ error) {
	said := func(f Fact) bool { return j.m.known.Destination.Has(f, j.rec.Epoch) }
	if !said(GO) && CodeOf(err) == CodeAborted {
		// It has every permission, so its copy is lost. It never ran (R9).
		_ = j.m.retire(context.WithoutCancel(ctx))
	}
	switch {
	case said(ABORTED):
		return true, j.goBack(ctx, err)
	case ClassOf(err) == Final && said(GO) && !said(RUNNING):
		j.fail(err)
		return true, j.conclude(ctx, Indeterminate)
	}
	return false, nil
}
