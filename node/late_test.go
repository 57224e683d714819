package node

import (
	"io"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen"
	"xmig/xen/xlsim"
)

// TestSuspendedLate: a guest that answers the request to suspend and takes
// longer than libxl waits stands still when nobody waits for it any more. It is
// woken, and the next attempt moves it.
func TestSuspendedLate(t *testing.T) {
	for _, mode := range []jobs.Mode{jobs.Live, jobs.Suspend} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			vm := a.guest(xlsim.GuestSpec{Name: "web01", Type: guestType(mode), Extra: []string{`extra = "xlsim.suspend=late"`}}, 4*mib)
			a.run()
			b.run()
			w.submit(newJob(a, b, vm, mode, 1))
			rec := w.final(job1)
			if rec.State != jobs.Succeeded {
				t.Fatalf("%s: %+v", rec.State, rec.Failure)
			}
			equal(t, "attempts", rec.Attempt, 2)
			b.verify(vm)
		})
	}
}

// TestSuspendedLateForNobody: after the last attempt too.
func TestSuspendedLateForNobody(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Extra: []string{`extra = "xlsim.suspend=late"`}}, 4*mib)
	a.cfg.Limits.Attempts = 1
	a.run()
	b.run()
	w.submit(newJob(a, b, vm, jobs.Suspend, 1))
	rec := w.final(job1)
	equal(t, "state", rec.State, jobs.RolledBack)
	time.Sleep(2 * time.Second) // longer than it is late
	equal(t, "guest", a.state(vm), jobs.VMRunning)
	a.verify(vm)
}

// TestSuspendedLateWithoutItsWorker: the worker that would have waited for it is
// dead, the next one knows nothing of it, and the guest is woken all the same. It
// suspends when it is told to: however busy the machine, not before it is let be.
func TestSuspendedLateWithoutItsWorker(t *testing.T) {
	for _, version := range []string{"4.17.5", "4.20.0"} {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.XenVersion = version }))
			must(t, xlsim.ChangeHost(b.sim, func(h *xlsim.HostSpec) { h.XenVersion = version }))
			vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
			job := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
			_, err := a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
			must(t, err)
			must(t, b.dst.Receive(w.ctx, job))
			fault(t, a, "save", lateText)
			if _, err := a.src.Stop(w.ctx, job, noFlow); !xen.MaySuspendLate(err) {
				t.Fatalf("the guest was not late: %v", err)
			}
			delete(a.src.late, job.ID)
			must(t, a.src.Back(w.ctx, job, jobs.Known{}))
			equal(t, "guest that is let be", a.state(vm), jobs.VMRunning)
			dom, err := a.domain(w.ctx, vm)
			must(t, err)
			must(t, xlsim.Suspend(a.sim, dom.ID))
			watch := &watcher{a.Node, map[int]time.Time{}}
			a.now = func() time.Time { return time.Now().Add(2 * lateSuspend) }
			must(t, watch.watchOnce(w.ctx))
			equal(t, "guest that somebody suspended much later", a.state(vm), jobs.VMSuspended)
			a.now = time.Now
			must(t, a.Node.standIn(w.ctx, job)) // its file is gone where xl keeps its monitor
			must(t, watch.watchOnce(w.ctx))
			equal(t, "guest", a.state(vm), jobs.VMRunning)
			a.verify(vm)
		})
	}
}

// lateText is what xl says of a guest that answered and did not suspend in time.
const lateText = "libxl: error: Domain 2:guest did not suspend, timed out"

// TestWhyAFlowFailed: what xl said can still be asked for, whichever end failed.
func TestWhyAFlowFailed(t *testing.T) {
	late := &xen.CommandError{Stderr: lateText}
	for _, f := range []flow{{xlErr: late}, {xlErr: late, sendErr: io.ErrUnexpectedEOF}} {
		if err := f.failure(jobs.Job{}, io.EOF); !xen.MaySuspendLate(err) || jobs.ClassOf(err) != jobs.Retry {
			t.Errorf("%v", err)
		}
	}
	if f := (flow{sendErr: io.ErrUnexpectedEOF}); xen.MaySuspendLate(f.failure(jobs.Job{}, io.EOF)) {
		t.Error("late, and xl has not failed")
	}
}
