package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// processes finds those of one host that have all words and none of the others
// in their command line.
func (h *host) processes(words []string, without ...string) (pids []int) {
	h.w.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(h.w.t, err)
	for _, path := range all {
		raw, err := os.ReadFile(path)
		line := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
		if err != nil || !strings.Contains(string(raw), h.sim) {
			continue
		}
		has := func(w string) bool { return slices.Contains(line, w) }
		if slices.ContainsFunc(without, has) || slices.ContainsFunc(words, func(w string) bool { return !has(w) }) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		must(h.w.t, err)
		pids = append(pids, pid)
	}
	return pids
}

// slay kills the one process that is meant, and waits until it is gone.
func (h *host) slay(words []string, without ...string) {
	t := h.w.t
	t.Helper()
	pids := h.processes(words, without...)
	if len(pids) != 1 {
		t.Fatalf("%v: processes %v, want one", words, pids)
	}
	must(t, syscall.Kill(pids[0], syscall.SIGKILL))
	eventually(t, "it is gone", func() bool { return len(h.processes(words, without...)) == 0 })
}

func (h *host) slayStub()    { h.slay([]string{"xl-stub"}, "hold", "xl", "-c") }
func (h *host) slayXL()      { h.slay([]string{"xl", "migrate"}, "hold") }
func (h *host) slayReceive() { h.slay([]string{"xl", "migrate-receive"}, "hold") }

// alone: nothing of a migration is left on the host.
func (h *host) alone() {
	h.w.t.Helper()
	eventually(h.w.t, "no process of a migration is left on "+h.cfg.Name, func() bool {
		return len(h.processes([]string{"hold"}))+len(h.processes([]string{"xl-stub"}))+len(h.processes([]string{"migrate"}))+len(h.processes([]string{"migrate-receive"})) == 0
	})
	socks, err := filepath.Glob(filepath.Join(h.journals(), "*.stub"))
	must(h.w.t, err)
	if len(socks) > 0 && len(h.processes([]string{"xl-stub"})) > 0 {
		h.w.t.Errorf("left: %v", socks)
	}
}

// liveGuest is two hosts and a guest that can be moved live.
func liveGuest(t *testing.T) (*world, *host, *host, jobs.VMRef) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	return w, a, b, a.guest(xlsim.GuestSpec{Name: "web01", Type: "pvh"}, 4*mib)
}

// dies is the source's worker: what it held is gone, what it started goes on.
func (h *host) dies(job jobs.Job) {
	h.src.close(job.ID)
	h.start(Config{})
}

// TestLiveGoesBack: wherever a live move is struck before or behind COMMITTING,
// the guest runs on at the source under its own name, and nothing is left.
func TestLiveGoesBack(t *testing.T) {
	for name, row := range map[string]struct {
		held      bool // struck while READY is held, else behind COMMITTING
		strike    func(a, b *host, job jobs.Job)
		abortLast bool // the destination is not asked before
	}{
		"cancelled while READY is held":            {held: true, strike: func(*host, *host, jobs.Job) {}},
		"the same, the destination is asked last":  {held: true, strike: func(*host, *host, jobs.Job) {}, abortLast: true},
		"the source's worker dies":                 {held: true, strike: func(a, _ *host, job jobs.Job) { a.dies(job) }},
		"the stub dies":                            {held: true, strike: func(a, _ *host, _ jobs.Job) { a.slayStub() }},
		"xl dies":                                  {held: true, strike: func(a, _ *host, _ jobs.Job) { a.slayXL() }},
		"the destination aborts behind COMMITTING": {strike: func(*host, *host, jobs.Job) {}},
		"and the source's worker died":             {strike: func(a, _ *host, job jobs.Job) { a.dies(job) }},
		"and the stub died":                        {strike: func(a, _ *host, _ jobs.Job) { a.slayStub() }},
		"and xl died":                              {strike: func(a, _ *host, _ jobs.Job) { a.slayXL() }},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b, vm := liveGuest(t)
			job := newJob(a, b, vm, jobs.Live, 1)
			if row.held {
				job, _ = sealed(t, a, b, job)
				equal(t, "promises", b.said(vm), "BEGIN(1) READY(1)")
				equal(t, "copy", b.state(vm), jobs.VMPaused)
				equal(t, "source", a.state(vm), jobs.VMSuspended)
			} else {
				job, _ = committed(t, a, b, job)
				equal(t, "promises", a.said(vm), "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1) COMMITTING(1)")
				copies, err := a.copies(w.ctx, vm)
				must(t, err)
				equal(t, "name", copies[0].Name, "web01--migratedaway")
			}
			row.strike(a, b, job)
			var known jobs.Known
			abort := func() {
				e, err := b.dst.Abort(w.ctx, job, jobs.JobOver)
				must(t, err)
				known.Destination = e.Journal
			}
			if !row.held {
				refused(t, a.src.Back(w.ctx, job, known), "rule R5 forbids BACK")
			}
			if !row.abortLast {
				abort()
			}
			must(t, a.src.Back(w.ctx, job, known))
			if row.abortLast {
				abort()
			}
			equal(t, "guest", a.state(vm), jobs.VMRunning)
			dom, err := a.domain(w.ctx, vm)
			must(t, err)
			equal(t, "its name", dom.Name, "web01")
			equal(t, "copy", b.state(vm), "none")
			equal(t, "disks there", names(t, b.disks("")), "")
			a.alone()
			b.alone()
			must(t, a.src.Back(w.ctx, job, known)) // asked twice
			a.verify(vm)

			// And the next attempt succeeds.
			next := newJob(a, b, vm, jobs.Live, 3)
			next, p := committed(t, a, b, next)
			_, e, err := b.dst.Go(w.ctx, next, p)
			must(t, err)
			must(t, b.dst.Settle(w.ctx, next))
			must(t, a.src.Finish(w.ctx, next, e.Journal))
			equal(t, "source", a.state(vm), "none")
			b.verify(vm)
			a.alone()
		})
	}
}

