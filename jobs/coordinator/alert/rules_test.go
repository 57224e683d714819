package alert

import (
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

const someRules = `
[limits]
draining = 2
keep = 3

[[rule]]
name = "quiet"
match = {alertname = "Watchdog|InfoInhibitor"}
action = "ignore"

[[rule]]
name = "disk"
match = {alertname = "DiskWillFail", severity = "critical"}
host-label = "node"
action = "drain"
for = "2m"
cooldown = "1h"
resolved = "uncordon"

[[rule]]
name = "warm"
match = {alertname = "HostWarm"}
action = "cordon"
tag = "spare"

[[rule]]
name = "rest"
match = {severity = "critical"}
action = "notify"
`

func mustRules(t testing.TB, text string) Rules {
	t.Helper()
	r, err := ParseRules([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRules(t *testing.T) {
	r := mustRules(t, someRules)
	if r.Limits != (Limits{Draining: 2, Keep: 3, Storm: defaultStorm}) || len(r.Rules) != 4 {
		t.Fatalf("%+v", r)
	}
	disk := r.Rules[1]
	if disk.For != 2*time.Minute || disk.Cooldown != time.Hour || !disk.How.Canary || disk.Tag != DefaultTag || !disk.Uncordon || disk.HostLabel != "node" {
		t.Errorf("disk: %+v", disk)
	}
	warm := r.Rules[2]
	if warm.For != defaultFor || warm.Cooldown != defaultCooldown || !warm.How.Canary || warm.Tag != "spare" || warm.Uncordon || warm.HostLabel != defaultHostLabel {
		t.Errorf("warm: %+v", warm)
	}
	if r := mustRules(t, ""); len(r.Rules) != 0 || r.Limits != (Limits{defaultDraining, defaultKeep, defaultStorm}) {
		t.Errorf("an empty file: %+v", r)
	}
}

func TestParseRulesRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\ncanari=true", "unknown key rule.canari"},
		{"[limit]\nkeep=1", "unknown key limit"},
		{"[limits]\ndraining=0", "limits.draining 0"},
		{"[limits]\nkeep=0", "the last host is never drained"},
		{"[limits]\nstorm=1.5", "limits.storm 1.5"},
		{"[limits]\nstorm=nan", "limits.storm NaN"},
		{"[[rule]]\nmatch={a=\"b\"}\naction=\"drain\"", "it has no name"},
		{"[[rule]]\nname=\"a\"\naction=\"drain\"", "it would take every alert"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"(\"}\naction=\"drain\"", "missing closing )"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"reboot\"", "action \"reboot\""},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}", "action \"\""},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\nfor=\"soon\"", "soon"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\nfor=\"-1s\"", "nothing below zero"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\ntag=\"\"", "must be opted in"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\nresolved=\"yes\"", "resolved \"yes\""},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\n[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"", "another rule has this name"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"cordon\"\ncanary=false", "are for the action drain"},
		{"[[rule]]\nname=\"a\"\nmatch={a=\"b\"}\naction=\"drain\"\nmode=\"fast\"", "mode \"fast\""},
		{"rule = 1", "rules:"},
		{"=", "rules:"},
	} {
		_, err := ParseRules([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || jobs.CodeOf(err) != jobs.CodeUsage {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
	// All faults are told at once.
	_, err := ParseRules([]byte("[limits]\nkeep=0\ndraining=0\n[[rule]]\naction=\"x\""))
	if n := strings.Count(err.Error(), "\n"); n != 4 {
		t.Errorf("%d lines, want 5 faults: %v", n+1, err)
	}
}

func TestMatch(t *testing.T) {
	r := mustRules(t, someRules)
	for _, tt := range []struct {
		labels map[string]string
		want   string
	}{
		{map[string]string{"alertname": "Watchdog", "severity": "critical"}, "quiet"},
		{map[string]string{"alertname": "DiskWillFail", "severity": "critical"}, "disk"},
		{map[string]string{"alertname": "DiskWillFail", "severity": "warning"}, ""},
		{map[string]string{"alertname": "DiskWillFailSoon", "severity": "critical"}, "rest"}, // the whole value
		{map[string]string{"alertname": "X\nDiskWillFail", "severity": "page"}, ""},
		{map[string]string{"severity": "critical"}, "rest"},
	} {
		rule, ok := r.Match(jobs.Alert{Labels: tt.labels})
		if rule.Name != tt.want || ok != (tt.want != "") {
			t.Errorf("%v: rule %q, want %q", tt.labels, rule.Name, tt.want)
		}
	}
}

func TestFindHost(t *testing.T) {
	x := newIndex([]Host{
		{Node: "hv1", Hostname: "HV1.example.org"}, {Node: "hv2", Hostname: "twin.example.org"},
		{Node: "hv3", Hostname: "twin.example.org"}, {Node: "db", Hostname: "hv9.example.org"}, {Node: "10"},
	})
	for _, tt := range []struct{ value, want string }{
		{"hv1", "hv1"}, {"hv1:9100", "hv1"}, {"hv1.example.org:9100", "hv1"}, {" HV1.Example.Org ", "hv1"}, {"hv2.other.org", "hv2"},
		{"twin.example.org", ""}, {"twin.example.org:9100", ""}, {"hv9.example.org", "db"}, {"nobody", ""}, {"", ""}, {":9100", ""},
		{"[::1]:9100", ""}, {"hv1:9100:1", ""},
	} {
		got, ok := x.find(tt.value)
		if !ok {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%q means %q, want %q", tt.value, got, tt.want)
		}
	}
}
