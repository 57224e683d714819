package coordinator

import (
	"cmp"
	"fmt"
	"slices"

	"xmig/jobs"
)

// Limits bound what runs at once on one host.
type Limits struct {
	Out int // migrations away from a host at a time
	In  int // migrations onto a host at a time
}

// DefaultLimits keep a gigabit link and an ordinary disk busy; more moves at
// once only make each of them longer.
func DefaultLimits() Limits { return Limits{Out: 2, In: 2} }

// Snapshot is all that a decision is made of.
type Snapshot struct {
	Hosts   []jobs.Host   // those that are alive
	Records []jobs.Record // those that are not final
}

// Action is what to do about a queued job: it starts if it has candidates; else
// it waits if there is something to wait for; else it cannot move at all.
type Action struct {
	Job        jobs.Record
	Candidates []string       // where it may go now, best first
	Wait       string         // what a start, or a better choice, waits for
	Against    []jobs.Blocker // why the other hosts cannot take it
}

// Decide tells what to do with every queued job: in the order of priority,
// then age, each starts if its hosts are there and below their limits. A job
// that must wait does not hold up those behind it.
func Decide(s Snapshot, l Limits) []Action {
	t := tally(s)
	var acts []Action
	for _, rec := range queue(s.Records) {
		a := Action{Job: rec}
		switch {
		case t.hosts[rec.Source] == nil:
			a.Wait = fmt.Sprintf("host %s is not there", rec.Source)
		case t.out[rec.Source] >= l.Out:
			a.Wait = fmt.Sprintf("%d of %d moves away from %s are under way", t.out[rec.Source], l.Out, rec.Source)
		default:
			t.candidates(&a, l)
		}
		if len(a.Candidates) > 0 {
			t.start(rec, a.Candidates[0])
		}
		acts = append(acts, a)
	}
	return acts
}

// queue lists what waits, in the order in which it may start.
func queue(records []jobs.Record) []jobs.Record {
	var q []jobs.Record
	for _, r := range records {
		if r.State == jobs.Queued {
			q = append(q, r)
		}
	}
	slices.SortFunc(q, func(a, b jobs.Record) int {
		return cmp.Or(cmp.Compare(b.Spec.Priority, a.Spec.Priority), cmp.Compare(a.ID, b.ID))
	})
	return q
}

// count is what is under way at each host.
type count struct {
	hosts   map[string]*jobs.Host
	out, in map[string]int
	coming  map[string]int64 // bytes of memory of jobs that their destination does not hold yet
}

func tally(s Snapshot) *count {
	t := &count{hosts: map[string]*jobs.Host{}, out: map[string]int{}, in: map[string]int{}, coming: map[string]int64{}}
	for i := range s.Hosts {
		t.hosts[s.Hosts[i].Node] = &s.Hosts[i]
	}
	for _, r := range s.Records {
		if r.State != jobs.Planned && r.State != jobs.Running {
			continue
		}
		t.out[r.Source]++
		t.in[r.Destination]++
		if !holdsMemory(r) {
			t.coming[r.Destination] += t.memoryOf(r)
		}
	}
	return t
}

// holdsMemory: from the end of its reserve step on, the destination itself
// counts the VM's memory as taken.
func holdsMemory(r jobs.Record) bool { return r.Has(jobs.Reserve) || r.HandedOver }

func (t *count) memoryOf(r jobs.Record) int64 {
	if h := t.hosts[r.Source]; h != nil {
		if vm, ok := h.Find(r.VM.UUID); ok && vm.State != jobs.VMHalted {
			return vm.MemoryNeed()
		}
	}
	return 0
}

// start counts a job that will be started, so that the next one sees it.
func (t *count) start(r jobs.Record, to string) {
	t.out[r.Source]++
	t.in[to]++
	t.coming[to] += t.memoryOf(r)
}
