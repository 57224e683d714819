package metrics

import (
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"xmig/jobs"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func page(t *testing.T, all ...prometheus.Collector) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(all...).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func standing() (Standing, bool) {
	return Standing{Now: noon, Acting: true, Hosts: map[string]string{"hv1": "draining", "hv2": "active"},
		Jobs:   []jobs.Record{{State: jobs.Queued, Source: "hv1", Created: noon.Add(-time.Minute)}, {State: jobs.Planned, Source: "hv1", Created: noon.Add(-time.Hour)}, {State: jobs.Succeeded}},
		Drains: map[string]map[string]int{"hv1": {"moved": 3}}, Incidents: []jobs.Incident{{State: jobs.Acted}}}, true
}

var sample = regexp.MustCompile(`(?m)^(xmig_[a-z_]+?)(?:_bucket|_sum|_count)?(\{[^}]*\})? `)

// TestList: what is told is exactly the list, with its labels; names follow the
// rules; no VM and no job is a label.
func TestList(t *testing.T) {
	bus := func() Bus { return Bus{Connected: true, Reconnects: 2} }
	w := NewWorker("hv1", noon)
	w.Record(job(func(r *jobs.Record) { r.Report.Passes = []jobs.PassReport{{Kind: jobs.SeedPass}} }))
	pages := map[string]string{
		"server": page(t, NewServer(standing), Process{Version: "v", Go: "g", Bus: bus}),
		"worker": page(t, w, Process{Version: "v", Go: "g", Worker: true, Bus: bus}),
	}
	label := regexp.MustCompile(`(\w+)="`)
	for of, text := range pages {
		seen := map[string]bool{}
		for _, m := range sample.FindAllStringSubmatch(text, -1) {
			seen[m[1]] = true
			metric := named(m[1])
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "le" && !slices.Contains(metric.Labels, l[1]) {
					t.Errorf("%s: label %s of %s is not in the list", of, l[1], m[1])
				}
			}
		}
		for _, m := range All {
			if want := m.Of == of || m.Of == "both"; want != seen[m.Name] {
				t.Errorf("%s tells %s: %v, want %v", of, m.Name, seen[m.Name], want)
			}
			if strings.Contains(text, "# TYPE "+m.Name+" ") && !strings.Contains(text, "# TYPE "+m.Name+" "+m.Kind+"\n") {
				t.Errorf("%s is no %s", m.Name, m.Kind)
			}
		}
	}
	for _, m := range All {
		if (m.Kind == "counter") != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		for _, l := range m.Labels {
			if l == "vm" || l == "job" || l == "uuid" || l == "id" {
				t.Errorf("%s has a label %s", m.Name, l)
			}
		}
	}
}

func TestServer(t *testing.T) {
	text := page(t, NewServer(standing))
	for _, want := range []string{
		`xmig_queue_pending{node="hv1"} 2`, `xmig_queue_oldest_seconds{node="hv1"} 3600`, `xmig_queue_pending{node="hv2"} 0`, `xmig_hosts{state="draining"} 1`,
		`xmig_hosts{state="lost"} 0`, `xmig_drain_vms{node="hv1",state="moved"} 3`, `xmig_jobs{state="indeterminate"} 0`, `xmig_incidents{state="acted"} 1`, "xmig_acting 1",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// What is not known is not told: a gap, and no zero.
	if text := page(t, NewServer(func() (Standing, bool) { return Standing{}, false })); strings.Contains(text, "xmig_jobs{") || !strings.Contains(text, "xmig_alerts_total") {
		t.Error(text)
	}
}

func job(change func(*jobs.Record)) jobs.Record {
	r := jobs.Record{ID: "J", Source: "hv1", State: jobs.Running, Attempt: 1, Created: noon.Add(time.Second), Started: noon.Add(2 * time.Second)}
	change(&r)
	return r
}

// TestWorker: a job is counted once, as it goes, however often its record is told.
func TestWorker(t *testing.T) {
	pass := func(n uint32, wire int64) jobs.PassReport {
		return jobs.PassReport{Number: n, Kind: jobs.DeltaPass, Elapsed: time.Duration(n) * time.Second, Disks: []jobs.DiskReport{{Size: 100, Sent: wire / 2, Wire: wire}}}
	}
	step := func(at int, s jobs.StepName) jobs.StepReport {
		return jobs.StepReport{Step: s, Begin: noon.Add(time.Duration(at) * time.Second), Elapsed: 2 * time.Second}
	}
	w := NewWorker("hv1", noon)
	twice := func(r jobs.Record) { w.Record(r); w.Record(r) }
	twice(job(func(r *jobs.Record) { r.State, r.Started, r.Attempt = jobs.Queued, time.Time{}, 1 }))
	twice(job(func(r *jobs.Record) { r.Report.Steps = []jobs.StepReport{step(3, jobs.Check)} }))
	twice(job(func(r *jobs.Record) {
		r.Attempt = 2
		r.Report.Steps = []jobs.StepReport{step(3, jobs.Check), step(4, jobs.Seed)}
		r.Report.Passes = []jobs.PassReport{pass(1, 10), pass(2, 20)}
	}))
	if text := page(t, w); !strings.Contains(text, "xmig_jobs_running 1\n") {
		t.Error(text)
	}
	w.Record(job(func(r *jobs.Record) { // the oldest pass left the record
		r.Attempt, r.State, r.Ended = 2, jobs.Succeeded, noon.Add(time.Minute)
		r.Report.Steps = []jobs.StepReport{step(4, jobs.Seed), step(9, jobs.Settle)}
		r.Report.Passes = []jobs.PassReport{pass(2, 20), pass(3, 40)}
		r.Report.Blackout, r.Report.Memory = 700*time.Millisecond, &jobs.Memory{Wire: 7}
	}))
	other := job(func(r *jobs.Record) { r.Source, r.State = "hv2", jobs.Succeeded })
	old := job(func(r *jobs.Record) { r.ID, r.State, r.Ended = "OLD", jobs.Succeeded, noon.Add(-time.Second) })
	w.Record(other)
	w.Record(old)
	half := job(func(r *jobs.Record) { // of the process before this one
		r.ID, r.Created, r.Attempt, r.Report.Passes = "HALF", noon.Add(-time.Hour), 3, []jobs.PassReport{pass(7, 1000)}
	})
	w.Record(half)
	half.State, half.Ended, half.Report.Passes = jobs.RolledBack, noon.Add(time.Hour), append(half.Report.Passes, pass(8, 1))
	w.Record(half)
	text := page(t, w)
	for _, want := range []string{
		`xmig_jobs_total{outcome="succeeded"} 1`, `xmig_jobs_total{outcome="rolled_back"} 1`, "xmig_job_attempts_total 2", "xmig_jobs_running 0",
		`xmig_passes_total{kind="delta"} 4`, `xmig_block_bytes_total{kind="wire"} 71`, `xmig_block_bytes_total{kind="read"} 400`, `xmig_block_bytes_total{kind="memory"} 7`,
		"xmig_job_blackout_seconds_sum 0.7", "xmig_job_blackout_seconds_count 1", `xmig_step_duration_seconds_count{step="check"} 1`,
		`xmig_step_duration_seconds_count{step="seed"} 1`, `xmig_step_duration_seconds_count{step="settle"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