// TestLiveGoesForward: behind COMMITTING whoever dies at the source, the guest
// runs at the destination, and the source's copy goes.
func TestLiveGoesForward(t *testing.T) {
	for name, strike := range map[string]func(a *host, job jobs.Job){
		"nothing":            func(*host, jobs.Job) {},
		"the worker":         func(a *host, job jobs.Job) { a.dies(job) },
		"the stub":           func(a *host, _ jobs.Job) { a.slayStub() },
		"xl":                 func(a *host, _ jobs.Job) { a.slayXL() },
		"the worker and xl":  func(a *host, job jobs.Job) { a.dies(job); a.slayXL() },
		"the holder with xl": func(a *host, _ jobs.Job) { a.slay([]string{"hold", "migrate"}) },
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b, vm := liveGuest(t)
			job, p := committed(t, a, b, newJob(a, b, vm, jobs.Live, 1))
			strike(a, job)
			equal(t, "source", a.state(vm), jobs.VMSuspended)
			_, e, err := b.dst.Go(w.ctx, job, p)
			must(t, err)
			equal(t, "guest", b.state(vm), jobs.VMRunning)
			must(t, b.dst.Settle(w.ctx, job))
			must(t, a.src.Finish(w.ctx, job, e.Journal))
			must(t, a.src.Finish(w.ctx, job, e.Journal)) // asked twice
			equal(t, "source", a.state(vm), "none")
			b.verify(vm)
			a.alone()
			b.alone()
		})
	}
}

// TestLiveCommitWithoutStub: a stub that died while READY was held leaves a
// guest that xl has resumed, and that is not committed. One that died with xl
// leaves a guest that nobody resumes, and that is.
func TestLiveCommitWithoutStub(t *testing.T) {
	w, a, b, vm := liveGuest(t)
	job, _ := sealed(t, a, b, newJob(a, b, vm, jobs.Live, 1))
	there, err := b.dst.Evidence(w.ctx, vm)
	must(t, err)
	a.slayStub()
	eventually(t, "xl has resumed it", func() bool { return a.state(vm) == jobs.VMRunning })
	refused(t, a.src.Commit(w.ctx, job, there.Journal), "rule R4 forbids COMMITTING in epoch 1: the guest is not paused")
	equal(t, "promises", a.said(vm), "BEGIN(1) STOPPING(1) DISARMED(1) SEALED(1)")
	e, err := b.dst.Abort(w.ctx, job, jobs.AttemptOver)
	must(t, err)
	must(t, a.src.Back(w.ctx, job, jobs.Known{Destination: e.Journal}))

	job, _ = sealed(t, a, b, newJob(a, b, vm, jobs.Live, 3))
	there, err = b.dst.Evidence(w.ctx, vm)
	must(t, err)
	a.slayXL()
	must(t, a.src.Commit(w.ctx, job, there.Journal))
	_, e, err = b.dst.Go(w.ctx, job, permission(t, a, b, job))
	must(t, err)
	must(t, a.src.Finish(w.ctx, job, e.Journal))
	equal(t, "source", a.state(vm), "none")
	b.verify(vm)
}

