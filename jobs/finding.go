package jobs

import (
	"strings"
	"time"
)

// Level says how bad a finding is.
type Level string

const (
	Good Level = "ok"   // looked at, and in order
	Warn Level = "warn" // nothing breaks today
	Bad  Level = "bad"  // moves fail, or a VM is at risk
)

// Finding is one thing that an examination found, with the way out.
type Finding struct {
	Host  string `json:"host,omitempty"` // empty: the bus or the whole
	Level Level  `json:"level"`
	Code  string `json:"code"` // stable word, for programs
	Text  string `json:"text"`
	Next  string `json:"next,omitempty"` // what to do
}

// clockDrift is how far two hosts' clocks may be apart before a person is told.
// Nothing is decided by them; logs of two hosts are read side by side.
const clockDrift = 2 * time.Second

// Drift judges a host's clock by an answer that came within a round trip.
func Drift(host string, asked, answered, said time.Time) Finding {
	trip := answered.Sub(asked)
	off := said.Sub(asked.Add(trip/2)).Abs() - trip/2
	if off <= clockDrift {
		return Finding{host, Good, "clock", "its clock agrees with this one", ""}
	}
	return Finding{host, Warn, "clock", "its clock and this one differ by " + off.Round(100*time.Millisecond).String() + " at least", "run an NTP client on both"}
}

// Accounts holds what the bus says against what the hosts have: owner keys,
// claims, records.
func Accounts(keys []Owner, records []Record, hosts []Host) (found []Finding) {
	add := func(host string, l Level, code, text, next string) {
		found = append(found, Finding{host, l, code, text, next})
	}
	alive, byID := map[string]bool{}, map[string]Record{}
	seen, runs := map[string][]string{}, map[string][]string{}
	for _, h := range hosts {
		alive[h.Node] = true
		if h.Problem != "" {
			add(h.Node, Bad, "inventory", "its inventory is not whole: "+h.Problem, "mend that on "+h.Node)
		}
		for _, v := range h.VMs {
			seen[v.UUID] = append(seen[v.UUID], h.Node)
			if v.State == VMRunning {
				runs[v.UUID] = append(runs[v.UUID], h.Node)
			}
		}
	}
	for _, r := range records {
		byID[r.ID] = r
		switch {
		case r.State == Indeterminate:
			add(r.Source, Bad, "indeterminate", "job "+r.ID+" of vm "+r.VM.Name+" is indeterminate", "`xmig resolve "+r.ID+" --dry-run` shows why")
		case !r.State.Final() && r.State != Queued && !alive[r.Source]:
			add(r.Source, Bad, "host_lost", "job "+r.ID+" of vm "+r.VM.Name+" waits for "+r.Source+", which is not there", "start `xmig node` there; if the host is lost for good: `xmig resolve "+r.ID+" --lost "+r.Source+"`")
		}
	}
	for _, k := range keys {
		at := seen[k.VM]
		switch {
		case len(runs[k.VM]) > 1:
			add(k.Node, Bad, "two_copies", "vm "+k.Name+" runs on "+andThen(runs[k.VM]), "look at both; `xmig resolve "+k.Name+"` keeps one")
		case len(runs[k.VM]) == 1 && runs[k.VM][0] != k.Node && k.Claim == "":
			add(runs[k.VM][0], Bad, "owner", "vm "+k.Name+" runs here, and its owner key says "+k.Node, "`xmig resolve "+k.Name+"` shows both hosts' promises; `xmig recover` mends the key")
		case len(at) > 1 && k.Claim == "":
			add(k.Node, Warn, "two_configs", "vm "+k.Name+" is known on "+andThen(at), "take its config away from where it is not wanted")
		case len(at) == 0 && alive[k.Node]:
			add(k.Node, Warn, "vm_gone", "vm "+k.Name+" is "+k.Node+"'s, and no host that is there has it", "if it was removed for good, nothing needs to be done")
		}
		if r, ok := byID[k.Claim]; k.Claim != "" && (!ok || r.State.Final()) {
			add(k.Node, Warn, "claim", "vm "+k.Name+" is claimed by job "+k.Claim+", which is over", "the next submission takes it off")
		}
	}
	return found
}

func andThen(names []string) string { return strings.Join(names, " and ") }
