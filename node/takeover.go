package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmig/jobs"
	"xmig/xen"
)

// The destination's part in the hand-over: rules R7 to R9, mirrored to
// giveaway.go. Each promise is decided by the pure functions of jobs,
// journalled, then carried out, all under the VM's lock.

// readiness is what READY vouches for.
type readiness struct {
	DomID int       `json:"domid"` // 0: a guest that was halted and stays so
	Seal  jobs.Seal `json:"seal"`
}

// Ready waits until disks and memory are whole and durable, compares them with
// the source's seal, closes every writer and journals READY.
func (d *destination) Ready(ctx context.Context, job jobs.Job, seal jobs.Seal) (jobs.Evidence, error) {
	if e, err := d.n.evidence(ctx, job.VM); err != nil || e.Journal.Has(jobs.READY, job.Epoch) {
		return e, err
	}
	a, err := d.arrival(job)
	if err != nil {
		return jobs.Evidence{}, err
	}
	if err := d.whole(ctx, a, job, seal); err != nil {
		return jobs.Evidence{}, err
	}
	domid := 0
	if seal.Memory != nil {
		if domid, err = d.restored(ctx, a, seal); err != nil {
			return jobs.Evidence{}, err
		}
	}
	d.closeDisks(a)
	err = d.n.hold(ctx, job.VM, func(h *held) error {
		if h.said.Has(jobs.ABORTED, job.Epoch) {
			return jobs.RetryLater(jobs.CodeAborted, "vm %s on %s: epoch %d was aborted", job.VM.Name, h.node, job.Epoch)
		}
		if seal.Memory == nil && seal.Run {
			if domid, err = d.n.bootPaused(ctx, h, job); err != nil {
				return err
			}
		}
		if err := d.mustBePaused(ctx, job, domid); err != nil {
			return err
		}
		return h.say(job, jobs.READY, readiness{DomID: domid, Seal: seal})
	})
	if err != nil {
		return jobs.Evidence{}, err
	}
	return d.n.evidence(ctx, job.VM)
}

// whole compares the last pass of every disk with the seal.
func (d *destination) whole(ctx context.Context, a *arrival, job jobs.Job, seal jobs.Seal) error {
	names := make([]string, 0, len(seal.Roots))
	for name := range seal.Roots {
		names = append(names, name)
	}
	for _, disk := range job.Plan.Disks {
		if _, ok := seal.Roots[disk.Name]; !ok && !disk.ReadOnly {
			return jobs.Failed(jobs.CodeCorrupt, "vm %s: the seal leaves out disk %s", job.VM.Name, disk.Name)
		}
	}
	got, err := a.await(ctx, seal.Pass, names)
	if err != nil {
		return err
	}
	for name, res := range got {
		if jobs.Digest(res.Root) != seal.Roots[name] {
			return jobs.RetryLater(jobs.CodeCorrupt, "disk %s of vm %s on %s: what was written is not what the source sealed", name, job.VM.Name, d.n.cfg.Name)
		}
	}
	return nil
}

// restored waits for xl restore and compares the image with the seal.
func (d *destination) restored(ctx context.Context, a *arrival, seal jobs.Seal) (int, error) {
	a.mu.Lock()
	res := a.restore
	a.mu.Unlock()
	if res == nil {
		return 0, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: no restore was started", a.job.VM.Name, d.n.cfg.Name)
	}
	select {
	case <-res.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the restore of vm %s: %w", a.job.VM.Name, context.Cause(ctx))
	}
	if res.err != nil {
		return 0, jobs.RetryLater(jobs.CodeToolstack, "restore vm %s on %s: %w", a.job.VM.Name, d.n.cfg.Name, res.err)
	}
	if res.stream.Bytes != seal.Memory.Bytes || jobs.Digest(res.stream.Digest) != seal.Memory.Digest {
		return 0, jobs.RetryLater(jobs.CodeCorrupt, "vm %s on %s: the memory image is not the one the source sent", a.job.VM.Name, d.n.cfg.Name)
	}
	return res.domid, nil
}

