package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"xmig/blocksync"
	"xmig/jobs"
	"xmig/node/journal"
	"xmig/xen"
)

// A live migration at its source. Beside the VM's lock there is one that `xl
// migrate` has for as long as it lives: it takes minutes, and the VM's own is
// wanted for every promise meanwhile. What xl does by itself is held by its stub
// (package xen), which does nothing without the VM's lock once READY is passed
// on; before, xl's only act of its own is to let the guest run on.

// flow is a guest's memory on its way to the destination.
type flow struct {
	stub   *xen.StubWorker
	pipe   *os.File // what xl sends
	stream *xen.Stream
	begin  time.Time

	migrated chan struct{} // closed when xl has ended
	xlErr    error
	sent     chan struct{} // closed when the stream was sent, or broke
	memory   *jobs.Memory
	sendErr  error
}

// hangUp ends a flow that was not committed: xl takes it for the end of its
// migration. Behind that it changes nothing.
func (f *flow) hangUp() {
	if f == nil {
		return
	}
	f.stub.Close()
	f.pipe.Close()
}

func (n *Node) stubOf(job jobs.Job) stubArgs {
	return stubArgs{Journals: n.journals(), VM: job.VM, Epoch: job.Epoch, Attempt: job.Attempt}
}

// xlLock is held by `xl migrate` of a VM, below its holder.
func (n *Node) xlLock(vm jobs.VMRef) (string, error) {
	return journal.LockPath(n.journals(), vm.UUID+".xl")
}

// sendLive is Stop in live mode: it returns when the guest stands still.
func (s *source) sendLive(ctx context.Context, job jobs.Job, told func(jobs.Flow)) (jobs.Stopped, error) {
	d, err := s.departure(job)
	if err != nil {
		return jobs.Stopped{}, err
	}
	f := &flow{migrated: make(chan struct{}), sent: make(chan struct{}), begin: s.n.now()}
	if err := s.n.hold(ctx, job.VM, func(h *held) error { return s.begin(ctx, h, job, f) }); err != nil {
		return jobs.Stopped{}, err
	}
	if err := s.attach(ctx, job, f); err != nil {
		<-f.migrated // nobody answers it: it ends, and lets the guest run on
		return jobs.Stopped{}, fmt.Errorf("%w%s", err, because(f.xlErr))
	}
	s.mu.Lock()
	d.flow = f
	s.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.carry(context.WithoutCancel(ctx), job, d, f, told) // ends with the pipe
	at, err := s.awaitStop(ctx, job, f)
	if err != nil {
		s.close(job.ID)
		<-f.sent
		<-f.migrated
		return jobs.Stopped{At: at}, f.failure(job, err) // it may have been stopped
	}
	return jobs.Stopped{At: at, Ran: true}, nil
}

// because is what xl said, if it failed too.
func because(err error) string {
	if err == nil {
		return ""
	}
	return "; " + err.Error()
}

// begin promises that the guest may be stopped and starts `xl migrate`.
func (s *source) begin(ctx context.Context, h *held, job jobs.Job, f *flow) error {
	dom, err := s.mayStop(ctx, h, job)
	if err != nil {
		return err
	}
	path, err := s.n.xlLock(job.VM)
	if err != nil {
		return err
	}
	lock, err := journal.TryAcquire(path)
	if err != nil {
		return jobs.RetryLater(jobs.CodeConflict, "vm %s on %s: an xl that migrates it still runs: %w", job.VM.Name, h.node, err)
	}
	if err := h.say(job, jobs.STOPPING, stopping{inBoot{s.n.bootID}, dom.ID}); err != nil {
		return errors.Join(err, lock.Release())
	}
	transport := xen.ShellCommand(slices.Concat(s.n.cfg.Stub, s.n.stubOf(job).words())...)
	xl := s.n.xl.Held(lock.File(), s.n.cfg.Holder)
	go func() { // ends when xl has, or with this process; xl does not
		defer close(f.migrated)
		f.xlErr = xl.Migrate(context.WithoutCancel(ctx), dom.ID, transport)
		if err := lock.Release(); err != nil && f.xlErr == nil {
			f.xlErr = err
		}
	}()
	return nil
}

// stubEvery is how often a stub is looked for that xl is about to start.
const stubEvery = 20 * time.Millisecond

