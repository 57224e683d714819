package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"xmig/jobs"
)

const gib = 1 << 30

func host(name string, freeGiB int64, vms ...jobs.VM) jobs.Host {
	return jobs.Host{Node: name, Xen: "4.17.7", FreeMemory: freeGiB * gib, Bridges: []string{"xenbr0"}, VMs: vms}
}

func vm(name string, memGiB int64) jobs.VM {
	return jobs.VM{VMRef: jobs.VMRef{UUID: "uuid-" + name, Name: name}, State: jobs.VMRunning, Memory: memGiB * gib, VCPUs: 1, Bridges: []string{"xenbr0"}}
}

func queued(id string, v jobs.VM, from, to string) jobs.Record {
	return jobs.Record{ID: id, VM: v.VMRef, Source: from, Destination: to, State: jobs.Queued,
		Spec: jobs.Spec{VM: v.Name, To: to}.WithDefaults()}
}

func at(r jobs.Record, s jobs.State, to string) jobs.Record {
	r.State, r.Destination = s, to
	return r
}

// TestDecide names for each case what every queued job does, in order:
// "start A B" (candidates), "wait: why", "blocked: hosts".
func TestDecide(t *testing.T) {
	a, b, c := vm("a", 1), vm("b", 1), vm("c", 1)
	big := vm("big", 16)
	urgent := queued("3", c, "hv1", "hv2")
	urgent.Spec.Priority = 100
	reserved := at(queued("1", big, "hv1", ""), jobs.Running, "hv2")
	reserved.Done = []jobs.StepName{jobs.Check, jobs.Reserve}
	older, halted := host("hv3", 64), a
	older.Xen = "4.14.1"
	halted.State = jobs.VMHalted
	broken := host("hv2", 64)
	broken.Problem = "xl does not answer"
	mapped := queued("1", a, "hv1", "")
	mapped.Spec.Map.Bridges = map[string]string{"xenbr0": "br7"}

	for name, tt := range map[string]struct {
		hosts   []jobs.Host
		records []jobs.Record
		limits  Limits
		want    []string
	}{
		"named": {[]jobs.Host{host("hv1", 1, a), host("hv2", 0)}, []jobs.Record{queued("1", a, "hv1", "hv2")}, DefaultLimits(), []string{"1 start hv2"}},
		"most free memory first": {[]jobs.Host{host("hv1", 1, a), host("hv2", 8), host("hv3", 9)},
			[]jobs.Record{queued("1", a, "hv1", "")}, DefaultLimits(), []string{"1 start hv3 hv2"}},
		"source lost":      {[]jobs.Host{host("hv2", 8)}, []jobs.Record{queued("1", a, "hv1", "hv2")}, DefaultLimits(), []string{"1 wait: host hv1 is not there"}},
		"destination lost": {[]jobs.Host{host("hv1", 8, a)}, []jobs.Record{queued("1", a, "hv1", "hv2")}, DefaultLimits(), []string{"1 wait: host hv2 is not there"}},
		"alone":            {[]jobs.Host{host("hv1", 8, a)}, []jobs.Record{queued("1", a, "hv1", "")}, DefaultLimits(), []string{"1 wait: there is no host beside hv1"}},
		"vm not seen yet":  {[]jobs.Host{host("hv1", 8), host("hv2", 8)}, []jobs.Record{queued("1", a, "hv1", "")}, DefaultLimits(), []string{"1 wait: vm a is not seen on hv1"}},
		"priority, then age": {[]jobs.Host{host("hv1", 8, a, b, c), host("hv2", 8)},
			[]jobs.Record{queued("1", a, "hv1", "hv2"), queued("2", b, "hv1", "hv2"), urgent}, Limits{Out: 2, In: 9},
			[]string{"3 start hv2", "1 start hv2", "2 wait: 2 of 2 moves away from hv1 are under way"}},
		"in limit": {[]jobs.Host{host("hv1", 8, a), host("hv2", 8, b), host("hv3", 8)},
			[]jobs.Record{at(queued("0", b, "hv2", "hv3"), jobs.Running, "hv3"), queued("1", a, "hv1", "hv3")}, Limits{Out: 9, In: 1},
			[]string{"1 wait: 1 of 1 moves onto hv3 are under way"}},
		"who waits holds up nobody": {[]jobs.Host{host("hv1", 8, a), host("hv2", 8, b), host("hv3", 8)},
			[]jobs.Record{queued("1", a, "hv1", "hv9"), queued("2", b, "hv2", "hv3")}, DefaultLimits(),
			[]string{"1 wait: host hv9 is not there", "2 start hv3"}},
		"memory on its way counts once": {[]jobs.Host{host("hv1", 1, big, a), host("hv2", 17)},
			[]jobs.Record{at(queued("1", big, "hv1", ""), jobs.Planned, "hv2"), queued("2", a, "hv1", "")}, DefaultLimits(),
			[]string{"2 blocked: hv2 memory"}},
		"memory held there is taken off already": {[]jobs.Host{host("hv1", 1, big, a), host("hv2", 2)},
			[]jobs.Record{reserved, queued("2", a, "hv1", "")}, DefaultLimits(), []string{"2 start hv2"}},
		"the second sees the first's memory": {[]jobs.Host{host("hv1", 1, a, b), host("hv2", 2)},
			[]jobs.Record{queued("1", a, "hv1", ""), queued("2", b, "hv1", "")}, DefaultLimits(), []string{"1 start hv2", "2 blocked: hv2 memory"}},
		"everything against": {[]jobs.Host{host("hv1", 1, a), broken, older, host("hv4", 64, vm("a", 1)), host("hv5", 0)},
			[]jobs.Record{queued("1", a, "hv1", "")}, DefaultLimits(),
			[]string{"1 blocked: hv2 inventory, hv3 xen_version, hv4 uuid_taken, hv5 memory"}},
		"bridge as mapped": {[]jobs.Host{host("hv1", 1, a), host("hv2", 8)}, []jobs.Record{mapped}, DefaultLimits(), []string{"1 blocked: hv2 bridge"}},
		"halted needs no memory, nor a newer Xen": {[]jobs.Host{host("hv1", 1, halted), older},
			[]jobs.Record{queued("1", halted, "hv1", "")}, DefaultLimits(), []string{"1 start hv3"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, act := range Decide(Snapshot{Hosts: tt.hosts, Records: tt.records}, tt.limits) {
				got = append(got, describe(act))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func describe(a Action) string {
	switch {
	case len(a.Candidates) > 0:
		return a.Job.ID + " start " + strings.Join(a.Candidates, " ")
	case a.Wait != "":
		return a.Job.ID + " wait: " + a.Wait
	}
	var why []string
	for _, b := range a.Against {
		why = append(why, b.Host+" "+b.Code)
	}
	return a.Job.ID + " blocked: " + strings.Join(why, ", ")
}

// TestDecideProperties: whatever the cluster looks like, no host is taken over
// a limit or its memory, nothing goes where it comes from or where nobody is,
// and what has room starts.
func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawSnapshot(t)
		hosts := map[string]jobs.Host{}
		free := map[string]int64{}
		for _, h := range s.Hosts {
			hosts[h.Node], free[h.Node] = h, h.FreeMemory
		}
		out, in := map[string]int{}, map[string]int{}
		for _, r := range s.Records {
			if r.State == jobs.Running {
				out[r.Source]++
				in[r.Destination]++
			}
		}
		started := map[string]bool{}
		for _, a := range Decide(s, l) {
			if len(a.Candidates) == 0 {
				if a.Wait == "" && len(a.Against) == 0 {
					t.Fatalf("job %s neither starts nor says why", a.Job.ID)
				}
				if _, there := hosts[a.Job.Spec.To]; there && out[a.Job.Source] < l.Out && in[a.Job.Spec.To] < l.In && hosts[a.Job.Source].Node != "" {
					t.Fatalf("job %s could start and does not: %s", a.Job.ID, describe(a))
				}
				continue
			}
			to := a.Candidates[0]
			if started[a.Job.VM.UUID] {
				t.Fatalf("vm %s starts twice", a.Job.VM.Name)
			}
			started[a.Job.VM.UUID] = true
			if _, there := hosts[to]; !there || to == a.Job.Source {
				t.Fatalf("job %s goes from %s to %s", a.Job.ID, a.Job.Source, to)
			}
			if out[a.Job.Source]++; out[a.Job.Source] > l.Out {
				t.Fatalf("%d moves away from %s, limit %d", out[a.Job.Source], a.Job.Source, l.Out)
			}
			if in[to]++; in[to] > l.In {
				t.Fatalf("%d moves onto %s, limit %d", in[to], to, l.In)
			}
			v, _ := hosts[a.Job.Source].Find(a.Job.VM.UUID)
			if free[to] -= v.MemoryNeed(); a.Job.Spec.To == "" && free[to] < 0 {
				t.Fatalf("%s is placed on %s beyond its memory", a.Job.VM.Name, to)
			}
		}
	})
}

func drawSnapshot(t *rapid.T) (Snapshot, Limits) {
	var s Snapshot
	names := []string{"hv1", "hv2", "hv3", "hv4"}
	for i, n := range names {
		if rapid.IntRange(0, 5).Draw(t, "lost") == 0 {
			continue
		}
		s.Hosts = append(s.Hosts, host(n, rapid.Int64Range(0, 20).Draw(t, "free")))
		for j := range rapid.IntRange(0, 4).Draw(t, "vms") {
			v := vm(fmt.Sprintf("v%d%d", i, j), rapid.Int64Range(1, 8).Draw(t, "memory"))
			h := &s.Hosts[len(s.Hosts)-1]
			h.VMs = append(h.VMs, v)
			to := rapid.SampledFrom([]string{"", "", "hv1", "hv2", "hv3", "hv4"}).Draw(t, "to")
			if to == n {
				continue
			}
			r := queued(fmt.Sprintf("%d%d", i, j), v, n, to)
			if to != "" && rapid.IntRange(0, 3).Draw(t, "running") == 0 {
				r = at(r, jobs.Running, to)
				r.Done = []jobs.StepName{jobs.Reserve} // its memory is off the destination's free already
			}
			s.Records = append(s.Records, r)
		}
	}
	return s, Limits{Out: rapid.IntRange(1, 3).Draw(t, "out"), In: rapid.IntRange(1, 3).Draw(t, "in"), Cluster: 100}
}
