package fleet

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/test/cluster"
)

// mostMemory of a server, with 1,000 hosts or with fewer.
const mostMemory = 1 << 30

// TestServerMemory has a real server know a fleet that is only told of, hosts
// with 50 VMs each that go on telling, with five jobs per host in its queue.
// XMIG_SCALE is the number of hosts: 20 in a plain run.
func TestServerMemory(t *testing.T) {
	hosts := 20
	if n, err := strconv.Atoi(os.Getenv("XMIG_SCALE")); err == nil && n >= 20 {
		hosts = n
	}
	c := cluster.New(t, cluster.Settings{Server: []string{"--node-ttl", "60s", "--max-all", "200"}})
	empty, _ := c.Server.Memory()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	life, end := context.WithCancel(ctx)
	var tell errgroup.Group
	defer func() { end(); _ = tell.Wait() }()
	b := c.Bus()
	for i := range hosts {
		h := toldOf(i)
		p, err := b.Announce(ctx, bus.Announcement{Every: 10 * time.Second, Snapshot: func() jobs.Host { return h }})
		if err != nil {
			t.Fatal(err)
		}
		tell.Go(func() error { return p.Run(life) })
	}
	began := time.Now()
	var clients errgroup.Group
	next := atomic.Int64{}
	for range 16 {
		clients.Go(func() error {
			for i := int(next.Add(1)) - 1; i < 5*hosts; i = int(next.Add(1)) - 1 {
				vm := toldOf(i / 5).VMs[i%5]
				if _, err := bus.Call[order, jobs.Record](ctx, b.Coordinator(), "submit", order{jobs.Spec{VM: vm.UUID, By: "scale", NotBefore: time.Now().Add(time.Hour)}}); err != nil {
					return fmt.Errorf("vm %s: %w", vm.Name, err)
				}
			}
			return nil
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	all, err := b.Records().List(ctx)
	if err != nil || len(all) != 5*hosts {
		t.Fatalf("%d records of %d submissions, %v", len(all), 5*hosts, err)
	}
	now, most := c.Server.Memory()
	t.Logf("%d hosts with 50 VMs each, %d jobs queued in %s: the server has %d MiB of memory, %d MiB at most, %d MiB before; the bus is in it",
		hosts, len(all), took.Round(time.Millisecond), now>>20, most>>20, empty>>20)
	if most > mostMemory {
		t.Errorf("the server took %d MiB of memory, more than %d", most>>20, mostMemory>>20)
	}
}

// order is what the server's verb takes.
type order struct {
	Spec jobs.Spec `json:"spec"`
}
