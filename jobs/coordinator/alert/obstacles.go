package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// obstacle is what stands against an act: a word that stays the same while the
// numbers in the text change, and the text.
type obstacle struct{ word, text string }

func stands(word, format string, args ...any) *obstacle {
	return &obstacle{word, fmt.Sprintf(format, args...)}
}

// tally is what is in use of the limits, and grows with each act decided.
type tally struct {
	r        Rules
	s        Snapshot
	index    index
	hosts    map[string]Host
	rules    map[string]*Rule         // by fingerprint; nil: none acts on it
	drained  map[string]time.Time     // when a host was drained last, by an alert
	cordoned map[string]time.Time     // the same, cordoned or drained
	taken    map[string]jobs.Incident // hosts that are being acted on, and for what
	serving  map[string]bool          // hosts where VMs can go, and that nothing takes away
	emptying map[string]bool
	alerting map[string]bool // hosts that a rule would act on, were there no limits
}

func newTally(r Rules, s Snapshot) *tally {
	t := &tally{r: r, s: s, index: newIndex(s.Hosts), hosts: map[string]Host{}, rules: map[string]*Rule{}, drained: map[string]time.Time{}, cordoned: map[string]time.Time{},
		taken: map[string]jobs.Incident{}, serving: map[string]bool{}, emptying: map[string]bool{}, alerting: map[string]bool{}}
	for _, h := range s.Hosts {
		t.hosts[h.Node] = h
		t.serving[h.Node] = h.serves()
		t.emptying[h.Node] = h.State == Draining
	}
	for _, in := range s.Incidents {
		t.rules[in.Alert.Fingerprint] = r.answer(in.Alert)
	}
	for _, in := range s.Incidents {
		t.count(in)
	}
	return t
}

// count takes in what an incident uses already.
func (t *tally) count(in jobs.Incident) {
	if in.ActedAt.After(t.cordoned[in.Host]) {
		t.cordoned[in.Host] = in.ActedAt
	}
	if in.Action == jobs.DrainHost && in.ActedAt.After(t.drained[in.Host]) {
		t.drained[in.Host] = in.ActedAt
	}
	if in.State == jobs.Acting {
		t.take(in.Host, in.Action, in)
	}
	if rule := t.rule(in); in.Fires() && rule != nil && rule.acts() {
		if h, known := t.host(in, rule); known {
			t.alerting[h.Node] = true
		}
	}
}

// rule is the one that answers the alert; nil: none does.
func (t *tally) rule(in jobs.Incident) *Rule { return t.rules[in.Alert.Fingerprint] }

// host is the one that the alert means.
func (t *tally) host(in jobs.Incident, rule *Rule) (Host, bool) {
	node, ok := t.index.find(in.Alert.Labels[rule.HostLabel])
	return t.hosts[node], ok
}

// take takes a host out of service.
func (t *tally) take(node string, a jobs.AlertAction, in jobs.Incident) {
	if a == jobs.CordonHost || a == jobs.DrainHost {
		t.serving[node], t.taken[node] = false, in
	}
	if a == jobs.DrainHost {
		t.emptying[node] = true
	}
}

// muted says who wants no acts now.
func (t *tally) muted(rule, node string) *obstacle {
	for _, m := range t.s.Mutes {
		if m.Covers(rule, node, t.s.Now) {
			return stands("muted", "muted by %s until %s%s", m.By, m.Until.UTC().Format(time.DateTime), reasonOf(m))
		}
	}
	return nil
}

// against says what stands against acting on the alert now; nil: nothing.
func (t *tally) against(in jobs.Incident, rule *Rule, h Host, known bool) *obstacle {
	if o := t.muted(rule.Name, h.Node); o != nil || !rule.acts() {
		return o
	}
	value := in.Alert.Labels[rule.HostLabel]
	switch {
	case value == "":
		return stands("label", "the alert has no label %s, which rule %q takes the host from", rule.HostLabel, rule.Name)
	case !known:
		return stands("unknown", "%s=%q means no host that is known, or more than one", rule.HostLabel, value)
	case !slices.Contains(h.Tags, rule.Tag):
		return stands("tag", "%s is not opted in: its worker has no tag %q", h.Node, rule.Tag)
	case rule.Action == jobs.CordonHost && h.State != Active, h.State == Draining, h.State == Drained:
		return nil // there already: nothing is taken
	}
	if other, ok := t.taken[h.Node]; ok && other.Alert.Fingerprint != in.Alert.Fingerprint {
		return stands("other", "%s is being acted on for another alert: %s", h.Node, Summary(other.Alert))
	}
	if o := t.cool(rule, h); o != nil {
		return o
	}
	return t.limits(rule, h)
}

// cool: what was done to a host is not done to it again for a while, whatever
// fires; a host that was only cordoned may still be drained.
func (t *tally) cool(rule *Rule, h Host) *obstacle {
	at := t.cordoned[h.Node]
	if rule.Action == jobs.DrainHost {
		at = t.drained[h.Node]
	}
	end := at.Add(rule.Cooldown)
	if at.IsZero() || !t.s.Now.Before(end) {
		return nil
	}
	return stands("cooldown", "%s was acted on at %s; it is left alone until %s", h.Node, at.UTC().Format(time.DateTime), end.UTC().Format(time.DateTime))
}

func reasonOf(m jobs.Mute) string {
	if m.Reason == "" {
		return ""
	}
	return ": " + m.Reason
}

func (t *tally) limits(rule *Rule, h Host) *obstacle {
	if h.State == Gone {
		return stands("lost", "the worker of %s is not seen: nothing can be moved away", h.Node)
	}
	if h.Problem != "" {
		return stands("inventory", "%s does not know what it has: %s", h.Node, h.Problem)
	}
	if no, ok := t.s.Refused[h.Node]; ok {
		return &obstacle{no.Word, no.Text}
	}
	if n, all := len(t.alerting), len(t.s.Hosts); n > 1 && float64(n) > t.r.Limits.Storm*float64(all) {
		return stands("storm", "%d of %d hosts alert at once (%s): that looks like the network or the monitoring, and nothing is done by itself", n, all, someOf(t.alerting))
	}
	if n := count(t.emptying, h.Node); rule.Action == jobs.DrainHost && n >= t.r.Limits.Draining {
		return stands("draining", "%d of %d hosts are being drained (%s)", n, t.r.Limits.Draining, someOf(t.emptying))
	}
	if n := count(t.serving, h.Node); n < t.r.Limits.Keep {
		return stands("last", "%d hosts would stay in service, %d must", n, t.r.Limits.Keep)
	}
	return nil
}

// count counts the hosts in a set, without one.
func count(set map[string]bool, without string) (n int) {
	for node, in := range set {
		if in && node != without {
			n++
		}
	}
	return n
}

// someOf names a few of a set of hosts.
func someOf(set map[string]bool) string {
	var names []string
	for node, in := range set {
		if in {
			names = append(names, node)
		}
	}
	slices.Sort(names)
	if len(names) > 4 {
		names = append(names[:3], fmt.Sprintf("and %d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}
