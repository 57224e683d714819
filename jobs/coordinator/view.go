package coordinator

import (
	"slices"
	"strings"
	"sync"
	"time"

	"xmig/jobs"
)

// view is what watching told so far. It may be behind: whoever acts on it
// writes by compare-and-swap.
type view struct {
	news chan struct{} // holds one when something changed

	mu      sync.Mutex
	records map[string]jobs.Record // not final ones
	hosts   map[string]jobs.Host
	told    map[string]bool // hosts whose presence was told as an event
	rung    map[string]time.Time
}

func newView() *view {
	return &view{news: make(chan struct{}, 1), records: map[string]jobs.Record{}, hosts: map[string]jobs.Host{},
		told: map[string]bool{}, rung: map[string]time.Time{}}
}

// record takes a record in, unless a newer one is there.
func (v *view) record(r jobs.Record) {
	v.mu.Lock()
	if old, ok := v.records[r.ID]; !ok || old.Revision < r.Revision {
		v.records[r.ID] = r
	}
	if r.State.Final() {
		delete(v.records, r.ID)
		delete(v.rung, r.ID)
	}
	v.mu.Unlock()
	v.changed()
}

// host takes a host's presence in; nil: it is gone.
func (v *view) host(node string, h *jobs.Host) {
	v.mu.Lock()
	if h == nil {
		delete(v.hosts, node)
	} else {
		v.hosts[node] = *h
	}
	v.mu.Unlock()
	v.changed()
}

func (v *view) changed() {
	select {
	case v.news <- struct{}{}:
	default: // one is waiting already
	}
}

func (v *view) snapshot() Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	var s Snapshot
	for _, h := range v.hosts {
		s.Hosts = append(s.Hosts, h)
	}
	for _, r := range v.records {
		s.Records = append(s.Records, r)
	}
	slices.SortFunc(s.Hosts, func(a, b jobs.Host) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(s.Records, func(a, b jobs.Record) int { return strings.Compare(a.ID, b.ID) })
	return s
}

// hostChanges lists hosts that came or went since it was last asked.
func (v *view) hostChanges() (came, went []string) {
	v.mu.Lock()
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
	v.mu.Lock()
	defer v.mu.Unlock()
	if last, ok := v.rung[id]; ok && now.Sub(last) < ringAgain {
		return false
	}
	v.rung[id] = now
	return true
}
