package jobs

import (
	"strings"
	"time"
)

// Period is a part of the week by a wall clock. The zero value is no time at all.
//
// It is told by what the clock shows and by nothing else. So on the day that
// clocks go forward, times that are skipped do not come, on the day they go back
// an hour holds twice, and a clock that is set changes what holds with it.
type Period struct {
	days     [7]bool
	from, to int // minutes of the day; to not later than from: on the next day
}

const dayEnd = 60 * 24 // in minutes

// PeriodForm is how a Period is written.
const PeriodForm = "[DAYS] HH:MM-HH:MM"

// TakePeriod reads a Period off the first words, and gives those that are left.
// Times past midnight belong to the day they begin on. bad says what is wrong.
func TakePeriod(words []string) (p Period, rest []string, bad string) {
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		if !p.takeDays(strings.ToLower(words[0])) {
			return Period{}, nil, "days " + words[0]
		}
		words = words[1:]
	} else {
		p.days = [7]bool{true, true, true, true, true, true, true}
	}
	if len(words) == 0 {
		return Period{}, nil, "no time"
	}
	from, to, _ := strings.Cut(words[0], "-")
	var ok1, ok2 bool
	p.from, ok1 = clockTime(from)
	p.to, ok2 = clockTime(to)
	if !ok1 || !ok2 || p.from == dayEnd {
		return Period{}, nil, "time " + words[0]
	}
	return p, words[1:], ""
}

// ParsePeriod reads one that stands alone.
func ParsePeriod(text string) (Period, error) {
	p, rest, bad := TakePeriod(strings.Fields(text))
	if bad == "" && len(rest) > 0 {
		bad = "more than a time: " + strings.Join(rest, " ")
	}
	if bad != "" {
		return Period{}, Failed(CodeUsage, "hours %q: %s; want %s", text, bad, PeriodForm)
	}
	return p, nil
}

// clockTime reads HH:MM as minutes; 24:00 is the end of the day.
func clockTime(s string) (int, bool) {
	if s == "24:00" {
		return dayEnd, true
	}
	t, err := time.Parse("15:04", s)
	return 60*t.Hour() + t.Minute(), err == nil
}

func weekday(s string) (int, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if s == strings.ToLower(d.String()[:3]) {
			return int(d), true
		}
	}
	return 0, false
}

// takeDays reads mon-fri, or sat; fri-mon goes over the week's end.
func (p *Period) takeDays(s string) bool {
	first, last, span := strings.Cut(s, "-")
	d, ok := weekday(first)
	end, ok2 := d, ok
	if span {
		end, ok2 = weekday(last)
	}
	for ; ok && ok2; d = (d + 1) % 7 {
		p.days[d] = true
		if d == end {
			return true
		}
	}
	return false
}

// Holds tells whether now is within it, by the clock of now's own zone.
func (p Period) Holds(now time.Time) bool {
	day, m := int(now.Weekday()), 60*now.Hour()+now.Minute()
	if p.from < p.to {
		return p.days[day] && m >= p.from && m < p.to
	}
	return p.days[day] && m >= p.from || p.days[(day+6)%7] && m < p.to
}
