package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// goBack takes an attempt back after err, and decides whether another follows.
func (j *run) goBack(ctx context.Context, err error) error {
	if ClassOf(err) == Lost {
		return err
	}
	shutdown := errors.Is(err, ErrShutdown)
	if shutdown && !j.holding() {
		return err // the guest runs; the attempt goes on when the worker is back
	}
	if !j.failed() {
		j.fail(err)
	}
	if isCancel(err) && j.rec.Cancel == nil {
		j.rec.Cancel = &Flag{Reason: err.Error(), Since: j.Clock()}
	}
	j.rec.HandedOver = false // the destination gave it up, if ever it was
	again := shutdown || ClassOf(err) == Retry && j.rec.Failures < j.Limits.Attempts
	if j.m.scope = JobOver; again {
		j.m.scope = AttemptOver
	}
	j.emit(ctx, "back", err.Error(), 0)
	// From here on a worker that takes the job up goes back too, and for this reason.
	if serr := j.saveFor(ctx, true); serr != nil {
		return serr
	}
	uerr := j.backward(ctx)
	j.leave()
	if uerr != nil || j.rec.State == Indeterminate {
		return uerr
	}
	switch {
	case again:
		return j.again(ctx, err)
	case isCancel(err):
		return j.conclude(ctx, Cancelled)
	case CodeOf(err) == CodeGone: // it runs nowhere again
		return j.conclude(ctx, FailedState)
	case j.held || !j.rec.Report.StoppedAt.IsZero():
		return j.conclude(ctx, RolledBack)
	}
	return j.conclude(ctx, FailedState)
}

func isCancel(err error) bool { return errors.Is(err, ErrCancelled) || CodeOf(err) == CodeCancelled }

// failed: this attempt is on its way back already.
func (j *run) failed() bool { return j.rec.Failure != nil && j.rec.Failure.Attempt == j.rec.Attempt }

func (j *run) fail(err error) {
	if !errors.Is(err, ErrShutdown) {
		j.rec.Failures++ // an attempt that the worker's end took did not fail
	}
	f := &Failure{Step: j.rec.Step, Class: ClassOf(err), Code: CodeOf(err), Text: err.Error(), At: j.Clock(), Attempt: j.rec.Attempt}
	var b *BlockedError
	if errors.As(err, &b) {
		f.Blockers = b.Blockers
	}
	if isCancel(err) {
		f.Class, f.Code = Final, CodeCancelled
	}
	j.rec.Failure = f
}

// ended tells again why an attempt that is known to be over was ended.
func (j *run) ended() error {
	if f := j.rec.Failure; j.failed() {
		return &Error{Class: f.Class, Code: f.Code, Err: errors.New(f.Text)}
	}
	return RetryLater(CodeAborted, "the source ended the attempt")
}

// again readies the record for the next attempt.
func (j *run) again(ctx context.Context, err error) error {
	n := j.rec.Failures
	j.rec.Attempt++
	j.rec.Epoch, j.rec.Done, j.rec.Step = 0, nil, ""
	j.rec.Report.Sealed, j.rec.Report.Memory = nil, nil
	j.m.forget()
	if errors.Is(err, ErrShutdown) {
		if serr := j.saveFor(ctx, true); serr != nil {
			return serr
		}
		return err
	}
	if serr := j.insist(ctx, j.saveOnce); serr != nil {
		return serr
	}
	if serr := j.Sleep(ctx, min(j.Limits.Backoff<<min(n, 10), j.Limits.MaxBackoff)); j.cancelled(ctx) == nil {
		return cause(ctx, serr)
	}
	return nil // the next attempt finds that it is cancelled, and ends the job
}

// undoTries is how often the destination is asked to let go before the record
// names what is left there; its worker cleans it when it reads that.
const undoTries = 3

// backward undoes the steps begun, last first. The source's way back is tried
// until it succeeds: the guest must run.
func (j *run) backward(ctx context.Context) error {
	life, stop := untilShutdown(ctx)
	defer stop()
	ctx = context.WithoutCancel(ctx)
	if err := j.insist(life, j.recall); err != nil || j.rec.Epoch == 0 {
		return err
	}
	j.rec.Leftover = nil
	for _, st := range slices.Backward(j.m.steps()) {
		if st.Undo == nil || !j.begun(st.Name) {
			continue
		}
		for try, backoff := 1, j.Limits.Backoff; ; try, backoff = try+1, min(2*backoff, j.Limits.MaxBackoff) {
			err := st.Undo(ctx)
			if err == nil {
				break
			}
			j.emit(ctx, "undo.failed", fmt.Sprintf("%s: %v", st.Name, err), 0)
			var rule *RuleError
			if errors.As(err, &rule) { // committed after all, or nobody may run
				j.fail(err)
				return j.conclude(ctx, Indeterminate)
			}
			if st.Name != Stream && try >= undoTries {
				j.rec.Leftover = append(j.rec.Leftover, fmt.Sprintf("%s on %s: %v", st.Name, j.rec.Destination, err))
				break
			}
			wait := ctx
			if try >= undoTries {
				wait = life
			}
			if serr := j.Sleep(wait, backoff); serr != nil {
				return cause(life, serr)
			}
		}
	}
	return nil
}

// recall finds the epoch to undo where the record has none: what earlier
// attempts kept at the destination for the next one goes when none follows.
func (j *run) recall(ctx context.Context) error {
	if j.rec.Epoch != 0 || j.m.scope != JobOver || j.rec.Spec.Kind == KindSync {
		return nil
	}
	said, err := j.Source.Promised(ctx, j.rec.VM)
	if ClassOf(err) == Final {
		j.rec.Leftover = append(j.rec.Leftover, fmt.Sprintf("whatever earlier attempts left on %s: %v", j.rec.Destination, err))
		return nil
	}
	j.rec.Epoch = said.epochOfJob(j.rec.ID)
	return err
}

// begun: this attempt has, or may have, begun step s. With an epoch it has
// begun to reserve, however often it started again at check since.
func (j *run) begun(s StepName) bool {
	all := Steps()
	return s == Reserve || j.rec.Has(s) || slices.Index(all, s) <= slices.Index(all, j.rec.Step)
}

// conclude makes the record final, in the store too. The key goes first where
// it belongs and the claim comes off last, so that a worker that dies in
// between leaves nothing that only it knows how to end.
func (j *run) conclude(ctx context.Context, s State) error {
	migrate := j.rec.Spec.Kind == KindMigrate
	if s.Final() && s != Succeeded && migrate && j.rec.Epoch != 0 {
		err := j.insist(ctx, j.m.returnKey)
		switch {
		case err != nil && ClassOf(err) != Final && !errors.Is(err, ErrNotFound):
			return err
		case err != nil:
			j.rec.Leftover = append(j.rec.Leftover, "owner key: "+err.Error())
		}
	}
	if err := j.rec.To(s); err != nil {
		return err
	}
	j.rec.Ended, j.rec.Held = j.Clock(), nil
	if s == Succeeded {
		j.rec.Leftover = nil // of earlier attempts; this one took it over
	}
	if err := j.insist(ctx, j.saveOnce); err != nil {
		return err
	}
	j.emit(ctx, "state", string(s), j.rec.Ended.Sub(j.rec.Started))
	if s.Final() && migrate {
		// A claim of a job that is over counts for nothing: not worth an error.
		_ = j.insist(ctx, func(ctx context.Context) error { return j.Owners.Unclaim(ctx, j.rec.VM.UUID, j.rec.ID) })
	}
	return nil
}
