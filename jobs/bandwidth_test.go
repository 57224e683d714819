package jobs

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the days that clocks change must be tried on machines without zones too

	"pgregory.net/rapid"
)

const mib = 1 << 20

// officeHours: slow by day, without a limit at night, very slow while backups run.
var officeHours = Bandwidth{Rate: 100 * mib, Hours: []RateHours{
	{"mon-fri 08:00-18:00", 50 * mib}, {"fri-sun 22:00-06:00", 0}, {"02:15-02:45", 1 * mib}}}

// TestBandwidthAt: 2026-11-23 is a Monday. In Berlin clocks go forward at
// 02:00 on 2026-03-29 and back at 03:00 on 2026-10-25, both Sundays.
func TestBandwidthAt(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at    string // in UTC
		zone  *time.Location
		rate  int64
		hours string
	}{
		{"2026-11-23T07:59:59Z", time.UTC, 100 * mib, ""},
		{"2026-11-23T08:00:00Z", time.UTC, 50 * mib, "mon-fri 08:00-18:00"},
		{"2026-11-23T17:59:59Z", time.UTC, 50 * mib, "mon-fri 08:00-18:00"},
		{"2026-11-23T18:00:00Z", time.UTC, 100 * mib, ""},
		{"2026-11-23T07:30:00Z", berlin, 50 * mib, "mon-fri 08:00-18:00"}, // half past eight there
		{"2026-11-28T12:00:00Z", time.UTC, 100 * mib, ""},                 // Saturday

		{"2026-11-27T21:59:59Z", time.UTC, 100 * mib, ""},
		{"2026-11-27T22:00:00Z", time.UTC, 0, "fri-sun 22:00-06:00"}, // Friday
		{"2026-11-28T02:30:00Z", time.UTC, 0, "fri-sun 22:00-06:00"}, // over midnight, and before the third one
		{"2026-11-28T05:59:59Z", time.UTC, 0, "fri-sun 22:00-06:00"},
		{"2026-11-28T06:00:00Z", time.UTC, 100 * mib, ""},
		{"2026-11-30T05:00:00Z", time.UTC, 0, "fri-sun 22:00-06:00"}, // Sunday's night over the week's end
		{"2026-11-27T05:00:00Z", time.UTC, 100 * mib, ""},            // Thursday's night is none
		{"2026-11-24T02:30:00Z", time.UTC, 1 * mib, "02:15-02:45"},

		{"2026-03-30T00:30:00Z", berlin, 0, "fri-sun 22:00-06:00"}, // 02:30 of the Monday after
		{"2026-03-31T00:30:00Z", berlin, 1 * mib, "02:15-02:45"},   // of Tuesday, in summer time
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if rate, hours := officeHours.At(at.In(c.zone)); rate != c.rate || hours != c.hours {
			t.Errorf("at %s: %d by %q, want %d by %q", at.In(c.zone), rate, hours, c.rate, c.hours)
		}
	}
}

// TestBandwidthWhenClocksChange counts the minutes that hours last on the day
// before, on the day that clocks change and on the day after.
func TestBandwidthWhenClocksChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := Bandwidth{Hours: []RateHours{{"02:15-02:45", 1}, {"01:00-04:00", 2}}}
	for _, c := range []struct {
		day         time.Time
		inner, both int // minutes
	}{
		{time.Date(2026, 3, 28, 0, 0, 0, 0, berlin), 30, 180},
		{time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 0, 120}, // 02:00 to 03:00 does not come
		{time.Date(2026, 3, 30, 0, 0, 0, 0, berlin), 30, 180},
		{time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 60, 240}, // 02:00 to 03:00 comes twice
		{time.Date(2026, 10, 26, 0, 0, 0, 0, berlin), 30, 180},
	} {
		inner, both := 0, 0
		for at := c.day; at.Before(c.day.AddDate(0, 0, 1)); at = at.Add(time.Minute) {
			if rate, _ := night.At(at); rate == 1 {
				inner, both = inner+1, both+1
			} else if rate == 2 {
				both++
			}
		}
		if inner != c.inner || both != c.both {
			t.Errorf("%s: %d and %d minutes, want %d and %d", c.day.Format(time.DateOnly), inner, both, c.inner, c.both)
		}
	}
}

