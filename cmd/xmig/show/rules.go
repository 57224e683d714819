package show

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
)

// Rules lists rules in their order: the first that matches counts.
func Rules(r alert.Rules) string {
	if len(r.Rules) == 0 {
		return ""
	}
	t := newTable("rule", "matches", "does", "for", "cooldown", "tag", "when over")
	for _, rule := range r.Rules {
		host := rule.Action == jobs.CordonHost || rule.Action == jobs.DrainHost
		does, cooldown, tag, after := string(rule.Action), "-", "-", "-"
		if host {
			cooldown, tag, after = rule.Cooldown.String(), rule.Tag, "stays"
			if rule.Uncordon {
				after = "uncordons"
			}
			if rule.Action == jobs.DrainHost && rule.How.Canary {
				does += ", one VM first"
			}
		}
		t.row(rule.Name, matches(rule), does, rule.For, cooldown, tag, after)
	}
	return t.String() + fmt.Sprintf("at most %d hosts are drained at a time, %d stay in service, and nothing is done while more than %.0f %% of all alert\n",
		r.Limits.Draining, r.Limits.Keep, 100*r.Limits.Storm)
}

func matches(r alert.Rule) string {
	var out []string
	for _, label := range slices.Sorted(maps.Keys(r.Match)) {
		want := strings.TrimSuffix(strings.TrimPrefix(r.Match[label].String(), "^(?s:"), ")$")
		out = append(out, label+"="+want)
	}
	return strings.Join(out, " ")
}

// Incidents lists the alerts that rules answer, one line each.
func Incidents(all []jobs.Incident, now time.Time) string {
	if len(all) == 0 {
		return "\nno alert is being answered\n"
	}
	t := newTable("alert", "name", "host", "rule", "fires", "state", "why")
	for _, in := range all {
		fires := "over"
		if in.Fires() {
			fires = Ago(in.Since, now)
		}
		t.row(in.Alert.Fingerprint, dash(in.Alert.Labels["alertname"]), dash(in.Host), in.Rule, fires, in.State, dash(in.Reason))
	}
	return "\n" + t.String()
}

// Mutes lists mutes, one line each.
func Mutes(all []jobs.Mute) string {
	if len(all) == 0 {
		return ""
	}
	t := newTable("mute", "rule", "host", "until", "by", "why")
	for _, m := range all {
		t.row(m.ID, cmp.Or(m.Rule, "all"), cmp.Or(m.Host, "all"), m.Until.Local().Format(time.DateTime), m.By, dash(m.Reason))
	}
	return "\n" + t.String()
}

// Rehearsal tells what rules would have done.
func Rehearsal(lines []alert.Line, alerts int) string {
	drains, cordons := 0, 0
	t := newTable("at", "alert", "host", "would be", "why")
	for _, l := range lines {
		state := string(l.State)
		switch l.Effect {
		case alert.Drain:
			drains, state = drains+1, "DRAINED"
		case alert.Cordon:
			cordons, state = cordons+1, "CORDONED"
		case alert.Uncordon:
			state = "UNCORDONED"
		}
		t.row(l.At.Local().Format(time.DateTime), l.Name, dash(l.Host), state, l.Text)
	}
	end := fmt.Sprintf("%d alerts: %d drains, %d cordons\n", alerts, drains, cordons)
	if len(lines) == 0 {
		return end
	}
	return t.String() + end
}
