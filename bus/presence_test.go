package bus

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"xmig/jobs"
)

// TestPresenceNow: what changed is known when Now returns, long before its turn.
func TestPresenceNow(t *testing.T) {
	b := testBus(t)
	var vms atomic.Int64
	p, err := b.Announce(testContext(t), Announcement{Every: time.Hour, Snapshot: func() jobs.Host {
		return jobs.Host{Node: "hv1", Instance: "a", VMs: make([]jobs.VM, vms.Load())}
	}})
	must(t, err)
	early, cancel := context.WithTimeout(testContext(t), 10*time.Millisecond)
	defer cancel()
	p.Now(early) // nobody runs yet: it ends with its context
	ctx, stop := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	vms.Store(3)
	p.Now(testContext(t))
	if hosts := value[[]jobs.Host](t)(b.Hosts(ctx)); len(hosts) != 1 || len(hosts[0].VMs) != 3 {
		t.Errorf("seen: %+v", hosts)
	}
	stop()
	must(t, <-done)
	if hosts := value[[]jobs.Host](t)(b.Hosts(testContext(t))); len(hosts) != 0 {
		t.Errorf("after its end: %+v", hosts)
	}
}
