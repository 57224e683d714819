package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
	"xmig/xen/xlsim"
)

// run has the host's worker run until the test, or what it returns, ends it.
func (h *host) run() (end func()) {
	t := h.w.t
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	n := h.Node
	go func() { done <- n.Run(ctx) }()
	ended := false
	end = func() {
		if !ended {
			ended = true
			cancel(jobs.ErrShutdown)
			if err := <-done; err != nil {
				t.Errorf("worker of %s: %v", h.cfg.Name, err)
			}
		}
	}
	t.Cleanup(end)
	eventually(t, h.cfg.Name+" is known", func() bool {
		all, err := h.w.bus.Hosts(h.w.ctx)
		must(t, err)
		for _, other := range all {
			if other.Instance == n.instance {
				return true
			}
		}
		return false
	})
	return end
}

// submit does what a coordinator does: claims the VM, writes the record, rings.
func (w *world) submit(job jobs.Job) {
	w.t.Helper()
	if job.Kind == jobs.KindMigrate {
		_, err := w.bus.Owners().Claim(w.ctx, job.VM, job.Source, job.ID)
		must(w.t, err)
	}
	rec := jobs.Record{ID: job.ID, Spec: job.Spec, VM: job.VM, Source: job.Source, Destination: job.Destination, State: jobs.Planned, Created: time.Now()}
	rec, err := w.bus.Records().Create(w.ctx, rec)
	must(w.t, err)
	must(w.t, w.bus.Ring(w.ctx, rec))
}

func (w *world) record(job string) jobs.Record {
	w.t.Helper()
	rec, err := w.bus.Records().Load(w.ctx, job)
	must(w.t, err)
	return rec
}

func (w *world) final(job string) jobs.Record {
	w.t.Helper()
	eventually(w.t, "job "+job+" ends", func() bool { s := w.record(job).State; return s.Final() || s == jobs.Indeterminate })
	return w.record(job)
}

// guestType is what a guest must be for a mode.
func guestType(mode jobs.Mode) string {
	if mode == jobs.Live {
		return "pvh"
	}
	return "pv"
}

// TestMove is the whole way of a guest from record to record, in each mode.
func TestMove(t *testing.T) {
	for _, c := range []struct {
		mode   jobs.Mode
		halted bool
		a, b   string // promises at both ends
	}{
		{jobs.Live, false, "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1)", "BEGIN(1) READY(1) GO(1) RUNNING(1)"},
		{jobs.Suspend, false, "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1)", "BEGIN(1) READY(1) GO(1) RUNNING(1)"},
		{jobs.Cold, false, "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1)", "BEGIN(1) READY(1) GO(1) RUNNING(1)"},
		{jobs.Auto, true, "BEGIN(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1)", "BEGIN(1) READY(1) GO(1) RUNNING(1)"},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			make := a.guest
			if c.halted {
				make = a.config
			}
			vm := make(xlsim.GuestSpec{Name: "web 01", Bridge: "xenbr0", Type: guestType(c.mode)}, 8*mib, 4*mib)
			a.run()
			b.run()
			job := newJob(a, b, vm, c.mode, 1)
			w.submit(job)
			rec := w.final(job1)
			if rec.State != jobs.Succeeded {
				t.Fatalf("%s: %+v", rec.State, rec.Failure)
			}
			equal(t, "source's promises", a.said(vm), c.a)
			equal(t, "destination's promises", b.said(vm), c.b)
			equal(t, "source", a.state(vm), "none")
			equal(t, "source's configs", names(t, a.etc("")), "auto web 01.cfg.migrated-to-b")
			equal(t, "source's links", names(t, a.etc("auto")), "")
			equal(t, "source's disks", names(t, a.disks("")), "web 01-xvda.xmig-shadow web 01-xvdb.xmig-shadow")
			equal(t, "destination's configs", names(t, b.etc("")), "auto web 01.cfg")
			equal(t, "destination's links", names(t, b.etc("auto")), "web 01.cfg")
			equal(t, "destination's disks", names(t, b.disks("")), "web 01-xvda web 01-xvdb")
			equal(t, "config", read(t, b.etc("web 01.cfg")), strings.ReplaceAll(read(t, a.etc("web 01.cfg.migrated-to-b")), a.disks(""), b.disks("")))
			// Who reads that the job is done finds the VM where it says.
			hosts, err := w.bus.Hosts(w.ctx)
			must(t, err)
			at := ""
			for _, h := range hosts {
				if v, ok := h.Find(vm.UUID); ok {
					at += h.Node + " " + string(v.State)
				}
			}
			want := "b running"
			if c.halted {
				want = "b halted"
			} else {
				b.verify(vm)
				if rec.Report.Blackout <= 0 || rec.Report.DomID == 0 {
					t.Errorf("report %+v", rec.Report)
				}
			}
			equal(t, "on the bus", at, want)
			key, err := w.bus.Owners().Owner(w.ctx, vm.UUID)
			must(t, err)
			if key.Node != "b" || key.Claim != "" || key.Epoch != 2 {
				t.Errorf("owner key %+v", key)
			}
			eventually(t, "the session is closed", func() bool { b.dst.mu.Lock(); defer b.dst.mu.Unlock(); return len(b.dst.open) == 0 })
		})
	}
}

