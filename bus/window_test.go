package bus

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// road is a wire with a receiver that takes what comes at once, in virtual
// time: frames travel one after the other, and each way has a delay on top.
type road struct {
	rate  float64 // bytes per second
	delay time.Duration
	frame uint64
}

// event is that a total of bytes arrived, or was told.
type event struct {
	at    time.Time
	total uint64
}

// drive has a sender that is never without a frame use the road for d. It
// returns the bytes per second of the second half, and the longest that a frame
// of that half waited behind others.
func (r road) drive(t *rapid.T, w *window, d time.Duration) (rate float64, queued time.Duration) {
	begin := time.Unix(0, 0)
	var arrivals, answers []event
	var sent, credit, last, half uint64
	for now, free := begin, begin; now.Sub(begin) < d; {
		switch {
		case len(answers) > 0 && !answers[0].at.After(now):
			credit, answers = answers[0].total, answers[1:]
			w.taken(credit, now)
		case len(arrivals) > 0 && !arrivals[0].at.After(now):
			if a := arrivals[0]; a.total-last >= told(w.most) {
				last = a.total
				answers = append(answers, event{a.at.Add(r.delay), last})
			}
			arrivals = arrivals[1:]
		case w.fits(sent-credit, r.frame):
			sent += r.frame
			w.sent(sent, sent-credit, now)
			if free.Before(now) {
				free = now
			}
			if now.Sub(begin) > d/2 {
				queued = max(queued, free.Sub(now))
			}
			free = free.Add(time.Duration(float64(r.frame) / r.rate * 1e9))
			arrivals = append(arrivals, event{free.Add(r.delay), sent})
		case len(arrivals) > 0 && (len(answers) == 0 || arrivals[0].at.Before(answers[0].at)):
			now = arrivals[0].at
		case len(answers) > 0:
			now = answers[0].at
		default:
			t.Fatalf("stuck with %d bytes sent and credit for %d: %+v", sent, credit, *w)
		}
		if half == 0 && now.Sub(begin) >= d/2 {
			half = sent
		}
	}
	return float64(sent-half) / (d / 2).Seconds(), queued
}

// TestWindow: on any wire the window lets through most of what the wire carries or the
// receiver has room for, and no queue is longer than it may be and than the
// least that both ends need.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := road{
			rate:  float64(rapid.Uint64Range(100e3, 3e9).Draw(t, "rate")),
			delay: time.Duration(rapid.Int64Range(0, 400e6).Draw(t, "delay")),
			frame: rapid.Uint64Range(64<<10, maxFrame).Draw(t, "frame"),
		}
		w := newWindow(rapid.Uint64Range(channelWindow, maxWindow).Draw(t, "most"))
		timeOf := func(bytes uint64) time.Duration { return time.Duration(float64(bytes) / r.rate * 1e9) }
		rate, queued := r.drive(t, &w, 60*(2*r.delay+timeOf(w.most)))
		// Credit comes in parts: a part and a frame of the room are never of use.
		carried := min(r.rate, float64(w.most-told(w.most)-r.frame)/(2*r.delay+timeOf(r.frame)).Seconds())
		if rate < 0.75*carried {
			t.Errorf("%.0f bytes/s of %.0f: %+v", rate, carried, w)
		}
		least := headroom*float64(w.least) + float64(told(w.most)+2*maxFrame)
		longest := time.Duration(headroom*2e9*r.delay.Seconds()) + timeOf(uint64(least))
		if queued > longest {
			t.Errorf("a frame waited %s, more than %s: %+v", queued, longest, w)
		}
	})
}
