package node

import (
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestLateBack: an attempt that went back is told so again while the next one
// holds the guest: it stays held, for the next one's copy may run elsewhere.
func TestLateBack(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, mib)
	old := planned(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	must(t, a.src.Begin(w.ctx, old))
	a.stopping(old)
	must(t, a.src.Back(w.ctx, old, jobs.Known{}))

	job := planned(t, a, b, newJob(a, b, vm, jobs.Suspend, 2))
	must(t, a.src.Begin(w.ctx, job))
	a.stopping(job)
	a.xl("pause", vm.Name)
	a.promise(vm, 2, nil, jobs.SEALED, jobs.COMMITTING)
	must(t, a.src.Back(w.ctx, old, jobs.Known{}))
	equal(t, "guest", a.state(vm), jobs.VMPaused)
	equal(t, "promises", a.said(vm), "BEGIN(1) STOPPING(1) BACK(1) BEGIN(2) STOPPING(2) SEALED(2) COMMITTING(2)")
}
