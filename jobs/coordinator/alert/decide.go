package alert

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"xmig/jobs"
)

// HostState is what the fleet says of a host.
type HostState string

const (
	Active   HostState = "active"   // takes VMs
	Cordoned HostState = "cordoned" // takes none
	Draining HostState = "draining" // is being emptied
	Drained  HostState = "drained"  // is empty, and takes none
	Gone     HostState = "lost"     // its worker is not seen
)

// Host is what a decision needs to know of one.
type Host struct {
	Node     string
	Hostname string
	State    HostState
	By       string // who cordoned or drains it
	Problem  string
	Tags     []string
}

// serves reports whether VMs can go there.
func (h Host) serves() bool { return h.State == Active && h.Problem == "" }

// Snapshot is all that a decision is made of.
type Snapshot struct {
	Now       time.Time
	Hosts     []Host
	Incidents []jobs.Incident
	Mutes     []jobs.Mute
	Refused   map[string]Refusal // hosts for which the fleet lately said no
}

// Refusal is the fleet's own no about a host: a word for programs, and why.
type Refusal struct{ Word, Text string }

// Effect is what has to be done to the world.
type Effect string

const (
	None     Effect = ""
	Notify   Effect = "notify"
	Cordon   Effect = "cordon"
	Drain    Effect = "drain"
	Uncordon Effect = "uncordon"
	Forget   Effect = "forget" // the incident is old news
)

// Step is what to do about one incident: how it stands, stored first, and the
// effect, after which Took says how it stands then.
type Step struct {
	Incident jobs.Incident
	Effect   Effect
}

// Took is the incident once the step's effect was taken.
func (s Step) Took(now time.Time) jobs.Incident {
	in := s.Incident
	switch s.Effect {
	case Notify:
		in.State = jobs.Acted
	case Cordon, Drain:
		in.State, in.ActedAt = jobs.Acted, now
	}
	in.Updated = now
	return in
}

// By is who asks for what an incident does, in jobs, cordons and drains.
func By(in jobs.Incident) string { return "alert:" + in.Alert.Fingerprint }

// keepOver is how long an incident that is over is remembered at least.
const keepOver = 24 * time.Hour

// Decide tells what to do about every incident for which there is something to
// do, the oldest first. What one takes of the limits is gone for the next.
func Decide(r Rules, s Snapshot) []Step {
	t := newTally(r, s)
	var steps []Step
	for _, in := range byAge(s.Incidents) {
		next := t.next(in)
		if next.Effect == None && same(next.Incident, in) {
			continue
		}
		if !same(next.Incident, in) {
			next.Incident.Updated = s.Now
		}
		steps = append(steps, next)
	}
	return steps
}

// byAge sorts the oldest first.
func byAge(all []jobs.Incident) []jobs.Incident {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b jobs.Incident) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Alert.Fingerprint, b.Alert.Fingerprint))
	})
	return all
}

func same(a, b jobs.Incident) bool {
	return a.State == b.State && a.Obstacle == b.Obstacle && a.Reason == b.Reason && a.Rule == b.Rule && a.Action == b.Action && a.Host == b.Host && a.ActedAt.Equal(b.ActedAt)
}

func (t *tally) next(in jobs.Incident) Step {
	switch in.State {
	case jobs.Waiting, jobs.HeldBack:
		return t.begin(in)
	case jobs.Acting:
		return Step{in, effectOf(in.Action)}
	case jobs.Acted:
		return t.after(in)
	case jobs.IncidentIsOver:
		if t.s.Now.Sub(in.Resolved) > max(keepOver, t.cooldown(in)) {
			return Step{in, Forget}
		}
	}
	return Step{Incident: in}
}

func effectOf(a jobs.AlertAction) Effect {
	switch a {
	case jobs.NotifyAlert:
		return Notify
	case jobs.CordonHost:
		return Cordon
	case jobs.DrainHost:
		return Drain
	}
	return None
}

func over(in jobs.Incident, format string, args ...any) Step {
	return to(in, jobs.IncidentIsOver, format, args...)
}

func to(in jobs.Incident, s jobs.IncidentState, format string, args ...any) Step {
	in.State, in.Obstacle, in.Reason = s, "", fmt.Sprintf(format, args...)
	return Step{Incident: in}
}

