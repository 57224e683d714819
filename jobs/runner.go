package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Causes with which a run's context ends.
var (
	// ErrCancelled: a person asked to stop; the job is taken back.
	ErrCancelled = errors.New("cancelled")
	// ErrShutdown: the worker stops; the job goes on when it is back.
	ErrShutdown = errors.New("the worker is shutting down")
)

// Limits are the runner's times and counts.
type Limits struct {
	Attempts int // attempts that may fail before the job does
	// Patience bounds how long tries without progress may wait, and may run
	// before they reach a pass, until the job fails. A pass that ended is
	// progress; the time that a broken one took does not count against it.
	Patience     time.Duration
	Backoff      time.Duration // first pause between tries; doubles up to MaxBackoff
	MaxBackoff   time.Duration
	HoldMargin   time.Duration // a guest may be held before COMMITTING for 2 × its predicted blackout plus this
	ShutdownWait time.Duration // how much longer in cold mode: a guest may take its time to shut down
	// BusPatience is how long the owner key's swap may take before the source
	// releases the VM directly, and how long a source that committed waits for
	// a silent destination before it swaps for the way back.
	BusPatience time.Duration
	SaveWait    time.Duration // how long a record may take to be stored while a guest is held
}

// DefaultLimits suit a real host.
func DefaultLimits() Limits {
	return Limits{
		Attempts: 3, Patience: 15 * time.Minute, Backoff: time.Second, MaxBackoff: 30 * time.Second,
		HoldMargin: 30 * time.Second, BusPatience: 5 * time.Second, SaveWait: 500 * time.Millisecond,
	}
}

// Runner drives a job durably, forward and back. It knows steps, not
// migrations; the record and the source's journal tell it where it stands.
type Runner struct {
	Source      Source
	Destination Destination
	Store       Store
	Owners      Owners
	Events      Events
	Node        string
	Limits      Limits
	Clock       func() time.Time
	Sleep       func(context.Context, time.Duration) error
	// Guard waits until this worker may start a step: it holds the job's
	// lease. It is not asked while a guest is held or behind the line.
	Guard func(context.Context) error
	// Gate is asked before a guest is stopped, and left when it runs again;
	// nil: it is always open.
	Gate Gate
}

// run is one job being driven.
type run struct {
	*Runner
	m      *Migration
	rec    *Record
	held   bool        // the guest may have been stopped, though the record cannot say when
	unsure []time.Time // Updated of records whose storing nobody answered for
}

// Run drives the job to a final state, or until ctx ends. The error is nil
// when the record became final and was stored, whatever its state.
func (r *Runner) Run(ctx context.Context, rec Record) (Record, error) {
	j := &run{Runner: r, rec: &rec}
	j.m = &Migration{src: r.Source, dst: r.Destination, owners: r.Owners, clock: r.Clock, patience: r.Limits.BusPatience, rec: &rec, scope: AttemptOver,
		tell: func(what, text string) { j.emit(ctx, what, text, 0) }, gate: r.Gate, sleep: r.Sleep, waits: j.waits}
	for !rec.State.Final() && rec.State != Indeterminate {
		if err := j.attempt(ctx); err != nil {
			return rec, err
		}
	}
	return rec, nil
}

// place is where an attempt stands when a worker takes it up.
type place string

const (
	ahead     place = "ahead"     // before the guest was stopped
	held      place = "held"      // the guest may be stopped, nothing is committed
	over      place = "over"      // the source went back: this attempt is dead
	committed place = "committed" // only the hand-over's rules decide
	given     place = "given"     // the source gave its copy up: only settle is left
)

// where asks the source's own journal, not the record, which may be older: it
// may even lack the epoch that this attempt has won.
func (j *run) where(ctx context.Context) (place, error) {
	if j.rec.Spec.Kind == KindSync {
		return ahead, nil // nothing is handed over
	}
	said, err := j.Source.Promised(ctx, j.rec.VM)
	if err != nil {
		return "", err
	}
	if j.rec.Epoch == 0 {
		j.rec.Epoch = said.epochOf(j.rec.AttemptID())
	}
	switch epoch := j.rec.Epoch; {
	case epoch == 0:
		return ahead, nil
	case said.Has(BACK, epoch):
		return over, nil
	case said.Has(DONE, epoch):
		return given, nil
	case said.Has(COMMITTING, epoch):
		j.m.released = said.Has(RELEASED, epoch)
		return committed, nil
	case j.holding(), said.Has(SEALED, epoch):
		return held, nil
	}
	return ahead, nil
}

// holding: the record says that the guest may be stopped, and not yet handed over.
func (j *run) holding() bool {
	return j.rec.Step == Stream || j.rec.Step == SealStep || j.rec.Step == HandOver
}

// attempt drives one attempt to its end and decides what follows.
func (j *run) attempt(ctx context.Context) error {
	if err := j.begin(ctx); err != nil {
		return err
	}
	var at place
	err := j.insist(ctx, func(ctx context.Context) (err error) {
		at, err = j.where(ctx)
		return err
	})
	switch {
	case err != nil && ClassOf(err) == Final:
		return j.blind(ctx, err)
	case err != nil:
		return err
	}
	j.held = j.held || at == held || at == over && j.holding()
	switch {
	case at == committed, at == given:
		return j.finish(ctx, at)
	case j.failed(), at == over:
		err = j.ended()
	case j.cancelled(ctx) != nil:
		err = j.cancelled(ctx)
	case at == held:
		err = RetryLater(CodeInternal, "the worker died while the guest was held")
	default:
		err = j.forward(ctx)
	}
	if err != nil {
		return j.goBack(ctx, err)
	}
	return j.finish(ctx, ahead)
}

