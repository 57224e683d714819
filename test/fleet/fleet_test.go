package fleet

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
	"xmig/test/cluster"
	"xmig/test/monitoring"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// drainFlags: guests of simulated hosts stand still for seconds on a loaded machine.
var drainFlags = []string{"--max-downtime", "60s", "--mode", "suspend"}

// size of the fleet: guests on the host that is emptied, by XMIG_FLEET.
func size(t *testing.T) (hosts, guests int, spec cluster.GuestSpec) {
	spec = cluster.GuestSpec{MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10}
	n := os.Getenv("XMIG_FLEET")
	if n == "" {
		return 3, 4, spec
	}
	guests, err := strconv.Atoi(n)
	if err != nil || guests < 6 {
		t.Fatalf("XMIG_FLEET=%q: want a number of guests, 6 or more", n)
	}
	// Some 2 % of a disk are written between its way out and its way home.
	spec.MemoryMiB, spec.Disks, spec.Rate = 32, []int64{64 << 20}, 8<<10
	return 6, guests, spec
}

// exercise is one host of a fleet that is emptied, with harm done meanwhile,
// and filled again.
type exercise struct {
	*testing.T
	c       *cluster.Cluster
	guests  map[*cluster.Guest]*cluster.Host // where they are at home
	first   *cluster.Host                    // the host that is emptied
	onFirst int
	harm    []func() // one after each of the first moves
}

// TestFleet drains one host and brings its guests home. In between the active
// coordinator is killed, again and again: nothing is lost, doubled or over a limit.
func TestFleet(t *testing.T) {
	hosts, n, spec := size(t)
	x := newExercise(t, n, spec, cluster.Settings{Hosts: hosts, Coordinators: 2, MemoryMiB: memory(n, spec)})
	again := func() {
		x.c.Active().Kill()
		for _, p := range x.c.Coordinators { // the one that was killed before comes back
			if !p.Alive() {
				p.Start()
			}
		}
	}
	x.harm = []func(){again, again, func() { x.c.Active().Kill() }}
	x.run(x.command)
}

// TestFleetOfThreeServers: the same with three servers that have the bus in
// them. The active one is killed, the bus in it too, and one that does not act:
// of three two must be enough. It stays so to the end.
func TestFleetOfThreeServers(t *testing.T) {
	large(t, "three servers, of which one dies. Set XMIG_FLEET=6 or more; some minutes")
	hosts, n, spec := size(t)
	x := newExercise(t, n, spec, cluster.Settings{Hosts: hosts, Servers: cluster.ThreeServers, MemoryMiB: memory(n, spec)})
	x.threeDie()
	x.run(x.command)
}

// TestFleetByAlert: nobody commands it. A disk fails, Prometheus sees it,
// Alertmanager posts it to three servers, and the host drains while these die.
func TestFleetByAlert(t *testing.T) {
	large(t, "an alert of the real Alertmanager that drains a host of six. After test/monitoring/install.sh set XMIG_FLEET=6 or more; some minutes")
	hosts, n, spec := size(t)
	x := newExercise(t, n, spec, cluster.Settings{Hosts: hosts, Servers: cluster.ThreeServers, MemoryMiB: memory(n, spec),
		Rules: rulesText, Node: []string{"--tags", alert.DefaultTag}})
	var names []string
	for _, h := range x.c.Hosts {
		names = append(names, h.Name)
	}
	disks := monitoring.NewDisks(t, names...)
	monitoring.Start(t, x.c, disks)
	x.threeDie()
	x.run(func() {
		disks.Fail(x.first.Name)
		x.awaitMark("emptied by an alert", func(d *coordinator.Drain) bool { return true })
	})
}

// rulesText empties a host whose disk fails. Guests of simulated hosts stand
// still for seconds on a loaded machine.
const rulesText = `
[[rule]]
name = "failing disk"
match = {alertname = "DiskWillFail", severity = "critical"}
action = "drain"
for = "2s"
mode = "suspend"
max-downtime = "60s"
`

func large(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("XMIG_FLEET") == "" {
		t.Skip("NOT TESTED here, but in a part of its own of .ci/run: " + what)
	}
}

func memory(guests int, s cluster.GuestSpec) int { return 512 + (guests+2)*(s.MemoryMiB+16) }

