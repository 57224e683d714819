package main

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
)

// moment is a time on the command line: 2026-12-01T02:00:00Z, or 2h: from now.
type moment struct{ time.Time }

func (m *moment) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		m.Time = time.Now().Add(d)
		return nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("time %q: want one such as 2026-12-01T02:00:00Z, or 2h for two hours from now", s)
	}
	m.Time = t
	return nil
}

// cutover says when the guest may be stopped: now, manual, at=TIME.
type cutover struct {
	when jobs.Cutover
	at   time.Time
}

func (c *cutover) UnmarshalText(text []byte) error {
	s := string(text)
	if at, ok := strings.CutPrefix(s, "at="); ok {
		var m moment
		if err := m.UnmarshalText([]byte(at)); err != nil {
			return err
		}
		*c = cutover{jobs.CutoverNow, m.Time}
		return nil
	}
	c.when = jobs.Cutover(s)
	if c.when != jobs.CutoverNow && c.when != jobs.CutoverManual {
		return fmt.Errorf("cutover %q: want now, manual or at=TIME", s)
	}
	return nil
}