// attach finds the stub that xl has started, and has xl begin. One that is not
// wanted any more is waited for all the same, for it would wait for us.
func (s *source) attach(ctx context.Context, job jobs.Job, f *flow) error {
	fail := func(err error) error {
		return jobs.RetryLater(jobs.CodeToolstack, "stub of vm %s on %s: %w", job.VM.Name, s.n.cfg.Name, err)
	}
	for {
		stub, err := xen.ReachStub(context.WithoutCancel(ctx), s.n.stubOf(job).socket())
		if err == nil {
			if f.pipe, err = stub.Attach(context.WithoutCancel(ctx)); err != nil {
				return errors.Join(fail(err), stub.Close())
			}
			f.stub, f.stream = stub, xen.NewStream(f.pipe)
			if ctx.Err() != nil {
				f.hangUp()
				return fmt.Errorf("wait for xl migrate of vm %s: %w", job.VM.Name, context.Cause(ctx))
			}
			return nil
		}
		select {
		case <-f.migrated:
			return fail(err)
		case <-time.After(stubEvery):
		}
	}
}

// carry sends the stream through the lane. It ends at its end, which is known
// exactly: what xl writes behind it is the stub's to read.
func (s *source) carry(ctx context.Context, job jobs.Job, d *departure, f *flow, told func(jobs.Flow)) {
	defer close(f.sent)
	defer f.pipe.Close()
	watch := s.n.watch(job, 0, "")
	progress := watch.memory(job.Plan.Guest.Memory)
	settings := s.n.syncSettings(job, func(p blocksync.Progress) {
		told(jobs.Flow{Sent: p.Done, Elapsed: s.n.now().Sub(f.begin)})
		progress(p)
	})
	settings.Limits = d.limits
	res, err := blocksync.SendStream(ctx, d.lane.Channel(memoryChannel), f.stream, settings)
	watch.end()
	f.sendErr = err
	if err != nil {
		f.stub.Close() // xl lets the guest run on
		return
	}
	f.memory = &jobs.Memory{Bytes: res.Bytes, Wire: res.Wire, Digest: res.Digest, Elapsed: s.n.now().Sub(f.begin)}
}

// lookEvery is how often a guest whose memory flows is looked at where nothing
// tells that it was suspended: the last pass begins that much later than it
// could, at worst; more where xl is slow (xen.AskAgain).
const lookEvery = 200 * time.Millisecond

// awaitStop waits until xl has suspended the guest, and tells when it ran last.
func (s *source) awaitStop(ctx context.Context, job jobs.Job, f *flow) (at time.Time, err error) {
	at = f.begin
	for {
		looked, turn := s.n.now(), f.stream.Turn()
		if !turn.IsZero() { // what is left are the pages that changed meanwhile
			s.n.hush(turn)
		}
		dom, err := s.n.domain(ctx, job.VM)
		switch {
		case ctx.Err() != nil:
			return at, context.Cause(ctx)
		case err != nil:
			s.n.log.Debug().Err(err).Str("vm", job.VM.Name).Msg("not seen while its memory flows")
		case stateOf(dom) == jobs.VMSuspended && s.stands(job, f):
			if turn = f.stream.Turn(); turn.After(at) {
				at = turn
			}
			return at, nil
		case stateOf(dom) == jobs.VMRunning:
			at = looked
		}
		if err := f.stub.There(ctx); err != nil {
			return at, err
		}
		if err := f.news(ctx, turn, xen.AskAgain(lookEvery, s.n.now().Sub(looked))); err != nil {
			return at, err
		}
	}
}

