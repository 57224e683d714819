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

// TestWhyAFlowFailed: what xl said can still be asked for, whichever end failed.
func TestWhyAFlowFailed(t *testing.T) {
	late := &xen.CommandError{Stderr: "libxl: error: Domain 2:guest did not suspend, timed out"}
	for _, f := range []flow{{xlErr: late}, {xlErr: late, sendErr: io.ErrUnexpectedEOF}} {
		if err := f.failure(jobs.Job{}, io.EOF); !xen.MaySuspendLate(err) || jobs.ClassOf(err) != jobs.Retry {
			t.Errorf("%v", err)
		}
	}
	if f := (flow{sendErr: io.ErrUnexpectedEOF}); xen.MaySuspendLate(f.failure(jobs.Job{}, io.EOF)) {
		t.Error("late, and xl has not failed")
	}
}
