package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// save stores the record and waits out a bus that is away.
func (j *run) save(ctx context.Context) error { return j.repeat(ctx, j.saveOnce) }

// saveFor does not let a bus that is away hold a guest: the journals know.
func (j *run) saveFor(ctx context.Context, inHaste bool) error {
	if !inHaste {
		return j.save(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.Limits.SaveWait)
	defer cancel()
	if err := j.saveOnce(ctx); ClassOf(err) == Lost {
		return err
	}
	return nil
}

// saveOnce stores the record, and finds out that it did so before: a save in
// haste may have been written although nobody answered in time.
func (j *run) saveOnce(ctx context.Context) error {
	for {
		j.rec.Updated = j.Clock()
		saved, err := j.Store.Save(ctx, *j.rec)
		switch {
		case err == nil:
			j.rec.Revision, j.unsure = saved.Revision, nil
			return nil
		case !errors.Is(err, ErrConflict):
			j.unsure = append(j.unsure, j.rec.Updated)
			return err
		case len(j.unsure) == 0:
			return NotOurs("the record was changed by somebody else: %w", err)
		}
		there, lerr := j.Store.Load(ctx, j.rec.ID)
		if lerr != nil {
			return lerr
		}
		if !slices.ContainsFunc(j.unsure, there.Updated.Equal) {
			return NotOurs("the record was changed by somebody else: %w", err)
		}
		j.rec.Revision, j.unsure = there.Revision, nil
		if there.State.Final() {
			return nil // written and over; a final record is not touched again
		}
	}
}

// insist repeats what must be done whoever wants the job to stop; only the
// end of the worker ends it, in the middle of a try if need be: a bus that is
// away takes a write for as long as it may.
func (j *run) insist(ctx context.Context, do func(context.Context) error) error {
	life, stop := untilShutdown(ctx)
	defer stop()
	return j.repeat(life, do)
}

// repeat does it until it succeeds or cannot, or ctx ends.
func (j *run) repeat(ctx context.Context, do func(context.Context) error) error {
	for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
		err := do(ctx)
		if err == nil || ClassOf(err) != Retry || errors.Is(err, ErrNotFound) {
			return err
		}
		if serr := j.Sleep(ctx, backoff); serr != nil {
			return cause(ctx, fmt.Errorf("%w; before: %w", serr, err))
		}
	}
}

// untilShutdown is ctx without its cancel by a person: it ends with the worker.
func untilShutdown(ctx context.Context) (context.Context, func()) {
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	end := func() {
		if c := context.Cause(ctx); !errors.Is(c, ErrCancelled) {
			cancel(c)
		}
	}
	if ctx.Err() != nil {
		end()
	}
	off := context.AfterFunc(ctx, end)
	return life, func() { off(); cancel(nil) }
}

func (j *run) emit(ctx context.Context, what, text string, elapsed time.Duration) {
	j.Events.Emit(ctx, Event{Time: j.Clock(), Node: j.Node, Job: j.rec.ID, VM: j.rec.VM, What: what,
		Step: j.rec.Step, State: j.rec.State, Attempt: j.rec.Attempt, Text: text, Elapsed: elapsed})
}

// cause prefers why the context ended over the error that its end made.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if c := context.Cause(ctx); c != nil && !errors.Is(err, c) && c != ctx.Err() {
			return fmt.Errorf("%w (%v)", c, err)
		}
	}
	return err
}
