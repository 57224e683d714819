package coordinator

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xmig/jobs"
)

// Hours are limits for a part of the week, by the clock of the server that
// decides. What a moment's hours do not name stays as it is at all other times.
type Hours struct {
	Text         string // as it was written: mon-fri 08:00-18:00 out=1 all=0
	days         [7]bool
	from, to     int // minutes of the day; to not later than from: on the next day
	out, in, all int // unset: not named
}

const (
	unset  = -1
	dayEnd = 60 * 24 // in minutes
)

// HoursForm is how Hours are written.
const HoursForm = "[DAYS] HH:MM-HH:MM [out=N] [in=N] [all=N], such as: mon-fri 08:00-18:00 out=1 in=1, or: 22:00-06:00 all=0"

// ParseHours reads them. Hours past midnight belong to the day they begin on.
func ParseHours(text string) (Hours, error) {
	h := Hours{Text: text, out: unset, in: unset, all: unset}
	bad := func(what string) (Hours, error) {
		return h, jobs.Failed(jobs.CodeUsage, "hours %q: %s; want %s", text, what, HoursForm)
	}
	words := strings.Fields(strings.ToLower(text))
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		if !h.takeDays(words[0]) {
			return bad("days " + words[0])
		}
		words = words[1:]
	} else {
		h.days = [7]bool{true, true, true, true, true, true, true}
	}
	if len(words) < 2 {
		return bad("no time, or no limit")
	}
	from, to, _ := strings.Cut(words[0], "-")
	var ok1, ok2 bool
	h.from, ok1 = clockTime(from)
	h.to, ok2 = clockTime(to)
	if !ok1 || !ok2 || h.from == dayEnd {
		return bad("time " + words[0])
	}
	for _, w := range words[1:] {
		name, number, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(number)
		at := map[string]*int{"out": &h.out, "in": &h.in, "all": &h.all}[name]
		if err != nil || n < 0 || at == nil || *at != unset {
			return bad("limit " + w)
		}
		*at = n
	}
	return h, nil
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
func (h *Hours) takeDays(s string) bool {
	first, last, span := strings.Cut(s, "-")
	d, ok := weekday(first)
	end, ok2 := d, ok
	if span {
		end, ok2 = weekday(last)
	}
	for ; ok && ok2; d = (d + 1) % 7 {
		h.days[d] = true
		if d == end {
			return true
		}
	}
	return false
}

// hold tells whether it is within these hours.
func (h Hours) hold(now time.Time) bool {
	day, m := int(now.Weekday()), 60*now.Hour()+now.Minute()
	if h.from < h.to {
		return h.days[day] && m >= h.from && m < h.to
	}
	return h.days[day] && m >= h.from || h.days[(day+6)%7] && m < h.to
}

// At are the limits at a moment: of several hours that hold, the first one
// named counts. What runs already is never stopped by a limit.
func (l Limits) At(now time.Time) Limits {
	for _, h := range l.Hours {
		if !h.hold(now) {
			continue
		}
		for _, v := range []struct {
			limit *int
			named int
		}{{&l.Out, h.out}, {&l.In, h.in}, {&l.Cluster, h.all}} {
			if v.named != unset {
				*v.limit = v.named
			}
		}
		if h.all == 0 {
			l.Cluster = none
		}
		l.by = fmt.Sprintf(", by the hours %q", h.Text)
		break
	}
	return l
}

// none is a limit on moves in all that lets none start; 0 stands for the default.
const none = -1
