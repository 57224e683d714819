package jobs

import (
	"testing"
	"time"
)

// TestBreath: a guest that came back has a moment for itself, as long as its
// host may need by what its blackout took, and no longer.
func TestBreath(t *testing.T) {
	ran := time.Unix(1e9, 0)
	for _, c := range []struct{ blackout, ago, want time.Duration }{
		{0, 0, 0}, // it was halted, or nobody saw
		{400 * time.Millisecond, 0, 100 * time.Millisecond},
		{8 * time.Second, 500 * time.Millisecond, 1500 * time.Millisecond},
		{8 * time.Second, 3 * time.Second, 0}, // a worker that died meanwhile
		{10 * time.Minute, 0, longestBreath},
		{10 * time.Minute, time.Hour, 0},
	} {
		r := Report{RanAt: ran, Blackout: c.blackout}
		if got := r.breath(ran.Add(c.ago)); got != c.want {
			t.Errorf("blackout %s, %s ago: %s, want %s", c.blackout, c.ago, got, c.want)
		}
	}
}
