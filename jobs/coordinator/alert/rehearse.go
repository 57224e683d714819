package alert

import (
	"cmp"
	"slices"
	"time"

	"xmig/jobs"
)

// Line is what would have become of an alert at a time.
type Line struct {
	At       time.Time          `json:"at"`
	Alert    string             `json:"alert"` // fingerprint
	Name     string             `json:"name"`
	Rule     string             `json:"rule,omitempty"`
	Host     string             `json:"host,omitempty"`
	State    jobs.IncidentState `json:"state"`
	Obstacle string             `json:"obstacle,omitempty"`
	Effect   Effect             `json:"effect,omitempty"`
	Text     string             `json:"text"`
}

// Rehearse tells what the rules would have done about past alerts, on the hosts
// as they are now: every order is taken at once, a drained host is
// empty at once, and there is room for all. It decides as the keeper does.
func Rehearse(r Rules, hosts []Host, alerts []jobs.Alert) []Line {
	w := rehearsal{r: r, s: Snapshot{Hosts: slices.Clone(hosts)}, at: map[string]int{}}
	alerts = slices.Clone(alerts)
	slices.SortStableFunc(alerts, func(a, b jobs.Alert) int { return a.Seen.Compare(b.Seen) })
	for _, a := range alerts {
		w.until(a.Seen)
		w.take(a)
		w.settle()
	}
	for len(w.ripe()) > 0 {
		w.until(w.ripe()[0])
	}
	return w.lines
}

type rehearsal struct {
	r     Rules
	s     Snapshot
	at    map[string]int // fingerprint → place in s.Incidents
	lines []Line
}

// take takes one alert in, as the intake does.
func (w *rehearsal) take(a jobs.Alert) {
	w.s.Now = a.Seen
	rule := w.r.answer(a)
	if rule == nil {
		return
	}
	i, known := w.at[a.Fingerprint]
	var old *jobs.Incident
	if known {
		old = &w.s.Incidents[i]
	}
	in, fresh := Fold(old, a, *rule, a.Seen)
	switch {
	case !fresh:
	case known:
		w.s.Incidents[i] = in
	default:
		w.at[a.Fingerprint] = len(w.s.Incidents)
		w.s.Incidents = append(w.s.Incidents, in)
	}
}

// ripe lists the times at which something may be done without any news, from
// now on: the end of a wait, or of a cooldown.
func (w *rehearsal) ripe() []time.Time {
	var times []time.Time
	for _, in := range w.s.Incidents {
		rule := w.r.answer(in.Alert)
		if rule == nil || in.State != jobs.Waiting && in.State != jobs.HeldBack || !in.Fires() {
			continue
		}
		at := in.Since.Add(rule.For)
		for _, o := range w.s.Incidents {
			if o.Host == in.Host && !o.ActedAt.IsZero() {
				at = later(at, o.ActedAt.Add(rule.Cooldown))
			}
		}
		if at.After(w.s.Now) {
			times = append(times, at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// until decides at every time up to t at which something gets ripe.
func (w *rehearsal) until(t time.Time) {
	for ripe := w.ripe(); len(ripe) > 0 && !ripe[0].After(t); ripe = w.ripe() {
		w.s.Now = ripe[0]
		w.settle()
	}
}

// settleRounds bounds the decisions at one time: an act and its end take two.
const settleRounds = 4

// settle decides until nothing changes any more.
func (w *rehearsal) settle() {
	for range settleRounds {
		steps := Decide(w.r, w.s)
		if len(steps) == 0 {
			return
		}
		for _, step := range steps {
			w.carryOut(step)
		}
	}
}

func (w *rehearsal) carryOut(step Step) {
	i := w.at[step.Incident.Alert.Fingerprint]
	old := w.s.Incidents[i]
	in := step.Incident
	if old.State != in.State || old.Reason != in.Reason {
		w.lines = append(w.lines, Line{At: w.s.Now, Alert: in.Alert.Fingerprint, Name: Summary(in.Alert), Rule: in.Rule, Host: in.Host,
			State: in.State, Obstacle: in.Obstacle, Effect: step.Effect, Text: in.Reason})
	}
	w.s.Incidents[i] = step.Took(w.s.Now)
	w.effect(step)
}

// effect does to the hosts what the fleet would do.
func (w *rehearsal) effect(step Step) {
	i := slices.IndexFunc(w.s.Hosts, func(h Host) bool { return h.Node == step.Incident.Host })
	if i < 0 {
		return
	}
	h := &w.s.Hosts[i]
	switch step.Effect {
	case Cordon:
		h.State, h.By = Cordoned, cmp.Or(h.By, By(step.Incident))
	case Drain:
		h.State, h.By = Drained, cmp.Or(h.By, By(step.Incident))
	case Uncordon:
		h.State, h.By = Active, ""
	}
}