// newExercise makes the fleet with its guests at work.
func newExercise(t *testing.T, n int, spec cluster.GuestSpec, set cluster.Settings) *exercise {
	c := cluster.New(t, set)
	x := &exercise{T: t, c: c, guests: map[*cluster.Guest]*cluster.Host{}, first: c.Hosts[0]}
	for i := range n {
		h := c.Hosts[i%len(c.Hosts)]
		if n < 10 { // a small fleet has all of them where they leave
			h = x.first
		}
		s := spec
		s.Name = fmt.Sprintf("vm%02d", i)
		x.guests[c.Guest(h, s)] = h
		if h == x.first {
			x.onFirst++
		}
	}
	for g, h := range x.guests {
		c.AwaitSeen(g, h)
	}
	return x
}

// threeDie: the active server is killed three times, with the bus in it, and
// once another. Each comes back, but for the last.
func (x *exercise) threeDie() {
	kill := func(pick func(active *cluster.Process) *cluster.Process, revive bool) func() {
		return func() {
			x.c.AwaitCopies()
			victim := pick(x.c.Active())
			victim.Kill()
			if revive {
				victim.Start()
			}
		}
	}
	same := func(p *cluster.Process) *cluster.Process { return p }
	other := func(active *cluster.Process) *cluster.Process {
		i := slices.IndexFunc(x.c.Coordinators, func(p *cluster.Process) bool { return p != active })
		return x.c.Coordinators[i]
	}
	x.harm = []func(){kill(same, true), kill(other, true), kill(same, true), kill(same, false)}
}

// command has a person drain the host.
func (x *exercise) command() {
	x.Helper()
	plan := x.c.Command("host", "drain", x.first.Name, "--dry-run")
	if plan.Code != 0 || !strings.Contains(plan.Stdout, fmt.Sprintf("drain of %s: %d VMs", x.first.Name, x.onFirst)) {
		x.Fatalf("dry run: exit code %d: %s%s", plan.Code, plan.Stdout, plan.Stderr)
	}
	begun := x.c.Command(append([]string{"host", "drain", x.first.Name, "--reason", "test", "--detach"}, drainFlags...)...)
	if begun.Code != 0 {
		x.Fatalf("drain: exit code %d: %s", begun.Code, begun.Stderr)
	}
}

