package jobs

import (
	"context"
	"time"
)

// Gate says whether the guest may be stopped now. Closed: Why says what is
// waited for. Open: the place is kept until Leave.
type Gate interface {
	Ask(ctx context.Context, r Record) (Wait, error)
	Leave()
}

// Wait is what a gate answers; the zero value: it is open.
type Wait struct {
	Why   string
	Quiet bool // a person paused it: send nothing meanwhile
}

const (
	// askGate is how often a closed gate is asked again.
	askGate = time.Second
	// freshFor is how long a copy counts as fresh after a pass. Where more was
	// waited, one more pass is made, or the last one would take longer than predicted.
	freshFor = 30 * time.Second
)

// mayStop waits for the gate. False: the copy grew old meanwhile, and another
// pass is due; the place is kept if there is one.
func (m *Migration) mayStop(ctx context.Context) (bool, error) {
	if m.gate == nil {
		return true, nil
	}
	began, last := m.clock(), ""
	for {
		w, err := m.gate.Ask(ctx, *m.rec)
		if err != nil {
			return false, err
		}
		old := m.clock().Sub(began) > freshFor
		switch {
		case w.Why == "":
			if last != "" {
				m.rec.Held, m.rec.Paused = nil, nil
			}
			return !old, nil
		case old && !w.Quiet:
			return false, nil
		}
		if w.Why != last {
			last = w.Why
			m.rec.Paused = nil
			if w.Quiet {
				m.rec.Paused = &Flag{Reason: w.Why, Since: m.clock()}
			}
			if err := m.waits(ctx, w.Why); err != nil {
				return false, err
			}
		}
		if err := m.sleep(ctx, askGate); err != nil {
			return false, err
		}
	}
}
