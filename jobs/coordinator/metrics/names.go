package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metric is one line of the list.
type Metric struct {
	Name   string
	Kind   string // gauge, counter or histogram
	Labels []string
	Of     string // server, worker or both
	Help   string
}

// All is the list. docs/operations.md has it too; a test compares them.
var All = []Metric{
	{"xmig_build_info", "gauge", []string{"version", "go"}, "both", "Always 1: what runs."},
	{"xmig_bus_connected", "gauge", nil, "both", "1 while the bus answers."},
	{"xmig_bus_reconnects_total", "counter", nil, "both", "Times that the connection to the bus was made again."},
	{"xmig_events_lost_total", "counter", nil, "both", "Events that could not be stored; nothing is decided by them."},

	{"xmig_acting", "gauge", nil, "server", "1 on the server that decides."},
	{"xmig_jobs", "gauge", []string{"state"}, "server", "Jobs that are stored, by state."},
	{"xmig_queue_pending", "gauge", []string{"node"}, "server", "Jobs that wait to move a VM away from a host."},
	{"xmig_queue_oldest_seconds", "gauge", []string{"node"}, "server", "Age of the oldest of them."},
	{"xmig_hosts", "gauge", []string{"state"}, "server", "Hosts, by state: active, cordoned, draining, drained, lost."},
	{"xmig_drain_vms", "gauge", []string{"node", "state"}, "server", "VMs of drains and restores under way, by what became of them."},
	{"xmig_incidents", "gauge", []string{"state"}, "server", "Alerts that a rule answers, by how far the answer is."},
	{"xmig_alerts_total", "counter", []string{"outcome"}, "server", "Alerts that came in, by what became of them."},

	{"xmig_jobs_total", "counter", []string{"outcome"}, "worker", "Jobs of this host that ended, by their last state."},
	{"xmig_jobs_running", "gauge", nil, "worker", "Jobs that this host drives."},
	{"xmig_job_attempts_total", "counter", nil, "worker", "Attempts that were begun."},
	{"xmig_job_blackout_seconds", "histogram", nil, "worker", "How long guests stood still."},
	{"xmig_step_duration_seconds", "histogram", []string{"step"}, "worker", "How long steps took, failed ones too."},
	{"xmig_passes_total", "counter", []string{"kind"}, "worker", "Passes over disks and memory."},
	{"xmig_block_bytes_total", "counter", []string{"kind"}, "worker", "Bytes that passes compared (read), that differed (changed) and that travelled, digests included (wire); of memory images that travelled (memory)."},
	{"xmig_lease_lost_total", "counter", nil, "worker", "Leases that could not be renewed in time."},
	{"xmig_heartbeat_failures_total", "counter", nil, "worker", "Times that this host could not say that it is there."},
}

// desc describes a metric of the list. A name that is not in it is a mistake
// that the first test shows.
func desc(name string) *prometheus.Desc {
	m := named(name)
	return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
}

func named(name string) Metric {
	for _, m := range All {
		if m.Name == name {
			return m
		}
	}
	panic("metric " + name + " is not in the list")
}

func counter(name string) *prometheus.CounterVec {
	m := named(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
}

func histogram(name string, buckets []float64) *prometheus.HistogramVec {
	m := named(name)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m.Name, Help: m.Help, Buckets: buckets}, m.Labels)
}

// Handler answers Prometheus with what the collectors tell.
func Handler(all ...prometheus.Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(all...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Bus is what a connection to the bus counts of itself.
type Bus struct {
	Connected                                            bool
	Reconnects, EventsLost, LeasesLost, HeartbeatsFailed uint64
}

// Process tells what both kinds of daemon have in common.
type Process struct {
	Version, Go string
	Worker      bool // tells leases and heartbeats too
	Bus         func() Bus
}

var processNames = []string{"xmig_build_info", "xmig_bus_connected", "xmig_bus_reconnects_total", "xmig_events_lost_total"}
var workerBusNames = []string{"xmig_lease_lost_total", "xmig_heartbeat_failures_total"}

// Describe implements prometheus.Collector.
func (p Process) Describe(out chan<- *prometheus.Desc) {
	for _, n := range processNames {
		out <- desc(n)
	}
	if p.Worker {
		for _, n := range workerBusNames {
			out <- desc(n)
		}
	}
}

// Collect implements prometheus.Collector.
func (p Process) Collect(out chan<- prometheus.Metric) {
	b := p.Bus()
	out <- prometheus.MustNewConstMetric(desc("xmig_build_info"), prometheus.GaugeValue, 1, p.Version, p.Go)
	out <- prometheus.MustNewConstMetric(desc("xmig_bus_connected"), prometheus.GaugeValue, flag(b.Connected))
	out <- prometheus.MustNewConstMetric(desc("xmig_bus_reconnects_total"), prometheus.CounterValue, float64(b.Reconnects))
	out <- prometheus.MustNewConstMetric(desc("xmig_events_lost_total"), prometheus.CounterValue, float64(b.EventsLost))
	if p.Worker {
		out <- prometheus.MustNewConstMetric(desc("xmig_lease_lost_total"), prometheus.CounterValue, float64(b.LeasesLost))
		out <- prometheus.MustNewConstMetric(desc("xmig_heartbeat_failures_total"), prometheus.CounterValue, float64(b.HeartbeatsFailed))
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