// run empties the host, with harm done meanwhile, brings its guests home, and
// proves what is on all hosts after each.
func (x *exercise) run(begin func()) {
	x.Helper()
	begin()
	for i, harm := range x.harm {
		x.awaitMoved(i + 1)
		harm()
	}
	x.awaitMark("empty", func(d *coordinator.Drain) bool { return d.State.Ended() })
	if d := x.mark(); d == nil || d.State != coordinator.DrainDone {
		x.Fatalf("the drain has not emptied %s: %+v\n%s", x.first.Name, d, x.c.Command("host", "show", x.first.Name).Stdout)
	}
	out := x.prove(false)
	if x.onFirst != len(out) {
		x.Errorf("%d guests were on %s, %d have moved", x.onFirst, x.first.Name, len(out))
	}
	r := toTheEnd(x.c, append([]string{"host", "restore", x.first.Name}, drainFlags...)...)
	if r.Code != 0 {
		x.Fatalf("restore: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	back := x.prove(true)
	cheap(x.T, out, back)
	limitsHeld(x.T, x.c, coordinator.DefaultLimits())
}

// cheap: who has an older copy at home sends little. The bar is for guests that
// wrote 2 % of their disks meanwhile.
func cheap(t *testing.T, out, back map[string]jobs.Record) {
	t.Helper()
	seeded, wire, size := int64(0), int64(0), int64(0)
	for vm, rec := range back {
		size += out[vm].Plan.Disks[0].Size
		seeded += diskBytes(out[vm])
		wire += diskBytes(rec)
	}
	t.Logf("%d guests with disks of %d KiB went out with %d KiB on the wire, and came home with %d KiB: %.1f %% of what went out, %.1f %% of the disks",
		len(out), size>>10, seeded>>10, wire>>10, 100*float64(wire)/float64(max(seeded, 1)), 100*float64(wire)/float64(max(size, 1)))
	if os.Getenv("XMIG_FLEET") != "" && wire*20 > size {
		t.Errorf("the way home took %d of %d bytes, more than 5 %%", wire, size)
	}
}

// toTheEnd asks again while the waiting ends before what is waited for: asking
// again attaches.
func toTheEnd(c *cluster.Cluster, args ...string) cluster.Result {
	const stillRunning = 4
	for {
		if r := c.Command(append(args, "--wait-for", "45s")...); r.Code != stillRunning {
			return r
		}
	}
}

// mark is what is noted of the drain of the host; nil: nothing.
func (x *exercise) mark() *coordinator.Drain {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	row, err := bus.NewTable[coordinator.Mark](x.c.Bus(), "host").Load(ctx, x.first.Name)
	if err != nil {
		return nil // no mark yet, or nobody leads the bus at this moment
	}
	return row.Value.Drain
}

// fleetPatience is how long a host may take to lose or get its next VM.
const fleetPatience = 8 * time.Minute

// awaitMark waits for something to be true of the drain.
func (x *exercise) awaitMark(what string, is func(*coordinator.Drain) bool) {
	x.Helper()
	var d *coordinator.Drain
	for end := time.Now().Add(fleetPatience); ; time.Sleep(100 * time.Millisecond) {
		if d = x.mark(); d != nil && is(d) {
			return
		}
		if time.Now().After(end) {
			x.Fatalf("%s is not %s within %s: %+v; see %s", x.first.Name, what, fleetPatience, d, x.c.Server.Log)
		}
	}
}

// awaitMoved waits until the drain has moved so many VMs, or has ended.
func (x *exercise) awaitMoved(n int) {
	x.Helper()
	x.awaitMark(fmt.Sprintf("left by %d VMs", n), func(d *coordinator.Drain) bool {
		done := 0
		for _, m := range d.Moves {
			if m.State == coordinator.MoveDone {
				done++
			}
		}
		return done >= n || d.State.Ended()
	})
}

// prove looks at every guest where it must be now: at home, or for those of the
// emptied host where their last job brought them. It gives those jobs by VM.
func (x *exercise) prove(home bool) map[string]jobs.Record {
	x.Helper()
	last := map[string]jobs.Record{}
	for _, r := range records(x.c) {
		if !r.State.Final() {
			x.Errorf("job %s of %s is %s", r.ID, r.VM.Name, r.State)
		}
		if r.State == jobs.Succeeded {
			last[r.VM.UUID] = r
		}
	}
	for g, h := range x.guests {
		at, job := h, ""
		if r, ok := last[g.UUID]; ok {
			job = r.ID
			for _, other := range x.c.Hosts {
				if other.Name == r.Destination {
					at = other
				}
			}
		}
		if home && at != h || !home && h == x.first && at == x.first {
			x.Errorf("guest %s of %s is at %s", g.Name, h.Name, at.Name)
		}
		x.c.Proven(g, at, job)
	}
	return last
}

// records lists all jobs. A server that died a moment ago may have led what is asked.
func records(c *cluster.Cluster) (all []jobs.Record) {
	c.Eventually(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		all, err = c.Bus().Records().List(ctx)
		return err
	})
	return all
}

func diskBytes(r jobs.Record) (n int64) {
	for _, p := range r.Report.Passes {
		n += p.Wire()
	}
	return n
}

// limitsHeld replays the event stream: never more moves of a host at a time
// than allowed. A job counts from its hand-over to its source node on to its
// end, which its record tells where the event of it was lost with a link.
func limitsHeld(t *testing.T, c *cluster.Cluster, l coordinator.Limits) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := records(c)
	of := map[string]jobs.Record{}
	for _, r := range all {
		of[r.ID] = r
	}
	out, in, active, most := map[string]int{}, map[string]int{}, map[string]bool{}, 0
	for e, err := range c.Bus().Events(ctx, bus.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		r, ok := of[e.Job]
		if !ok || e.What != "state" && e.What != "step.begin" {
			continue
		}
		for id := range active {
			if o := of[id]; !o.Ended.IsZero() && o.Ended.Before(e.Time) {
				delete(active, id)
				out[o.Source]--
				in[o.Destination]--
			}
		}
		switch {
		case (e.State == jobs.Planned || e.State == jobs.Running) && !active[e.Job] && e.What == "state" && (r.Ended.IsZero() || e.Time.Before(r.Ended)):
			active[e.Job] = true
			out[r.Source]++
			in[r.Destination]++
		case e.State.Final() && e.State != "" && active[e.Job]:
			delete(active, e.Job)
			out[r.Source]--
			in[r.Destination]--
		}
		most = max(most, out[r.Source], in[r.Destination])
		if out[r.Source] > l.Out || in[r.Destination] > l.In {
			t.Fatalf("at %s %d moves left %s and %d came to %s; limits %+v", e.Time.Format(time.TimeOnly), out[r.Source], r.Source, in[r.Destination], r.Destination, l)
		}
	}
	t.Logf("%d jobs, at most %d at a time on one host and way", len(all), most)
	if most == 0 {
		t.Error("the event stream tells of no move")
	}
}
