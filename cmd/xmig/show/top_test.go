package show

import (
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
)

func TestTop(t *testing.T) {
	o := api.Overview{At: noon, Totals: map[jobs.State]int{jobs.Running: 1, jobs.Queued: 23, jobs.Succeeded: 400}, More: 21,
		Hosts: []api.HostLine{
			{Name: "hv1", State: alert.Draining, VMs: 12, Out: 1, Memory: 64 << 30, Free: 8 << 30, Moved: 3, Moves: 15, Why: "drain running: 3 moved, 1 moving, 11 waiting, 0 stuck"},
			{Name: "hv2", State: alert.Active, Simulated: true, VMs: 3, In: 1, Memory: 64 << 30, Free: 40 << 30},
			{Name: "hv3", State: alert.Gone},
		},
		Jobs: []api.JobLine{
			{VM: "web01", Source: "hv1", Destination: "hv2", State: jobs.Running, Step: jobs.Seed, Pass: 1, Done: 30 * mib, Size: 120 * mib, Rate: 5 * mib, Predicted: 2 * time.Second, Created: noon.Add(-time.Minute)},
			{VM: "web02", Source: "hv1", State: jobs.Queued, Text: "2 of 2 moves away from hv1 are under way", Created: noon.Add(-time.Hour)},
			{VM: "db01", Source: "hv3", Destination: "hv2", State: jobs.Succeeded, Step: jobs.Settle, Blackout: 900 * time.Millisecond, Created: noon.Add(-2 * time.Hour)},
		}}
	golden(t, "top", Top(o))
	if empty := Top(api.Overview{At: noon}); !strings.Contains(empty, "0 hosts  jobs: -") {
		t.Errorf("of nothing: %s", empty)
	}
	for _, height := range []int{0, 6, 100} {
		lines := Fit(Top(o), 40, height)
		if height == 6 && (len(lines) != 5 || lines[4] != "…") || height != 6 && len(lines) != strings.Count(Top(o), "\n") {
			t.Errorf("%d lines on a screen of %d: %q", len(lines), height, lines)
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > 40 {
				t.Errorf("a line of %d characters: %q", n, l)
			}
		}
	}
}
