package alert

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

const drainRules = `
[limits]
keep = 2

[[rule]]
name = "disk"
match = {alertname = "DiskWillFail"}
action = "drain"
for = "1m"
cooldown = "6h"

[[rule]]
name = "warm"
match = {alertname = "HostWarm"}
action = "cordon"
for = "0s"

[[rule]]
name = "fan"
match = {alertname = "FanFailed"}
action = "drain"
for = "0s"
canary = false
resolved = "uncordon"

[[rule]]
name = "told"
match = {alertname = "Told"}
action = "notify"
for = "0s"
`

// hostsOf makes hosts hv1 to hvN, opted in.
func hostsOf(n int) []Host {
	var out []Host
	for i := range n {
		name := fmt.Sprint("hv", i+1)
		out = append(out, Host{Node: name, Hostname: name + ".example.org", State: Active, Tags: []string{DefaultTag}})
	}
	return out
}

func alertOf(name, node string) jobs.Alert {
	labels := map[string]string{"alertname": name, "instance": node + ":9100"}
	return jobs.Alert{Fingerprint: jobs.Fingerprint(labels), Status: jobs.Firing, Labels: labels, StartsAt: noon, Seen: noon}
}

func incidentOf(t testing.TB, r Rules, name, node string, since time.Time) jobs.Incident {
	t.Helper()
	a := alertOf(name, node)
	rule, ok := r.Match(a)
	if !ok {
		t.Fatalf("no rule for %s", name)
	}
	in, _ := Fold(nil, a, rule, since)
	return in
}

// one decides about one incident and expects one step.
func one(t *testing.T, r Rules, s Snapshot) Step {
	t.Helper()
	steps := Decide(r, s)
	if len(steps) != 1 {
		t.Fatalf("%d steps: %+v", len(steps), steps)
	}
	return steps[0]
}

