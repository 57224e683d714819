package node

import (
	"os"
	"path/filepath"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestLateCalls: what arrives late, twice or for an attempt that is over
// changes nothing. Each call may be repeated, for its answer may be lost.
func TestLateCalls(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	old := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	_, err := b.dst.Abort(w.ctx, old, jobs.AttemptOver)
	must(t, err)
	must(t, a.src.Back(w.ctx, old, jobs.Known{}))

	job := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 2))
	for name, call := range map[string]func() error{
		"reserve": func() error { return b.dst.Reserve(w.ctx, old) },
		"prepare": func() error { _, err := b.dst.Prepare(w.ctx, old); return err },
		"receive": func() error { return b.dst.Receive(w.ctx, old) },
		"ready":   func() error { _, err := b.dst.Ready(w.ctx, old, jobs.Seal{}); return err },
		"go":      func() error { _, _, err := b.dst.Go(w.ctx, old, permission(t, a, b, old)); return err },
		"settle":  func() error { return b.dst.Settle(w.ctx, old) },
		"begin":   func() error { return a.src.Begin(w.ctx, func() jobs.Job { j := old; j.Epoch = 0; return j }()) },
		"commit":  func() error { return a.src.Commit(w.ctx, old, jobs.Journal{{Fact: jobs.READY, Epoch: 1}}) },
		"release": func() error { return a.src.Release(w.ctx, old) },
		"seal":    func() error { return a.src.Seal(w.ctx, old, jobs.Seal{}) },
	} {
		if call() == nil {
			t.Errorf("a late %s was carried out", name)
		}
	}
	// An abort of the old attempt is nothing new, and must not end the new one's session.
	_, err = b.dst.Abort(w.ctx, old, jobs.AttemptOver)
	must(t, err)
	must(t, b.dst.Reserve(w.ctx, job))
	must(t, b.dst.Reserve(w.ctx, job))
	equal(t, "destination's promises", b.said(vm), "BEGIN(1) ABORTED(1) BEGIN(2)")

	pass, err := a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
	must(t, err)
	if pass.Disks[0].Size != 4*mib {
		t.Errorf("pass %+v", pass)
	}
	must(t, b.dst.Receive(w.ctx, job))
	must(t, b.dst.Receive(w.ctx, job))
	_, err = a.src.Stop(w.ctx, job, noFlow)
	must(t, err)
	memory, err := a.src.Drain(w.ctx, job)
	must(t, err)
	if _, err := a.src.Stop(w.ctx, job, noFlow); err == nil {
		t.Error("a guest that was stopped was stopped again")
	}
	pass, err = a.src.Pass(w.ctx, job, 2, jobs.FinalPass)
	must(t, err)
	seal := jobs.Seal{Pass: 2, Roots: map[string]jobs.Digest{"xvda": pass.Disks[0].Root}, Memory: memory, Run: true}
	must(t, a.src.Seal(w.ctx, job, seal))
	must(t, a.src.Seal(w.ctx, job, seal))

	done := make(chan error, 2)
	for range 2 { // both ways of a call that is repeated
		go func() { _, err := b.dst.Ready(w.ctx, job, seal); done <- err }()
	}
	for range 2 {
		must(t, <-done)
	}
	there, err := b.dst.Ready(w.ctx, job, seal)
	must(t, err)
	refused(t, b.dst.Reserve(w.ctx, job), "is whole already")
	_, err = b.dst.Prepare(w.ctx, job)
	refused(t, err, "is not open, or over")

	must(t, a.src.Commit(w.ctx, job, there.Journal))
	must(t, a.src.Commit(w.ctx, job, there.Journal))
	p := permission(t, a, b, job)
	first, _, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	second, there, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	if first.DomID != second.DomID || !first.At.Equal(second.At) {
		t.Errorf("GO told %+v, then %+v", first, second)
	}
	_, err = b.dst.Abort(w.ctx, job, jobs.JobOver)
	refused(t, err, "R9")
	refused(t, a.src.Back(w.ctx, job, jobs.Known{Key: &jobs.Owner{Node: "a", Epoch: 3, Attempt: "other"}}), "R5")
	for range 2 {
		must(t, b.dst.Settle(w.ctx, job))
		must(t, a.src.Finish(w.ctx, job, there.Journal))
	}
	refused(t, b.dst.Reserve(w.ctx, job), "is whole already")
	equal(t, "destination's promises", b.said(vm), "BEGIN(1) ABORTED(1) BEGIN(2) READY(2) GO(2) RUNNING(2)")
	// It leaves again: a late settle lets go, and brings no config back.
	b.promise(vm, 3, nil, jobs.BEGIN)
	must(t, os.Remove(b.etc("web01.cfg")))
	write(t, b.stagedPath(job), "stale")
	must(t, b.dst.Settle(w.ctx, job))
	equal(t, "configs after it left", names(t, b.etc("")), "auto")
	equal(t, "sessions", names(t, filepath.Join(b.cfg.StateDir, "arrivals")), "")
	b.verify(vm)
}

