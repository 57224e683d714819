package jobs

import (
	"context"
	"strings"
	"testing"
	"time"
)

// door is a gate that answers by its list, the last for ever.
type door struct {
	answers []Wait
	left    int
}

func (d *door) Ask(context.Context, Record) (Wait, error) {
	w := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	}
	return w, nil
}

func (d *door) Leave() { d.left++ }

// TestMayStop: what is waited for is noted once per reason, a copy that grew
// old gets another pass, and a paused job sends nothing however long it waits.
func TestMayStop(t *testing.T) {
	busy, word, paused := Wait{Why: "waits until fewer guests stand still"}, Wait{Why: "waits for a word"}, Wait{Why: "paused by me", Quiet: true}
	many := func(w Wait, n int, then ...Wait) (all []Wait) {
		for range n {
			all = append(all, w)
		}
		return append(all, then...)
	}
	for name, c := range map[string]struct {
		answers []Wait
		open    bool
		noted   string
	}{
		"open":                      {[]Wait{{}}, true, ""},
		"open after a while":        {many(busy, 5, Wait{}), true, busy.Why},
		"each reason once":          {append(many(busy, 3), many(word, 3, Wait{})...), true, busy.Why + ", " + word.Why},
		"the copy grew old":         {many(busy, 1), false, busy.Why},
		"paused: no pass for hours": {many(paused, 5000, Wait{}), false, paused.Why},
		"paused for a moment":       {many(paused, 3, Wait{}), true, paused.Why},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var noted []string
			rec := Record{}
			m := &Migration{rec: &rec, gate: &door{answers: c.answers}, clock: func() time.Time { return now },
				sleep: func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil },
				waits: func(_ context.Context, why string) error {
					noted = append(noted, why)
					if strings.HasPrefix(why, "paused") != (rec.Paused != nil) {
						t.Errorf("%q: the record says paused: %v", why, rec.Paused)
					}
					return nil
				}}
			open, err := m.mayStop(t.Context())
			if err != nil || open != c.open || strings.Join(noted, ", ") != c.noted {
				t.Errorf("open %t, %v, noted %q; want %t, %q", open, err, noted, c.open, c.noted)
			}
			if open && rec.Paused != nil {
				t.Error("it goes on and is still said to be paused")
			}
		})
	}
}
