package alert

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

func TestRehearse(t *testing.T) {
	r := mustRules(t, drainRules)
	at := func(name, node string, minute int, s jobs.AlertStatus) jobs.Alert {
		a := alertOf(name, node)
		a.Status, a.Seen = s, noon.Add(time.Duration(minute)*time.Minute)
		a.StartsAt = a.Seen
		if s == jobs.Resolved {
			a.StartsAt = time.Time{}
		}
		return a
	}
	lines := Rehearse(r, hostsOf(4), []jobs.Alert{
		at("DiskWillFail", "hv1", 0, jobs.Firing),
		at("DiskWillFail", "hv1", 3, jobs.Firing), // repeated
		at("Nobody", "hv2", 4, jobs.Firing),       // no rule
		at("FanFailed", "hv3", 5, jobs.Firing),
		at("FanFailed", "hv3", 20, jobs.Resolved),
		at("FanFailed", "hv3", 30, jobs.Firing), // flaps
		at("DiskWillFail", "hv9", 40, jobs.Firing),
	})
	var got []string
	for _, l := range lines {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", l.At.Format("15:04"), l.Host, l.State, l.Effect, l.Obstacle)))
	}
	want := []string{
		"12:00 hv1 waiting  for",
		"12:01 hv1 acting drain",
		"12:05 hv3 acting drain",
		"12:20 hv3 resolved uncordon",
		"12:30 hv3 held  cooldown",
		"12:40  waiting  for",
		"12:41  held  unknown",
		"18:05 hv3 acting drain",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again := Rehearse(r, hostsOf(4), nil); len(again) != 0 {
		t.Errorf("no alerts: %v", again)
	}
}
