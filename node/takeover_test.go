package node

import (
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestPromisesOfTheDestination are the races of abort and GO, and what the
// rules say of a copy that is gone, paused, or may have run.
func TestPromisesOfTheDestination(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	back := func(job jobs.Job) {
		t.Helper()
		there, err := b.dst.Evidence(w.ctx, vm)
		must(t, err)
		must(t, a.src.Back(w.ctx, job, jobs.Known{Destination: there.Journal}))
		equal(t, "source after the way back", a.state(vm), jobs.VMRunning)
		equal(t, "destination after the way back", b.state(vm), "none")
	}

	// Aborted after the line: never GO, whatever the key says (R8).
	job, p := committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	for range 2 {
		_, err := b.dst.Abort(w.ctx, job, jobs.AttemptOver)
		must(t, err)
	}
	equal(t, "destination after abort", b.state(vm), "none")
	_, there, err := b.dst.Go(w.ctx, job, p)
	refused(t, err, "R8")
	if !there.Journal.Has(jobs.ABORTED, 1) {
		t.Error("the refusal does not show why")
	}
	if _, err := b.dst.Ready(w.ctx, job, jobs.Seal{}); err == nil {
		t.Error("an aborted copy is ready")
	}
	back(job)

	// GO needs the key or RELEASED, and COMMITTING (R7).
	job, p = committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 2))
	for why, wrong := range map[string]jobs.Permission{
		"neither the key":             {Source: p.Source},
		"not known to have committed": {Key: p.Key},
	} {
		_, _, err := b.dst.Go(w.ctx, job, wrong)
		refused(t, err, why)
	}
	stale := *p.Key
	stale.Epoch++
	_, _, err = b.dst.Go(w.ctx, job, jobs.Permission{Key: &stale, Source: p.Source})
	refused(t, err, "neither the key")
	// The copy vanishes before GO, as in a reboot of the host: the guest is given back.
	b.xl("destroy", "web01")
	_, there, err = b.dst.Go(w.ctx, job, p)
	refused(t, err, "its paused copy is gone")
	if !there.Journal.Has(jobs.ABORTED, 2) || there.Journal.Has(jobs.GO, 2) {
		t.Errorf("promises %v", there.Journal)
	}
	back(job)

	// After GO a copy that still is paused may be aborted, one that is gone may not (R9).
	job, _ = committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 3))
	var ready readiness
	must(t, b.hold(w.ctx, vm, func(h *held) error { _, err := h.told(jobs.READY, 3, &ready); return err }))
	b.promise(vm, 3, going{readiness: ready, inBoot: inBoot{b.bootID}}, jobs.GO)
	_, err = b.dst.Abort(w.ctx, job, jobs.AttemptOver)
	must(t, err)
	back(job)
	job, p = committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 4))
	must(t, a.src.Release(w.ctx, job)) // R6, in the place of the key
	must(t, a.src.Release(w.ctx, job))
	b.promise(vm, 4, going{readiness: readiness{Seal: jobs.Seal{Run: true}}, inBoot: inBoot{b.bootID}}, jobs.GO)
	b.xl("destroy", "web01")
	_, err = b.dst.Abort(w.ctx, job, jobs.AttemptOver)
	refused(t, err, "R9")
	_, _, err = b.dst.Go(w.ctx, job, permission(t, a, b, job))
	refused(t, err, "boot it here from its disks with `xmig resolve ")
	equal(t, "class", jobs.ClassOf(err), jobs.Final)
	// The host came up since: the copy cannot have run, and its disks are whole (R9).
	b.start(Config{BootID: "another"})
	ran, _, err := b.dst.Go(w.ctx, job, jobs.Permission{})
	must(t, err)
	equal(t, "destination after a cold boot", b.state(vm), jobs.VMRunning)
	if ran.DomID == 0 {
		t.Error("nobody was proven to run")
	}
}

// TestGoIsCarriedOn: a worker that died between GO and its effect carries it
// out when it is back, without anyone asking: the source may be dead.
func TestGoIsCarriedOn(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	job, _ := committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	var ready readiness
	must(t, b.hold(w.ctx, vm, func(h *held) error { _, err := h.told(jobs.READY, 1, &ready); return err }))
	b.promise(vm, 1, going{readiness: ready, inBoot: inBoot{b.bootID}}, jobs.GO)
	begin := time.Now()
	b.start(Config{})
	if err := b.sweepOnce(w.ctx); err == nil {
		t.Error("the sweep does not miss the record")
	}
	equal(t, "destination", b.state(vm), jobs.VMRunning)
	ran, _, err := b.dst.Go(w.ctx, job, jobs.Permission{})
	must(t, err)
	if ran.At.Before(begin) || ran.At.After(time.Now()) {
		t.Errorf("unpaused at %s", ran.At)
	}
	equal(t, "promises", b.said(vm), "BEGIN(1) READY(1) GO(1) RUNNING(1)")
}

// TestHalfBuiltAtTheDestination: what a killed xl left is no copy: it is built anew.
func TestHalfBuiltAtTheDestination(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	image := a.image(vm)
	job, seal := stopped(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	p, err := a.src.Pass(w.ctx, job, 2, jobs.FinalPass)
	must(t, err)
	seal.Pass, seal.Roots = 2, map[string]jobs.Digest{"xvda": p.Disks[0].Root}
	must(t, a.src.Seal(w.ctx, job, seal))
	b.halfBuilt(vm, image) // by a create of this attempt
	there, err := b.dst.Ready(w.ctx, job, seal)
	must(t, err)
	must(t, a.src.Commit(w.ctx, job, there.Journal))

	// The host reboots after GO, and the boot for it is killed half way too.
	var ready readiness
	must(t, b.hold(w.ctx, vm, func(h *held) error { _, err := h.told(jobs.READY, 1, &ready); return err }))
	b.promise(vm, 1, going{readiness: ready, inBoot: inBoot{b.bootID}}, jobs.GO)
	must(t, xlsim.StopHost(b.sim))
	b.start(Config{BootID: "another"})
	b.halfBuilt(vm, image)
	_, _, err = b.dst.Go(w.ctx, job, permission(t, a, b, job))
	must(t, err)
	equal(t, "destination", b.state(vm), jobs.VMRunning)
}

// TestPausedAfterReboot: a boot for GO that was killed before its end left the
// guest paused, under a number of its own: it is let go.
func TestPausedAfterReboot(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	job, p := committed(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	b.promise(vm, 1, going{readiness: readiness{DomID: 77, Seal: jobs.Seal{Run: true}}, inBoot: inBoot{b.bootID}}, jobs.GO)
	must(t, xlsim.StopHost(b.sim))
	b.start(Config{BootID: "another"})
	b.xl("create", "-q", "-p", b.stagedPath(job))
	equal(t, "destination", b.state(vm), jobs.VMPaused)
	ran, _, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	equal(t, "destination", b.state(vm), jobs.VMRunning)
	if ran.DomID == 77 || ran.DomID == 0 {
		t.Errorf("proof %+v", ran)
	}
}
