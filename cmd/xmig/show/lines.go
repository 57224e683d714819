package show

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
)

// line gathers key=value pairs.
type line struct{ b strings.Builder }

func at(t time.Time) *line {
	l := &line{}
	l.b.WriteString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
	return l
}

func (l *line) add(key, value string) *line {
	fmt.Fprintf(&l.b, " %s=%s", key, quote(value))
	return l
}

func (l *line) some(key, value string) *line {
	if value == "" {
		return l
	}
	return l.add(key, value)
}

func (l *line) String() string { return l.b.String() }

// Lines tells what is new in cur since prev, one line per fact. For the first
// record seen prev is the zero value: then only where the job stands is told.
func Lines(prev, cur jobs.Record) []string {
	var out []string
	say := func(t time.Time, what string) *line {
		return at(t).add("job", cur.ID).add("vm", subject(cur)).add("what", what)
	}
	add := func(l *line) { out = append(out, l.String()) }
	if prev.ID == "" {
		add(say(cur.Updated, "state").add("state", string(cur.State)).some("step", string(cur.Step)).
			some("from", cur.Source).some("to", cur.Destination))
		prev = cur
		prev.Report = jobs.Report{}
		if cur.Step != "" {
			prev.Step = ""
		}
	}
	stateLine := func() {
		l := say(cur.Updated, "state").add("state", string(cur.State))
		if cur.State == jobs.Succeeded && cur.Spec.Kind != jobs.KindSync {
			l.add("blackout", cur.Report.Blackout.Round(time.Millisecond).String())
		}
		add(l)
	}
	if cur.State != prev.State && !cur.State.Final() {
		stateLine()
	}
	ended := newSteps(prev.Report.Steps, cur.Report.Steps)
	for _, s := range ended {
		l := say(s.Begin.Add(s.Elapsed), "step.end").add("step", string(s.Step)).
			add("attempt", fmt.Sprint(s.Attempt)).add("elapsed", s.Elapsed.Round(time.Millisecond).String())
		add(l.some("failed", s.Failed))
	}
	for _, p := range newPasses(prev.Report.Passes, cur.Report.Passes) {
		add(say(cur.Updated, "pass").add("number", fmt.Sprint(p.Number)).add("kind", string(p.Kind)).
			add("changed_bytes", fmt.Sprint(p.Changed())).add("wire_bytes", fmt.Sprint(p.Wire())).
			add("elapsed", p.Elapsed.Round(time.Millisecond).String()))
	}
	if cur.Step != prev.Step || cur.Attempt != prev.Attempt {
		// A quick step is seen only at its end: that it began is no news then.
		over := len(ended) > 0 && ended[len(ended)-1].Step == cur.Step && ended[len(ended)-1].Attempt == cur.Attempt
		if cur.Step != "" && !cur.State.Final() && !over {
			add(say(cur.Updated, "step.begin").add("step", string(cur.Step)).add("attempt", fmt.Sprint(cur.Attempt)))
		}
	}
	if cur.HandedOver && !prev.HandedOver {
		add(say(cur.Updated, "handed_over").add("to", cur.Destination).add("epoch", fmt.Sprint(cur.Epoch)))
	}
	out = append(out, flagLines(prev, cur, say)...)
	if f := cur.Failure; f != nil && (prev.Failure == nil || !sameFailure(*prev.Failure, *f)) {
		add(say(f.At, "failure").some("step", string(f.Step)).add("code", string(f.Code)).add("text", f.Text))
	}
	if cur.State != prev.State && cur.State.Final() {
		stateLine() // the last word
	}
	return out
}

func sameFailure(a, b jobs.Failure) bool {
	return a.At.Equal(b.At) && a.Attempt == b.Attempt && a.Text == b.Text
}

func flagLines(prev, cur jobs.Record, say func(time.Time, string) *line) (out []string) {
	for _, f := range []struct {
		name     string
		was, now *jobs.Flag
	}{
		{"held", prev.Held, cur.Held},
		{"paused", prev.Paused, cur.Paused},
		{"degraded", prev.Degraded, cur.Degraded},
		{"cancel", prev.Cancel, cur.Cancel},
	} {
		switch {
		case f.now != nil && (f.was == nil || f.was.Reason != f.now.Reason):
			out = append(out, say(f.now.Since, f.name).add("reason", f.now.Reason).String())
		case f.now == nil && f.was != nil:
			out = append(out, say(cur.Updated, f.name+".end").String())
		}
	}
	return out
}

// newSteps and newPasses find what was added: the lists lose their oldest
// entries in a long job, so they are told apart by what they say.
func newSteps(old, now []jobs.StepReport) []jobs.StepReport {
	if len(old) == 0 {
		return now
	}
	last := old[len(old)-1]
	for i := len(now) - 1; i >= 0; i-- {
		if now[i].Step == last.Step && now[i].Attempt == last.Attempt && now[i].Begin.Equal(last.Begin) {
			return now[i+1:]
		}
	}
	return now
}

func newPasses(old, now []jobs.PassReport) []jobs.PassReport {
	if len(old) == 0 {
		return now
	}
	last := old[len(old)-1]
	for i := len(now) - 1; i >= 0; i-- {
		if now[i].Number == last.Number && now[i].Kind == last.Kind && now[i].Elapsed == last.Elapsed {
			return now[i+1:]
		}
	}
	return now
}

// subject is what a job is about: its VM, or the device of a sync.
func subject(r jobs.Record) string {
	if r.Spec.Kind == jobs.KindSync {
		return r.Spec.From + ":" + r.Spec.SyncFrom
	}
	if r.VM.Name != "" {
		return r.VM.Name
	}
	return r.Spec.VM
}

// EventLine is one stored event as a line.
func EventLine(e jobs.Event) string {
	l := at(e.Time).add("node", e.Node).some("job", e.Job).some("vm", e.VM.Name).add("what", e.What).
		some("step", string(e.Step)).some("state", string(e.State))
	if e.Attempt > 0 {
		l.add("attempt", fmt.Sprint(e.Attempt))
	}
	if e.Elapsed > 0 {
		l.add("elapsed", e.Elapsed.Round(time.Millisecond).String())
	}
	return l.some("text", e.Text).String()
}
