package alert

import (
	"testing"
	"time"

	"xmig/jobs"
)

func TestFold(t *testing.T) {
	rule := Rule{Name: "r", Action: jobs.DrainHost}
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	fire := func(starts int) jobs.Alert { return jobs.Alert{Status: jobs.Firing, StartsAt: at(starts)} }
	end := func(starts int) jobs.Alert { return jobs.Alert{Status: jobs.Resolved, StartsAt: at(starts)} }
	bare := func(s jobs.AlertStatus) jobs.Alert { return jobs.Alert{Status: s} }
	old := func(s jobs.IncidentState, resolved bool) *jobs.Incident {
		in := &jobs.Incident{Alert: fire(0), State: s, Since: at(0), ActedAt: at(1)}
		if resolved {
			in.Alert, in.Resolved = end(0), at(2)
		}
		return in
	}
	for _, tt := range []struct {
		name  string
		old   *jobs.Incident
		a     jobs.Alert
		fresh bool
		state jobs.IncidentState
		fires bool
	}{
		{"the first", nil, fire(0), true, jobs.Waiting, true},
		{"over before it was heard of", nil, end(0), false, "", true},
		{"said again", old(jobs.HeldBack, false), fire(0), false, jobs.HeldBack, true},
		{"said again, by another start", old(jobs.Acted, false), fire(3), false, jobs.Acted, true},
		{"over", old(jobs.Acted, false), end(0), true, jobs.Acted, false},
		{"over, without a start", old(jobs.Acted, false), bare(jobs.Resolved), true, jobs.Acted, false},
		{"the end of an earlier firing", old(jobs.Acted, false), end(-5), false, jobs.Acted, true},
		{"over, said again", old(jobs.IncidentIsOver, true), end(0), false, jobs.IncidentIsOver, false},
		{"the firing that is over, late", old(jobs.IncidentIsOver, true), fire(0), false, jobs.IncidentIsOver, false},
		{"anew", old(jobs.IncidentIsOver, true), fire(3), true, jobs.Waiting, true},
		{"anew, without a start", old(jobs.IncidentIsOver, true), bare(jobs.Firing), true, jobs.Waiting, true},
		{"anew before its end was looked at", old(jobs.Acted, true), fire(3), true, jobs.Acted, true},
		{"anew while the order is given", old(jobs.Acting, true), fire(3), true, jobs.Acting, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, fresh := Fold(tt.old, tt.a, rule, at(9))
			if fresh != tt.fresh || in.State != tt.state || in.Fires() != tt.fires {
				t.Fatalf("fresh %v, state %q, fires %v: %+v", fresh, in.State, in.Fires(), in)
			}
			if tt.old != nil && !in.ActedAt.Equal(tt.old.ActedAt) {
				t.Error("it forgot when it acted")
			}
			if fresh && in.Fires() && !in.Since.Equal(at(9)) {
				t.Errorf("fires since %s", in.Since)
			}
			if again, fresh := Fold(&in, tt.a, rule, at(10)); fresh && tt.fresh {
				t.Errorf("the same message twice is news: %+v", again)
			}
		})
	}
}