// TestMoveHomeAgain: the shadow is adopted, and what did not change does not travel.
func TestMoveHomeAgain(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Rate: 64 << 10}, 16*mib)
	a.run()
	b.run()
	w.submit(newJob(a, b, vm, jobs.Suspend, 1))
	equal(t, "there", w.final(job1).State, jobs.Succeeded)
	home := newJob(b, a, vm, jobs.Suspend, 1)
	home.ID = job2
	w.submit(home)
	rec := w.final(job2)
	if rec.State != jobs.Succeeded {
		t.Fatalf("home: %s: %+v", rec.State, rec.Failure)
	}
	equal(t, "guest", a.state(vm), jobs.VMRunning)
	a.verify(vm)
	equal(t, "disks", names(t, a.disks("")), "web01-xvda")
	equal(t, "configs", names(t, a.etc("")), "auto web01.cfg web01.cfg.migrated-to-b")
	if sent := rec.Report.Passes[0].Changed(); sent > 8*mib {
		t.Errorf("%d bytes were sent onto a shadow", sent)
	}
	equal(t, "promises", a.said(vm), "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1) DONE(1) BEGIN(3) READY(3) GO(3) RUNNING(3)")
}

// TestSyncJob moves a device by its record.
func TestSyncJob(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	must(t, xlsim.MakeDisk(a.disks("from"), 8*mib, xlsim.DefaultMix(1)))
	a.run()
	b.run()
	w.submit(jobs.Job{ID: job1, Kind: jobs.KindSync, Source: "a", Destination: "b",
		VM:   jobs.VMRef{UUID: "5eed0000-0000-4000-8000-00000000d15c", Name: "b:" + b.disks("to")},
		Spec: jobs.Spec{Kind: jobs.KindSync, From: "a", To: "b", SyncFrom: a.disks("from"), SyncTo: b.disks("to")}.WithDefaults()})
	rec := w.final(job1)
	if rec.State != jobs.Succeeded {
		t.Fatalf("%s: %+v", rec.State, rec.Failure)
	}
	if read(t, a.disks("from")) != read(t, b.disks("to")) {
		t.Error("the copy differs")
	}
}

// TestCancelAndBlocked: a job that is taken back leaves nothing at the
// destination, whoever asks; a blocked one never begins.
func TestCancelAndBlocked(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Rate: 64 << 10}, 64*mib)
	a.run()
	b.run()
	job := newJob(a, b, vm, jobs.Suspend, 1)
	job.Spec.BWLimit = 8 * mib // the seed takes some seconds
	w.submit(job)
	eventually(t, "the seed runs", func() bool { return w.record(job1).Step == jobs.Seed })
	_, err := bus.Call[CancelRequest, struct{}](w.ctx, w.bus.Node("a"), "cancel", CancelRequest{Job: job1, By: "me"})
	must(t, err)
	rec := w.final(job1)
	equal(t, "state", rec.State, jobs.Cancelled)
	refused(t, errorOf(rec.Failure.Text), "cancelled by me")
	equal(t, "destination's disks", names(t, b.disks("")), "")
	equal(t, "destination's promises", b.said(vm), "BEGIN(1) ABORTED(1)")
	equal(t, "guest", a.state(vm), jobs.VMRunning)
	_, err = bus.Call[CancelRequest, struct{}](w.ctx, w.bus.Node("a"), "cancel", CancelRequest{Job: job1, By: "me"})
	refused(t, err, "job "+job1+" is not driven by a")

	write(t, b.disks("web01-xvda"), "somebody's")
	blocked := newJob(a, b, vm, jobs.Suspend, 1)
	blocked.ID = job2
	w.submit(blocked)
	rec = w.final(job2)
	equal(t, "state", rec.State, jobs.FailedState)
	equal(t, "code", rec.Failure.Code, jobs.CodeBlocked)
	equal(t, "blockers", len(rec.Failure.Blockers), 1)
	equal(t, "somebody's file", read(t, b.disks("web01-xvda")), "somebody's")
	equal(t, "promises", b.said(vm), "BEGIN(1) ABORTED(1)")

	reply, err := bus.Call[CheckRequest, CheckReply](w.ctx, w.bus.Node("a"), "check-move", CheckRequest{Job: blocked})
	must(t, err)
	equal(t, "blockers of a check", len(reply.Blockers), 1)
	host, err := bus.Call[struct{}, jobs.Host](w.ctx, w.bus.Node("a"), "inventory", struct{}{})
	must(t, err)
	if host.Home == "" || len(host.VMs) != 1 {
		t.Errorf("inventory %+v", host)
	}
}

