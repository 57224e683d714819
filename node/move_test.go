package node

import (
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestSuspendByHand calls the verbs of both ends in the order of a migration.
func TestSuspendByHand(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 8*mib, 4*mib)
	job, p := committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	equal(t, "source before the line", a.state(vm), jobs.VMPaused)
	equal(t, "destination before the line", b.state(vm), jobs.VMPaused)
	ran, there, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	if ran.DomID == 0 || ran.At.IsZero() {
		t.Errorf("proof %+v", ran)
	}
	must(t, b.dst.Settle(w.ctx, job))
	must(t, a.src.Finish(w.ctx, job, there.Journal))
	equal(t, "source's promises", a.said(vm), "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1)")
	equal(t, "destination's promises", b.said(vm), "BEGIN(1) READY(1) GO(1) RUNNING(1)")
	equal(t, "source's configs", names(t, a.etc("")), "auto web01.cfg.migrated-to-b")
	equal(t, "source's disks", names(t, a.disks("")), "web01-xvda.xmig-shadow web01-xvdb.xmig-shadow")
	equal(t, "destination's configs", names(t, b.etc("")), "auto web01.cfg")
	equal(t, "destination's links", names(t, b.etc("auto")), "web01.cfg")
	b.verify(vm)
}