// TestLiveBroken: what breaks while memory flows ends the attempt, and the guest
// never stops for good.
func TestLiveBroken(t *testing.T) {
	for name, row := range map[string]struct {
		strike func(a, b *host, job jobs.Job)
		says   string
	}{
		"the stub":            {func(a, _ *host, _ jobs.Job) { a.slayStub() }, "web01"},
		"xl":                  {func(a, _ *host, _ jobs.Job) { a.slayXL() }, "killed by signal 9"},
		"migrate-receive":     {func(_, b *host, _ jobs.Job) { b.slayReceive() }, "killed by signal 9"},
		"its holder":          {func(_, b *host, _ jobs.Job) { b.slay([]string{"hold", "migrate-receive"}) }, "restore"},
		"the worker there":    {func(_, b *host, job jobs.Job) { b.dst.closeUpTo(job) }, "memory of vm web01"}, // the lane goes, or the receiver says so first,
		"the source's worker": {func(a, _ *host, job jobs.Job) { a.src.close(job.ID) }, "memory of vm web01"},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b, vm := liveGuest(t)
			must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.SaveRate = 2 * mib })) // eight seconds
			job := opened(t, a, b, newJob(a, b, vm, jobs.Live, 1))
			_, err := a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
			must(t, err)
			must(t, b.dst.Receive(w.ctx, job))
			flows := make(chan struct{}, 1)
			ended := make(chan error, 1)
			go func() {
				_, err := a.src.Stop(w.ctx, job, func(f jobs.Flow) {
					if f.Sent > mib {
						select {
						case flows <- struct{}{}:
						default:
						}
					}
				})
				if err == nil {
					_, err = a.src.Drain(w.ctx, job)
				}
				ended <- err
			}()
			<-flows
			equal(t, "guest while memory flows", a.state(vm), jobs.VMRunning)
			row.strike(a, b, job)
			refused(t, <-ended, row.says)
			e, err := b.dst.Abort(w.ctx, job, jobs.JobOver)
			must(t, err)
			must(t, a.src.Back(w.ctx, job, jobs.Known{Destination: e.Journal}))
			equal(t, "guest", a.state(vm), jobs.VMRunning)
			equal(t, "copy", b.state(vm), "none")
			a.alone()
			b.alone()
			a.verify(vm)
		})
	}
}

// TestLiveEndHeld: where a device model would open the disks early, xl at the
// destination has not attached one before the last pass is there.
func TestLiveEndHeld(t *testing.T) {
	w, a, b, vm := liveGuest(t)
	job := planned(t, a, b, newJob(a, b, vm, jobs.Live, 1))
	job.Plan.Guest.EarlyOpen = true
	must(t, a.src.Begin(w.ctx, job))
	must(t, b.dst.Reserve(w.ctx, job))
	ticket, err := b.dst.Prepare(w.ctx, job)
	must(t, err)
	must(t, a.src.Connect(w.ctx, job, ticket))
	_, err = a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
	must(t, err)
	must(t, b.dst.Receive(w.ctx, job))
	out, err := a.src.Stop(w.ctx, job, noFlow)
	must(t, err)
	memory, err := a.src.Drain(w.ctx, job) // all is sent
	must(t, err)
	time.Sleep(300 * time.Millisecond) // it would be attached by then, were END there
	users, err := b.Node.xl.DisksInUse(w.ctx)
	must(t, err)
	if got := users.Of(b.disks("web01-xvda")); len(got) > 0 {
		t.Errorf("domains %v have the disk although END is held", got)
	}
	p, err := a.src.Pass(w.ctx, job, 2, jobs.FinalPass)
	must(t, err)
	seal := jobs.Seal{Run: out.Ran, Memory: memory, Pass: 2, Roots: map[string]jobs.Digest{"xvda": p.Disks[0].Root}}
	must(t, a.src.Seal(w.ctx, job, seal))
	e, err := b.dst.Ready(w.ctx, job, seal)
	must(t, err)
	must(t, a.src.Commit(w.ctx, job, e.Journal))
	_, _, err = b.dst.Go(w.ctx, job, permission(t, a, b, job))
	must(t, err)
	b.verify(vm)
}

// TestLiveRefused: what cannot be moved live says why, by auto and when asked.
func TestLiveRefused(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b", func(h *xlsim.HostSpec) { h.XenVersion = "4.17.7" })
	vm := a.guest(xlsim.GuestSpec{Name: "pv1"}, mib)
	plan, blockers, err := jobs.Examine(w.ctx, a.src, b.dst, newJob(a, b, vm, jobs.Live, 1))
	must(t, err)
	if len(blockers) != 1 || blockers[0].Code != "mode" {
		t.Fatalf("%v, plan %s", blockers, plan.Mode)
	}
	refused(t, errors.New(blockers[0].Text), "no shadow paging")
	plan = planned(t, a, b, newJob(a, b, vm, jobs.Auto, 1)).Plan
	equal(t, "mode", plan.Mode, jobs.Suspend)
	refused(t, errors.New(plan.Why), "no shadow paging")
	must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.VirtCaps += " shadow" }))
	equal(t, "mode with shadow paging", planned(t, a, b, newJob(a, b, vm, jobs.Auto, 1)).Plan.Mode, jobs.Live)
}
