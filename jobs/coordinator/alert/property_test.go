package alert

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xmig/jobs"
)

// world is a fleet that obeys: orders take their time, coordinators die between
// any two lines, alerts come in any order.
type world struct {
	t       *rapid.T
	r       Rules
	s       Snapshot
	at      map[string]int       // fingerprint → place in s.Incidents
	drains  map[string]time.Time // hosts that this world's alerts drained, and when the order was first taken
	pending map[string]string    // drains under way → who asked
}

// TestNeverBeyondLimits drives random alerts and random crashes, and looks at
// every order that is given.
func TestNeverBeyondLimits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: rt, at: map[string]int{}, drains: map[string]time.Time{}, pending: map[string]string{}}
		n := rapid.IntRange(1, 7).Draw(rt, "hosts")
		w.r = mustRules(t, fmt.Sprintf("[limits]\ndraining = %d\nkeep = %d\n%s", rapid.IntRange(1, 3).Draw(rt, "draining"), rapid.IntRange(1, 3).Draw(rt, "keep"),
			drainRules[len("\n[limits]\nkeep = 2\n"):]))
		w.s = Snapshot{Now: noon, Hosts: hostsOf(n)}
		rt.Repeat(map[string]func(*rapid.T){
			"alert": w.alert,
			"time": func(rt *rapid.T) {
				w.s.Now = w.s.Now.Add(time.Duration(rapid.IntRange(1, 5400).Draw(rt, "seconds")) * time.Second)
			},
			"decide": w.decide,
			"fleet":  w.fleet,
			"person": w.person,
			"mute": func(rt *rapid.T) {
				w.s.Mutes = nil
				if rapid.Bool().Draw(rt, "muted") {
					w.s.Mutes = []jobs.Mute{{By: "ann", Host: w.hostName(rt), Until: w.s.Now.Add(time.Hour)}}
				}
			},
		})
	})
}

func (w *world) hostName(rt *rapid.T) string {
	return w.s.Hosts[rapid.IntRange(0, len(w.s.Hosts)-1).Draw(rt, "host")].Node
}

func (w *world) alert(rt *rapid.T) {
	a := alertOf(rapid.SampledFrom([]string{"DiskWillFail", "FanFailed", "HostWarm", "Told"}).Draw(rt, "alert"), w.hostName(rt))
	a.StartsAt, a.Seen = w.s.Now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(rt, "late"))*time.Minute), w.s.Now
	if rapid.Bool().Draw(rt, "over") {
		a.Status = jobs.Resolved
	}
	var old *jobs.Incident
	i, known := w.at[a.Fingerprint]
	if known {
		old = &w.s.Incidents[i]
	}
	in, fresh := Fold(old, a, *w.r.answer(a), w.s.Now)
	switch {
	case !fresh:
	case known:
		w.s.Incidents[i] = in
	default:
		w.at[a.Fingerprint] = len(w.s.Incidents)
		w.s.Incidents = append(w.s.Incidents, in)
	}
}

// decide carries out what is decided, or dies after the store, or after the order.
func (w *world) decide(rt *rapid.T) {
	before := map[string]jobs.Incident{}
	for _, in := range w.s.Incidents {
		before[in.Alert.Fingerprint] = in
	}
	for _, step := range Decide(w.r, w.s) {
		in := step.Incident
		i := w.at[in.Alert.Fingerprint]
		if step.Effect != Forget && in.Reason == "" {
			rt.Fatalf("no reason: %+v", step)
		}
		old := before[in.Alert.Fingerprint].State
		if (step.Effect == Drain || step.Effect == Cordon) && old != jobs.Acting {
			w.allowed(in)
		}
		if step.Effect == Forget {
			continue // kept: the world wants its history
		}
		w.s.Incidents[i] = in
		if rapid.IntRange(0, 5).Draw(rt, "dies") == 0 {
			return
		}
		w.obey(&step)
		if rapid.IntRange(0, 5).Draw(rt, "dies after") == 0 {
			return
		}
		w.s.Incidents[i] = step.Took(w.s.Now)
	}
}