// closeDisks ends the disks' writers; the lane stays for calls.
func (d *destination) closeDisks(a *arrival) {
	a.cancel()
	a.done.Wait()
}

// mustBePaused makes sure that exactly the copy of this attempt is here.
func (d *destination) mustBePaused(ctx context.Context, job jobs.Job, domid int) error {
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	if domid == 0 && len(copies) == 0 {
		return nil
	}
	if len(copies) != 1 || copies[0].ID != domid || stateOf(copies[0]) != jobs.VMPaused || copies[0].Name != job.VM.Name {
		return jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: its paused copy (domain %d) is not there alone: %v", job.VM.Name, d.n.cfg.Name, domid, copies)
	}
	return nil
}

// Go journals GO (R7), has the guest run, proves it and journals RUNNING.
func (d *destination) Go(ctx context.Context, job jobs.Job, p jobs.Permission) (jobs.Ran, jobs.Evidence, error) {
	var ran jobs.Ran
	err := d.n.hold(ctx, job.VM, func(h *held) error {
		if done, err := h.told(jobs.RUNNING, job.Epoch, &ran); done || err != nil {
			return err
		}
		var ready readiness
		if _, err := h.told(jobs.READY, job.Epoch, &ready); err != nil {
			return err
		}
		seen, err := d.copySeen(ctx, job, ready)
		if err != nil {
			return err
		}
		if err := jobs.MayGo(h.said, job.Epoch, job.Attempt, h.node, p, seen); err != nil {
			return jobs.RetryLater(jobs.CodeAborted, "resume vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		if err := h.say(job, jobs.GO, ready); err != nil {
			return err
		}
		if ran, err = d.run(ctx, h, job, ready, seen); err != nil {
			return err
		}
		return h.say(job, jobs.RUNNING, ran)
	})
	e, eerr := d.n.evidence(context.WithoutCancel(ctx), job.VM)
	if err == nil {
		err = eerr
	}
	return ran, e, err
}

// copySeen looks at the copy of this attempt right before an effect.
func (d *destination) copySeen(ctx context.Context, job jobs.Job, ready readiness) (jobs.CopySeen, error) {
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return "", err
	}
	if len(copies) == 0 {
		if ready.DomID == 0 && !ready.Seal.Run {
			return jobs.CopyHalted, nil
		}
		return jobs.CopyNone, nil
	}
	if len(copies) == 1 && copies[0].ID == ready.DomID && stateOf(copies[0]) == jobs.VMPaused {
		return jobs.CopyPaused, nil
	}
	return jobs.CopyRuns, nil
}

// run carries GO out. After a reboot of this host the copy is gone and never
// ran since, so the disks, which nobody else has, are booted (R9).
func (d *destination) run(ctx context.Context, h *held, job jobs.Job, ready readiness, seen jobs.CopySeen) (jobs.Ran, error) {
	if seen == jobs.CopyHalted {
		return jobs.Ran{At: d.n.now()}, nil
	}
	if seen == jobs.CopyNone {
		if !d.n.bootedSince(h, jobs.GO, job.Epoch) {
			return jobs.Ran{}, jobs.Failed(jobs.CodeInternal, "vm %s on %s: GO was given and no domain is there; whether it ran cannot be told; `xmig resolve %s` boots it here from its disks",
				job.VM.Name, h.node, job.ID)
		}
		if err := d.n.boot(ctx, h, job, d.n.stagedPath(job), xen.Running); err != nil {
			return jobs.Ran{}, jobs.RetryLater(jobs.CodeToolstack, "boot vm %s on %s after the host's reboot: %w", job.VM.Name, h.node, err)
		}
	}
	at := d.n.now()
	if seen == jobs.CopyPaused {
		if err := h.xl.Unpause(ctx, ready.DomID); err != nil && !errors.Is(err, xen.ErrNotPaused) {
			return jobs.Ran{}, jobs.RetryLater(jobs.CodeToolstack, "unpause vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		at = d.n.now()
	}
	domid, err := d.prove(ctx, job)
	return jobs.Ran{DomID: domid, At: at}, err
}

// prove waits until the guest was seen to run under its final name: its CPU
// time grows.
func (d *destination) prove(ctx context.Context, job jobs.Job) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d.n.cfg.ProveWait)
	defer cancel()
	first := -1.0
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		dom, err := d.n.domain(ctx, job.VM)
		if err == nil && stateOf(dom) == jobs.VMRunning && dom.Name == job.VM.Name {
			if first >= 0 && dom.CPUTime > first {
				tick.Stop()
				return dom.ID, nil
			}
			if first < 0 {
				first = dom.CPUTime
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return 0, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s was unpaused and did not show any CPU time within %s (%v)", job.VM.Name, d.n.cfg.Name, d.n.cfg.ProveWait, err)
		}
	}
}

