package show

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
)

// Finding is one thing that was looked at, and what was seen.
type Finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Seen string `json:"seen"`
}

// Proof is what is known of one VM after its migration.
type Proof struct {
	VM       string        `json:"vm"`
	Record   jobs.Record   `json:"record"`
	Outside  time.Duration `json:"blackout_outside_ns"` // silence of its heartbeat between the two hosts
	Findings []Finding     `json:"findings"`
}

// OK: everything that was looked at is as it must be.
func (p Proof) OK() bool {
	for _, f := range p.Findings {
		if !f.OK {
			return false
		}
	}
	return len(p.Findings) > 0
}

// Proven tells a whole demo: each VM's report, then what was looked at.
func Proven(all []Proof, took time.Duration) string {
	var b strings.Builder
	good := 0
	for _, p := range all {
		b.WriteString(Report(p.Record))
		if p.Outside > 0 {
			fmt.Fprintf(&b, "  seen       silent for %s between its last heartbeat on %s and its first on %s\n", Span(p.Outside), p.Record.Source, p.Record.Destination)
		}
		for _, f := range p.Findings {
			word := "ok"
			if !f.OK {
				word = "FAILED"
			}
			fmt.Fprintf(&b, "  %-6s     %s: %s\n", word, f.What, f.Seen)
		}
		b.WriteByte('\n')
		if p.OK() {
			good++
		}
	}
	verdict := "nothing was lost"
	if good < len(all) {
		verdict = "SOMETHING IS WRONG"
	}
	fmt.Fprintf(&b, "%d of %d VMs moved and proven in %s, on SIMULATED hosts: %s\n", good, len(all), Span(took), verdict)
	return b.String()
}