// news waits until the guest is worth another look: a round of its pages began
// behind turn, which it may have been suspended for, its image is whole, or it was not looked
// at for a while.
func (f *flow) news(ctx context.Context, turn time.Time, while time.Duration) error {
	end := time.After(while)
	tick := time.NewTicker(stubEvery)
	defer tick.Stop()
	for f.stream.Turn().Equal(turn) {
		select {
		case <-tick.C:
		case <-end:
			return nil
		case <-f.migrated:
			return errors.New("xl ended")
		case <-f.sent:
			if f.sendErr != nil {
				return f.sendErr
			}
			return sleep(ctx, stubEvery) // it stands; what is left is to see it
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// stands: a guest with a device model writes through that until its state is in
// the image, which is after it was suspended.
func (s *source) stands(job jobs.Job, f *flow) bool {
	if !job.Plan.Guest.EarlyOpen {
		return true
	}
	select {
	case <-f.sent:
		return f.sendErr == nil
	default:
		return false
	}
}

// failure says why a flow ended, xl's own word first: the rest follows from it.
func (f *flow) failure(job jobs.Job, err error) error {
	switch {
	case f.xlErr != nil && f.sendErr == nil:
		return jobs.RetryLater(jobs.CodeToolstack, "migrate vm %s live from %s: %w; %w", job.VM.Name, job.Source, err, f.xlErr)
	case f.sendErr != nil && f.xlErr == nil:
		return jobs.RetryLater(jobs.CodeLane, "memory of vm %s to %s: %w", job.VM.Name, job.Destination, f.sendErr)
	case f.sendErr != nil:
		return jobs.RetryLater(jobs.CodeLane, "memory of vm %s to %s: %w; %w", job.VM.Name, job.Destination, f.sendErr, f.xlErr)
	}
	return fmt.Errorf("migrate vm %s live from %s: %w", job.VM.Name, job.Source, err)
}

// drain waits until the image is whole at the destination.
func (s *source) drain(ctx context.Context, job jobs.Job, f *flow) (*jobs.Memory, error) {
	select {
	case <-f.sent:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the memory of vm %s: %w", job.VM.Name, context.Cause(ctx))
	}
	err := f.sendErr
	if err == nil {
		err = f.stub.There(ctx) // without it xl has resumed the guest
	}
	if err != nil {
		s.close(job.ID)
		<-f.migrated
		return nil, f.failure(job, err)
	}
	return f.memory, nil
}

// letGo has xl give GO, and its stub promise COMMITTING, under the VM's lock.
// Where stub or xl died, xl has resumed the guest or nobody does: when it has
// ended the guest tells which, and one that stands may be committed.
func (s *source) letGo(ctx context.Context, h *held, job jobs.Job, destination jobs.Journal) error {
	s.mu.Lock()
	d := s.open[job.ID]
	s.mu.Unlock()
	if d == nil || d.flow == nil {
		return s.awaitXL(ctx, job)
	}
	var ours jobs.Journal
	for _, p := range destination {
		if p.Epoch == job.Epoch {
			ours = append(ours, p)
		}
	}
	note, err := json.Marshal(ours)
	if err != nil {
		return err
	}
	went, err := d.flow.stub.PassReady(ctx, h.lock.File(), note)
	if err == nil || went || ctx.Err() != nil {
		return err // xl waits for its answer, which Back has for it
	}
	s.n.log.Warn().Err(err).Str("job", job.ID).Str("vm", job.VM.Name).Msg("xl gave no GO; waiting for its end")
	d.flow.hangUp()
	return s.awaitXL(ctx, job)
}

// awaitXL waits until no `xl migrate` of the VM is left.
func (s *source) awaitXL(ctx context.Context, job jobs.Job) error {
	path, err := s.n.xlLock(job.VM)
	if err != nil {
		return err
	}
	lock, err := journal.Acquire(ctx, path)
	if err != nil {
		return fmt.Errorf("wait for the end of xl migrate: %w", err)
	}
	return lock.Release()
}

// recall has xl let the guest run on, through the stub if there is one, and
// waits until xl has ended. BACK is journalled.
func (s *source) recall(ctx context.Context, h *held, job jobs.Job) error {
	path, err := s.n.xlLock(job.VM)
	if err != nil {
		return err
	}
	for {
		lock, err := journal.TryAcquire(path)
		if err == nil {
			return lock.Release()
		}
		if !errors.Is(err, journal.ErrHeld) {
			return err
		}
		if stub, serr := xen.ReachStub(ctx, s.n.stubOf(job).socket()); serr == nil {
			serr = stub.Resume(ctx, h.lock.File())
			stub.Close()
			if serr != nil {
				return fmt.Errorf("stub: %w", serr)
			}
		}
		if serr := sleep(ctx, stubEvery); serr != nil {
			return fmt.Errorf("%w: %w", err, serr)
		}
	}
}

// dismissWait is how long an xl may take to destroy its copy; then it is
// destroyed by hand.
const dismissWait = time.Minute

// dismiss has xl destroy the source's copy, if it still waits for that word.
// DONE is journalled. What is left is seen to by whoever calls.
func (s *source) dismiss(ctx context.Context, h *held, job jobs.Job) {
	ctx, cancel := context.WithTimeout(ctx, dismissWait)
	defer cancel()
	stub, err := xen.ReachStub(ctx, s.n.stubOf(job).socket())
	if err == nil {
		err = stub.Destroy(ctx, h.lock.File())
		stub.Close()
	}
	if err == nil {
		err = s.awaitXL(ctx, job)
	}
	if err != nil && !errors.Is(err, xen.ErrStubGone) {
		s.n.log.Warn().Err(err).Str("job", job.ID).Str("vm", job.VM.Name).Msg("xl did not end its migration; its copy is destroyed by hand")
	}
}
