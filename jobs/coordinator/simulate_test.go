package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"xmig/jobs"
)

// game plays a fleet with the pure core alone: what was decided happens, time
// passes, and after every turn the rules are checked. Nothing is random in it
// but what the test draws.
type game struct {
	t        rapid.TB
	limits   Limits
	now      time.Time
	off      time.Duration // how wrong the clock is
	hosts    map[string]*jobs.Host
	lost     map[string]bool
	jobs     map[string]*jobs.Record
	marks    map[string]Mark
	policies map[string]Policy
	lasts    int                             // turns that a move lasts
	ends     func(r *jobs.Record) jobs.State // default: it succeeds
	refuses  map[Phase]error                 // hooks

	age    map[string]int // turns that a job has run
	moved  map[string]int // moves of each VM that succeeded
	told   []string
	serial int
}

func newGame(t rapid.TB, hosts ...jobs.Host) *game {
	g := &game{t: t, limits: Limits{Out: 2, In: 2}, now: time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC), hosts: map[string]*jobs.Host{}, lost: map[string]bool{},
		jobs: map[string]*jobs.Record{}, marks: map[string]Mark{}, policies: map[string]Policy{}, lasts: 3, age: map[string]int{}, moved: map[string]int{}}
	for i := range hosts {
		g.hosts[hosts[i].Node] = &hosts[i]
	}
	return g
}

func (g *game) newID() string {
	g.serial++
	return fmt.Sprintf("J%05d", g.serial)
}

