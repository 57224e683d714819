package coordinator

import (
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

func hoursOf(t *testing.T, text ...string) (all []Hours) {
	t.Helper()
	for _, s := range text {
		h, err := ParseHours(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	return all
}

// TestLimitsAt: 2026-11-23 is a Monday.
func TestLimitsAt(t *testing.T) {
	base := Limits{Out: 2, In: 3, Cluster: 9, Hours: hoursOf(t,
		"mon-fri 08:00-18:00 out=1 in=1", "fri-mon 22:00-06:00 all=0", "00:00-24:00 in=7", "sat 10:00-10:00 out=4")}
	for at, want := range map[string][3]int{
		"2026-11-23T05:59:00Z": {2, 3, none}, // Sunday's night
		"2026-11-23T06:00:00Z": {2, 7, 9},
		"2026-11-23T07:59:59Z": {2, 7, 9},
		"2026-11-23T08:00:00Z": {1, 1, 9},
		"2026-11-23T17:59:59Z": {1, 1, 9},
		"2026-11-23T18:00:00Z": {2, 7, 9},
		"2026-11-23T22:00:00Z": {2, 3, none},
		"2026-11-24T05:00:00Z": {2, 3, none}, // Monday's night still
		"2026-11-24T22:30:00Z": {2, 7, 9},    // not Tuesday's
		"2026-11-28T12:00:00Z": {2, 7, 9},    // Saturday
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if l := base.At(now); l.Out != want[0] || l.In != want[1] || l.Cluster != want[2] {
			t.Errorf("at %s: %d out, %d in, %d in all; want %v", at, l.Out, l.In, l.Cluster, want)
		}
	}
	if l := (Limits{Hours: hoursOf(t, "sat 10:00-10:00 out=4")}).At(time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)); l.Out != 4 {
		t.Errorf("a day from 10:00 on does not last until 10:00: %+v", l)
	}
}

func TestHoursRefused(t *testing.T) {
	for _, s := range []string{"", "08:00-18:00", "mon-fry 08:00-18:00 out=1", "8-18 out=1", "08:00 out=1", "25:00-26:00 out=1", "08:00-18:00 out=-1",
		"08:00-18:00 out", "08:00-18:00 up=1", "08:00-18:00 out=1 out=2", "24:00-06:00 all=0", "mon tue 08:00-18:00 all=0"} {
		if _, err := ParseHours(s); err == nil || jobs.CodeOf(err) != jobs.CodeUsage || !strings.Contains(err.Error(), HoursForm) {
			t.Errorf("hours %q: %v", s, err)
		}
	}
}

// TestDecideByTheClock: the same fleet at different times. What runs goes on
// when its hours end, and counts; nothing of a lower limit is started.
func TestDecideByTheClock(t *testing.T) {
	a, b, c := vm("a", 1), vm("b", 1), vm("c", 1)
	limits := Limits{Out: 2, In: 2, Hours: hoursOf(t, "08:00-18:00 out=1", "22:00-23:00 all=0")}
	s := Snapshot{Hosts: []jobs.Host{host("hv1", 8, a, b, c), host("hv2", 8), host("hv3", 8)},
		Records: []jobs.Record{queued("1", a, "hv1", "hv2"), queued("2", b, "hv1", "hv2"), queued("3", c, "hv1", "hv3")}}
	starts := func(hour int) (n int, wait string) {
		s.Now = time.Date(2026, 11, 26, hour, 30, 0, 0, time.UTC)
		for _, a := range Decide(s, limits) {
			if len(a.Candidates) > 0 {
				n++
			} else {
				wait = a.Wait
			}
		}
		return n, wait
	}
	if n, _ := starts(7); n != 2 {
		t.Errorf("in the morning %d start", n)
	}
	if n, wait := starts(9); n != 1 || wait != `1 of 1 moves away from hv1 are under way, by the hours "08:00-18:00 out=1"` {
		t.Errorf("by day %d start, others wait: %s", n, wait)
	}
	if n, wait := starts(22); n != 0 || wait != `0 of 0 moves are under way in all, by the hours "22:00-23:00 all=0"` {
		t.Errorf("when nothing may start %d start, others wait: %s", n, wait)
	}
	s.Records[0] = at(s.Records[0], jobs.Running, "hv2")
	s.Records[1] = at(s.Records[1], jobs.Running, "hv2")
	if n, wait := starts(9); n != 0 || !strings.HasPrefix(wait, "2 of 1 moves away") {
		t.Errorf("with two under way %d start, others wait: %s", n, wait)
	}
}
