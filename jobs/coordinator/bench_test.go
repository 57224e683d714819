package coordinator

import (
	"fmt"
	"math"
	"testing"
	"time"

	"xmig/jobs"
)

// bigFleet is n hosts with 50 VMs each, 5 jobs queued per host, a fifth of the
// hosts with a move under way, and every fiftieth being drained.
func bigFleet(n int) Snapshot {
	s := Snapshot{Now: time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC), Marks: map[string]Mark{}}
	for i := range n {
		h := host(fmt.Sprintf("hv%04d", i), int64(64+i%64))
		h.Memory, h.HWCaps = 512*gib, "bfebfbff:77faf3ff:2c100800:00000121:0000000f:d39ffffb:00000008:00000100"
		h.Pools = []jobs.Pool{{Name: "vg0", Dir: "/dev/vg0", Role: "fast", Free: 4000 * gib, Size: 8000 * gib}}
		for j := range 50 {
			v := jobs.VM{VMRef: jobs.VMRef{UUID: fmt.Sprintf("%08x-0000-4000-8000-%012x", i, j), Name: fmt.Sprintf("vm-%04d-%02d", i, j)},
				State: jobs.VMRunning, Type: "pvh", Memory: int64(1+j%8) * gib, VCPUs: 2, Bridges: []string{"xenbr0"}}
			v.Disks = []jobs.Disk{{Name: "xvda", Path: "/dev/vg0/" + v.Name, Size: 20 * gib, Allocated: 20 * gib}}
			h.VMs = append(h.VMs, v)
		}
		s.Hosts = append(s.Hosts, h)
		for j := range 5 {
			r := queued(fmt.Sprintf("%05d%d", i, j), h.VMs[j], h.Node, "")
			r.Spec.Priority = 50 + (i+j)%3
			s.Records = append(s.Records, r)
		}
		if i%5 == 0 {
			r := at(queued(fmt.Sprintf("%05d9", i), h.VMs[9], h.Node, ""), jobs.Running, fmt.Sprintf("hv%04d", (i+1)%n))
			s.Records = append(s.Records, r)
		}
	}
	for i := 0; i < n/50; i++ {
		d := fmt.Sprintf("hv%04d", i*50)
		s.Marks[d] = Mark{Node: d, Drain: &Drain{ID: fmt.Sprint("d", i), Kind: Emptying, State: DrainRunning, Planned: true, Asked: true, Deadline: s.Now.Add(time.Hour)}}
	}
	return s
}

// decideOnce is what one round of a coordinator computes: all drains advanced,
// and a decision on every queued job.
func decideOnce(s Snapshot) int {
	f := newFleet(s, DefaultLimits())
	for node := range s.Marks {
		m := s.Marks[node].clone()
		f.advance(&m, func(string) look { return look{} }, func() string { return "J" })
	}
	return len(Decide(s, DefaultLimits()))
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		s := bigFleet(n)
		b.Run(fmt.Sprintf("hosts=%d/vms=%d/queued=%d", n, 50*n, 5*n), func(b *testing.B) {
			for b.Loop() {
				decideOnce(s)
			}
		})
	}
}

func BenchmarkDrainPlan(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		s := bigFleet(n)
		b.Run(fmt.Sprintf("hosts=%d/vms=50", n), func(b *testing.B) {
			for b.Loop() {
				p, err := PlanFor(s, DefaultLimits(), "hv0003", Emptying, jobs.Spec{})
				if err != nil || len(p.Moves) != 50 || !p.Fits() {
					b.Fatalf("%d moves, %v", len(p.Moves), err)
				}
			}
		})
	}
}

// TestDecisionGrowth counts what grows: allocations stand for work here, for
// no clock of a loaded machine can be held against a bound. From 10 to 1,000
// hosts it may grow no faster than n log n.
func TestDecisionGrowth(t *testing.T) {
	cost := map[int]float64{}
	for _, n := range []int{10, 100, 1000} {
		s := bigFleet(n)
		cost[n] = testing.AllocsPerRun(1, func() { decideOnce(s) })
	}
	for _, step := range [][2]int{{10, 100}, {100, 1000}} {
		a, b := step[0], step[1]
		ratio := cost[b] / cost[a]
		bound := float64(b) * math.Log2(float64(b)) / (float64(a) * math.Log2(float64(a)))
		t.Logf("from %d to %d hosts: %.0f to %.0f allocations, %.1f times; n log n is %.1f times", a, b, cost[a], cost[b], ratio, bound)
		if ratio > bound {
			t.Errorf("from %d to %d hosts the work grows %.1f times, n log n is %.1f times", a, b, ratio, bound)
		}
	}
}