// allowed fails if a new act on a host breaks a limit, by what the world knows
// itself and not by what the decision counted.
func (w *world) allowed(in jobs.Incident) {
	rule := w.r.answer(in.Alert)
	serving, draining, alerting := 0, 0, map[string]bool{}
	taken := map[string]bool{}
	for _, o := range w.s.Incidents {
		if or := w.r.answer(o.Alert); o.Fires() && or.acts() {
			alerting[o.Alert.Labels["instance"]] = true
		}
		if o.State == jobs.Acting && o.Action != jobs.NotifyAlert && o.Alert.Fingerprint != in.Alert.Fingerprint {
			taken[o.Host] = taken[o.Host] || o.Action == jobs.DrainHost
			if o.Host == in.Host {
				w.t.Fatalf("%s is acted on twice: %+v and %+v", in.Host, o, in)
			}
		}
	}
	for _, h := range w.s.Hosts {
		_, busy := taken[h.Node]
		if h.serves() && h.Node != in.Host && !busy {
			serving++
		}
		if (h.State == Draining || taken[h.Node]) && h.Node != in.Host {
			draining++
		}
	}
	last, drained := w.drains[in.Host]
	switch {
	case serving < w.r.Limits.Keep:
		w.t.Fatalf("%d hosts in service beside %s, %d must be", serving, in.Host, w.r.Limits.Keep)
	case rule.Action == jobs.DrainHost && draining >= w.r.Limits.Draining:
		w.t.Fatalf("%d drains beside %s", draining, in.Host)
	case len(alerting) > 1 && float64(len(alerting)) > w.r.Limits.Storm*float64(len(w.s.Hosts)):
		w.t.Fatalf("%s in a storm of %d of %d hosts", in.Host, len(alerting), len(w.s.Hosts))
	case rule.Action == jobs.DrainHost && drained && w.s.Now.Before(last.Add(rule.Cooldown)):
		w.t.Fatalf("%s drained at %s and again at %s", in.Host, last, w.s.Now)
	case w.s.Now.Before(in.Since.Add(rule.For)):
		w.t.Fatalf("too early: %+v", in)
	case !in.Fires():
		w.t.Fatalf("the alert is over: %+v", in)
	}
	for _, m := range w.s.Mutes {
		if m.Covers(rule.Name, in.Host, w.s.Now) {
			w.t.Fatalf("muted: %+v", in)
		}
	}
}

func (w *world) obey(step *Step) {
	for i := range w.s.Hosts {
		h := &w.s.Hosts[i]
		if h.Node != step.Incident.Host {
			continue
		}
		switch step.Effect {
		case Cordon:
			if h.State == Active {
				h.State, h.By = Cordoned, By(step.Incident)
			}
		case Drain:
			if h.State != Draining && h.State != Drained {
				h.State = Draining
				if h.By == "" {
					h.By = By(step.Incident)
				}
			}
			w.drains[h.Node] = w.s.Now
		case Uncordon:
			if h.By != By(step.Incident) {
				w.t.Fatalf("took away the cordon of %q: %+v", h.By, step)
			}
			h.State, h.By = Active, ""
		}
	}
}

// fleet lets drains come to an end.
func (w *world) fleet(rt *rapid.T) {
	for i := range w.s.Hosts {
		if w.s.Hosts[i].State == Draining && rapid.Bool().Draw(rt, "drained") {
			w.s.Hosts[i].State = Drained
		}
	}
}

// person cordons, uncordons and drains as people do, without asking anybody.
func (w *world) person(rt *rapid.T) {
	h := &w.s.Hosts[rapid.IntRange(0, len(w.s.Hosts)-1).Draw(rt, "host")]
	h.State = rapid.SampledFrom([]HostState{Active, Cordoned, Draining, Gone, h.State, h.State}).Draw(rt, "state")
	if h.By = "ann"; h.State == Active {
		h.By = ""
	}
}

// TestItActs: with nothing against it, an alert that goes on firing drains its
// host, whenever coordinators die.
func TestItActs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: rt, r: mustRules(t, drainRules), at: map[string]int{}, drains: map[string]time.Time{}}
		w.s = Snapshot{Now: noon, Hosts: hostsOf(rapid.IntRange(3, 6).Draw(rt, "hosts"))}
		in := incidentOf(t, w.r, "DiskWillFail", "hv1", noon)
		w.s.Incidents, w.at = []jobs.Incident{in}, map[string]int{in.Alert.Fingerprint: 0}
		for range 200 {
			w.s.Now = w.s.Now.Add(time.Second)
			w.decide(rt)
		}
		if w.s.Hosts[0].State != Draining || w.s.Incidents[0].State != jobs.Acted {
			rt.Fatalf("%s is %s: %+v", w.s.Hosts[0].Node, w.s.Hosts[0].State, w.s.Incidents[0])
		}
	})
}
