package node

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// process starts a command of the simulated toolstack that will be killed.
func (h *host) process(args ...string) *exec.Cmd {
	return exec.Command(h.cfg.XL[0], append(append([]string{}, h.cfg.XL[1:]...), args...)...)
}

// image saves a guest into a file, and has it run on.
func (h *host) image(vm jobs.VMRef) string {
	path := filepath.Join(h.w.dir, vm.Name+".image")
	h.xl("save", vm.Name, path)
	h.xl("restore", path)
	return path
}

// halfBuilt leaves what a killed xl leaves: a paused domain without CPUs.
func (h *host) halfBuilt(vm jobs.VMRef, image string) {
	t := h.w.t
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	defer f.Close()
	cmd := h.process("restore", "-p", "/dev/stdin")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.CopyN(in, f, 2*mib)
	must(t, err)
	eventually(t, "a domain is being built", func() bool { return h.state(vm) != "none" })
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	equal(t, "half-built domain", h.state(vm), jobs.VMPaused)
}

// TestBack: in whatever state an attempt left the guest, it runs on at the
// source, once, with its autostart link; and twice changes nothing.
func TestBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   jobs.Mode
		guest  xlsim.GuestSpec
		config func(*Config)
		leave  func(a *host, job jobs.Job) // after the guest was to be stopped, by hand
		want   jobs.VMState
	}{
		{name: "nothing was stopped", mode: jobs.Suspend, leave: func(*host, jobs.Job) {}, want: jobs.VMRunning},
		{name: "saved and paused", mode: jobs.Suspend, want: jobs.VMRunning},
		{name: "xl resumed it by itself", mode: jobs.Suspend, want: jobs.VMRunning,
			leave: func(a *host, job jobs.Job) { a.stopping(job); must(a.w.t, a.src.Seal(a.w.ctx, job, jobs.Seal{})) }},
		{name: "xl save was killed", mode: jobs.Suspend, want: jobs.VMRunning, leave: func(a *host, job jobs.Job) {
			a.stopping(job)
			must(a.w.t, xlsim.ChangeHost(a.sim, func(s *xlsim.HostSpec) { s.SaveRate = mib }))
			r, w, err := os.Pipe()
			must(a.w.t, err)
			cmd := a.process("save", "-p", "web01", "/dev/stdout")
			cmd.Stdout = w
			must(a.w.t, cmd.Start())
			w.Close()
			_, err = io.CopyN(io.Discard, r, mib)
			must(a.w.t, err)
			must(a.w.t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			r.Close()
			must(a.w.t, xlsim.ChangeHost(a.sim, func(s *xlsim.HostSpec) { s.SaveRate = 0 }))
			equal(a.w.t, "left", a.state(job.VM), jobs.VMSuspended)
		}},
		{name: "it ended by itself", mode: jobs.Suspend, want: "none",
			leave: func(a *host, job jobs.Job) { a.stopping(job); a.xl("destroy", "web01") }},
		{name: "the host came up since", mode: jobs.Suspend, want: jobs.VMRunning, leave: func(a *host, job jobs.Job) {
			a.stopping(job)
			must(a.w.t, xlsim.StopHost(a.sim))
			a.start(Config{BootID: "another"})
		}},
		{name: "a boot was killed half way", mode: jobs.Suspend, want: jobs.VMRunning, leave: func(a *host, job jobs.Job) {
			image := a.image(job.VM)
			a.stopping(job)
			must(a.w.t, xlsim.StopHost(a.sim))
			a.start(Config{BootID: "another"})
			a.halfBuilt(job.VM, image)
		}},
		{name: "shut down", mode: jobs.Cold, want: jobs.VMRunning},
		{name: "shut down and kept", mode: jobs.Cold, guest: xlsim.GuestSpec{Extra: []string{`on_poweroff = "preserve"`}}, want: jobs.VMRunning},
		{name: "still shutting down", mode: jobs.Cold, want: jobs.VMRunning, leave: func(a *host, job jobs.Job) {
			a.stopping(job)
			asked, err := a.domain(a.w.ctx, job.VM)
			must(a.w.t, err)
			cmd := a.process("destroy", "web01") // the end of a shutdown, late
			must(a.w.t, xlsim.ChangeHost(a.sim, func(s *xlsim.HostSpec) { s.Delays = map[string]time.Duration{"destroy": time.Second} }))
			must(a.w.t, cmd.Start())
			must(a.w.t, a.src.Back(a.w.ctx, job, jobs.Known{}))
			now, err := a.domain(a.w.ctx, job.VM)
			must(a.w.t, err)
			if now.ID == asked.ID {
				a.w.t.Error("nobody waited for the shutdown")
			}
			must(a.w.t, cmd.Wait())
		}},
		{name: "deaf to shutdown", mode: jobs.Cold, want: jobs.VMRunning, config: func(c *Config) { c.ShutdownWait = 300 * time.Millisecond },
			leave: func(a *host, job jobs.Job) { a.stopping(job) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			c.guest.Name = "web01"
			vm := a.guest(c.guest, 4*mib)
			if c.config != nil {
				c.config(&a.cfg)
			}
			job := newJob(a, b, vm, c.mode, 1)
			if c.leave == nil {
				job, _ = stopped(t, a, b, job)
				must(t, a.src.Seal(w.ctx, job, jobs.Seal{}))
				equal(t, "link while sealed", names(t, a.etc("auto")), "")
			} else {
				job = planned(t, a, b, job)
				must(t, a.src.Begin(w.ctx, job))
				c.leave(a, job)
			}
			for range 2 {
				must(t, a.src.Back(w.ctx, job, jobs.Known{}))
				equal(t, "guest", a.state(vm), c.want)
			}
			equal(t, "link", names(t, a.etc("auto")), "web01.cfg")
			if text, err := os.Readlink(a.etc("auto/web01.cfg")); text != "../web01.cfg" {
				t.Errorf("link says %q (%v)", text, err)
			}
			if c.want == jobs.VMRunning {
				copies, err := a.copies(w.ctx, vm)
				must(t, err)
				if unfinished(copies[0]) || copies[0].Name != "web01" {
					t.Errorf("domain %+v", copies[0])
				}
			}
			refused(t, a.src.Seal(w.ctx, job, jobs.Seal{}), "epoch 1 is over")
			_, err := a.src.Stop(w.ctx, job, noFlow)
			refused(t, err, "epoch 1 is over")
		})
	}
}

