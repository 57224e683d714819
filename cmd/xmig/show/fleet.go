package show

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
)

// Plans prints who would go where.
func Plans(p coordinator.Plan) string {
	var b strings.Builder
	stuck := 0
	t := newTable("vm", "from", "to", "to move", "there", "takes", "stands still")
	for _, m := range p.Moves {
		if m.To == "" {
			stuck++
			continue
		}
		if m.From == m.To {
			t.row(m.VM.Name, m.From, m.To, "at home", "-", "-", "-")
			continue
		}
		still := "halted"
		if m.Predicted > 0 {
			still = Span(m.Predicted)
		}
		t.row(m.VM.Name, m.From, m.To, Bytes(m.Bytes), Bytes(m.Seeded), Span(m.Took), still)
	}
	fmt.Fprintf(&b, "%s of %s: %d VMs, %s to move", p.Kind, p.Host, len(p.Moves), Bytes(p.Bytes()))
	if stuck > 0 {
		fmt.Fprintf(&b, "; %d cannot move", stuck)
	}
	b.WriteString("\n")
	if stuck < len(p.Moves) {
		b.WriteString(t.String())
	}
	for _, m := range p.Moves {
		if m.To == "" {
			fmt.Fprintf(&b, "%s cannot move: %s\n", m.VM.Name, m.Text)
		}
	}
	return b.String()
}

// DrainNews tells what is new in a drain, a line each.
func DrainNews(was, now coordinator.Mark) (lines []string) {
	d := now.Drain
	before := map[string]coordinator.Move{}
	state, text := coordinator.DrainState(""), ""
	if was.Drain != nil && was.Drain.ID == d.ID {
		state, text = was.Drain.State, was.Drain.Text
		for _, m := range was.Drain.Moves {
			before[m.VM.UUID] = m
		}
	}
	for _, m := range d.Moves {
		old := before[m.VM.UUID]
		if old.State == m.State && old.Job == m.Job {
			continue
		}
		l := fmt.Sprintf("host=%s vm=%s state=%s", now.Node, m.VM.Name, m.State)
		if m.To != "" {
			l += " to=" + m.To
		}
		if m.Job != "" {
			l += " job=" + m.Job
		}
		if m.Text != "" && m.State != coordinator.MoveUnder {
			l += fmt.Sprintf(" text=%q", m.Text)
		}
		if m.State != coordinator.MoveWaiting || m.Text != "" {
			lines = append(lines, l)
		}
	}
	if state != d.State || text != d.Text && d.State != coordinator.DrainRunning {
		l := fmt.Sprintf("host=%s %s=%s", now.Node, d.Kind, d.State)
		if d.Text != "" {
			l += fmt.Sprintf(" text=%q", d.Text)
		}
		lines = append(lines, l)
	}
	return lines
}

// HostState is a host's state in one word or two: what people look for first.
func HostState(h *jobs.Host, m coordinator.Mark) string {
	var words []string
	switch {
	case h == nil:
		words = append(words, "lost")
	case h.Problem != "":
		words = append(words, "problem")
	default:
		words = append(words, "up")
	}
	switch d := m.Drain; {
	case m.Active() && d.Kind == coordinator.Emptying && d.State == coordinator.DrainHeld:
		words = append(words, "drain held")
	case m.Active() && d.Kind == coordinator.Emptying:
		words = append(words, "draining")
	case m.Active():
		words = append(words, "restoring")
	case m.Cordon != nil && d != nil && d.Kind == coordinator.Emptying && d.State == coordinator.DrainDone:
		words = append(words, "drained")
	case m.Cordon != nil:
		words = append(words, "cordoned")
	}
	return strings.Join(words, ",")
}

// Marks tells what was decided about a host.
func Marks(m coordinator.Mark, now time.Time) string {
	var b strings.Builder
	if m.Cordon != nil {
		fmt.Fprintf(&b, "closed      by %s, %s: %s\n", m.Cordon.By, Ago(m.Cordon.At, now), dash(m.Cordon.Reason))
	}
	if d := m.Drain; d != nil {
		fmt.Fprintf(&b, "%-11s %s by %s, begun %s, %s: %s\n", d.Kind, d.State, d.By, Ago(d.Begun, now), dash(d.Reason), dash(d.Text))
		t := newTable("vm", "state", "to", "job", "tries", "text")
		for _, mv := range d.Moves {
			t.row(mv.VM.Name, string(mv.State), dash(mv.To), dash(mv.Job), mv.Tries, dash(mv.Text))
		}
		if len(d.Moves) > 0 {
			b.WriteString(t.String())
		}
	}
	if len(m.Away) > 0 {
		var names []string
		for _, a := range m.Away {
			names = append(names, a.VM.Name)
		}
		fmt.Fprintf(&b, "away        %s\n", strings.Join(names, " "))
	}
	return b.String()
}

// Options prints every host as a place for a VM, the best first.
func Options(vm string, all []coordinator.Option) string {
	var b strings.Builder
	fmt.Fprintf(&b, "places for vm %s, the best first\n", vm)
	t := newTable("host", "may", "to move", "free after", "moves in", "why not")
	for _, o := range all {
		may, why := "yes", "-"
		switch {
		case o.Against != nil:
			may, why = "no", o.Against.Code+": "+o.Against.Text
		case o.Wait != "":
			may, why = "later", o.Wait
		}
		t.row(o.Host, may, Bytes(o.Bytes), Bytes(max(0, o.Free)), o.In, why)
	}
	b.WriteString(t.String())
	return b.String()
}
