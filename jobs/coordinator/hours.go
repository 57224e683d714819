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
	Text string // as it was written: mon-fri 08:00-18:00 out=1 all=0
	jobs.Period
	out, in, all int // unset: not named
}

const unset = -1

// HoursForm is how Hours are written.
const HoursForm = jobs.PeriodForm + " [out=N] [in=N] [all=N], such as: mon-fri 08:00-18:00 out=1 in=1, or: 22:00-06:00 all=0"

// ParseHours reads them. Hours past midnight belong to the day they begin on.
func ParseHours(text string) (Hours, error) {
	h := Hours{Text: text, out: unset, in: unset, all: unset}
	fault := func(what string) (Hours, error) {
		return h, jobs.Failed(jobs.CodeUsage, "hours %q: %s; want %s", text, what, HoursForm)
	}
	var words []string
	var bad string
	if h.Period, words, bad = jobs.TakePeriod(strings.Fields(strings.ToLower(text))); bad != "" {
		return fault(bad)
	}
	if len(words) == 0 {
		return fault("no limit")
	}
	for _, w := range words {
		name, number, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(number)
		at := map[string]*int{"out": &h.out, "in": &h.in, "all": &h.all}[name]
		if err != nil || n < 0 || at == nil || *at != unset {
			return fault("limit " + w)
		}
		*at = n
	}
	return h, nil
}

// At are the limits at a moment: of several hours that hold, the first one
// named counts. What runs already is never stopped by a limit.
func (l Limits) At(now time.Time) Limits {
	for _, h := range l.Hours {
		if !h.Holds(now) {
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
