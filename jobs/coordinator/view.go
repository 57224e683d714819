package coordinator

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"xmig/jobs"
)

// view is what watching told so far. It may be behind: whoever acts on it
// writes by compare-and-swap.
type view struct {
	mu       sync.Mutex
	waker    chan struct{}          // holds one when something changed
	records  map[string]jobs.Record // not final ones
	ended    map[string]jobs.Record // final ones that a drain still asks for
	hosts    map[string]jobs.Host
	marks    map[string]jobs.Row[Mark]
	policies map[string]jobs.Row[Policy]
	wishes   map[string]jobs.Row[jobs.Wish]
	ready    chan struct{}   // of who began to watch; closed when all was read once
	live     bool            // all was read once and is being watched
	hooking  map[string]bool // hosts whose hook runs
	told     map[string]bool // hosts whose presence was told as an event
	rung     map[string]time.Time
	asking   map[string]string               // job → host that is asked whether it can take the VM
	refused  map[string]map[string]refusedBy // job → hosts that said no when asked
}

// refusedBy is a host's own no. It is asked again after a while.
type refusedBy struct {
	blockers []jobs.Blocker
	at       time.Time
}

// open makes the maps of a zero view and locks it.
func (v *view) open() {
	v.mu.Lock()
	if v.records != nil {
		return
	}
	v.waker = make(chan struct{}, 1)
	v.records, v.ended = map[string]jobs.Record{}, map[string]jobs.Record{}
	v.hosts = map[string]jobs.Host{}
	v.marks, v.policies, v.wishes = map[string]jobs.Row[Mark]{}, map[string]jobs.Row[Policy]{}, map[string]jobs.Row[jobs.Wish]{}
	v.hooking = map[string]bool{}
	v.told, v.rung = map[string]bool{}, map[string]time.Time{}
	v.asking, v.refused = map[string]string{}, map[string]map[string]refusedBy{}
}

// news is where changes are heard.
func (v *view) news() <-chan struct{} {
	v.open()
	defer v.mu.Unlock()
	return v.waker
}

// wake has the decider look again; the caller has the lock.
func (v *view) wake() {
	select {
	case v.waker <- struct{}{}:
	default: // one is waiting already
	}
}

// record takes a record in, unless a newer one is there.
func (v *view) record(r jobs.Record) {
	v.open()
	defer v.mu.Unlock()
	if old, ok := v.records[r.ID]; ok && old.Revision >= r.Revision {
		return
	}
	if !r.State.Final() {
		if r.State != jobs.Queued { // those are written back
			r = slim(r)
		}
		v.records[r.ID] = r
		v.wake()
		return
	}
	delete(v.records, r.ID)
	delete(v.rung, r.ID)
	delete(v.asking, r.ID)
	delete(v.refused, r.ID)
	if r.Spec.Drain != "" {
		v.ended[r.ID] = slim(r)
	}
	v.wake()
}

// slim leaves out what no decision is made of: the bulk of a record is its story.
func slim(r jobs.Record) jobs.Record {
	r.Report = jobs.Report{Predicted: r.Report.Predicted, Wire: r.Report.Wire}
	r.Plan.Guest = jobs.Guest{}
	return r
}

// host takes a host's presence in; nil: it is gone. A heartbeat that says
// nothing new is no reason to decide anew.
func (v *view) host(node string, h *jobs.Host) {
	v.open()
	defer v.mu.Unlock()
	old, known := v.hosts[node]
	switch {
	case h == nil && !known:
		return
	case h == nil:
		delete(v.hosts, node)
	case known && old.Seen.After(h.Seen):
		return
	default:
		v.hosts[node] = *h
		same := *h
		same.Seen = old.Seen
		if known && reflect.DeepEqual(old, same) {
			return
		}
	}
	v.wake()
}

// mark, policy and wish take rows in, unless newer ones are there.
func (v *view) mark(row jobs.Row[Mark], gone bool) {
	v.open()
	defer v.mu.Unlock()
	if takeRow(v.marks, row, gone) {
		v.wake()
	}
}

func (v *view) policy(row jobs.Row[Policy], gone bool) {
	v.open()
	defer v.mu.Unlock()
	if takeRow(v.policies, row, gone) {
		v.wake()
	}
}

func (v *view) wish(row jobs.Row[jobs.Wish], gone bool) {
	v.open()
	defer v.mu.Unlock()
	if takeRow(v.wishes, row, gone) {
		v.wake()
	}
}

func takeRow[T any](rows map[string]jobs.Row[T], row jobs.Row[T], gone bool) bool {
	if old, ok := rows[row.Key]; ok && old.Revision >= row.Revision {
		return false
	}
	if gone {
		delete(rows, row.Key)
	} else {
		rows[row.Key] = row
	}
	return true
}

