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
	Attempts    int           // attempts that may fail before the job does
	Patience    time.Duration // how long errors may repeat without any progress before an attempt fails
	Backoff     time.Duration // first pause between tries; doubles up to MaxBackoff
	MaxBackoff  time.Duration
	HoldMargin  time.Duration // a guest may be held before COMMITTING for 2 × its predicted blackout plus this
	BusPatience time.Duration // how long the owner key's swap may take before the source releases the VM directly
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
}

// run is one job being driven.
type run struct {
	*Runner
	m   *Migration
	rec *Record
}

// Run drives the job to a final state, or until ctx ends. The error is nil
// when the record became final and was stored, whatever its state.
func (r *Runner) Run(ctx context.Context, rec Record) (Record, error) {
	j := &run{Runner: r, rec: &rec}
	j.m = &Migration{src: r.Source, dst: r.Destination, owners: r.Owners, clock: r.Clock, rec: &rec, scope: AttemptOver, tell: func(s string) { j.emit(ctx, "note", s, 0) }}
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
)

// where asks the source's own journal, not the record, which may be older.
func (j *run) where(ctx context.Context) (place, error) {
	if j.rec.Epoch == 0 {
		return ahead, nil
	}
	e, err := j.Source.Evidence(ctx, j.rec.VM)
	if err != nil {
		return "", err
	}
	switch {
	case e.Journal.Has(BACK, j.rec.Epoch):
		return over, nil
	case e.Journal.Has(COMMITTING, j.rec.Epoch):
		return committed, nil
	case j.rec.Step == Stream, j.rec.Step == SealStep, j.rec.Step == HandOver, e.Journal.Has(SEALED, j.rec.Epoch):
		return held, nil
	}
	return ahead, nil
}

// attempt drives one attempt to its end and decides what follows.
func (j *run) attempt(ctx context.Context) error {
	if err := j.begin(ctx); err != nil {
		return err
	}
	at, err := j.where(ctx)
	if err != nil {
		return err
	}
	switch at {
	case ahead:
		err = j.forward(ctx)
	case held:
		err = RetryLater(CodeInternal, "the worker died while the guest was held")
	case over:
		err = j.ended()
	}
	if at == committed || err == nil {
		return j.finish(ctx)
	}
	return j.goBack(ctx, err)
}

// ended tells again why an attempt that is known to be over was ended.
func (j *run) ended() error {
	if f := j.rec.Failure; f != nil && f.Attempt == j.rec.Attempt {
		return &Error{Class: f.Class, Code: f.Code, Err: errors.New(f.Text)}
	}
	return RetryLater(CodeAborted, "the source ended the attempt")
}

func (j *run) begin(ctx context.Context) error {
	if j.rec.Attempt == 0 {
		j.rec.Attempt = 1
	}
	if j.rec.State == Planned {
		if err := j.rec.To(Running); err != nil {
			return err
		}
		j.rec.Started = j.Clock()
		return j.save(ctx)
	}
	return nil
}

// forward does the steps before the line. Errors that may get better are
// tried again within the attempt as long as the guest runs.
func (j *run) forward(ctx context.Context) error {
	backoff, since := j.Limits.Backoff, j.Clock()
	for {
		before := len(j.rec.Report.Steps)
		err := j.steps(ctx, j.m.beforeHandOver())
		if err == nil || ClassOf(err) != Retry || ctx.Err() != nil || j.rec.Step == Stream || j.rec.Step == SealStep {
			return err
		}
		if j.progressed(before) {
			backoff, since = j.Limits.Backoff, j.Clock()
		}
		if j.Clock().Sub(since) > j.Limits.Patience {
			return &Error{Class: Final, Code: CodeOf(err), Err: fmt.Errorf("gave up after %s: %w", j.Limits.Patience, err)}
		}
		j.rec.Held = &Flag{Reason: err.Error(), Since: j.Clock()}
		j.emit(ctx, "held", err.Error(), 0)
		if err := j.Sleep(ctx, backoff); err != nil {
			return cause(ctx, err)
		}
		backoff = min(2*backoff, j.Limits.MaxBackoff)
	}
}

// progressed: a step of the last round ended well beyond the cheap first ones.
func (j *run) progressed(before int) bool {
	for _, s := range j.rec.Report.Steps[min(before, len(j.rec.Report.Steps)):] {
		if s.Failed == "" && s.Step != Check && s.Step != Reserve {
			return true
		}
	}
	return false
}

func (j *run) steps(ctx context.Context, steps []Step) error {
	if j.rec.Spec.Kind == KindSync {
		steps = j.m.sync()
	}
	for _, st := range steps {
		if st.Once && j.rec.Has(st.Name) {
			continue
		}
		if !st.Held {
			if err := j.Guard(ctx); err != nil {
				return cause(ctx, err)
			}
		}
		stepCtx, cancel := ctx, context.CancelFunc(func() {})
		if st.Held {
			stepCtx, cancel = j.holdDeadline(ctx)
		}
		err := j.step(stepCtx, st)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", st.Name, cause(ctx, err))
		}
	}
	return nil
}

