package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

var units = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}

// Bytes writes a size with three digits at most before the unit.
func Bytes(n int64) string {
	f, i := float64(n), 0
	for (f >= 1024 || f <= -1024) && i < len(units)-1 {
		f /= 1024
		i++
	}
	digits := 0
	if i > 0 && f < 100 && f > -100 && f != float64(int64(f)) {
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + units[i]
}

// Rate writes bytes per second.
func Rate(perSecond float64) string { return Bytes(int64(perSecond)) + "/s" }

// Over is the rate of n bytes in d, zero for no time at all.
func Over(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Span writes a duration with as many digits as people compare by.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(max(-d, 0)) // the least of all has no opposite
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// At writes a time of day, a dash for none.
func At(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// Ago writes how long before now t was.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return Span(max(0, now.Sub(t))) + " ago"
}

// dash stands for what is not there, so that columns can be counted.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Quote writes a value of a key=value line: bare where it is one word.
func quote(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r == 0x7f }) {
		return strconv.Quote(s)
	}
	return s
}