// begin acts if nothing stands against it.
func (t *tally) begin(in jobs.Incident) Step {
	if !in.Fires() {
		return over(in, "the alert is over, and nothing was done")
	}
	rule := t.rule(in)
	if rule == nil {
		return hold(in, jobs.HeldBack, stands("no_rule", "no rule acts on it any more"))
	}
	in.Rule, in.Action = rule.Name, rule.Action
	h, known := t.host(in, rule)
	if known {
		in.Host = h.Node
	}
	if ripe := in.Since.Add(rule.For); t.s.Now.Before(ripe) {
		return hold(in, jobs.Waiting, stands("for", "acts if it still fires at %s", ripe.UTC().Format(time.DateTime)))
	}
	if o := t.against(in, rule, h, known); o != nil {
		return hold(in, jobs.HeldBack, o)
	}
	return t.order(in, rule, h)
}

// hold notes what stands against the act, once per obstacle: numbers that
// change in its text are no news.
func hold(in jobs.Incident, s jobs.IncidentState, o *obstacle) Step {
	if in.State == s && in.Obstacle == o.word {
		return Step{Incident: in}
	}
	step := to(in, s, "%s", o.text)
	step.Incident.Obstacle = o.word
	return step
}

// order says what is done now; nothing stands against it.
func (t *tally) order(in jobs.Incident, rule *Rule, h Host) Step {
	switch {
	case rule.Action == jobs.NotifyAlert:
		return order(in, Notify, "rule %q: %s", rule.Name, Summary(in.Alert))
	case rule.Action == jobs.CordonHost && h.State != Active:
		return to(in, jobs.Acted, "%s is %s already", h.Node, h.State)
	case h.State == Draining, h.State == Drained:
		return to(in, jobs.Acted, "%s is %s already, by %s", h.Node, h.State, cmp.Or(h.By, "nobody that is known"))
	}
	t.take(h.Node, rule.Action, in)
	if rule.Action == jobs.CordonHost {
		return order(in, Cordon, "rule %q cordons %s: %s", rule.Name, h.Node, Summary(in.Alert))
	}
	return order(in, Drain, "rule %q drains %s: %s", rule.Name, h.Node, Summary(in.Alert))
}

func order(in jobs.Incident, e Effect, format string, args ...any) Step {
	step := to(in, jobs.Acting, format, args...)
	step.Effect = e
	return step
}

// after waits for the end of the alert.
func (t *tally) after(in jobs.Incident) Step {
	if in.Fires() {
		return Step{Incident: in}
	}
	rule := t.rule(in)
	h, known := t.hosts[in.Host]
	switch {
	case in.Action == jobs.NotifyAlert:
		return over(in, "the alert is over")
	case rule == nil || !rule.Uncordon:
		return over(in, "the alert is over; %s stays as it is until a person uncordons it", in.Host)
	case !known || h.State == Active:
		return over(in, "the alert is over; %s is not cordoned", in.Host)
	case h.State == Draining:
		return hold(in, jobs.Acted, stands("draining", "the alert is over; %s is uncordoned once its drain has ended", in.Host))
	case h.By != By(in):
		return over(in, "the alert is over; %s stays as it is: it was cordoned by %s", in.Host, cmp.Or(h.By, "somebody else"))
	}
	if other := t.stillStands(in); other != "" {
		return over(in, "the alert is over; %s stays as it is: %s fires there", in.Host, other)
	}
	step := over(in, "the alert is over; %s was uncordoned, as rule %q says", in.Host, rule.Name)
	step.Effect = Uncordon
	return step
}

// stillStands names another alert for whose sake the host must stay as it is.
func (t *tally) stillStands(in jobs.Incident) string {
	for _, o := range t.s.Incidents {
		if o.Alert.Fingerprint != in.Alert.Fingerprint && o.Fires() && o.Host == in.Host && (o.Action == jobs.CordonHost || o.Action == jobs.DrainHost) {
			return Summary(o.Alert)
		}
	}
	return ""
}

func (t *tally) cooldown(in jobs.Incident) time.Duration {
	if rule := t.rule(in); rule != nil {
		return rule.Cooldown
	}
	return 0
}