// TestObstacles: each thing that stands against a drain, alone.
func TestObstacles(t *testing.T) {
	r := mustRules(t, drainRules)
	for _, tt := range []struct {
		name   string
		change func(*Snapshot)
		word   string // "" is: it acts
		text   string
	}{
		{"nothing", func(*Snapshot) {}, "", `rule "disk" drains hv1: DiskWillFail`},
		{"not for long enough", func(s *Snapshot) { s.Incidents[0].Since = noon.Add(-59 * time.Second) }, "for", "acts if it still fires at 2026-03-01 12:00:01"},
		{"clock was put back", func(s *Snapshot) { s.Now = noon.Add(-time.Hour) }, "for", "still fires"},
		{"muted", func(s *Snapshot) {
			s.Mutes = []jobs.Mute{{By: "ann", Until: noon.Add(time.Hour), Reason: "moving racks"}}
		}, "muted", "muted by ann until 2026-03-01 13:00:00: moving racks"},
		{"muted by host", func(s *Snapshot) { s.Mutes = []jobs.Mute{{Host: "hv1", By: "ann", Until: noon.Add(time.Hour)}} }, "muted", "ann"},
		{"another host is muted", func(s *Snapshot) { s.Mutes = []jobs.Mute{{Host: "hv2", By: "ann", Until: noon.Add(time.Hour)}} }, "", "drains hv1"},
		{"another rule is muted", func(s *Snapshot) { s.Mutes = []jobs.Mute{{Rule: "fan", By: "ann", Until: noon.Add(time.Hour)}} }, "", "drains hv1"},
		{"the mute is over", func(s *Snapshot) { s.Mutes = []jobs.Mute{{By: "ann", Until: noon}} }, "", "drains hv1"},
		{"no label", func(s *Snapshot) { delete(s.Incidents[0].Alert.Labels, "instance") }, "label", "no label instance"},
		{"unknown host", func(s *Snapshot) { s.Incidents[0].Alert.Labels["instance"] = "hv99" }, "unknown", `instance="hv99" means no host`},
		{"reinstalled twice under one name", func(s *Snapshot) {
			s.Hosts[0].Node, s.Hosts[1].Hostname = "new", "hv1.example.org"
			s.Incidents[0].Alert.Labels["instance"] = "hv1.example.org:9100"
		}, "unknown", "or more than one"},
		{"not opted in", func(s *Snapshot) { s.Hosts[0].Tags = []string{"spare"} }, "tag", `no tag "automatic"`},
		{"lost", func(s *Snapshot) { s.Hosts[0].State = Gone }, "lost", "not seen"},
		{"no inventory", func(s *Snapshot) { s.Hosts[0].Problem = "xl list hangs" }, "inventory", "xl list hangs"},
		{"another is being drained", func(s *Snapshot) { s.Hosts[1].State = Draining }, "draining", "1 of 1 hosts are being drained (hv2)"},
		{"a person drains it", func(s *Snapshot) { s.Hosts[0].State, s.Hosts[0].By = Draining, "ann" }, "", "hv1 is draining already, by ann"},
		{"a person drained it", func(s *Snapshot) { s.Hosts[0].State, s.Hosts[0].By = Drained, "ann" }, "", "hv1 is drained already, by ann"},
		{"the last hosts", func(s *Snapshot) { s.Hosts[1].State, s.Hosts[2].State = Cordoned, Drained }, "last", "1 hosts would stay in service, 2 must"},
		{"the others have problems", func(s *Snapshot) { s.Hosts[1].Problem, s.Hosts[2].State = "?", Gone }, "last", "1 hosts would stay"},
		{"no room", func(s *Snapshot) { s.Refused = map[string]Refusal{"hv1": {"capacity", "vm0 fits nowhere"}} }, "capacity", "vm0 fits nowhere"},
		{"the rule is gone", func(s *Snapshot) { s.Incidents[0].Alert.Labels["alertname"] = "Other" }, "no_rule", "no rule"},
		{"drained a while ago", func(s *Snapshot) { s.Incidents[0].Host, s.Incidents[0].ActedAt = "hv1", noon.Add(-5*time.Hour) }, "cooldown", "left alone until 2026-03-01 13:00:00"},
		{"drained long ago", func(s *Snapshot) { s.Incidents[0].Host, s.Incidents[0].ActedAt = "hv1", noon.Add(-7*time.Hour) }, "", "drains hv1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Snapshot{Now: noon, Hosts: hostsOf(4), Incidents: []jobs.Incident{incidentOf(t, r, "DiskWillFail", "hv1", noon.Add(-time.Minute))}}
			tt.change(&s)
			step := one(t, r, s)
			if step.Incident.Obstacle != tt.word || !strings.Contains(step.Incident.Reason, tt.text) {
				t.Errorf("%s %q: %q, want %q: %q", step.Incident.State, step.Incident.Obstacle, step.Incident.Reason, tt.word, tt.text)
			}
			if acts := step.Effect != None || step.Incident.State == jobs.Acted; acts != (tt.word == "") {
				t.Errorf("effect %q, state %s", step.Effect, step.Incident.State)
			}
			// Decided again with what was stored, an obstacle is no news.
			s.Incidents[0] = step.Incident
			if again := Decide(r, s); tt.word != "" && len(again) != 0 {
				t.Errorf("decided again: %+v", again)
			}
		})
	}
}

