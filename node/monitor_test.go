package node

import (
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestMonitorAfterAbort: a guest whose move was taken back reboots and powers
// off as its config wants it, although its suspension has cost it its monitor.
func TestMonitorAfterAbort(t *testing.T) {
	for _, mode := range []jobs.Mode{jobs.Live, jobs.Suspend} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			vm := a.guest(xlsim.GuestSpec{Name: "web01", Type: guestType(mode)}, 4*mib)
			job, _ := sealed(t, a, b, newJob(a, b, vm, mode, 1))
			must(t, a.src.Back(w.ctx, job, jobs.Known{}))
			before, err := a.domain(w.ctx, vm)
			must(t, err)
			if names(t, a.watchedDir()) == "" {
				t.Fatal("nobody looks after the guest")
			}
			a.run()
			a.xl("reboot", "web01")
			eventually(t, "the guest has rebooted", func() bool {
				copies, err := a.copies(w.ctx, vm)
				must(t, err)
				return len(copies) == 1 && copies[0].ID != before.ID && stateOf(copies[0]) == jobs.VMRunning
			})
			eventually(t, "it has a monitor of its own", func() bool { return names(t, a.watchedDir()) == "" })
			a.xl("shutdown", "web01")
			eventually(t, "xl has cleared it away", func() bool { return a.state(vm) == "none" })
		})
	}
}

// TestMonitorStandsBack: an end that somebody else sees to is not ours; one that
// stays is dealt with as the config says.
func TestMonitorStandsBack(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Extra: []string{`on_poweroff = "preserve"`}}, mib)
	job, _ := sealed(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	must(t, a.src.Back(w.ctx, job, jobs.Known{}))
	now := time.Now()
	watch := &watcher{a.Node, map[int]time.Time{}}
	a.now = func() time.Time { return now }
	must(t, watch.watchOnce(w.ctx))
	a.xl("shutdown", "web01")
	eventually(t, "it has shut down", func() bool { return a.state(vm) == jobs.VMOther })
	must(t, watch.watchOnce(w.ctx))
	must(t, watch.watchOnce(w.ctx))
	if names(t, a.watchedDir()) == "" {
		t.Error("its monitor had no time to act")
	}
	now = now.Add(a.cfg.MonitorWait)
	must(t, watch.watchOnce(w.ctx))
	equal(t, "watched", names(t, a.watchedDir()), "")
	if list := a.xl("list"); !strings.Contains(list, "web01") || !strings.Contains(list, "---s--") {
		t.Errorf("on_poweroff is preserve:\n%s", list)
	}

	// From 4.20 on xl keeps its monitor.
	must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.XenVersion = "4.20.0" }))
	a.xl("destroy", "web01")
	a.xl("create", "-q", a.etc("web01.cfg"))
	must(t, a.Node.standIn(w.ctx, job))
	a.xl("shutdown", "web01")
	eventually(t, "it has shut down again", func() bool { return a.state(vm) == jobs.VMOther })
	must(t, watch.watchOnce(w.ctx))
	now = now.Add(a.cfg.MonitorWait)
	must(t, watch.watchOnce(w.ctx))
	equal(t, "guest that ended, from 4.20 on", a.state(vm), jobs.VMOther)
	now = now.Add(lateSuspend)
	must(t, watch.watchOnce(w.ctx))
	equal(t, "watched from 4.20 on, when it cannot suspend late any more", names(t, a.watchedDir()), "")
}
