package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"xmig/jobs"
)

// Standing is how things are when Prometheus asks.
type Standing struct {
	Now       time.Time
	Acting    bool
	Jobs      []jobs.Record
	Hosts     map[string]string         // node → state
	Drains    map[string]map[string]int // node → what became of VMs → how many
	Incidents []jobs.Incident
}

// Server tells how things stand.
type Server struct {
	// Look gives the standing; false: nothing is known now, and nothing is told.
	Look   func() (Standing, bool)
	alerts *prometheus.CounterVec
}

// NewServer makes the collector of a server.
func NewServer(look func() (Standing, bool)) *Server {
	s := &Server{Look: look, alerts: counter("xmig_alerts_total")}
	for _, outcome := range AlertOutcomes {
		s.alerts.WithLabelValues(outcome)
	}
	return s
}

// AlertOutcomes are what may become of an alert that comes in.
var AlertOutcomes = []string{"taken", "known", "ignored", "rejected", "malformed", "busy", "failed"}

// Alert counts an alert by what became of it.
func (s *Server) Alert(outcome string) { s.alerts.WithLabelValues(outcome).Inc() }

var serverNames = []string{"xmig_acting", "xmig_jobs", "xmig_queue_pending", "xmig_queue_oldest_seconds", "xmig_hosts", "xmig_drain_vms", "xmig_incidents"}

// Describe implements prometheus.Collector.
func (s *Server) Describe(out chan<- *prometheus.Desc) {
	for _, n := range serverNames {
		out <- desc(n)
	}
	s.alerts.Describe(out)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(out chan<- prometheus.Metric) {
	s.alerts.Collect(out)
	st, ok := s.Look()
	if !ok {
		return
	}
	gauge := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc(name), prometheus.GaugeValue, v, labels...)
	}
	gauge("xmig_acting", flag(st.Acting))
	byState, pending, oldest := map[jobs.State]int{}, map[string]int{}, map[string]time.Time{}
	for _, j := range st.Jobs {
		byState[j.State]++
		if j.State != jobs.Queued && j.State != jobs.Planned {
			continue
		}
		pending[j.Source]++
		if at := oldest[j.Source]; at.IsZero() || j.Created.Before(at) {
			oldest[j.Source] = j.Created
		}
	}
	for _, state := range jobs.States() { // also those of which there are none: a gap is no zero
		gauge("xmig_jobs", float64(byState[state]), string(state))
	}
	hosts := map[string]int{"active": 0, "cordoned": 0, "draining": 0, "drained": 0, "lost": 0}
	for node, state := range st.Hosts {
		hosts[state]++
		age := 0.0
		if at := oldest[node]; !at.IsZero() {
			age = max(0, st.Now.Sub(at).Seconds())
		}
		gauge("xmig_queue_pending", float64(pending[node]), node)
		gauge("xmig_queue_oldest_seconds", age, node)
	}
	for state, n := range hosts {
		gauge("xmig_hosts", float64(n), state)
	}
	for node, states := range st.Drains {
		for state, n := range states {
			gauge("xmig_drain_vms", float64(n), node, state)
		}
	}
	incidents := map[jobs.IncidentState]int{jobs.Waiting: 0, jobs.HeldBack: 0, jobs.Acting: 0, jobs.Acted: 0, jobs.IncidentIsOver: 0}
	for _, in := range st.Incidents {
		incidents[in.State]++
	}
	for state, n := range incidents {
		gauge("xmig_incidents", float64(n), string(state))
	}
}