// TestReserve: memory, space and identity are promised once, to one job.
func TestReserve(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	b := w.host("b", func(s *xlsim.HostSpec) { s.MemoryMiB, s.Dom0MiB = 612, 512 })
	one := a.config(xlsim.GuestSpec{Name: "one", MemoryMiB: 64}, mib)
	two := a.config(xlsim.GuestSpec{Name: "two", MemoryMiB: 64}, mib)
	first := newJob(a, b, one, jobs.Suspend, 1)
	second := newJob(a, b, two, jobs.Suspend, 1)
	second.ID, second.Attempt = job2, job2+".1"
	for _, job := range []*jobs.Job{&first, &second} {
		plan, _, err := jobs.Examine(w.ctx, a.src, b.dst, *job)
		must(t, err)
		plan.Guest.State = jobs.VMRunning
		job.Plan = plan
	}
	must(t, b.dst.Reserve(w.ctx, first))
	must(t, b.dst.Reserve(w.ctx, first))
	err := b.dst.Reserve(w.ctx, second)
	refused(t, err, "reserve memory on b: 34 MiB are free (65 MiB held for other moves), vm two needs 65 MiB")
	equal(t, "class", jobs.ClassOf(err), jobs.Retry)
	_, err = b.dst.Prepare(w.ctx, second)
	refused(t, err, "is not open")
	_, err = b.dst.Abort(w.ctx, first, jobs.JobOver)
	must(t, err)
	must(t, b.dst.Reserve(w.ctx, second))

	// Another job of a VM takes away what the one before it left.
	_, err = b.dst.Prepare(w.ctx, second)
	must(t, err)
	equal(t, "volumes", names(t, b.disks("")), "two-xvda")
	third := second
	third.ID, third.Attempt, third.Epoch = job1, job1+".1", 2
	must(t, b.dst.Reserve(w.ctx, third))
	equal(t, "volumes", names(t, b.disks("")), "")
	equal(t, "sessions", names(t, filepath.Join(b.cfg.StateDir, "arrivals")), job1+".json")
	equal(t, "promises", b.said(two), "BEGIN(1) ABORTED(1) BEGIN(2)")

	// An abort that overtakes its reserve wins.
	fourth := third
	fourth.Epoch, fourth.Attempt = 3, job1+".3"
	_, err = b.dst.Abort(w.ctx, fourth, jobs.AttemptOver)
	must(t, err)
	refused(t, b.dst.Reserve(w.ctx, fourth), "epoch 3 was aborted")
}