// TestBandwidthIsOfTheMoment: whatever moments came before, a clock that jumps
// shows the rate of the time it shows; and a period and the rest of its day never
// hold together, and never leave a minute out.
func TestBandwidthIsOfTheMoment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := func(minute int) string {
			return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC).Format("15:04")
		}
		from, length := rapid.IntRange(0, dayEnd-1).Draw(t, "from"), rapid.IntRange(1, dayEnd-1).Draw(t, "length")
		to := (from + length) % dayEnd
		in, err1 := ParsePeriod(clock(from) + "-" + clock(to))
		out, err2 := ParsePeriod(clock(to) + "-" + clock(from))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0).UTC()
		if in.Holds(at) == out.Holds(at) {
			t.Fatalf("%s-%s and its rest both hold at %s: %t", clock(from), clock(to), at, in.Holds(at))
		}
		if want := (60*at.Hour()+at.Minute()-from+dayEnd)%dayEnd < length; in.Holds(at) != want {
			t.Fatalf("%s-%s holds at %s: %t", clock(from), clock(to), at, !want)
		}
		jumped := at.Add(time.Duration(rapid.Int64Range(-1e17, 1e17).Draw(t, "jump")))
		before, _ := officeHours.At(at)
		officeHours.At(jumped)
		if after, _ := officeHours.At(at); after != before {
			t.Fatalf("at %s first %d, then %d", at, before, after)
		}
	})
}

func TestBandwidthRefused(t *testing.T) {
	for _, s := range []string{"", "mon-fri", "mon-fry 08:00-18:00", "8-18", "08:00", "25:00-26:00", "24:00-06:00", "mon tue 08:00-18:00", "08:00-18:00 50"} {
		b := Bandwidth{Hours: []RateHours{{s, 1}}}
		if err := b.Validate(); err == nil || CodeOf(err) != CodeUsage || !strings.Contains(err.Error(), PeriodForm) {
			t.Errorf("hours %q: %v", s, err)
		}
		if rate, _ := b.At(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)); rate != 0 {
			t.Errorf("hours %q that are none hold", s)
		}
	}
	err := Bandwidth{Rate: -1, Hours: []RateHours{{"08:00-18:00", -2}}}.Validate()
	if err == nil || !strings.Contains(err.Error(), "-1") || !strings.Contains(err.Error(), "-2") {
		t.Errorf("rates below zero: %v", err)
	}
	if err := officeHours.Validate(); err != nil {
		t.Error(err)
	}
}

// TestThrottle: what is wished beside what is configured.
func TestThrottle(t *testing.T) {
	ten, night := int64(10*mib), []RateHours{{"22:00-06:00", 0}}
	for name, c := range map[string]struct {
		wish    Throttle
		noon    int64
		evening int64
		changes bool
	}{
		"nothing":              {Throttle{By: "ann"}, 50 * mib, 100 * mib, false},
		"a rate":               {Throttle{BWLimit: &ten}, 10 * mib, 10 * mib, true},
		"hours":                {Throttle{Hours: night}, 100 * mib, 0, true},
		"a rate and hours":     {Throttle{BWLimit: &ten, Hours: night}, 10 * mib, 0, true},
		"no limit at any time": {Throttle{BWLimit: new(int64)}, 0, 0, true},
	} {
		b := c.wish.Bandwidth(officeHours)
		noon, _ := b.At(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
		evening, _ := b.At(time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC))
		if noon != c.noon || evening != c.evening || c.wish.Changes() != c.changes {
			t.Errorf("%s: %d at noon, %d in the evening, changes %t; want %+v", name, noon, evening, c.wish.Changes(), c)
		}
	}
}
