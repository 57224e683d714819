package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xmig/jobs"
)

// TestFleetProperties plays fleets that people and failures do anything to. In
// every turn (game.check, mayGo, submit): never over a limit, never onto a
// closed or lost host or beyond its memory, never two movers of one VM. And at
// the end: every drain comes to rest, no drain moved a VM twice, all VMs are
// still somewhere, exactly once, and a drain that is done left an empty host.
func TestFleetProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := drawGame(rt)
		all := 0
		for _, h := range g.hosts {
			all += len(h.VMs)
		}
		moved := map[string]map[string]int{} // drain → VM → moves
		g.ends = func(r *jobs.Record) jobs.State {
			end := rapid.SampledFrom([]jobs.State{jobs.Succeeded, jobs.Succeeded, jobs.Succeeded, jobs.Succeeded, jobs.FailedState, jobs.RolledBack}).Draw(rt, "end")
			if end == jobs.Succeeded && r.Spec.Drain != "" {
				if moved[r.Spec.Drain] == nil {
					moved[r.Spec.Drain] = map[string]int{}
				}
				if moved[r.Spec.Drain][r.VM.UUID]++; moved[r.Spec.Drain][r.VM.UUID] > 1 {
					rt.Fatalf("drain %s moves vm %s twice", r.Spec.Drain, r.VM.Name)
				}
			}
			return end
		}
		for range rapid.IntRange(1, 25).Draw(rt, "turns") {
			g.disturb(rt)
			g.turn()
		}
		clear(g.lost)
		for range 3000 {
			if g.resting() {
				break
			}
			g.turn()
		}
		if !g.resting() {
			rt.Fatalf("no rest: %+v", g.marks)
		}
		for _, n := range slices.Sorted(maps.Keys(g.hosts)) {
			all -= len(g.hosts[n].VMs)
			for _, v := range g.hosts[n].VMs {
				if at := g.where(v.Name); at != n {
					rt.Fatalf("vm %s is on %s", v.Name, at)
				}
			}
		}
		if all != 0 {
			rt.Fatalf("%d VMs are missing", all)
		}
	})
}

// resting: no drain works any more, and no job is under way.
func (g *game) resting() bool {
	for _, m := range g.marks {
		if m.Active() && m.Drain.State != DrainHeld && m.Drain.State != DrainWaiting || m.Drain != nil && m.Drain.count(MoveUnder) > 0 {
			return false
		}
	}
	return true
}

// disturb does one thing that people or failures do.
func (g *game) disturb(rt *rapid.T) {
	names := slices.Sorted(maps.Keys(g.hosts))
	h := rapid.SampledFrom(names).Draw(rt, "host")
	m := g.marks[h]
	switch rapid.SampledFrom([]string{"drain", "drain", "whole", "canary", "restore", "cancel", "lose", "find", "cordon", "uncordon", "submit", "pin", "clock", "nothing", "nothing"}).Draw(rt, "what") {
	case "drain":
		g.order(DrainRequest{Host: h, By: "me", Deadline: time.Duration(rapid.IntRange(1, 100).Draw(rt, "deadline")) * time.Minute})
	case "whole":
		g.order(DrainRequest{Host: h, By: "me", Whole: true})
	case "canary":
		g.order(DrainRequest{Host: h, By: "me", Canary: true})
	case "restore":
		if !m.Active() {
			g.order(DrainRequest{Host: h, By: "me", Kind: Homing})
		}
	case "cancel":
		if m.Active() {
			g.cancel(h)
		}
	case "lose":
		g.lost[h] = true
	case "find":
		clear(g.lost)
	case "cordon":
		m.Node, m.Cordon = h, &Order{By: "me"}
		g.marks[h] = m
	case "uncordon":
		if !m.Active() {
			m.Node, m.Cordon = h, nil
			g.marks[h] = m
		}
	case "clock":
		// Within what an hour and a half of patience at the end makes good.
		off := time.Duration(rapid.IntRange(-45, 45).Draw(rt, "off")) * time.Minute
		g.now, g.off = g.now.Add(off-g.off), off
	case "submit":
		g.submitSome(rt, h)
	case "pin":
		for _, v := range g.hosts[h].VMs {
			g.policies[v.UUID] = Policy{Pin: &Order{By: "me"}}
			break
		}
	}
}

func (g *game) submitSome(rt *rapid.T, h string) {
	for _, v := range g.hosts[h].VMs {
		busy := slices.ContainsFunc(slices.Collect(maps.Values(g.jobs)), func(r *jobs.Record) bool { return r.VM.UUID == v.UUID && !r.State.Final() })
		if !busy && !g.lost[h] {
			g.submit(g.newID(), jobs.Spec{VM: v.UUID, Priority: rapid.IntRange(1, 120).Draw(rt, "priority")}.WithDefaults())
			return
		}
	}
}

func drawGame(rt *rapid.T) *game {
	var hosts []jobs.Host
	n := rapid.IntRange(2, 6).Draw(rt, "hosts")
	for i := range n {
		h := host(fmt.Sprintf("hv%d", i), rapid.Int64Range(8, 64).Draw(rt, "free"))
		for j := range rapid.IntRange(0, 6).Draw(rt, "vms") {
			v := vm(fmt.Sprintf("v%d%d", i, j), rapid.Int64Range(1, 12).Draw(rt, "memory"))
			v.Disks = []jobs.Disk{{Name: "xvda", Path: "/dev/vg0/" + v.Name, Size: rapid.Int64Range(1, 50).Draw(rt, "disk") * gib}}
			h.VMs = append(h.VMs, v)
		}
		hosts = append(hosts, h)
	}
	g := newGame(rt, hosts...)
	g.limits = Limits{Out: rapid.IntRange(1, 3).Draw(rt, "out"), In: rapid.IntRange(1, 3).Draw(rt, "in"), Cluster: rapid.IntRange(0, 5).Draw(rt, "cluster")}
	g.lasts = rapid.IntRange(1, 5).Draw(rt, "lasts")
	return g
}