// TestWorkersComeBack: a worker that ends in the middle of a seed, at either
// end, carries on with its next life, and what was written stays.
func TestWorkersComeBack(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Rate: 64 << 10}, 48*mib)
	endA, endB := a.run(), b.run()
	job := newJob(a, b, vm, jobs.Suspend, 1)
	job.Spec.BWLimit = 8 * mib
	w.submit(job)
	copied := func() int64 {
		info, err := os.Stat(b.disks("web01-xvda"))
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		must(t, err)
		v, err := b.volumes.Inspect(w.ctx, b.disks("web01-xvda"))
		must(t, err)
		return min(v.Allocated, info.Size())
	}
	eventually(t, "some was written", func() bool { return copied() > 4*mib })
	endA()
	a.start(Config{})
	endA = a.run()
	eventually(t, "the source drives on", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.active[job1] != nil })
	endB()
	b.start(Config{})
	b.run()
	rec := w.final(job1)
	if rec.State != jobs.Succeeded {
		t.Fatalf("%s: %+v", rec.State, rec.Failure)
	}
	equal(t, "attempts", rec.Attempt, 1)
	b.verify(vm)
	equal(t, "destination's promises", b.said(vm), "BEGIN(1) READY(1) GO(1) RUNNING(1)")
	endA()
}

// TestNameIsTaken: a worker under another's name answers nothing and drives nothing.
func TestNameIsTaken(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, mib)
	a.run()
	dir := w.dir
	w.dir = filepath.Join(dir, "other")
	impostor := w.host("a")
	w.dir = dir
	// A job of a's that stands where its guest is held, in nobody's hands.
	_, err := w.bus.Records().Create(w.ctx, jobs.Record{ID: job1, VM: vm, Source: "a", Destination: "b", State: jobs.Running, Step: jobs.Stream, Attempt: 1, Epoch: 1})
	must(t, err)
	err = impostor.Run(w.ctx)
	var taken *bus.NameTakenError
	if !errors.As(err, &taken) {
		t.Errorf("error %v", err)
	}
	equal(t, "impostor's promises", impostor.said(vm), "")
	equal(t, "record", w.record(job1).State, jobs.Running)
}

// TestLeftBehind: what the last worker drove is taken up without a doorbell,
// and a guest that stands still is not behind others in a queue.
func TestLeftBehind(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	_, err := w.bus.Owners().Claim(w.ctx, vm, "a", job1)
	must(t, err)
	key, err := w.bus.Owners().Owner(w.ctx, vm.UUID)
	must(t, err)
	won := key
	won.Epoch, won.Attempt = 1, job1+".1"
	_, err = w.bus.Owners().Swap(w.ctx, key, won)
	must(t, err)
	job, _ := stopped(t, a, b, newJob(a, b, vm, jobs.Suspend, 1)) // and the worker dies
	equal(t, "guest", a.state(vm), jobs.VMPaused)
	rec := jobs.Record{ID: job1, Spec: job.Spec, VM: vm, Source: "a", Destination: "b", State: jobs.Running, Step: jobs.Stream, Attempt: 1, Epoch: 1, Plan: job.Plan,
		Done: []jobs.StepName{jobs.Check, jobs.Reserve, jobs.Prepare, jobs.Seed, jobs.Converge}}
	_, err = w.bus.Records().Create(w.ctx, rec)
	must(t, err)
	b.run()
	a.cfg.Moves = 1
	a.run()
	rec = w.final(job1)
	if rec.State != jobs.Succeeded {
		t.Fatalf("%s: %+v", rec.State, rec.Failure)
	}
	if !strings.HasPrefix(a.said(vm), "BEGIN(1) STOPPING(1) BACK(1) BEGIN(2) STOPPING(2)") {
		t.Errorf("promises %s", a.said(vm))
	}
	b.verify(vm)
}

// TestTwoWorkersOneDirectory: the second waits for the first.
func TestTwoWorkersOneDirectory(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	end := a.run()
	second, err := New(a.cfg, w.bus, a.lanes, zerolog.Nop())
	must(t, err)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()
	if _, err := os.ReadFile(filepath.Join(a.cfg.StateDir, "worker.lock")); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Fatalf("the second worker ended: %v", err)
	default:
	}
	end()
	eventually(t, "the second one is known", func() bool {
		all, err := w.bus.Hosts(w.ctx)
		must(t, err)
		return len(all) == 1 && all[0].Instance == second.instance
	})
	cancel(jobs.ErrShutdown)
	must(t, <-done)
}