// snapshot is what is known now, sorted, so that the same facts give the same decisions.
func (v *view) snapshot(now time.Time) Snapshot {
	v.open()
	defer v.mu.Unlock()
	s := Snapshot{Now: now, Hosts: make([]jobs.Host, 0, len(v.hosts)), Records: make([]jobs.Record, 0, len(v.records)),
		Marks: make(map[string]Mark, len(v.marks)), Policies: make(map[string]Policy, len(v.policies)),
		Wishes: make(map[string]jobs.Wish, len(v.wishes)), Asking: maps.Clone(v.asking), Refused: v.refusals(now)}
	for _, h := range v.hosts {
		s.Hosts = append(s.Hosts, h)
	}
	for _, r := range v.records {
		s.Records = append(s.Records, r)
	}
	for _, m := range v.marks {
		s.Marks[m.Key] = m.Value
	}
	for _, p := range v.policies {
		s.Policies[p.Key] = p.Value
	}
	for _, w := range v.wishes {
		s.Wishes[w.Key] = w.Value
	}
	slices.SortFunc(s.Hosts, func(a, b jobs.Host) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(s.Records, func(a, b jobs.Record) int { return strings.Compare(a.ID, b.ID) })
	return s
}

func (v *view) refusals(now time.Time) map[string]map[string][]jobs.Blocker {
	out := map[string]map[string][]jobs.Blocker{}
	for job, hosts := range v.refused {
		for host, r := range hosts {
			if now.Sub(r.at) > askRefusedAgain {
				delete(hosts, host)
				continue
			}
			if out[job] == nil {
				out[job] = map[string][]jobs.Blocker{}
			}
			out[job][host] = r.blockers
		}
	}
	return out
}

// ask notes that a host is asked for a job; false: one is asked already.
func (v *view) ask(job, host string) bool {
	v.open()
	defer v.mu.Unlock()
	if v.asking[job] != "" {
		return false
	}
	v.asking[job] = host
	return true
}

// answered notes what the host said, nil for yes or no answer.
func (v *view) answered(job, host string, blockers []jobs.Blocker, now time.Time) {
	v.open()
	defer v.mu.Unlock()
	delete(v.asking, job)
	if len(blockers) > 0 {
		if v.refused[job] == nil {
			v.refused[job] = map[string]refusedBy{}
		}
		v.refused[job][host] = refusedBy{blockers, now}
	}
	v.wake()
}

// markRow is a host's mark as it was last seen.
func (v *view) markRow(host string) jobs.Row[Mark] {
	v.open()
	defer v.mu.Unlock()
	return v.marks[host]
}

// wishesOfEnded lists wishes whose jobs are not under way any more.
func (v *view) wishesOfEnded() (out []jobs.Row[jobs.Wish]) {
	v.open()
	defer v.mu.Unlock()
	for id, w := range v.wishes {
		if _, active := v.records[id]; !active {
			out = append(out, w)
		}
	}
	return out
}

// hook notes that a host's hook begins or ends; false: one runs already.
func (v *view) hook(node string, begins bool) bool {
	v.open()
	defer v.mu.Unlock()
	if begins && v.hooking[node] {
		return false
	}
	v.hooking[node] = begins
	return true
}

// livingHosts lists the hosts that are there; false: nobody watches. Where
// somebody began to, it waits until all was read once.
func (v *view) livingHosts(ctx context.Context) ([]jobs.Host, bool) {
	v.open()
	ready := v.ready
	v.mu.Unlock()
	if ready != nil {
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
	v.open()
	defer v.mu.Unlock()
	if !v.live {
		return nil, false
	}
	return slices.Collect(maps.Values(v.hosts)), true
}

// at is a host as it was last seen.
func (v *view) at(node string) (jobs.Host, bool) {
	v.open()
	defer v.mu.Unlock()
	h, ok := v.hosts[node]
	return h, ok
}

// find is a VM on a host as it was last seen.
func (v *view) find(node, uuid string) (jobs.Host, jobs.VM, bool) {
	h, _ := v.at(node)
	vm, ok := h.Find(uuid)
	return h, vm, ok
}

// endedJob is a final record that a drain asks for, and whether it is known.
func (v *view) endedJob(id string) (jobs.Record, bool) {
	v.open()
	defer v.mu.Unlock()
	r, ok := v.ended[id]
	return r, ok
}

// forgetEnded drops the final records that no mark names any more.
func (v *view) forgetEnded() {
	v.open()
	defer v.mu.Unlock()
	named := map[string]bool{}
	for _, m := range v.marks {
		if m.Value.Active() {
			for _, mv := range m.Value.Drain.Moves {
				named[mv.Job] = true
			}
		}
	}
	for id := range v.ended {
		if !named[id] {
			delete(v.ended, id)
		}
	}
}

// hostChanges lists hosts that came or went since it was last asked.
func (v *view) hostChanges() (came, went []string) {
	v.open()
	defer v.mu.Unlock()
	for n := range v.hosts {
		if !v.told[n] {
			v.told[n] = true
			came = append(came, n)
		}
	}
	for n := range v.told {
		if _, ok := v.hosts[n]; !ok {
			delete(v.told, n)
			went = append(went, n)
		}
	}
	slices.Sort(came)
	slices.Sort(went)
	return came, went
}

// ring tells whether a job's doorbell is due, and notes that it is rung now.
func (v *view) ring(id string, now time.Time) bool {
	v.open()
	defer v.mu.Unlock()
	if last, ok := v.rung[id]; ok && now.Sub(last) < ringAgain {
		return false
	}
	v.rung[id] = now
	return true
}

// watched notes whether what is known is being kept up to date.
func (v *view) watched(live bool) {
	v.open()
	defer v.mu.Unlock()
	if v.live = live; live {
		close(v.ready)
	} else {
		v.ready = nil
	}
}

// isLive: all was read once and is being watched.
func (v *view) isLive() bool {
	v.open()
	defer v.mu.Unlock()
	return v.live
}

// follows notes that somebody begins to watch.
func (v *view) follows() {
	v.open()
	defer v.mu.Unlock()
	v.ready = make(chan struct{})
}
