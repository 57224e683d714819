package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	e, err := d.n.word(job.VM)
	if err != nil || e.Journal.Has(jobs.READY, job.Epoch) && !e.Journal.Has(jobs.ABORTED, job.Epoch) {
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
		if domid, err = d.received(ctx, a, seal); err != nil {
			return jobs.Evidence{}, err
		}
	}
	a.closeDisks()
	err = d.n.hold(ctx, job.VM, func(h *held) error {
		if h.said.Has(jobs.READY, job.Epoch) && !h.said.Has(jobs.ABORTED, job.Epoch) {
			return nil // asked twice; nothing is made for the second asking
		}
		if err := d.fresh(h, job); err != nil {
			return err
		}
		if seal.Memory == nil && seal.Run {
			if domid, err = d.n.bootPaused(ctx, h, job); err != nil {
				return err
			}
		}
		if domid, err = d.mustBePaused(ctx, job, domid); err != nil {
			return err
		}
		if err := jobs.MayReady(h.said, job, jobs.CopyPaused, d.writes(job, (*arrival).any)); err != nil {
			return h.of(err)
		}
		return h.say(job, jobs.READY, readiness{DomID: domid, Seal: seal})
	})
	if err != nil {
		return jobs.Evidence{}, err
	}
	return d.n.word(job.VM)
}

// whole compares the last pass of every disk with the seal.
func (d *destination) whole(ctx context.Context, a *arrival, job jobs.Job, seal jobs.Seal) error {
	names := make([]string, 0, len(seal.Roots))
	for name := range seal.Roots {
		names = append(names, name)
	}
	for _, disk := range job.Plan.Disks {
		if _, ok := seal.Roots[disk.Name]; !ok && disk.Copied() {
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

// mustBePaused makes sure that exactly the copy of this attempt is here: its
// domain, 0 if there shall be none, untold if xl did not say which.
func (d *destination) mustBePaused(ctx context.Context, job jobs.Job, domid int) (int, error) {
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return 0, err
	}
	if domid == 0 && len(copies) == 0 {
		return 0, nil
	}
	if len(copies) != 1 || domid != untold && copies[0].ID != domid || stateOf(copies[0]) != jobs.VMPaused || copies[0].Name != job.VM.Name {
		return 0, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: its paused copy is not there alone: %v", job.VM.Name, d.n.cfg.Name, copies)
	}
	return copies[0].ID, nil
}

// going goes with GO.
type going struct {
	readiness
	inBoot
	CPU  float64    `json:"cpu"`            // seconds that the copy had used while it was paused
	Word *jobs.Word `json:"word,omitempty"` // of a person, where nothing else let it go
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
		seen, dom, err := d.copySeen(ctx, h, job, ready, p.Boot)
		if err != nil {
			return err
		}
		if p.Word == nil || p.Word.Lost != job.Source { // to nobody it can be given back
			if err := d.abortLost(h, job, seen); err != nil {
				return err
			}
		}
		if err := jobs.MayGo(h.said, job.Epoch, job.Attempt, h.node, p, seen); err != nil {
			return jobs.RetryLater(jobs.CodeAborted, "resume vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		if err := h.say(job, jobs.GO, going{ready, inBoot{d.n.bootID}, dom.CPUTime, p.Word}); err != nil {
			return err
		}
		if ran, err = d.run(ctx, h, job, seen, dom, p.Boot); err != nil {
			return err
		}
		return h.say(job, jobs.RUNNING, ran)
	})
	e, werr := d.n.word(job.VM)
	if err == nil {
		err = werr
	}
	return ran, e, err
}

// abortLost gives the guest back where its copy went before it was let go,
// with a reboot of this host for example: no asking brings that copy back, and
// only ABORTED lets a source that has committed run it again (R5a).
func (d *destination) abortLost(h *held, job jobs.Job, seen jobs.CopySeen) error {
	if seen != jobs.CopyNone || !h.said.Has(jobs.READY, job.Epoch) || h.said.Has(jobs.GO, job.Epoch) || h.said.Has(jobs.ABORTED, job.Epoch) {
		return nil
	}
	if err := h.say(job, jobs.ABORTED, nil); err != nil {
		return err
	}
	return jobs.RetryLater(jobs.CodeAborted, "vm %s on %s: its paused copy is gone; the attempt is aborted", job.VM.Name, h.node)
}

// copySeen looks at the copy of this attempt right before an effect. After GO
// and a reboot of this host, or where a resolution decided to boot it, what is
// here was booted for that GO.
func (d *destination) copySeen(ctx context.Context, h *held, job jobs.Job, ready readiness, boot bool) (jobs.CopySeen, xen.Domain, error) {
	rebooted, err := d.n.bootedSince(h, jobs.GO, job.Epoch)
	if err != nil {
		return "", xen.Domain{}, err
	}
	rebooted = rebooted || boot && h.said.Has(jobs.GO, job.Epoch)
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return "", xen.Domain{}, err
	}
	if rebooted && len(copies) == 1 && unfinished(copies[0]) { // by a boot that was killed
		if err := d.n.destroyCopies(ctx, h, copies); err != nil {
			return "", xen.Domain{}, err
		}
		copies = nil
	}
	switch {
	case len(copies) == 0 && ready.DomID == 0 && !ready.Seal.Run:
		return jobs.CopyHalted, xen.Domain{}, nil
	case len(copies) == 0:
		return jobs.CopyNone, xen.Domain{}, nil
	case len(copies) == 1 && (copies[0].ID == ready.DomID || rebooted) && stateOf(copies[0]) == jobs.VMPaused:
		return jobs.CopyPaused, copies[0], nil
	}
	return jobs.CopyRuns, copies[0], nil
}

