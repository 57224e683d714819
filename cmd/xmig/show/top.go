package show

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator/api"
)

// Top is the state of everything on one screen: what runs, then hosts, then
// what waits and what ended last.
func Top(o api.Overview) string {
	var sums []string
	for _, s := range jobs.States() {
		if n := o.Totals[s]; n > 0 {
			sums = append(sums, fmt.Sprintf("%d %s", n, s))
		}
	}
	t := newTable("vm", "from", "to", "state", "step", "pass", "done", "rate", "blackout", "age", "why")
	for _, j := range o.Jobs {
		t.row(j.VM, dash(j.Source), dash(j.Destination), string(j.State), dash(string(j.Step)), number(int64(j.Pass)), part(j.Done, j.Size), rateOf(j.Rate),
			spanOf(j.Predicted, j.Blackout), Ago(j.Created, o.At), dash(j.Text))
	}
	h := newTable("host", "state", "vms", "out", "in", "memory", "free", "drain", "why")
	for _, l := range o.Hosts {
		drain := "-"
		if l.Moves > 0 {
			drain = fmt.Sprintf("%d of %d", l.Moved, l.Moves)
		}
		why := l.Why
		if l.Problem != "" {
			why = l.Problem
		}
		state := string(l.State)
		if l.Simulated {
			state += " SIMULATED"
		}
		h.row(l.Name, state, l.VMs, l.Out, l.In, Bytes(l.Memory), Bytes(l.Free), drain, dash(why))
	}
	out := fmt.Sprintf("%s  %d hosts  jobs: %s\n\n%s\n%s", At(o.At), len(o.Hosts), dash(strings.Join(sums, ", ")), h, t)
	if o.More > 0 {
		out += fmt.Sprintf("and %d more that wait\n", o.More)
	}
	return out
}

func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func part(done, size int64) string {
	if size == 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", min(100, 100*done/size))
}

func rateOf(r float64) string {
	if r == 0 {
		return "-"
	}
	return Rate(r)
}

// spanOf is the blackout that was measured, else the predicted one.
func spanOf(predicted, measured time.Duration) string {
	switch {
	case measured > 0:
		return Span(measured)
	case predicted > 0:
		return "~" + Span(predicted)
	}
	return "-"
}