// TestForeignCopy: a domain that no attempt brought here is never destroyed,
// paused or not, and one that lives here neither.
func TestForeignCopy(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.config(xlsim.GuestSpec{Name: "web01"}, mib)
	job := planned(t, a, b, newJob(a, b, vm, jobs.Suspend, 7))
	must(t, xlsim.MakeDisk(b.disks("web01-xvda"), mib, xlsim.Mix{}))
	_, err := xlsim.WriteGuestConfig(b.disks(""), xlsim.GuestSpec{Name: "web01", UUID: vm.UUID, MemoryMiB: 8, Disks: []xlsim.GuestDisk{{Path: b.disks("web01-xvda"), Vdev: "xvda"}}})
	must(t, err)
	b.xl("create", "-q", "-p", b.disks("web01.cfg"))
	for _, c := range []struct {
		name  string
		facts []jobs.Fact
		epoch uint64
	}{
		{name: "nobody's"},
		{name: "of an attempt as source", facts: []jobs.Fact{jobs.BEGIN, jobs.BACK}, epoch: 1},
		{name: "given away and back by hand", facts: []jobs.Fact{jobs.BEGIN, jobs.STOPPING, jobs.COMMITTING, jobs.DONE}, epoch: 2},
		{name: "that arrived and lives here", facts: []jobs.Fact{jobs.BEGIN, jobs.READY, jobs.GO}, epoch: 3},
	} {
		b.promise(vm, c.epoch, nil, c.facts...)
		refused(t, b.dst.Reserve(w.ctx, job), "vm web01 is on b already as domain 1")
		equal(t, "domain "+c.name, b.state(vm), jobs.VMPaused)
	}
	// It left again, and an attempt to bring it here came to nothing.
	b.promise(vm, 4, nil, jobs.BEGIN, jobs.DONE)
	b.promise(vm, 5, nil, jobs.BEGIN)
	b.xl("unpause", "web01")
	refused(t, b.dst.Reserve(w.ctx, job), "is on b already")
	b.xl("pause", "web01")
	must(t, b.dst.Reserve(w.ctx, job))
	equal(t, "leftover", b.state(vm), "none")
}

// TestSyncs: two jobs do not write to one device; a file that is there is
// written over and stays.
func TestSyncs(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	must(t, xlsim.MakeDisk(a.disks("from"), 4*mib, xlsim.DefaultMix(1)))
	for _, place := range []string{"new", "there"} {
		job := jobs.Job{ID: job1, Attempt: job1 + ".1", Epoch: 1, Kind: jobs.KindSync, Source: "a", Destination: "b",
			VM:   jobs.VMRef{UUID: "5eed0000-0000-4000-8000-00000000d15c", Name: "b:" + b.disks(place)},
			Spec: jobs.Spec{Kind: jobs.KindSync, From: "a", To: "b", SyncFrom: a.disks("from"), SyncTo: b.disks(place)}.WithDefaults()}
		if place == "there" {
			must(t, xlsim.MakeDisk(b.disks(place), 4*mib, xlsim.DefaultMix(2)))
			other := opened(t, a, b, job)
			must(t, b.dst.Settle(w.ctx, other))
			b.dst.closeUpTo(job)
		}
		job = opened(t, a, b, job)
		second := job
		second.ID, second.Attempt = job2, job2+".1"
		refused(t, b.dst.Reserve(w.ctx, second), "is being written by job "+job1)
		_, err := b.dst.Prepare(w.ctx, second)
		refused(t, err, "is not open")
		_, err = b.dst.Abort(w.ctx, second, jobs.JobOver)
		must(t, err)
		_, err = a.src.Pass(w.ctx, job, 1, jobs.FinalPass)
		must(t, err)
		if place == "there" {
			_, err := b.dst.Abort(w.ctx, job, jobs.JobOver)
			must(t, err)
		} else {
			must(t, b.dst.Settle(w.ctx, job))
			b.dst.closeUpTo(job)
		}
		if read(t, a.disks("from")) != read(t, b.disks(place)) {
			t.Errorf("%s differs", place)
		}
		equal(t, "sessions", names(t, filepath.Join(b.cfg.StateDir, "arrivals")), "")
	}
	if string(b.said(jobs.VMRef{UUID: "5eed0000-0000-4000-8000-00000000d15c"})) == "" {
		t.Error("no begin was journalled")
	}
}