// blind ends a job whose source cannot read its own journal. Without an epoch
// in the record the guest was never stopped; otherwise nobody can tell.
func (j *run) blind(ctx context.Context, err error) error {
	if j.rec.Epoch == 0 {
		return j.goBack(ctx, err)
	}
	j.fail(err)
	return j.conclude(ctx, Indeterminate)
}

func (j *run) begin(ctx context.Context) error {
	if j.rec.State == Running {
		return nil
	}
	if err := j.rec.To(Running); err != nil {
		return err
	}
	j.rec.Attempt = max(j.rec.Attempt, 1)
	j.rec.Started = j.Clock()
	return j.insist(ctx, j.saveOnce)
}

// cancelled tells who wanted the job to stop, in this worker's life or before.
func (j *run) cancelled(ctx context.Context) error {
	if c := context.Cause(ctx); errors.Is(c, ErrCancelled) {
		return c
	}
	if f := j.rec.Cancel; f != nil {
		return &Error{Class: Final, Code: CodeCancelled, Err: errors.New(f.Reason)}
	}
	return nil
}

// forward does the steps before the line. Errors that may get better are
// tried again within the attempt as long as the guest runs.
func (j *run) forward(ctx context.Context) error {
	backoff, lost := j.Limits.Backoff, time.Duration(0)
	for {
		begin, passes := j.Clock(), j.m.passes()
		err := j.steps(ctx)
		if err == nil || ClassOf(err) != Retry || ctx.Err() != nil || j.holding() {
			return err
		}
		switch {
		case j.m.passes() != passes: // a pass was finished since: that is progress
			backoff, lost = j.Limits.Backoff, 0
		case j.rec.Step != Seed && j.rec.Step != Converge: // a broken pass may have moved much
			lost += j.Clock().Sub(begin)
		}
		if lost >= j.Limits.Patience {
			return &Error{Class: Final, Code: CodeOf(err), Err: fmt.Errorf("gave up after %s: %w", j.Limits.Patience, err)}
		}
		j.hold(ctx, err)
		if err := j.Sleep(ctx, backoff); err != nil {
			return cause(ctx, err)
		}
		lost += backoff
		backoff = min(2*backoff, j.Limits.MaxBackoff)
	}
}

// hold notes why the job waits.
func (j *run) hold(ctx context.Context, err error) {
	j.rec.Held = &Flag{Reason: err.Error(), Since: j.Clock()}
	j.emit(ctx, "held", err.Error(), 0)
}

// waits notes why a guest that could be stopped is not.
func (j *run) waits(ctx context.Context, why string) error {
	j.rec.Held = &Flag{Reason: why, Since: j.Clock()}
	j.emit(ctx, "held", why, 0)
	return j.saveFor(ctx, false)
}

// leave lets others stop their guests.
func (j *run) leave() {
	if j.Gate != nil {
		j.Gate.Leave()
	}
}

func (j *run) steps(ctx context.Context) error {
	for _, st := range j.m.steps() {
		if st.Once && j.rec.Has(st.Name) {
			continue
		}
		if !st.Held {
			if err := j.Guard(ctx); err != nil {
				return cause(ctx, err)
			}
		}
		if err := j.step(ctx, st); err != nil {
			return fmt.Errorf("%s: %w", st.Name, cause(ctx, err))
		}
	}
	return nil
}

// step does one step and notes its begin and end. The begin is stored before
// the step acts; while the guest is held it is not waited for long.
func (j *run) step(ctx context.Context, st Step) error {
	begin := j.Clock()
	j.rec.Step = st.Name
	if err := j.saveFor(ctx, st.Held && st.Name != Stream); err != nil {
		return err
	}
	j.emit(ctx, "step.begin", "", 0)
	err := j.do(ctx, st)
	rep := StepReport{Step: st.Name, Attempt: j.rec.Attempt, Begin: begin, Elapsed: j.Clock().Sub(begin)}
	if err != nil {
		rep.Failed = err.Error()
		j.rec.Report.addStep(rep)
		j.emit(ctx, "step.failed", err.Error(), rep.Elapsed)
		return err
	}
	j.rec.Report.addStep(rep)
	j.rec.Held = nil
	if st.Name == Resume {
		j.leave()
	}
	if !j.rec.Has(st.Name) {
		j.rec.Done = append(j.rec.Done, st.Name)
	}
	j.emit(ctx, "step.end", "", rep.Elapsed)
	return j.saveFor(ctx, st.Held || st.Name == Converge)
}

// do bounds how long a guest stands still before COMMITTING.
func (j *run) do(ctx context.Context, st Step) error {
	if !st.Held || j.rec.HandedOver || st.Name == Stream && j.rec.Plan.Mode == Live {
		return st.Do(ctx) // of a live move: the guest runs until it is over
	}
	limit := 2*max(j.rec.Report.Predicted, j.rec.Spec.MaxDowntime) + j.Limits.HoldMargin
	if j.rec.Plan.Mode == Cold {
		limit += j.Limits.ShutdownWait
	}
	left := limit
	if at := j.rec.Report.StoppedAt; st.Name != Stream && !at.IsZero() {
		left -= j.Clock().Sub(at)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, left, RetryLater(CodeDowntime, "the guest was held longer than %s", limit))
	defer cancel()
	return cause(ctx, st.Do(ctx))
}
