package show

import (
	"strings"

	"xmig/jobs"
)

// Limit writes a bandwidth limit; 0 is none.
func Limit(perSecond int64) string {
	if perSecond == 0 {
		return "without a limit"
	}
	return "at most " + Rate(float64(perSecond))
}

// RateHours writes limits for parts of the week.
func RateHours(all []jobs.RateHours) string {
	var parts []string
	for _, h := range all {
		parts = append(parts, Limit(h.Rate)+" "+h.Hours)
	}
	return strings.Join(parts, ", ")
}

// Sends tells how fast a host may send now, at which times otherwise, and who
// says so.
func Sends(s *jobs.Sending) string {
	if s == nil {
		return "-"
	}
	text := Limit(s.Now)
	if len(s.Hours) > 0 {
		text += " now"
		if s.Named != "" {
			text += ", by the hours " + s.Named
		}
		text += "; " + RateHours(s.Hours) + ", else " + Limit(s.Rate)
	}
	if s.By != "" {
		return text + " (wished by " + s.By + ")"
	}
	return text + " (as configured)"
}