// holdDeadline bounds how long a guest stands still before COMMITTING.
func (j *run) holdDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := 2*max(j.rec.Report.Predicted, j.rec.Spec.MaxDowntime) + j.Limits.HoldMargin
	if at := j.rec.Report.StoppedAt; j.rec.Step == Stream && !at.IsZero() {
		limit -= j.Clock().Sub(at)
	}
	return context.WithTimeoutCause(ctx, limit, RetryLater(CodeDowntime, "the guest was held longer than %s", limit))
}

// step does one step and notes its begin and end. The begin is stored before
// the step acts; the end of a step that holds the guest is not waited for long.
func (j *run) step(ctx context.Context, st Step) error {
	begin := j.Clock()
	j.rec.Step, j.rec.Updated = st.Name, begin
	if err := j.saveFor(ctx, st.Held && st.Name != Stream); err != nil {
		return err
	}
	j.emit(ctx, "step.begin", "", 0)
	err := st.Do(ctx)
	rep := StepReport{Step: st.Name, Attempt: j.rec.Attempt, Begin: begin, Elapsed: j.Clock().Sub(begin)}
	if err != nil {
		rep.Failed = err.Error()
		j.rec.Report.addStep(rep)
		j.emit(ctx, "step.failed", err.Error(), rep.Elapsed)
		return err
	}
	j.rec.Report.addStep(rep)
	j.rec.Held = nil
	if !j.rec.Has(st.Name) {
		j.rec.Done = append(j.rec.Done, st.Name)
	}
	j.emit(ctx, "step.end", "", rep.Elapsed)
	return j.saveFor(ctx, st.Held || st.Name == Converge)
}

// finish is the way forward: the hand-over and what follows. Nothing but the
// hand-over's own rules turns back from here; no signal ends it half-way.
func (j *run) finish(ctx context.Context) error {
	if j.rec.Spec.Kind == KindSync {
		return j.conclude(ctx, Succeeded)
	}
	j.rec.Step = HandOver
	j.emit(ctx, "step.begin", "", 0)
	if err := j.line(ctx); err != nil {
		return j.goBack(ctx, fmt.Errorf("%s: %w", HandOver, err))
	}
	forward := context.WithoutCancel(ctx)
	for _, st := range j.m.afterHandOver() {
		for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
			err := j.step(forward, st)
			if err == nil {
				break
			}
			if done, err := j.refused(ctx, st.Name, err); done {
				return err
			}
			j.rec.Held = &Flag{Reason: err.Error(), Since: j.Clock()}
			_ = j.saveFor(forward, true) // the journals know; the record may be told later
			if err := j.Sleep(ctx, backoff); err != nil {
				return cause(ctx, err)
			}
		}
	}
	return j.conclude(ctx, Succeeded)
}

// line crosses the line; it may be crossed again after a crash. Once the
// source has committed, only a key that somebody else took turns back.
func (j *run) line(ctx context.Context) error {
	begin := j.Clock()
	for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
		err := j.m.handOver(ctx, j.Limits.BusPatience)
		if err == nil {
			break
		}
		if errors.Is(err, ErrConflict) {
			if e, derr := j.Destination.Evidence(ctx, j.rec.VM); derr == nil {
				j.m.known.Destination = append(j.m.known.Destination, e.Journal...)
			}
			return err
		}
		if at, werr := j.where(ctx); werr == nil && at != committed {
			return err
		}
		j.rec.Held = &Flag{Reason: err.Error(), Since: j.Clock()}
		if err := j.Sleep(context.WithoutCancel(ctx), backoff); err != nil {
			return err
		}
	}
	j.rec.HandedOver = true
	j.rec.Report.addStep(StepReport{Step: HandOver, Attempt: j.rec.Attempt, Begin: begin, Elapsed: j.Clock().Sub(begin)})
	j.emit(ctx, "handover", fmt.Sprintf("%s owns the VM", j.rec.Destination), j.Clock().Sub(begin))
	return j.saveFor(context.WithoutCancel(ctx), true)
}

// refused looks at what a repetition will not cure: a destination that aborted
// before it resumed sends the source back (R5a); where a copy may have run that
// is gone, or a second one runs, a person has to look at both hosts.
func (j *run) refused(ctx context.Context, at StepName, err error) (done bool, _ error) {
	switch {
	case at == Resume && j.m.known.Destination.Has(ABORTED, j.rec.Epoch):
		j.rec.HandedOver = false
		return true, j.goBack(ctx, err)
	case ClassOf(err) == Final && j.m.known.Destination.Has(GO, j.rec.Epoch):
		j.fail(err)
		return true, j.conclude(ctx, Indeterminate)
	}
	return false, nil
}

