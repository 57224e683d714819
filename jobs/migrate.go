package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Migration moves one VM. Its steps stand below in order; each looks before it
// acts, so that it may run again after a crash. The runner drives them.
type Migration struct {
	src    Source
	dst    Destination
	owners Owners
	clock  func() time.Time
	tell   func(what, text string) // a line for the job's story

	gate     Gate                                // nil: nothing is waited for
	waits    func(context.Context, string) error // notes why the guest may not be stopped yet
	sleep    func(context.Context, time.Duration) error
	patience time.Duration // how long a swap may take
	rec      *Record       // what the steps learn; the runner stores it
	scope    AbortScope    // how much a way back takes away
	known    Known         // what is known of the destination and the key
	released bool          // RELEASED was given in this attempt
	home     bool          // its guest runs on at the source, or has ended by itself
}

// Step is one step with its way back.
type Step struct {
	Name StepName
	Do   func(context.Context) error
	Undo func(context.Context) error // nil: nothing to take back
	Held bool                        // the guest does not run during it: in haste
	Once bool                        // done once in an attempt is done
}

// steps lists what comes before the line; a sync has none.
func (m *Migration) steps() []Step {
	if m.rec.Spec.Kind == KindSync {
		return m.sync()
	}
	return m.beforeHandOver()
}

// beforeHandOver lists what a failure can still take back, in order.
func (m *Migration) beforeHandOver() []Step {
	return []Step{
		{Name: Check, Do: m.check},
		{Name: Reserve, Do: m.reserve, Undo: m.release},
		{Name: Prepare, Do: m.prepare}, // reserve's undo takes it back too: one Abort for both
		{Name: Seed, Do: m.seed, Once: true},
		{Name: Converge, Do: m.converge},
		{Name: Stream, Do: m.stream, Undo: m.resumeSource, Held: true},
		{Name: SealStep, Do: m.seal, Held: true},
	}
}

// Between the two lists stands exactly one act: handOver.

// afterHandOver lists what can only be finished: the destination owns the VM now.
func (m *Migration) afterHandOver() []Step {
	return []Step{
		{Name: Resume, Do: m.resume, Held: true},
		{Name: Settle, Do: m.settle},
	}
}

// check gathers every blocker of both ends in one answer and decides the mode.
func (m *Migration) check(ctx context.Context) error {
	plan, blockers, err := Examine(ctx, m.src, m.dst, m.rec.Job())
	if err != nil {
		return err
	}
	m.rec.Plan = plan
	if len(blockers) > 0 {
		return &BlockedError{VM: m.rec.VM.Name, Blockers: blockers}
	}
	return nil
}

// reserve wins this attempt's epoch by its own swap (R1), then locks both hosts.
func (m *Migration) reserve(ctx context.Context) error {
	epoch, err := m.begin(ctx)
	if err != nil {
		return err
	}
	m.rec.Epoch = epoch
	if err := m.src.Begin(ctx, m.rec.Job()); err != nil {
		return err
	}
	return m.dst.Reserve(ctx, m.rec.Job())
}

func (m *Migration) release(ctx context.Context) error {
	if err := m.resumeSource(ctx); err != nil {
		return err
	}
	return m.retire(ctx)
}

// prepare makes or adopts the volumes, stages the config and opens the lane.
func (m *Migration) prepare(ctx context.Context) error {
	ticket, err := m.dst.Prepare(ctx, m.rec.Job())
	if err != nil {
		return err
	}
	return m.src.Connect(ctx, m.rec.Job(), ticket)
}

// retire has the destination abort, and take away what the job made if it is over.
func (m *Migration) retire(ctx context.Context) error {
	e, err := m.dst.Abort(ctx, m.rec.Job(), m.scope)
	m.learn(e.Journal)
	if err != nil {
		m.listen(ctx) // the answer was lost, or it must not abort
	}
	return err
}

// seed makes the first pass over all disks while the guest runs.
func (m *Migration) seed(ctx context.Context) error {
	_, err := m.pass(ctx, SeedPass)
	return err
}

// converge repeats delta passes until the predicted blackout fits the budget.
func (m *Migration) converge(ctx context.Context) error {
	var deltas []PassReport
	for {
		m.rec.Report.Predicted = m.predict(deltas)
		switch verdict := Converged(deltas, m.rec.Report.Predicted, m.rec.Spec.MaxDowntime); {
		case !m.rec.Plan.stops():
			return nil
		case verdict == Enough, verdict == TooLong && m.rec.Spec.OnTimeout == TimeoutSuspend:
			if open, err := m.mayStop(ctx); err != nil || open {
				return err
			}
		case verdict == TooLong && m.rec.Spec.OnTimeout == TimeoutAbort:
			return Failed(CodeDowntime, "vm %s: predicted blackout %s after %d delta passes exceeds --max-downtime %s; allow more, or submit with --on-timeout suspend",
				m.rec.VM.Name, m.rec.Report.Predicted.Round(10*time.Millisecond), len(deltas), m.rec.Spec.MaxDowntime)
		}
		p, err := m.pass(ctx, DeltaPass)
		if err != nil {
			return err
		}
		deltas = append(deltas, p)
	}
}

// stream has the guest's memory travel and the guest stand still: live in this
// order, in suspend mode the other way round. In cold mode it shuts down.
func (m *Migration) stream(ctx context.Context) error {
	if m.rec.Plan.SendsMemory() {
		if err := m.dst.Receive(ctx, m.rec.Job()); err != nil {
			return err
		}
	}
	stopped, err := m.stop(ctx)
	if !stopped.At.IsZero() || err == nil {
		m.rec.Report.StoppedAt = stopped.At
	}
	if err != nil {
		return err
	}
	m.rec.Report.Sealed = &Seal{Run: stopped.Ran}
	return nil
}

