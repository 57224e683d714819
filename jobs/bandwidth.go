package jobs

import (
	"errors"
	"fmt"
	"time"
)

// Bandwidth is how fast a host may send, all its moves together, by the time
// of day. Rates are bytes per second; 0: no limit.
type Bandwidth struct {
	Rate  int64       `json:"bwlimit_bytes"`   // at all times that no hours name
	Hours []RateHours `json:"hours,omitempty"` // of several that hold, the first counts
}

// RateHours is a rate for a part of the week.
type RateHours struct {
	Hours string `json:"hours"` // a Period as it is written: mon-fri 08:00-18:00
	Rate  int64  `json:"bwlimit_bytes"`
}

// Validate reports all faults at once.
func (b Bandwidth) Validate() error {
	var errs []error
	if b.Rate < 0 {
		errs = append(errs, Failed(CodeUsage, "bwlimit %d bytes/s: below zero", b.Rate))
	}
	for _, h := range b.Hours {
		if _, err := ParsePeriod(h.Hours); err != nil {
			errs = append(errs, err)
		}
		if h.Rate < 0 {
			errs = append(errs, Failed(CodeUsage, "hours %q: bwlimit %d bytes/s: below zero", h.Hours, h.Rate))
		}
	}
	return errors.Join(errs...)
}

// At is the rate at a moment, by the clock of now's own zone, and the hours that
// name it, "" for none. It knows no moment before: a clock that jumps, or a
// worker that was started late, has the rate of the time it is.
func (b Bandwidth) At(now time.Time) (rate int64, hours string) {
	for _, h := range b.Hours {
		if p, err := ParsePeriod(h.Hours); err == nil && p.Holds(now) {
			return h.Rate, h.Hours
		}
	}
	return b.Rate, ""
}

// Sending is what bounds all that a host sends, as the host tells it.
type Sending struct {
	Bandwidth
	Now   int64  `json:"now_bytes"`           // bytes per second at the moment; 0: no limit
	Named string `json:"now_by,omitempty"`    // the hours that Now comes from
	By    string `json:"wished_by,omitempty"` // who changed it while the host runs; "": its configuration holds
}

// Bandwidth is what holds for a host of this configuration. A rate that is
// wished alone holds at all times: who types one means now.
func (t Throttle) Bandwidth(own Bandwidth) Bandwidth {
	if t.BWLimit == nil && len(t.Hours) == 0 {
		return own
	}
	b := Bandwidth{Rate: own.Rate, Hours: t.Hours}
	if t.BWLimit != nil {
		b.Rate = *t.BWLimit
	}
	return b
}

// Changes tells whether anything other than the configuration is wished.
func (t Throttle) Changes() bool { return t.BWLimit != nil || len(t.Hours) > 0 }

// String names the rate for logs.
func (s Sending) String() string {
	text := "no limit"
	if s.Now > 0 {
		text = fmt.Sprintf("%d bytes/s", s.Now)
	}
	if s.Named != "" {
		text += ", by the hours " + s.Named
	}
	return text
}