// run carries GO out. After a reboot of this host the copy is gone and never
// ran since, so the disks, which nobody else has, are booted (R9).
func (d *destination) run(ctx context.Context, h *held, job jobs.Job, seen jobs.CopySeen, dom xen.Domain, boot bool) (jobs.Ran, error) {
	var said going
	if _, err := h.told(jobs.GO, job.Epoch, &said); err != nil {
		return jobs.Ran{}, err
	}
	at, cpu := d.n.now(), -1.0
	if dom.ID == said.DomID && said.Boot == d.n.bootID {
		cpu = said.CPU // an idle guest may take more than one asking to use a tenth of a second
	}
	switch seen {
	case jobs.CopyHalted:
		return jobs.Ran{At: at}, nil
	case jobs.CopyNone:
		if err := d.bootAfterGo(ctx, h, job, boot); err != nil {
			return jobs.Ran{}, err
		}
		at = d.n.now()
	case jobs.CopyPaused:
		if err := h.xl.Unpause(ctx, dom.ID); err != nil && !errors.Is(err, xen.ErrNotPaused) {
			return jobs.Ran{}, jobs.RetryLater(jobs.CodeToolstack, "unpause vm %s on %s: %w", job.VM.Name, h.node, err)
		}
		at = d.n.now()
	case jobs.CopyRuns:
		at = h.when(jobs.GO, job.Epoch) // it was unpaused right after that was said
	}
	domid, err := d.prove(ctx, job, cpu)
	return jobs.Ran{DomID: domid, At: at}, err
}

func (d *destination) bootAfterGo(ctx context.Context, h *held, job jobs.Job, boot bool) error {
	rebooted, err := d.n.bootedSince(h, jobs.GO, job.Epoch)
	if err != nil {
		return err
	}
	if !rebooted && !boot {
		return jobs.Failed(jobs.CodeInternal, "vm %s on %s: GO was given and no domain is there; whether it ran cannot be told; boot it here from its disks with `xmig resolve %s`",
			job.VM.Name, h.node, job.ID)
	}
	if job.Plan.Config == "" {
		return jobs.Failed(jobs.CodeInternal, "vm %s on %s: its copy is gone after GO and it has no config to boot from; start it by hand from its disks, which are the newest", job.VM.Name, h.node)
	}
	if err := d.n.boot(ctx, h, job, d.n.stagedPath(job), xen.Running); err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "boot vm %s on %s from its disks: %w", job.VM.Name, h.node, err)
	}
	return nil
}

// prove waits until the guest was seen to run under its final name: its CPU
// time grows, beyond what it was before it was unpaused (cpu; -1: unknown).
func (d *destination) prove(ctx context.Context, job jobs.Job, cpu float64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d.n.cfg.ProveWait)
	defer cancel()
	why := errors.New("it was not looked at")
	// A look before it had time to show anything would only take its processor.
	for wait := waitEvery; sleep(ctx, wait) == nil; {
		looked := time.Now()
		dom, err := d.n.domain(ctx, job.VM)
		if why = err; err == nil {
			why = fmt.Errorf("its state is %s", dom.State)
		}
		if err == nil && stateOf(dom) == jobs.VMRunning && dom.Name == job.VM.Name {
			if cpu >= 0 && dom.CPUTime > cpu {
				return dom.ID, nil
			}
			if cpu < 0 {
				cpu = dom.CPUTime
			}
		}
		wait = xen.AskAgain(waitEvery, time.Since(looked))
	}
	return 0, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s was unpaused and did not show any CPU time within %s: %w", job.VM.Name, d.n.cfg.Name, d.n.cfg.ProveWait, why)
}

