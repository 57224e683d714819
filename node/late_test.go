package node

import (
	"testing"
	"time"

	"xmig/jobs"
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
