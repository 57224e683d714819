package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/jobs"
)

// memory is a Store that behaves as the bus's: compare-and-swap on revisions.
type memory struct {
	mu        sync.Mutex
	rows      map[string]jobs.Incident
	mutes     []jobs.Mute
	revision  uint64
	away      error // what every call fails with
	conflicts int   // saves that fail as if somebody had been faster
	saves     int
	events    []jobs.Event
}

func newMemory() *memory { return &memory{rows: map[string]jobs.Incident{}} }

func (m *memory) Incident(_ context.Context, fp string) (jobs.Incident, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in, ok := m.rows[fp]
	if m.away != nil {
		return in, m.away
	}
	if !ok {
		return in, jobs.ErrNotFound
	}
	return in, nil
}

func (m *memory) SaveIncident(_ context.Context, in jobs.Incident) (jobs.Incident, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return in, m.away
	}
	if m.conflicts > 0 {
		m.conflicts--
		return in, fmt.Errorf("save: %w", jobs.ErrConflict)
	}
	if m.rows[in.Alert.Fingerprint].Revision != in.Revision {
		return in, fmt.Errorf("save: %w", jobs.ErrConflict)
	}
	m.revision++
	m.saves++
	in.Revision = m.revision
	m.rows[in.Alert.Fingerprint] = in
	return in, nil
}

func (m *memory) RemoveIncident(_ context.Context, in jobs.Incident) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows[in.Alert.Fingerprint].Revision != in.Revision {
		return jobs.ErrConflict
	}
	delete(m.rows, in.Alert.Fingerprint)
	return nil
}

func (m *memory) Incidents(context.Context) (all []jobs.Incident, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.rows {
		all = append(all, in)
	}
	return all, m.away
}

func (m *memory) Mutes(context.Context) ([]jobs.Mute, error) { return m.mutes, m.away }

func (m *memory) Watch(ctx context.Context, _ func(string, *jobs.Incident), _ func(string, *jobs.Mute)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (m *memory) Emit(_ context.Context, e jobs.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

func newIntake(t *testing.T, m *memory) (*Intake, map[string]int) {
	counts := map[string]int{}
	var mu sync.Mutex
	return &Intake{Store: m, Events: m, Rules: mustRules(t, drainRules), Name: "s1", Clock: time.Now, Log: zerolog.Nop(),
		Count: func(what string) { mu.Lock(); counts[what]++; mu.Unlock() }}, counts
}

func postFor(status, name, node string) []byte {
	return []byte(postOf(fmt.Sprintf(`{"status":%q,"labels":{"alertname":%q,"instance":%q},"startsAt":"2026-03-01T11:58:00Z"}`, status, name, node)))
}

func TestTake(t *testing.T) {
	m := newMemory()
	n, counts := newIntake(t, m)
	for _, tt := range []struct {
		name string
		body []byte
		want Receipt
		err  string
	}{
		{"new", postFor("firing", "DiskWillFail", "hv1"), Receipt{Alerts: 1, Taken: 1}, ""},
		{"again", postFor("firing", "DiskWillFail", "hv1"), Receipt{Alerts: 1, Known: 1}, ""},
		{"no rule", postFor("firing", "Watchdog", "hv1"), Receipt{Alerts: 1, Ignored: 1}, ""},
		{"over", postFor("resolved", "DiskWillFail", "hv1"), Receipt{Alerts: 1, Taken: 1}, ""},
		{"over again", postFor("resolved", "DiskWillFail", "hv1"), Receipt{Alerts: 1, Known: 1}, ""},
		{"over, never heard of", postFor("resolved", "DiskWillFail", "hv2"), Receipt{Alerts: 1, Known: 1}, ""},
		{"none in order", []byte(postOf(`{"status":"odd"}`)), Receipt{Alerts: 1}, "none of 1 is in order"},
		{"no JSON", []byte("<html>"), Receipt{}, "invalid character"},
	} {
		r, err := n.Take(t.Context(), "test", tt.body)
		r.Rejected = nil
		if fmt.Sprint(r) != fmt.Sprint(tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %+v, %v", tt.name, r, err)
		}
	}
	if counts["taken"] != 2 || counts["known"] != 3 || counts["ignored"] != 1 || counts["rejected"] != 1 || counts["malformed"] != 1 {
		t.Errorf("%v", counts)
	}
	// The story has each change of what an alert says once.
	var what []string
	for _, e := range m.events {
		what = append(what, e.What+" "+e.Alert.Labels["alertname"])
	}
	if got := strings.Join(what, ", "); got != "received DiskWillFail, received Watchdog, resolved DiskWillFail" {
		t.Error(got)
	}
	// Somebody was faster: read again. Always: said so, to be sent again.
	m.conflicts = tryConflicts - 1
	if r, err := n.Take(t.Context(), "test", postFor("firing", "DiskWillFail", "hv3")); err != nil || r.Taken != 1 {
		t.Errorf("%+v %v", r, err)
	}
	m.conflicts = tryConflicts
	if _, err := n.Take(t.Context(), "test", postFor("firing", "DiskWillFail", "hv4")); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	m.conflicts, m.away = 0, jobs.RetryLater(jobs.CodeAway, "the bus is away")
	if _, err := n.Take(t.Context(), "test", postFor("firing", "DiskWillFail", "hv4")); jobs.CodeOf(err) != jobs.CodeAway {
		t.Errorf("%v", err)
	}
}

// TestStorm10000: ten thousand posts from many senders at once are each taken,
// known, or told to be sent again; what was answered for is stored; nothing is
// stored twice.
func TestStorm10000(t *testing.T) {
	m := newMemory()
	n, _ := newIntake(t, m)
	const posts, senders, hosts = 10000, 16, 200
	var mu sync.Mutex
	outcomes, answered := map[string]int{}, map[string]bool{}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := s; i < posts; i += senders {
				node := fmt.Sprint("hv", i%hosts)
				r, err := n.Take(t.Context(), "storm", postFor("firing", "DiskWillFail", node))
				what := "answered"
				switch {
				case errors.Is(err, ErrBusy):
					what = "busy"
				case err != nil:
					what = err.Error()
				case r.Taken+r.Known != 1:
					what = fmt.Sprintf("%+v", r)
				}
				mu.Lock()
				outcomes[what]++
				if what == "answered" {
					answered[node] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if outcomes["answered"]+outcomes["busy"] != posts || outcomes["answered"] < postBurst {
		t.Errorf("%v", outcomes)
	}
	if len(m.rows) != len(answered) || m.saves != len(m.rows) {
		t.Errorf("%d hosts were answered for, %d incidents are stored in %d writes", len(answered), len(m.rows), m.saves)
	}
	t.Logf("%v, %d incidents", outcomes, len(m.rows))
}

func TestTooManyIncidents(t *testing.T) {
	m := newMemory()
	for i := range maxIncidents {
		m.rows[fmt.Sprint(i)] = jobs.Incident{}
	}
	n, _ := newIntake(t, m)
	if _, err := n.Take(t.Context(), "test", postFor("firing", "DiskWillFail", "hv1")); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
}
