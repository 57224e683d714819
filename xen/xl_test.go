package xen

import (
	"testing"
	"time"
)

// TestAskAgain: a quick xl is asked as often as is wished, a slow one seldom,
// and never so seldom that its news are old.
func TestAskAgain(t *testing.T) {
	for _, c := range []struct{ every, took, want time.Duration }{
		{200 * time.Millisecond, 10 * time.Millisecond, 200 * time.Millisecond},
		{200 * time.Millisecond, time.Second, 4 * time.Second},
		{200 * time.Millisecond, time.Minute, 5 * time.Second},
		{10 * time.Second, time.Minute, 10 * time.Second},
	} {
		if got := AskAgain(c.every, c.took); got != c.want {
			t.Errorf("every %s, an answer took %s: again after %s, want %s", c.every, c.took, got, c.want)
		}
	}
}
