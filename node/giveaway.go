package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen"
)

// The source's part in the hand-over: rules R3 to R6 and R13. Each promise is
// decided by the pure functions of jobs, journalled, then carried out, all
// under the VM's lock.

// Commit journals COMMITTING. The lock itself proves that no command of this
// attempt is alive: each holds it until it ends (R4). A live migration's is, and
// has given GO: its stub says so, and makes the promise.
func (s *source) Commit(ctx context.Context, job jobs.Job, destination jobs.Journal) error {
	return s.n.hold(ctx, job.VM, func(h *held) error {
		if job.Plan.Mode == jobs.Live && !h.said.Has(jobs.COMMITTING, job.Epoch) {
			if err := s.commitLive(ctx, h, job, destination); err != nil || h.said.Has(jobs.COMMITTING, job.Epoch) {
				return err
			}
		}
		sees, err := s.sees(ctx, job)
		if err != nil {
			return err
		}
		if err := jobs.MayCommit(h.said, destination, job.Epoch, sees); err != nil {
			return jobs.RetryLater(jobs.CodeAborted, "commit vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		return h.say(job, jobs.COMMITTING, nil)
	})
}

// commitLive lets xl go over its own line. It is asked for nothing while the
// guest still runs, or while anything else forbids it.
func (s *source) commitLive(ctx context.Context, h *held, job jobs.Job, destination jobs.Journal) error {
	sees, err := s.sees(ctx, job)
	if err != nil {
		return err
	}
	if err := jobs.MayCommit(h.said, destination, job.Epoch, sees); err != nil {
		return jobs.RetryLater(jobs.CodeAborted, "commit vm %s on %s: %w", job.VM.Name, h.node, err)
	}
	err = s.letGo(ctx, h, job, destination)
	if rerr := h.reread(); rerr != nil {
		return errors.Join(err, rerr)
	}
	if err != nil && !h.said.Has(jobs.COMMITTING, job.Epoch) {
		return jobs.RetryLater(jobs.CodeToolstack, "have xl give vm %s on %s away: %w", job.VM.Name, h.node, err)
	}
	return nil
}

// sees looks whether the guest can execute here. A config without a UUID gives
// a new one at each boot, so a guest that somebody started by hand since it was
// stopped is told by its name. One that was to be kept and is gone may have run
// on, and ended by itself.
func (s *source) sees(ctx context.Context, job jobs.Job) (jobs.SourceSees, error) {
	sees := jobs.SourceSees{Gone: job.Plan.SendsMemory()}
	all, err := s.n.domains(ctx)
	for _, d := range all {
		switch {
		case d.UUID == job.VM.UUID:
			sees.Gone = false
			sees.Runs = sees.Runs || stateOf(d) == jobs.VMRunning
		case d.Name == job.VM.Name:
			sees.Runs = true
		}
	}
	return sees, err
}

// Release journals RELEASED: the destination may go although nobody could
// write the owner key (R6).
func (s *source) Release(ctx context.Context, job jobs.Job) error {
	return s.n.hold(ctx, job.VM, func(h *held) error {
		if err := jobs.MayRelease(h.said, job.Epoch); err != nil {
			return jobs.Failed(jobs.CodeAborted, "release vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		return h.say(job, jobs.RELEASED, nil)
	})
}

// Back journals BACK where R3 or R5 let it, then has the guest run on here.
func (s *source) Back(ctx context.Context, job jobs.Job, known jobs.Known) error {
	s.close(job.ID) // a save that still writes ends here, and lets go of the lock
	if job.Kind == jobs.KindSync {
		return nil
	}
	return s.n.hold(ctx, job.VM, func(h *held) error {
		if err := jobs.MayGoBack(h.said, job.Epoch, h.node, known); err != nil {
			return jobs.Failed(jobs.CodeAborted, "vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		if !h.said.Has(jobs.BEGIN, job.Epoch) {
			return nil // the attempt never got here; nothing to take back
		}
		if err := h.say(job, jobs.BACK, byWord(job)); err != nil {
			return err
		}
		if h.said.Late(job.Epoch) {
			return nil // a late word: a later attempt may hold the guest, and decides
		}
		if jobs.MayResume(h.said, job.Epoch) == nil {
			if err := s.recall(ctx, h, job); err != nil {
				return jobs.RetryLater(jobs.CodeToolstack, "end xl migrate of vm %s on %s: %w", job.VM.Name, h.node, err)
			}
			if err := s.runOn(ctx, h, job); err != nil {
				return jobs.RetryLater(jobs.CodeToolstack, "have vm %s run on at %s: %w", job.VM.Name, h.node, err)
			}
			if err := s.standIn(ctx, job); err != nil {
				return jobs.RetryLater(jobs.CodeToolstack, "see to the end of vm %s on %s: %w", job.VM.Name, h.node, err)
			}
		}
		return s.n.rearm(h, job)
	})
}

// runOn brings the guest of an attempt that is taken back to life, whatever
// was left of it.
func (s *source) runOn(ctx context.Context, h *held, job jobs.Job) error {
	if err := errors.Join(s.awaitShutdown(ctx, h, job), s.awaitLate(ctx, job)); err != nil {
		return err
	}
	copies, err := s.n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	ended, err := s.endedByUs(h, job)
	if err != nil {
		return err
	}
	for _, d := range copies {
		switch state := stateOf(d); {
		case state == jobs.VMRunning:
			return nil
		case state == jobs.VMSuspended:
			return s.wake(ctx, h, d)
		case state == jobs.VMPaused && !unfinished(d):
			return h.xl.Unpause(ctx, d.ID)
		case ended: // shut down and still there, or a boot of ours that was killed
			if err := h.xl.Destroy(ctx, d.ID); err != nil && !errors.Is(err, xen.ErrNoDomain) {
				return err
			}
		}
	}
	if !ended {
		return nil // the guest ended by itself: its own choice stands
	}
	cfg := job.Plan.Guest.Config
	if cfg == "" {
		return fmt.Errorf("its domain is gone and it has no config file to boot from: start it by hand")
	}
	return s.n.boot(ctx, h, job, cfg, xen.Running)
}

// standIn has this worker see to the guest's own end, where xl does not any more.
func (s *source) standIn(ctx context.Context, job jobs.Job) error {
	copies, err := s.n.copies(ctx, job.VM)
	if err != nil || len(copies) != 1 || job.Plan.Mode == jobs.Cold {
		return err // it has ended already, or was booted anew, with a monitor
	}
	return s.n.standIn(ctx, job)
}

// wake resumes a guest that an xl left suspended, under its own name.
func (s *source) wake(ctx context.Context, h *held, d xen.Domain) error {
	if home := xen.Home(d.Name); home != d.Name {
		if err := h.xl.Rename(ctx, d.ID, home); err != nil {
			return err
		}
	}
	return h.xl.ResumeSuspended(ctx, d.ID)
}

// lateSuspend is how long a guest is waited for that answered the request to
// suspend and did not in libxl's minute; all of that time it stops its devices.
const lateSuspend = 3 * time.Minute

// awaitLate waits for a guest that will suspend though nobody wants it any
// more: one that is let be would stand still later, and nobody would wake it.
func (s *source) awaitLate(ctx context.Context, job jobs.Job) error {
	for end := s.n.now().Add(lateSuspend); s.isLate(job.ID) && s.n.now().Before(end); {
		looked := time.Now()
		copies, err := s.n.copies(ctx, job.VM)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(copies, func(d xen.Domain) bool { return stateOf(d) == jobs.VMRunning }) {
			break
		}
		if err := sleep(ctx, xen.AskAgain(waitEvery, time.Since(looked))); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.late, job.ID)
	return nil
}

func (s *source) isLate(job string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late[job]
}

// awaitShutdown waits for a guest that was asked to shut down and has not: one
// that is let be would go down later, and nobody would boot it. A guest that
// does not listen at all runs on.
func (s *source) awaitShutdown(ctx context.Context, h *held, job jobs.Job) error {
	var asked stopping
	if _, err := h.told(jobs.STOPPING, job.Epoch, &asked); err != nil || job.Plan.Mode != jobs.Cold {
		return err
	}
	for end := s.n.now().Add(s.n.cfg.ShutdownWait); asked.Boot == s.n.bootID && s.n.now().Before(end); {
		looked := time.Now()
		copies, err := s.n.copies(ctx, job.VM)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(copies, func(d xen.Domain) bool { return d.ID == asked.DomID && stateOf(d) == jobs.VMRunning }) {
			return nil
		}
		if err := sleep(ctx, xen.AskAgain(waitEvery, time.Since(looked))); err != nil {
			return err
		}
	}
	return nil
}

// waitEvery is how often a guest is looked at that is to shut down or to show
// that it runs: well below what either takes.
const waitEvery = 100 * time.Millisecond

// endedByUs tells whether a domain that is gone must be booted again: a cold
// move shut it down, or this host came up after the guest was stopped.
func (s *source) endedByUs(h *held, job jobs.Job) (bool, error) {
	if job.Plan.Mode == jobs.Cold {
		return true, nil
	}
	return s.n.bootedSince(h, jobs.STOPPING, job.Epoch)
}

// Finish journals DONE, destroys the copy that gave its guest away, parks the
// config and keeps the disks as shadow. It may run again at any point.
func (s *source) Finish(ctx context.Context, job jobs.Job, destination jobs.Journal) error {
	s.close(job.ID)
	if job.Kind == jobs.KindSync {
		return nil
	}
	err := s.n.hold(ctx, job.VM, func(h *held) error {
		if err := jobs.MayFinishByWord(h.said, destination, job.Epoch, job.Destination, job.Word); err != nil {
			return jobs.RetryLater(jobs.CodeAborted, "vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		if err := h.say(job, jobs.DONE, nil); err != nil {
			return err
		}
		if jobs.MayDestroy(h.said, job.Epoch) != nil {
			return nil // the VM came back since; all that is left here is its own again
		}
		if job.Plan.Mode == jobs.Live {
			s.dismiss(ctx, h, job)
		}
		if err := s.destroy(ctx, h, job); err != nil {
			return err
		}
		if err := s.n.park(job); err != nil {
			return err
		}
		return s.shadow(ctx, job)
	})
	if err == nil {
		s.n.news(ctx)
	}
	return err
}

// destroy ends the source's copy. One that runs is never touched: it would be
// the second of two, and a person must look.
func (s *source) destroy(ctx context.Context, h *held, job jobs.Job) error {
	copies, err := s.n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	for _, d := range copies {
		if stateOf(d) == jobs.VMRunning {
			return jobs.Failed(jobs.CodeTwoCopies, "vm %s runs on %s as domain %d although %s owns it: neither copy was touched; look at both hosts, then choose one with `xmig resolve`",
				job.VM.Name, h.node, d.ID, job.Destination)
		}
		if err := h.xl.Destroy(ctx, d.ID); err != nil && !errors.Is(err, xen.ErrNoDomain) {
			return jobs.RetryLater(jobs.CodeToolstack, "destroy the given-away copy of vm %s on %s: %w", job.VM.Name, h.node, err)
		}
	}
	return nil
}

func (s *source) shadow(ctx context.Context, job jobs.Job) error {
	for _, d := range job.Plan.Disks {
		if !d.Copied() {
			continue
		}
		_, err := s.n.volumes.Shadow(ctx, storage.Request{
			Path: d.From, VM: job.VM.UUID, Disk: d.Name, Job: job.ID,
			Host: job.Destination, KeepUntil: s.n.now().Add(job.Spec.KeepSource),
		})
		if err != nil {
			return jobs.RetryLater(jobs.CodeStorage, "keep disk %s of vm %s on %s as shadow: %w", d.Name, job.VM.Name, s.n.cfg.Name, err)
		}
	}
	return nil
}

// Promised tells what this host has promised.
func (s *source) Promised(_ context.Context, vm jobs.VMRef) (jobs.Journal, error) {
	e, err := s.n.word(vm)
	return e.Journal, err
}

// Evidence tells what this host promised and sees.
func (s *source) Evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	return s.n.evidence(ctx, vm)
}
