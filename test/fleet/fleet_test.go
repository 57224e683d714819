package fleet

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/test/cluster"
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

// TestFleet drains one host and brings its guests home. In between the active
// coordinator is killed, again and again: nothing is lost, doubled or over a limit.
func TestFleet(t *testing.T) {
	hosts, n, spec := size(t)
	c := cluster.New(t, cluster.Settings{Hosts: hosts, Coordinators: 2, MemoryMiB: memory(n, spec)})
	emptiesAndRefills(t, c, n, spec, func(kill int) {
		c.Active().Kill()
		for _, p := range c.Coordinators { // the one that was killed before comes back
			if !p.Alive() && kill < 2 {
				p.Start()
			}
		}
	})
}

// TestFleetOfThreeServers: the same with three servers that have the bus in
// them. The active one is killed, the bus in it too, and then one that does
// not act: of three two must be enough.
func TestFleetOfThreeServers(t *testing.T) {
	if os.Getenv("XMIG_FLEET") == "" {
		t.Skip("NOT TESTED, by CI neither, for it was not seen green yet: three servers, of which one dies. Set XMIG_FLEET=6 or more; some minutes")
	}
	hosts, n, spec := size(t)
	c := cluster.New(t, cluster.Settings{Hosts: hosts, Servers: cluster.ThreeServers, MemoryMiB: memory(n, spec)})
	emptiesAndRefills(t, c, n, spec, func(kill int) {
		c.AwaitCopies()
		victim := c.Active()
		if kill == 1 {
			for _, p := range c.Coordinators {
				if p != victim {
					victim = p
					break
				}
			}
		}
		victim.Kill()
		if kill == 2 {
			return // the last one stays away: two go on to the end
		}
		victim.Start()
	})
}

func memory(guests int, s cluster.GuestSpec) int { return 512 + (guests+2)*(s.MemoryMiB+16) }

// emptiesAndRefills empties a host of a fleet, with harm done three times meanwhile, brings
// its guests home, and proves what is on all hosts after each.
func emptiesAndRefills(t *testing.T, c *cluster.Cluster, n int, spec cluster.GuestSpec, harm func(time int)) {
	hosts, first := len(c.Hosts), c.Hosts[0]
	guests := map[*cluster.Guest]*cluster.Host{}
	onFirst := 0
	for i := range n {
		h := c.Hosts[i%hosts]
		if n < 10 { // a small fleet has all of them where they leave
			h = first
		}
		s := spec
		s.Name = fmt.Sprintf("vm%02d", i)
		g := c.Guest(h, s)
		guests[g] = h
		if h == first {
			onFirst++
		}
	}
	for g, h := range guests {
		c.AwaitSeen(g, h)
	}

	plan := c.Command("host", "drain", first.Name, "--dry-run")
	if plan.Code != 0 || !strings.Contains(plan.Stdout, fmt.Sprintf("drain of %s: %d VMs", first.Name, onFirst)) {
		t.Fatalf("dry run: exit code %d: %s%s", plan.Code, plan.Stdout, plan.Stderr)
	}
	begun := c.Command(append([]string{"host", "drain", first.Name, "--reason", "test", "--detach"}, drainFlags...)...)
	if begun.Code != 0 {
		t.Fatalf("drain: exit code %d: %s", begun.Code, begun.Stderr)
	}
	for i := range 3 {
		awaitMoved(t, c, first, i+1)
		harm(i)
	}
	r := toTheEnd(c, append([]string{"host", "drain", first.Name, "--reason", "again"}, drainFlags...)...)
	if r.Code != 0 {
		t.Fatalf("drain: exit code %d: %s%s\n%s", r.Code, r.Stdout, r.Stderr, c.Command("host", "show", first.Name).Stdout)
	}
	out := prove(t, c, guests, first, false)
	if onFirst != len(out) {
		t.Errorf("%d guests were on %s, %d have moved", onFirst, first.Name, len(out))
	}
	r = toTheEnd(c, append([]string{"host", "restore", first.Name}, drainFlags...)...)
	if r.Code != 0 {
		t.Fatalf("restore: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	back := prove(t, c, guests, first, true)
	cheap(t, out, back)
	limitsHeld(t, c, coordinator.DefaultLimits())
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

// awaitMoved waits until a drain has moved so many VMs.
func awaitMoved(t *testing.T, c *cluster.Cluster, h *cluster.Host, n int) {
	t.Helper()
	c.Eventually(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		row, err := bus.NewTable[coordinator.Mark](c.Bus(), "host").Load(ctx, h.Name)
		if err != nil || row.Value.Drain == nil {
			return fmt.Errorf("mark of %s: %+v, %v", h.Name, row.Value, err)
		}
		done := 0
		for _, m := range row.Value.Drain.Moves {
			if m.State == coordinator.MoveDone {
				done++
			}
		}
		if done < n && !row.Value.Drain.State.Ended() {
			return fmt.Errorf("%d of %d VMs have left %s: %s", done, n, h.Name, row.Value.Drain.Text)
		}
		return nil
	})
}

// prove looks at every guest where it must be now: at home, or for those of the
// emptied host where their last job brought them. It gives those jobs by VM.
func prove(t *testing.T, c *cluster.Cluster, guests map[*cluster.Guest]*cluster.Host, first *cluster.Host, home bool) map[string]jobs.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := c.Bus().Records().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]jobs.Record{}
	for _, r := range all {
		if !r.State.Final() {
			t.Errorf("job %s of %s is %s", r.ID, r.VM.Name, r.State)
		}
		if r.State == jobs.Succeeded {
			last[r.VM.UUID] = r
		}
	}
	for g, h := range guests {
		at, job := h, ""
		if r, ok := last[g.UUID]; ok {
			job = r.ID
			for _, other := range c.Hosts {
				if other.Name == r.Destination {
					at = other
				}
			}
		}
		if home && at != h || !home && h == first && at == first {
			t.Errorf("guest %s of %s is at %s", g.Name, h.Name, at.Name)
		}
		c.Proven(g, at, job)
	}
	return last
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
	all, err := c.Bus().Records().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
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