// stop returns when the guest stands. While live memory flows, delta passes go
// on as long as one will end before the guest stands.
func (m *Migration) stop(ctx context.Context) (stopped Stopped, err error) {
	if m.rec.Plan.Mode != Live {
		return m.src.Stop(ctx, m.rec.Job(), func(Flow) {})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	job, news, stands := m.rec.Job(), make(chan Flow, 1), make(chan struct{})
	ended := m.clock() // the last pass, just now
	go func() {
		defer close(stands)
		stopped, err = m.src.Stop(ctx, job, func(f Flow) {
			select {
			case news <- f:
			default: // nobody waits for it now; the next one is newer
			}
		})
	}()
	for m.another(news, stands, ended) {
		if _, perr := m.pass(ctx, DeltaPass); perr != nil {
			cancel(perr)
			<-stands
			return stopped, perr
		}
		ended = m.clock()
	}
	<-stands
	return stopped, err
}

// another waits until one more delta pass is due and would end in time; false:
// none will. ended is when the last one did.
func (m *Migration) another(news <-chan Flow, stands <-chan struct{}, ended time.Time) bool {
	for {
		select {
		case <-stands:
			return false
		case f := <-news:
			memory, passes := m.rec.Plan.Guest.Memory, m.rec.Report.Passes
			if PassFits(f, memory, passes) && PassDue(f, memory, passes, m.clock().Sub(ended)) {
				return true
			}
		}
	}
}

// seal makes the last pass over disks nobody writes to, and has both ends
// vouch for the same copy.
func (m *Migration) seal(ctx context.Context) error {
	p, err := m.pass(ctx, FinalPass)
	if err != nil {
		return err
	}
	memory, err := m.src.Drain(ctx, m.rec.Job())
	if err != nil {
		return err
	}
	m.rec.Report.Memory = memory
	s := m.rec.Report.Sealed
	s.Memory, s.Pass, s.Roots = memory, p.Number, map[string]Digest{}
	for _, d := range p.Disks {
		s.Roots[d.Name] = d.Root
	}
	if err := m.src.Seal(ctx, m.rec.Job(), *s); err != nil {
		return err
	}
	e, err := m.dst.Ready(ctx, m.rec.Job(), *s)
	m.learn(e.Journal)
	return err
}

// commit has the source promise that nothing there resumes the guest by itself.
func (m *Migration) commit(ctx context.Context) error {
	return m.src.Commit(ctx, m.rec.Job(), m.known.Destination)
}

// handOver is the line: the swap of the owner key, after which the VM belongs
// to the destination. When the bus stays away, the source's RELEASED takes the
// key's place (R6), but only for a destination that is there to hear it.
func (m *Migration) handOver(ctx context.Context) error {
	err := m.swap(ctx, m.rec.Job().begun(), m.rec.Job().handed())
	switch job := m.rec.Job(); {
	case err == nil:
		return nil
	case errors.Is(err, ErrConflict):
		key := m.known.Key
		return Failed(CodeAborted, "hand-over of vm %s: the owner key says %s, epoch %d: %w", job.VM.Name, key.Node, key.Epoch, err)
	default:
		if _, derr := m.dst.Evidence(ctx, m.rec.VM); derr != nil {
			return errors.Join(err, derr)
		}
		m.tell("note", fmt.Sprintf("the bus does not answer (%v): releasing the VM to %s directly", err, job.Destination))
		if err := m.src.Release(ctx, job); err != nil {
			return err
		}
		m.released = true
		return nil
	}
}

// resume has the destination run the guest and prove it.
func (m *Migration) resume(ctx context.Context) error {
	here, err := m.src.Promised(ctx, m.rec.VM)
	if err != nil {
		return err
	}
	ran, there, err := m.dst.Go(ctx, m.rec.Job(), Permission{Key: m.known.Key, Source: here})
	m.learn(there.Journal)
	if err != nil {
		if ClassOf(err) != Lost {
			m.listen(ctx) // it may have aborted
		}
		return err
	}
	m.rec.Report.DomID = ran.DomID
	// How long ago the guest began to run is a difference on the destination's
	// clock, so that the blackout is measured by the source's alone.
	m.rec.Report.RanAt = m.clock().Add(-there.At.Sub(ran.At))
	if !m.rec.Report.StoppedAt.IsZero() && m.rec.Report.RanAt.After(m.rec.Report.StoppedAt) { // else its host died under it and nobody saw when
		m.rec.Report.Blackout = m.rec.Report.RanAt.Sub(m.rec.Report.StoppedAt)
	}
	return nil
}

// settle hands over the config and lets go: the destination first, so that at
// every moment some host has the VM's config.
func (m *Migration) settle(ctx context.Context) error {
	if err := m.sleep(ctx, m.rec.Report.breath(m.clock())); err != nil {
		return err
	}
	if !m.known.Destination.Has(RUNNING, m.rec.Epoch) {
		e, err := m.dst.Evidence(ctx, m.rec.VM)
		if err != nil {
			return err
		}
		m.learn(e.Journal)
	}
	if err := m.dst.Settle(ctx, m.rec.Job()); err != nil {
		return err
	}
	if err := m.src.Finish(ctx, m.rec.Job(), m.known.Destination); err != nil {
		return err
	}
	return m.settleKey(ctx)
}

// resumeSource has the guest run on at the source, by the rules R3 and R5. Every
// step that is taken back wants it; it is waited for once.
func (m *Migration) resumeSource(ctx context.Context) error {
	if m.home {
		return nil
	}
	if err := m.src.Back(ctx, m.rec.Job(), m.known); err != nil {
		return err
	}
	m.home = true
	m.tell("home", fmt.Sprintf("%s is not held on %s any more", m.rec.VM.Name, m.rec.Source))
	return nil
}