// Abort journals ABORTED (R9), then destroys the copy; volumes stay for the
// next attempt unless the job is over. The session of a later attempt is left alone.
func (d *destination) Abort(ctx context.Context, job jobs.Job, scope jobs.AbortScope) (jobs.Evidence, error) {
	d.closeUpTo(job) // a restore that holds the lock ends with it
	err := d.n.hold(ctx, job.VM, func(h *held) error {
		if job.Kind == jobs.KindMigrate {
			if err := d.abort(ctx, h, job); err != nil {
				return err
			}
		}
		d.closeUpTo(job) // one that was opened while we waited
		if scope != jobs.JobOver {
			return nil
		}
		return d.n.letGo(ctx, job, d.n.volumes.Retire)
	})
	if err != nil {
		return jobs.Evidence{}, err
	}
	return d.n.word(job.VM)
}

func (d *destination) abort(ctx context.Context, h *held, job jobs.Job) error {
	if h.said.OfAnotherJob(job) {
		return jobs.NotOurs("vm %s on %s: epoch %d is another job's", job.VM.Name, h.node, job.Epoch)
	}
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	if !h.said.Has(jobs.BEGIN, job.Epoch) {
		if err := h.say(job, jobs.ABORTED, nil); err != nil { // a Reserve that is still on its way finds this
			return err
		}
		if len(copies) > 0 && h.said.Highest() == job.Epoch && jobs.Leftover(h.said, states(copies)) {
			return d.n.clearEarlier(ctx, h, job)
		}
		return nil
	}
	if h.said.Highest() > job.Epoch {
		copies = nil // a later attempt's
	}
	seen := jobs.CopyNone
	for _, c := range copies {
		seen = jobs.CopyPaused
		if alive(c) || h.said.Has(jobs.GO, job.Epoch) && stateOf(c) != jobs.VMPaused {
			seen = jobs.CopyRuns // or did, and ended
			break
		}
	}
	if err := jobs.MayAbortByWord(h.said, job.Epoch, seen, h.node, job.Word); err != nil {
		return jobs.Failed(jobs.CodeAborted, "abort vm %s on %s: %w", job.VM.Name, h.node, err)
	}
	if seen == jobs.CopyRuns {
		return jobs.Failed(jobs.CodeInternal, "vm %s is on %s as domain %d (%s) although nobody let it run: nothing was touched; look at both hosts, then choose one with `xmig resolve`",
			job.VM.Name, h.node, copies[0].ID, copies[0].State)
	}
	if err := h.say(job, jobs.ABORTED, byWord(job)); err != nil {
		return err
	}
	return d.n.destroyCopies(ctx, h, copies)
}

// Settle puts config and autostart link in place and lets go of the job.
func (d *destination) Settle(ctx context.Context, job jobs.Job) error {
	err := d.n.hold(ctx, job.VM, func(h *held) error {
		if job.Kind == jobs.KindMigrate {
			if err := d.settleConfig(ctx, h, job); err != nil {
				return err
			}
		}
		if a, err := d.arrival(job); err == nil {
			a.closeDisks() // those of a sync; a guest's were closed for READY
		}
		return d.n.letGo(ctx, job, d.n.volumes.Settle)
	})
	if err == nil {
		d.n.news(ctx)
		d.closeSoon(job)
	}
	return err
}

func (d *destination) settleConfig(ctx context.Context, h *held, job jobs.Job) error {
	if !h.said.Has(jobs.RUNNING, job.Epoch) {
		return jobs.RetryLater(jobs.CodeAborted, "vm %s was not seen running on %s", job.VM.Name, h.node)
	}
	if h.said.Highest() > job.Epoch {
		return nil // it may have left again since, and its config with it
	}
	if err := d.autostart(ctx, h, job); err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "start vm %s on %s after the host's reboot: %w", job.VM.Name, h.node, err)
	}
	if err := d.n.install(job); err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "config of vm %s on %s: %w", job.VM.Name, h.node, err)
	}
	return nil
}

// autostart does what the link would have done, had it been here already: this
// host rebooted after the guest ran here and before it was settled. The staged
// config says that it was not; once it is installed the link does its work.
func (d *destination) autostart(ctx context.Context, h *held, job jobs.Job) error {
	var ready readiness
	rebooted, err := d.n.bootedSince(h, jobs.GO, job.Epoch)
	if err != nil || !rebooted || job.Plan.Guest.AutostartLink == "" {
		return err
	}
	if _, err := h.told(jobs.READY, job.Epoch, &ready); err != nil || !ready.Seal.Run {
		return err
	}
	if _, err := os.Stat(d.n.stagedPath(job)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	copies, err := d.n.copies(ctx, job.VM)
	if err != nil || len(copies) > 0 {
		return err
	}
	return d.n.boot(ctx, h, job, d.n.stagedPath(job), xen.Running)
}

// Evidence tells what this host promised and sees.
func (d *destination) Evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	return d.n.evidence(ctx, vm)
}