func (g *game) snapshot() Snapshot {
	s := Snapshot{Now: g.now, Marks: maps.Clone(g.marks), Policies: g.policies}
	for _, n := range slices.Sorted(maps.Keys(g.hosts)) {
		if !g.lost[n] {
			s.Hosts = append(s.Hosts, *g.hosts[n])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
		if !g.jobs[id].State.Final() {
			s.Records = append(s.Records, *g.jobs[id])
		}
	}
	return s
}

// order is what Coordinator.Drain writes down.
func (g *game) order(r DrainRequest) {
	if r.Kind == "" {
		r.Kind = Emptying
	}
	if r.Deadline == 0 {
		r.Deadline = DefaultDeadline
	}
	c := Coordinator{Clock: func() time.Time { return g.now }, NewID: g.newID}
	m := g.marks[r.Host].clone()
	m.Node = r.Host
	if m.Active() {
		m.Drain.again(g.now, r.Deadline)
	} else {
		c.beginDrain(&m, r)
	}
	g.marks[r.Host] = m
}

func (g *game) cancel(host string) {
	m := g.marks[host].clone()
	m.Drain.end(DrainCancelled, g.now, "cancelled by me")
	m.Cordon = nil
	g.marks[host] = m
}

// turn is one round of the coordinator and five seconds of the world.
func (g *game) turn() {
	g.t.Helper()
	f := newFleet(g.snapshot(), g.limits)
	for _, node := range slices.Sorted(maps.Keys(g.marks)) {
		m := g.marks[node].clone()
		if m.Drain == nil || m.Drain.State.Ended() && m.Drain.count(MoveUnder) == 0 {
			continue
		}
		was := m.Drain.State
		g.carryOut(&m, f.advance(&m, g.look, g.newID))
		if n := len(g.hosts[node].VMs); m.Drain.State == DrainDone && was != DrainDone && m.Drain.Kind == Emptying && n > 0 {
			g.t.Fatalf("the drain of %s is done, and %d VMs are on it", node, n)
		}
		g.marks[node] = m
	}
	for _, a := range Decide(g.snapshot(), g.limits) {
		r := g.jobs[a.Job.ID]
		switch {
		case len(a.Candidates) > 0:
			r.State, r.Destination = jobs.Running, a.Candidates[0]
			g.mayGo(r)
		case a.Wait != "":
			if r.Held == nil || r.Held.Reason != a.Wait {
				r.Held = &jobs.Flag{Reason: a.Wait, Since: g.now}
			}
		default:
			r.State, r.Failure = jobs.FailedState, &jobs.Failure{Code: jobs.CodeBlocked, Text: a.Against[0].String()}
		}
	}
	g.check()
	g.live()
	g.now = g.now.Add(5 * time.Second)
}

func (g *game) look(id string) look {
	if r := g.jobs[id]; r != nil {
		return look{*r, true}
	}
	return look{}
}

func (g *game) carryOut(m *Mark, t todo) {
	for _, s := range t.say {
		g.told = append(g.told, m.Node+" "+s.what+": "+s.text)
	}
	for i, spec := range t.submit {
		g.submit(t.ids[i], spec)
	}
	for _, id := range t.back {
		if r := g.jobs[id]; r != nil && !r.State.Final() && !r.HandedOver {
			r.State, r.Failure = jobs.Cancelled, &jobs.Failure{Text: "cancelled by " + t.by}
		}
	}
	if t.hook != "" {
		m.hooked(t.hook, g.refuses[t.hook], g.now)
	}
}

// submit makes a record as Coordinator.submit does: one mover per VM.
func (g *game) submit(id string, spec jobs.Spec) *jobs.Record {
	g.t.Helper()
	var all []jobs.Host
	for _, h := range g.hosts {
		all = append(all, *h)
	}
	ref, source, err := subject(spec, all)
	if err != nil {
		g.t.Fatalf("submit %+v: %v", spec, err)
	}
	for _, r := range g.jobs {
		if r.VM.UUID == ref.UUID && !r.State.Final() {
			g.t.Fatalf("vm %s is given a second mover", ref.Name)
		}
	}
	g.jobs[id] = &jobs.Record{ID: id, Spec: spec, VM: ref, Source: source, Destination: spec.To, State: jobs.Queued}
	return g.jobs[id]
}

// mayGo holds a start against the rules that are about its destination.
func (g *game) mayGo(r *jobs.Record) {
	to := g.hosts[r.Destination]
	m := g.marks[r.Destination]
	switch {
	case to == nil || g.lost[r.Destination]:
		g.t.Fatalf("job %s goes to %s, which is not there", r.ID, r.Destination)
	case r.Destination == r.Source:
		g.t.Fatalf("job %s goes where it is", r.ID)
	case m.Bars() != "":
		g.t.Fatalf("job %s goes to %s: %s", r.ID, r.Destination, m.Bars())
	}
}

// check holds the whole against the limits, at every instant.
func (g *game) check() {
	g.t.Helper()
	out, in, all := map[string]int{}, map[string]int{}, 0
	for _, r := range g.jobs {
		if r.State == jobs.Running {
			all++
			out[r.Source]++
			in[r.Destination]++
		}
	}
	cluster := g.limits.Cluster
	if cluster == 0 {
		cluster = max(len(g.hosts), g.limits.Out)
	}
	if all > cluster {
		g.t.Fatalf("%d moves at once, limit %d", all, cluster)
	}
	for _, n := range slices.Sorted(maps.Keys(g.hosts)) {
		if out[n] > g.limits.Out || in[n] > g.limits.In {
			g.t.Fatalf("host %s has %d moves out and %d in, limits %+v", n, out[n], in[n], g.limits)
		}
		if g.hosts[n].FreeMemory < 0 {
			g.t.Fatalf("host %s has %d bytes of memory left", n, g.hosts[n].FreeMemory)
		}
	}
}

// live has running jobs come a step further.
func (g *game) live() {
	for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
		r := g.jobs[id]
		if r.State != jobs.Running || g.lost[r.Source] || g.lost[r.Destination] {
			continue
		}
		from, to := g.hosts[r.Source], g.hosts[r.Destination]
		vm, ok := from.Find(r.VM.UUID)
		if !ok {
			g.t.Fatalf("job %s moves %s away from %s, where it is not", id, r.VM.Name, r.Source)
		}
		g.age[id]++
		if g.age[id] == 1 {
			r.Done = append(r.Done, jobs.Reserve)
			to.FreeMemory -= vm.MemoryNeed()
		}
		if g.age[id] < g.lasts {
			continue
		}
		r.State = jobs.Succeeded
		if g.ends != nil {
			r.State = g.ends(r)
		}
		if r.State != jobs.Succeeded {
			to.FreeMemory += vm.MemoryNeed()
			r.Failure = &jobs.Failure{Text: "it did not work"}
			continue
		}
		from.FreeMemory += vm.MemoryNeed()
		from.VMs = slices.DeleteFunc(slices.Clone(from.VMs), func(v jobs.VM) bool { return v.UUID == vm.UUID })
		to.VMs = append(slices.Clone(to.VMs), vm)
		to.Shadows = slices.DeleteFunc(slices.Clone(to.Shadows), func(s jobs.Shadow) bool { return s.VM == vm.UUID })
		for _, d := range vm.Disks {
			from.Shadows = append(slices.Clone(from.Shadows), jobs.Shadow{VM: vm.UUID, Disk: d.Name, Size: d.Size})
		}
		g.moved[vm.UUID]++
	}
}

// until plays on until the mark is as wished.
func (g *game) until(host, what string, ok func(Mark) bool) Mark {
	g.t.Helper()
	for range 2000 {
		if m := g.marks[host]; ok(m) {
			return m
		}
		g.turn()
	}
	g.t.Fatalf("host %s did not come to be %s: %+v", host, what, g.marks[host].Drain)
	return Mark{}
}

func (g *game) untilState(host string, s DrainState) Mark {
	g.t.Helper()
	return g.until(host, string(s), func(m Mark) bool { return m.Drain.State == s })
}

func (g *game) where(vm string) string {
	at := ""
	for _, n := range slices.Sorted(maps.Keys(g.hosts)) {
		if _, ok := g.hosts[n].Find(vm); ok {
			at += n
		}
	}
	return at
}