// stopping says STOPPING as Stop does, and does nothing of it.
func (h *host) stopping(job jobs.Job) {
	dom, err := h.domain(h.w.ctx, job.VM)
	must(h.w.t, err)
	h.promise(job.VM, job.Epoch, stopping{inBoot{h.bootID}, dom.ID}, jobs.STOPPING)
}

// TestBackNeedsAConfig: a guest that is gone and has none is told about, again
// and again; nothing claims that it runs.
func TestBackNeedsAConfig(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, mib)
	must(t, os.Remove(a.etc("auto/web01.cfg")))
	must(t, os.Remove(a.etc("web01.cfg")))
	job := planned(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	must(t, a.src.Begin(w.ctx, job))
	a.stopping(job)
	must(t, xlsim.StopHost(a.sim))
	a.start(Config{BootID: "another"})
	for range 2 {
		err := a.src.Back(w.ctx, job, jobs.Known{})
		refused(t, err, "have vm web01 run on at a: its domain is gone and it has no config file to boot from: start it by hand")
		equal(t, "class", jobs.ClassOf(err), jobs.Retry)
	}
	a.promise(vm, 2, nil, jobs.BEGIN, jobs.COMMITTING)
	job.Epoch = 2
	refused(t, a.src.Back(w.ctx, job, jobs.Known{}), "R5")
	job.Epoch = 3
	must(t, a.src.Back(w.ctx, job, jobs.Known{})) // an attempt that never got here
	equal(t, "promises", a.said(vm), "BEGIN(1) STOPPING(1) BACK(1) BEGIN(2) COMMITTING(2)")
}

// TestStopAndCommit: only a guest that runs is stopped, and only one that
// stands still is given away, by its UUID or by its name.
func TestStopAndCommit(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	job := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	a.xl("pause", "web01")
	_, err := a.src.Stop(w.ctx, job, noFlow)
	refused(t, err, "vm web01 on a is paused now")
	equal(t, "promises", a.said(vm), "BEGIN(1)")
	a.xl("unpause", "web01")
	must(t, a.src.Back(w.ctx, job, jobs.Known{}))

	job, _ = sealed(t, a, b, newJob(a, b, vm, jobs.Suspend, 2))
	there, err := b.dst.Evidence(w.ctx, vm)
	must(t, err)
	refused(t, a.src.Commit(w.ctx, job, nil), "not known to be ready")
	refused(t, a.src.Release(w.ctx, job), "R6")
	refused(t, a.src.Finish(w.ctx, job, there.Journal), "R13")
	a.xl("unpause", "web01")
	refused(t, a.src.Commit(w.ctx, job, there.Journal), "the guest is not paused")
	a.xl("destroy", "web01") // it ran since the seal, and ended: its disks here are newer
	refused(t, a.src.Commit(w.ctx, job, there.Journal), "the guest is not there")
	equal(t, "promises", a.said(vm), "BEGIN(1) BACK(1) BEGIN(2) STOPPING(2) DISARMED(2) SEALED(2)")

	// A halted guest that somebody starts by hand while it moves.
	two := a.config(xlsim.GuestSpec{Name: "db01"}, mib)
	cold := newJob(a, b, two, jobs.Cold, 1)
	cold.ID = job2
	cold, _ = sealed(t, a, b, cold)
	there, err = b.dst.Evidence(w.ctx, two)
	must(t, err)
	_, err = xlsim.WriteGuestConfig(a.disks(""), xlsim.GuestSpec{Name: "db01", MemoryMiB: 8})
	must(t, err)
	a.xl("create", "-q", a.disks("db01.cfg"))
	refused(t, a.src.Commit(w.ctx, cold, there.Journal), "the guest is not paused")
	_, err = a.src.Stop(w.ctx, cold, noFlow)
	refused(t, err, "was started meanwhile (domain ")
	a.xl("destroy", "db01")
	must(t, a.src.Commit(w.ctx, cold, there.Journal))
}

