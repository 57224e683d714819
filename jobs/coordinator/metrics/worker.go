package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"xmig/jobs"
)

// Worker counts what the jobs of one host cost, by what their records tell.
type Worker struct {
	node  string
	since time.Time // jobs that ended before are not counted

	outcomes, attempts, passes, bytes *prometheus.CounterVec
	blackout, steps                   *prometheus.HistogramVec
	running                           *prometheus.Desc

	mu   sync.Mutex
	seen map[string]seen // jobs that have not ended
}

// seen is how far a job was counted.
type seen struct {
	attempt  int
	lastStep time.Time // begin of the newest step
	lastPass jobs.PassReport
	runs     bool
}

// Buckets: a blackout is felt from 100 ms on and hurts from a minute on; steps
// take milliseconds (reserve) to a day (the seed of terabytes).
var (
	blackoutBuckets = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	stepBuckets     = []float64{.01, .1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
)

// NewWorker makes the collector of a worker.
func NewWorker(node string, now time.Time) *Worker {
	w := &Worker{node: node, since: now, seen: map[string]seen{}, running: desc("xmig_jobs_running"),
		outcomes: counter("xmig_jobs_total"), attempts: counter("xmig_job_attempts_total"), passes: counter("xmig_passes_total"), bytes: counter("xmig_block_bytes_total"),
		blackout: histogram("xmig_job_blackout_seconds", blackoutBuckets), steps: histogram("xmig_step_duration_seconds", stepBuckets)}
	for _, s := range jobs.States() {
		if s.Final() || s == jobs.Indeterminate {
			w.outcomes.WithLabelValues(string(s))
		}
	}
	for _, s := range jobs.Steps() {
		w.steps.WithLabelValues(string(s))
	}
	for _, k := range []string{"read", "changed", "wire", "memory"} {
		w.bytes.WithLabelValues(k)
	}
	w.attempts.WithLabelValues()
	w.blackout.WithLabelValues()
	return w
}

func (w *Worker) parts() []prometheus.Collector {
	return []prometheus.Collector{w.outcomes, w.attempts, w.passes, w.bytes, w.blackout, w.steps}
}

// Describe implements prometheus.Collector.
func (w *Worker) Describe(out chan<- *prometheus.Desc) {
	for _, p := range w.parts() {
		p.Describe(out)
	}
	out <- w.running
}

// Collect implements prometheus.Collector.
func (w *Worker) Collect(out chan<- prometheus.Metric) {
	for _, p := range w.parts() {
		p.Collect(out)
	}
	n := 0
	w.mu.Lock()
	for _, s := range w.seen {
		if s.runs {
			n++
		}
	}
	w.mu.Unlock()
	out <- prometheus.MustNewConstMetric(w.running, prometheus.GaugeValue, float64(n))
}

// Record takes a job's record in; records that are older than one that was
// taken in must not come.
func (w *Worker) Record(r jobs.Record) {
	if r.Source != w.node {
		return
	}
	over := r.State.Final()
	w.mu.Lock()
	defer w.mu.Unlock()
	s, known := w.seen[r.ID]
	if !known && over && r.Ended.Before(w.since) {
		return
	}
	if !known && r.Created.Before(w.since) {
		s = upTo(r) // what was before this process was counted by another, or never
	}
	w.count(r, s)
	if over {
		delete(w.seen, r.ID)
		return
	}
	next := upTo(r)
	next.runs = r.State == jobs.Running
	w.seen[r.ID] = next
}

func upTo(r jobs.Record) seen {
	s := seen{attempt: r.Attempt}
	if r.State == jobs.Queued || r.State == jobs.Planned {
		s.attempt = 0 // the first begins with running
	}
	for _, st := range r.Report.Steps {
		if st.Begin.After(s.lastStep) {
			s.lastStep = st.Begin
		}
	}
	if n := len(r.Report.Passes); n > 0 {
		s.lastPass = r.Report.Passes[n-1]
	}
	return s
}

// count counts what is new since s.
func (w *Worker) count(r jobs.Record, s seen) {
	if !r.Started.IsZero() && r.Attempt > s.attempt {
		w.attempts.WithLabelValues().Add(float64(r.Attempt - s.attempt))
	}
	for _, st := range r.Report.Steps {
		if st.Begin.After(s.lastStep) {
			w.steps.WithLabelValues(string(st.Step)).Observe(st.Elapsed.Seconds())
		}
	}
	// From the newest back to the one that was counted: the oldest leave the record.
	for i := len(r.Report.Passes) - 1; i >= 0 && !samePass(r.Report.Passes[i], s.lastPass); i-- {
		p := r.Report.Passes[i]
		w.passes.WithLabelValues(string(p.Kind)).Inc()
		w.bytes.WithLabelValues("wire").Add(float64(max(0, p.Wire())))
		w.bytes.WithLabelValues("changed").Add(float64(max(0, p.Changed())))
		for _, d := range p.Disks {
			w.bytes.WithLabelValues("read").Add(float64(max(0, d.Size)))
		}
	}
	if !r.State.Final() {
		return
	}
	w.outcomes.WithLabelValues(string(r.State)).Inc()
	if r.Report.Blackout > 0 {
		w.blackout.WithLabelValues().Observe(r.Report.Blackout.Seconds())
	}
	if m := r.Report.Memory; m != nil {
		w.bytes.WithLabelValues("memory").Add(float64(max(0, m.Wire)))
	}
}

// samePass: no two passes take the same time to the nanosecond.
func samePass(a, b jobs.PassReport) bool {
	return a.Number == b.Number && a.Kind == b.Kind && a.Elapsed == b.Elapsed
}
