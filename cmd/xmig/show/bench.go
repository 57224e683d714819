package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bench is the outcome of `xmig bench`.
type Bench struct {
	Version    string        `json:"version"`
	Kernel     string        `json:"kernel"`
	CPU        string        `json:"cpu"`
	Processors int           `json:"processors"`
	Dir        string        `json:"dir"`
	FileSystem string        `json:"file_system"`
	TLS        bool          `json:"tls"`
	Delay      time.Duration `json:"delay_ns"` // round trip that was added
	Size       int64         `json:"size_bytes"`
	Workloads  []BenchRow    `json:"workloads"`
	Floors     []BenchRow    `json:"floors"`
}

// BenchRow is one workload or floor: medians, and the runs that they are of.
type BenchRow struct {
	Name            string        `json:"name"`
	Changed         int64         `json:"changed_bytes"`
	Elapsed         time.Duration `json:"elapsed_ns"`
	Rate            float64       `json:"bytes_per_second"`
	SourceCPU       float64       `json:"source_cpu_seconds_per_gib"`
	DestinationCPU  float64       `json:"destination_cpu_seconds_per_gib"`
	CPU             float64       `json:"cpu_seconds_per_gib"` // median of the sums, not sum of the medians
	Wire            int64         `json:"wire_bytes"`
	SourcePeak      int64         `json:"source_peak_rss_bytes"`
	DestinationPeak int64         `json:"destination_peak_rss_bytes"`
	Runs            []BenchRun    `json:"runs"`
}

// BenchRun is one run.
type BenchRun struct {
	Elapsed         time.Duration `json:"elapsed_ns"`
	SourceCPU       time.Duration `json:"source_cpu_ns"`
	DestinationCPU  time.Duration `json:"destination_cpu_ns"`
	Wire            int64         `json:"wire_bytes"`
	SourcePeak      int64         `json:"source_peak_rss_bytes"`
	DestinationPeak int64         `json:"destination_peak_rss_bytes"`
}

// BenchTable writes workloads and floors as two tables with the same columns.
func BenchTable(b Bench) string {
	var s strings.Builder
	tls := "TLS"
	if !b.TLS {
		tls = "NO TLS"
	}
	if b.Delay > 0 {
		tls += ", round trip longer by " + Span(b.Delay)
	}
	fmt.Fprintf(&s, "%s on %s in %s, %s; %d processors, %s, Linux %s; xmig %s\n\n",
		Bytes(b.Size), b.FileSystem, b.Dir, tls, b.Processors, b.CPU, b.Kernel, b.Version)
	t := newTable("workload", "median of", "took", "rate", "cpu s/GiB", "source", "destination", "wire", "peak source", "destination")
	for _, r := range b.Workloads {
		benchRow(t, r, Bytes(r.Wire), Bytes(r.SourcePeak), Bytes(r.DestinationPeak))
	}
	s.WriteString(t.String())
	s.WriteString("\n")
	t = newTable("floor", "median of", "took", "rate", "cpu s/GiB", "source", "destination")
	for _, r := range b.Floors {
		benchRow(t, r)
	}
	s.WriteString(t.String())
	return s.String()
}

func benchRow(t *columns, r BenchRow, more ...any) {
	destination := "-" // floors of one process
	if r.DestinationCPU > 0 {
		destination = perGiB(r.DestinationCPU)
	}
	t.row(append([]any{r.Name, len(r.Runs), Span(r.Elapsed), Rate(r.Rate), perGiB(r.CPU), perGiB(r.SourceCPU), destination}, more...)...)
}

func perGiB(seconds float64) string { return strconv.FormatFloat(seconds, 'f', 2, 64) }