// goBack takes an attempt back after err, and decides whether another follows.
func (j *run) goBack(ctx context.Context, err error) error {
	if ClassOf(err) == Lost {
		return err
	}
	stopped := !j.rec.Report.StoppedAt.IsZero()
	if errors.Is(err, ErrShutdown) && j.rec.Step != Stream && j.rec.Step != SealStep && j.rec.Step != HandOver {
		return err // the guest runs; the attempt goes on when the worker is back
	}
	j.fail(err)
	again := ClassOf(err) == Retry && j.rec.Failures < j.Limits.Attempts && !errors.Is(err, ErrCancelled)
	if j.m.scope = JobOver; again {
		j.m.scope = AttemptOver
	}
	j.emit(ctx, "back", err.Error(), 0)
	if undoErr := j.backward(ctx); undoErr != nil || j.rec.State == Indeterminate {
		return undoErr
	}
	if again {
		return j.again(ctx, err)
	}
	switch {
	case errors.Is(err, ErrCancelled):
		return j.conclude(ctx, Cancelled)
	case stopped:
		return j.conclude(ctx, RolledBack)
	}
	return j.conclude(ctx, FailedState)
}

// again readies the record for the next attempt.
func (j *run) again(ctx context.Context, err error) error {
	n := j.rec.Failures
	j.rec.Attempt++
	j.rec.Epoch, j.rec.Done, j.rec.Step = 0, nil, ""
	j.rec.Report.StoppedAt, j.rec.Report.Sealed, j.rec.Report.Memory = time.Time{}, nil, nil
	j.m.known = Known{}
	if serr := j.save(ctx); serr != nil {
		return serr
	}
	if errors.Is(err, ErrShutdown) {
		return err
	}
	return cause(ctx, j.Sleep(ctx, min(j.Limits.Backoff<<min(n, 10), j.Limits.MaxBackoff)))
}

// backward undoes the steps begun, last first. The source's way back is tried
// until it succeeds: the guest must run. What the destination cannot be told
// is named in the record, and its worker cleans it when it reads that.
func (j *run) backward(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	steps := j.m.beforeHandOver()
	j.rec.Leftover = nil
	for i := len(steps) - 1; i >= 0; i-- {
		st := steps[i]
		if st.Undo == nil || j.rec.Epoch == 0 || !begun(st.Name, j.rec.Step) {
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
			if st.Name != Stream && try >= 3 {
				j.rec.Leftover = append(j.rec.Leftover, fmt.Sprintf("%s on %s: %v", st.Name, j.rec.Destination, err))
				break
			}
			if err := j.Sleep(ctx, backoff); err != nil {
				return err
			}
		}
	}
	return nil
}

// begun: step s was begun when the attempt got as far as at.
func begun(s, at StepName) bool {
	for _, n := range Steps() {
		if n == s {
			return true
		}
		if n == at {
			return false
		}
	}
	return false
}

// conclude makes the record final, in the store too.
func (j *run) conclude(ctx context.Context, s State) error {
	if err := j.rec.To(s); err != nil {
		return err
	}
	j.rec.Ended, j.rec.Held = j.Clock(), nil
	if s.Final() && s != Succeeded && j.rec.Spec.Kind == KindMigrate {
		uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.Limits.Patience)
		err := j.Owners.Unclaim(uctx, j.rec.VM.UUID, j.rec.ID)
		cancel()
		if err != nil && CodeOf(err) != CodeNotFound {
			return err
		}
	}
	if err := j.save(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	j.emit(ctx, "state", string(s), j.rec.Ended.Sub(j.rec.Started))
	return nil
}

func (j *run) fail(err error) {
	j.rec.Failures++
	f := &Failure{Step: j.rec.Step, Class: ClassOf(err), Code: CodeOf(err), Text: err.Error(), At: j.Clock(), Attempt: j.rec.Attempt}
	var b *BlockedError
	if errors.As(err, &b) {
		f.Blockers = b.Blockers
	}
	if errors.Is(err, ErrCancelled) {
		f.Class, f.Code = Final, CodeCancelled
	}
	j.rec.Failure = f
}

// save stores the record and waits out a bus that is away.
func (j *run) save(ctx context.Context) error {
	for backoff := j.Limits.Backoff; ; backoff = min(2*backoff, j.Limits.MaxBackoff) {
		err := j.saveOnce(ctx)
		if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
			return conflict(err)
		}
		if err := j.Sleep(ctx, backoff); err != nil {
			return cause(ctx, err)
		}
	}
}

// saveFor does not let a bus that is away hold a guest: the journals know.
func (j *run) saveFor(ctx context.Context, inHaste bool) error {
	if !inHaste {
		return j.save(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.Limits.SaveWait)
	defer cancel()
	if err := j.saveOnce(ctx); errors.Is(err, ErrConflict) {
		return conflict(err)
	}
	return nil
}

func (j *run) saveOnce(ctx context.Context) error {
	j.rec.Updated = j.Clock()
	saved, err := j.Store.Save(ctx, *j.rec)
	if err == nil {
		j.rec.Revision = saved.Revision
	}
	return err
}

func conflict(err error) error {
	if errors.Is(err, ErrConflict) {
		return NotOurs("the record was changed by somebody else: %w", err)
	}
	return err
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