// TestStorm: alerts for all hosts at once drain none of them, and say why.
func TestStorm(t *testing.T) {
	r := mustRules(t, drainRules)
	s := Snapshot{Now: noon, Hosts: hostsOf(6)}
	for _, h := range s.Hosts {
		s.Incidents = append(s.Incidents, incidentOf(t, r, "FanFailed", h.Node, noon))
	}
	steps := Decide(r, s)
	if len(steps) != 6 {
		t.Fatalf("%d steps", len(steps))
	}
	for _, step := range steps {
		if step.Effect != None || step.Incident.Obstacle != "storm" ||
			step.Incident.Reason != "6 of 6 hosts alert at once (hv1, hv2, hv3, and 3 more): that looks like the network or the monitoring, and nothing is done by itself" {
			t.Errorf("%s: %q", step.Incident.Host, step.Incident.Reason)
		}
	}
	// Half of them is believed, and one is drained at a time.
	s.Incidents = s.Incidents[:3]
	var drained, held int
	for _, step := range Decide(r, s) {
		switch {
		case step.Effect == Drain:
			drained++
		case step.Incident.Obstacle == "draining":
			held++
		}
	}
	if drained != 1 || held != 2 {
		t.Errorf("%d drained, %d held", drained, held)
	}
}

// TestTwoAlertsOneHost: the host is emptied once; what cordoned it does not
// keep a worse alert from draining it.
func TestTwoAlertsOneHost(t *testing.T) {
	r := mustRules(t, drainRules)
	s := Snapshot{Now: noon, Hosts: hostsOf(4), Incidents: []jobs.Incident{
		incidentOf(t, r, "FanFailed", "hv1", noon), incidentOf(t, r, "DiskWillFail", "hv1", noon.Add(-time.Hour)),
	}}
	steps := Decide(r, s)
	if len(steps) != 2 || steps[0].Effect != Drain || steps[1].Effect != None || steps[1].Incident.Obstacle != "other" {
		t.Fatalf("%+v", steps)
	}
	s.Incidents = []jobs.Incident{incidentOf(t, r, "HostWarm", "hv1", noon)}
	step := one(t, r, s)
	if step.Effect != Cordon {
		t.Fatalf("%+v", step)
	}
	s.Hosts[0].State, s.Hosts[0].By = Cordoned, By(step.Incident)
	s.Incidents = []jobs.Incident{step.Took(noon), incidentOf(t, r, "FanFailed", "hv1", noon)}
	if step := one(t, r, s); step.Effect != Drain || step.Incident.Host != "hv1" {
		t.Fatalf("%+v", step)
	}
}

// TestResolved: uncordoned only where a rule says so, the cordon is this
// alert's own, and no other alert stands.
func TestResolved(t *testing.T) {
	r := mustRules(t, drainRules)
	for _, tt := range []struct {
		name   string
		alert  string
		change func(*Snapshot)
		eff    Effect
		text   string
	}{
		{"as told", "FanFailed", func(*Snapshot) {}, Uncordon, `uncordoned, as rule "fan" says`},
		{"not told", "DiskWillFail", func(*Snapshot) {}, None, "stays as it is until a person uncordons it"},
		{"a person's cordon", "FanFailed", func(s *Snapshot) { s.Hosts[0].By = "ann" }, None, "it was cordoned by ann"},
		{"uncordoned already", "FanFailed", func(s *Snapshot) { s.Hosts[0].State = Active }, None, "not cordoned"},
		{"still draining", "FanFailed", func(s *Snapshot) { s.Hosts[0].State = Draining }, None, "once its drain has ended"},
		{"another alert stands", "FanFailed", func(s *Snapshot) {
			other := incidentOf(t, r, "HostWarm", "hv1", noon)
			other.Host, other.State = "hv1", jobs.Acted
			s.Incidents = append(s.Incidents, other)
		}, None, "HostWarm fires there"},
		{"a notice", "Told", func(*Snapshot) {}, None, "the alert is over"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := incidentOf(t, r, tt.alert, "hv1", noon)
			in.State, in.Resolved, in.Host = jobs.Acted, noon, "hv1"
			s := Snapshot{Now: noon, Hosts: hostsOf(4), Incidents: []jobs.Incident{in}}
			s.Hosts[0].State, s.Hosts[0].By = Drained, By(in)
			tt.change(&s)
			if step := one(t, r, s); step.Effect != tt.eff || !strings.Contains(step.Incident.Reason, tt.text) {
				t.Errorf("%+v", step)
			}
		})
	}
}
