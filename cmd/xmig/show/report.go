package show

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
)

// Report tells one job's end, or where it stands, for a person to read.
func Report(r jobs.Record) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("%s", outcome(r))
	p("  job        %s, attempt %d, submitted %s%s", r.ID, r.Attempt, At(r.Created), took(r))
	if r.Spec.Kind != jobs.KindSync {
		mode := r.Plan.Mode
		if mode == "" {
			mode = r.Spec.Mode // nothing was planned yet
		}
		p("  mode       %s", string(mode)+why(r.Plan.Why))
	}
	if t := diskTable(r); t != "" {
		b.WriteString(indent(t))
	}
	if t := passTable(r.Report.Passes); t != "" {
		b.WriteString(indent(t))
	}
	if m := r.Report.Memory; m != nil {
		p("  memory     %s in %s (%s), %s on the wire", Bytes(m.Bytes), Span(m.Elapsed), Rate(Over(m.Bytes, m.Elapsed)), Bytes(m.Wire))
	}
	if r.Spec.Kind != jobs.KindSync && (r.Report.Blackout > 0 || r.Report.Predicted > 0) {
		p("  blackout   predicted %s, measured %s, budget %s", Span(r.Report.Predicted), measured(r.Report.Blackout), Span(r.Spec.MaxDowntime))
	}
	if r.Report.Wire > 0 {
		p("  wire       %s altogether", Bytes(onTheWire(r.Report)))
	}
	ending(p, r)
	return b.String()
}

// onTheWire is what travelled in all: passes of every attempt, and memory.
func onTheWire(r jobs.Report) int64 {
	if r.Memory == nil {
		return r.Wire
	}
	return r.Wire + r.Memory.Wire
}

func why(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func measured(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return Span(d)
}

func took(r jobs.Record) string {
	if r.Ended.IsZero() || r.Started.IsZero() {
		return ""
	}
	return ", took " + Span(r.Ended.Sub(r.Started))
}

// outcome says in one line what became of the VM: that is what people ask first.
func outcome(r jobs.Record) string {
	vm := subject(r)
	if r.Spec.Kind == jobs.KindSync {
		switch r.State {
		case jobs.Succeeded:
			return fmt.Sprintf("%s is equal to %s:%s", r.Spec.To+":"+r.Spec.SyncTo, r.Spec.From, r.Spec.SyncFrom)
		case jobs.Queued, jobs.Planned, jobs.Running:
			return fmt.Sprintf("%s is being copied to %s:%s: %s %s", vm, r.Spec.To, r.Spec.SyncTo, r.State, r.Step)
		}
		return fmt.Sprintf("%s was not copied to %s:%s: %s", vm, r.Spec.To, r.Spec.SyncTo, r.State)
	}
	switch r.State {
	case jobs.Succeeded:
		return fmt.Sprintf("%s runs on %s (domain %d); it was on %s", vm, r.Destination, r.Report.DomID, r.Source)
	case jobs.FailedState:
		if r.Failure != nil && r.Failure.Code == jobs.CodeGone {
			return fmt.Sprintf("%s did not move and is not on %s any more: failed", vm, r.Source)
		}
		return fmt.Sprintf("%s did not move and stays on %s: failed", vm, r.Source)
	case jobs.RolledBack:
		return fmt.Sprintf("%s did not move: it was held for a while and runs on %s again", vm, r.Source)
	case jobs.Cancelled:
		return fmt.Sprintf("%s did not move and stays on %s: cancelled", vm, r.Source)
	case jobs.Indeterminate:
		if f := r.Failure; f != nil && f.Code == jobs.CodeTwoCopies {
			return fmt.Sprintf("%s RUNS TWICE: on %s and on %s; look at both, then `xmig resolve %s`", vm, r.Source, r.Destination, r.ID)
		}
		return fmt.Sprintf("%s RUNS NOWHERE for sure, not on %s nor on %s: `xmig resolve %s` says why and mends it", vm, r.Source, r.Destination, r.ID)
	}
	return fmt.Sprintf("%s is moving from %s to %s: %s %s", vm, r.Source, dash(r.Destination), r.State, r.Step)
}

func ending(p func(string, ...any), r jobs.Record) {
	for _, n := range r.Report.Notes {
		p("  note       %s", n)
	}
	if r.State == jobs.Succeeded && r.Spec.Kind != jobs.KindSync {
		until := ""
		if !r.Ended.IsZero() {
			until = ", at least until " + At(r.Ended.Add(r.Spec.KeepSource))
		}
		p("  shadows    the disks on %s are kept%s", r.Source, until)
	}
	if f := r.Failure; f != nil && r.State != jobs.Succeeded {
		p("  failure    %s", failureText(f))
		for _, bl := range f.Blockers {
			p("  blocker    %s", bl)
		}
	}
	if f := r.Cancel; f != nil && !r.State.Final() {
		p("  cancel     asked for %s: %s", At(f.Since), f.Reason)
	}
	for _, l := range r.Leftover {
		p("  left over  %s", l)
	}
}

// failureText names the step, once, and does not repeat the blockers: each has
// a line of its own.
func failureText(f *jobs.Failure) string {
	text := f.Text
	switch len(f.Blockers) {
	case 0:
	case 1:
		text = "1 blocker"
	default:
		text = fmt.Sprintf("%d blockers", len(f.Blockers))
	}
	if step := string(f.Step) + ": "; f.Step != "" && !strings.HasPrefix(text, step) {
		return step + text
	}
	return text
}

func indent(table string) string {
	var b strings.Builder
	for _, l := range strings.Split(strings.TrimRight(table, "\n"), "\n") {
		b.WriteString("  " + strings.TrimRight(l, " ") + "\n")
	}
	return b.String()
}

// Blockers tells each blocker in a line of its own, with the way out.
func Blockers(all []jobs.Blocker) []string {
	out := make([]string, 0, len(all))
	for _, b := range all {
		out = append(out, b.String())
	}
	return out
}

// Plan tells what a move would do.
func Plan(vm, from, to string, plan jobs.Plan, blockers []jobs.Blocker) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if len(blockers) > 0 {
		p("%s cannot move from %s to %s:", vm, from, to)
		for _, l := range Blockers(blockers) {
			p("  %s", l)
		}
		return b.String()
	}
	var bytes int64
	for _, d := range plan.Disks {
		bytes += d.Allocated
	}
	p("%s can move from %s to %s", vm, from, to)
	p("  mode       %s", strings.TrimSpace(string(plan.Mode)+why(plan.Why)))
	p("  memory     %s", Bytes(plan.Guest.Memory))
	p("  blackout   predicted %s", Span(plan.Predicted))
	p("  to copy    %s at most", Bytes(bytes))
	if len(plan.Disks) > 0 {
		b.WriteString(indent(moveTable(plan.Disks)))
	}
	return b.String()
}
