package node

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// TestHush: no inventory is taken while a guest stands still, and one is soon
// after; an earlier end of the silence never shortens a later one.
func TestHush(t *testing.T) {
	h := newWorld(t).host("hv1")
	var clock, asked atomic.Int64
	clock.Store(time.Now().UnixNano())
	h.now = func() time.Time { asked.Add(1); return time.Unix(0, clock.Load()) }
	h.cfg.Heartbeat = 20 * time.Millisecond
	begin := h.now()
	h.hush(begin)
	h.hush(begin.Add(-hushTime))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.look(ctx) }()
	for until := asked.Load() + 5; asked.Load() < until; time.Sleep(time.Millisecond) { // it looks at the clock, and at nothing else
	}
	equal(t, "xen, while it is silent", h.snapshot().Xen, "")
	clock.Store(begin.Add(hushTime).UnixNano())
	for end := time.Now().Add(time.Minute); h.snapshot().Xen == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no inventory within a minute after the silence")
		}
	}
	cancel()
	<-ended
}
