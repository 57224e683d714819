package alert

import (
	"time"

	"xmig/jobs"
)

// Fold gives the incident as it is after a message about its alert, and
// whether that is anything new. old is nil where there is none. Messages come
// twice, late and out of order.
func Fold(old *jobs.Incident, a jobs.Alert, r Rule, now time.Time) (jobs.Incident, bool) {
	fires := a.Status == jobs.Firing
	if old == nil {
		if !fires {
			return jobs.Incident{}, false // over before anybody heard of it
		}
		return jobs.Incident{Alert: a, Rule: r.Name, Action: r.Action, State: jobs.Waiting, Since: now, Updated: now}, true
	}
	in := *old
	switch {
	case fires == in.Fires():
		return in, false // said again
	case !fires && !a.StartsAt.IsZero() && a.StartsAt.Before(in.Alert.StartsAt):
		return in, false // the end of an earlier firing, late
	case !fires:
		in.Resolved = now
	case !a.StartsAt.IsZero() && !a.StartsAt.After(in.Alert.StartsAt):
		return in, false // the firing that is over, late
	default:
		in.Resolved, in.Since = time.Time{}, now
		if in.State == jobs.IncidentIsOver {
			in.State, in.Obstacle, in.Reason = jobs.Waiting, "", ""
		}
	}
	in.Alert, in.Updated = a, now
	return in, true
}