// Abort journals ABORTED (R9), then destroys the copy; volumes stay for the
// next attempt unless the job is over.
func (d *destination) Abort(ctx context.Context, job jobs.Job, scope jobs.AbortScope) (jobs.Evidence, error) {
	d.closeSession(job.VM.UUID)
	err := d.n.hold(ctx, job.VM, func(h *held) error {
		if job.Kind == jobs.KindMigrate {
			if err := d.abort(ctx, h, job); err != nil {
				return err
			}
		}
		if scope != jobs.JobOver {
			return nil
		}
		return d.n.letGo(ctx, job, d.n.volumes.Retire)
	})
	if err != nil {
		return jobs.Evidence{}, err
	}
	return d.n.evidence(ctx, job.VM)
}

func (d *destination) abort(ctx context.Context, h *held, job jobs.Job) error {
	if !h.said.Has(jobs.BEGIN, job.Epoch) {
		return h.say(job, jobs.ABORTED, nil) // a Reserve that is still on its way finds this
	}
	var ready readiness
	if _, err := h.told(jobs.READY, job.Epoch, &ready); err != nil {
		return err
	}
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	seen := jobs.CopyNone
	for _, c := range copies {
		if seen = jobs.CopyPaused; stateOf(c) != jobs.VMPaused {
			seen = jobs.CopyRuns
			break
		}
	}
	if err := jobs.MayAbort(h.said, job.Epoch, seen); err != nil {
		return jobs.Failed(jobs.CodeAborted, "abort vm %s on %s: %w", job.VM.Name, h.node, err)
	}
	if h.said.Highest() > job.Epoch {
		copies = nil // a later attempt's
	}
	if seen == jobs.CopyRuns && len(copies) > 0 {
		return jobs.Failed(jobs.CodeInternal, "vm %s runs on %s although nobody let it: nothing was touched", job.VM.Name, h.node)
	}
	if err := h.say(job, jobs.ABORTED, nil); err != nil {
		return err
	}
	return d.n.destroyCopies(ctx, h, copies)
}

// Settle puts config and autostart link in place and lets go of the job.
func (d *destination) Settle(ctx context.Context, job jobs.Job) error {
	if _, err := d.arrival(job); err == nil && job.Kind == jobs.KindSync {
		defer d.closeSession(job.VM.UUID)
	}
	err := d.n.hold(ctx, job.VM, func(h *held) error {
		if job.Kind == jobs.KindMigrate {
			if !h.said.Has(jobs.RUNNING, job.Epoch) {
				return jobs.RetryLater(jobs.CodeAborted, "vm %s was not seen running on %s", job.VM.Name, h.node)
			}
			if h.said.Highest() > job.Epoch {
				return nil // it left again since
			}
			if err := d.n.install(job); err != nil {
				return jobs.RetryLater(jobs.CodeStorage, "config of vm %s on %s: %w", job.VM.Name, h.node, err)
			}
		}
		return d.n.letGo(ctx, job, d.n.volumes.Settle)
	})
	if err == nil {
		d.closeSoon(job.VM.UUID)
	}
	return err
}

// Evidence tells what this host promised and sees.
func (d *destination) Evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	return d.n.evidence(ctx, vm)
}