// TestFinish: the source's copy goes only when the guest was seen elsewhere,
// one that runs is never touched, and each of its effects may be repeated.
func TestFinish(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	job, p := committed(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	_, there, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	must(t, b.dst.Settle(w.ctx, job))
	a.promise(vm, 1, nil, jobs.DONE) // and a crash
	must(t, a.park(job))             // and another
	must(t, a.src.Finish(w.ctx, job, there.Journal))
	equal(t, "source", a.state(vm), "none")
	equal(t, "configs", names(t, a.etc("")), "auto web01.cfg.migrated-to-b")
	equal(t, "disks", names(t, a.disks("")), "web01-xvda.xmig-shadow")

	// It came back: a late Finish of the old attempt must not touch it.
	home := newJob(b, a, vm, jobs.Suspend, 2)
	home.ID, home.Attempt = job2, job2+".1"
	home, p = committed(t, b, a, home)
	_, there2, err := a.dst.Go(w.ctx, home, p)
	must(t, err)
	must(t, a.dst.Settle(w.ctx, home))
	must(t, a.src.Finish(w.ctx, job, there.Journal))
	equal(t, "guest that came home", a.state(vm), jobs.VMRunning)
	equal(t, "configs", names(t, a.etc("")), "auto web01.cfg web01.cfg.migrated-to-b")

	b.xl("unpause", "web01") // two would run
	err = b.src.Finish(w.ctx, home, there2.Journal)
	refused(t, err, "although a owns it: neither copy was touched; look at both hosts")
	equal(t, "second copy", b.state(vm), jobs.VMRunning)
}

// TestPassNeedsEveryDisk: a disk without a device is an error, never left out.
func TestPassNeedsEveryDisk(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.config(xlsim.GuestSpec{Name: "web01"}, mib)
	job := opened(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	more := job
	more.Plan.Disks = append(more.Plan.Disks[:1:1], jobs.DiskMove{Name: "xvdb", From: a.disks("x"), To: b.disks("x"), Size: mib})
	_, err := a.src.Pass(w.ctx, more, 1, jobs.SeedPass)
	refused(t, err, "disk xvdb of vm web01: the lane to b was opened without it")
	_, err = a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
	refused(t, err, "no lane to b is open")
}

// TestEpochsOfALostBus: a bus that was lost counts epochs anew. What was promised
// in one of the old count is nobody's word for an attempt of the new one.
func TestEpochsOfALostBus(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	before := newJob(a, b, vm, jobs.Suspend, 5)
	a.promise(vm, before.Epoch, nil, jobs.BEGIN, jobs.BACK)
	b.promise(vm, before.Epoch, nil, jobs.BEGIN, jobs.READY, jobs.ABORTED)
	for _, epoch := range []uint64{1, 5} {
		now := newJob(a, b, vm, jobs.Suspend, epoch)
		now.ID, now.Attempt = job2, job2+".1"
		refused(t, a.src.Begin(w.ctx, now), "epoch "+strconv.FormatUint(epoch, 10)+" is not new: BEGIN was promised in epoch 5 by attempt "+before.Attempt)
		refused(t, b.dst.Reserve(w.ctx, now), "if the bus was lost since, run `xmig recover`")
		if err := a.src.Begin(w.ctx, now); jobs.ClassOf(err) != jobs.Final || jobs.CodeOf(err) != jobs.CodeConflict {
			t.Errorf("%v: %s %s, want a conflict that ends the job", err, jobs.ClassOf(err), jobs.CodeOf(err))
		}
	}
	equal(t, "promises at the source", a.said(vm), "BEGIN(5) BACK(5)")
	next := newJob(a, b, vm, jobs.Suspend, 6)
	next.ID, next.Attempt = job2, job2+".1"
	must(t, a.src.Begin(w.ctx, next))
	must(t, b.dst.Reserve(w.ctx, planned(t, a, b, next)))
}
