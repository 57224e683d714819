package fleet

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/test/cluster"
)

// TestScale has a coordinator know a fleet that is only told of: hosts with 50
// VMs each say that they are there and go on saying so, and 16 clients submit 1,000 moves on one
// server that syncs each write. The figures are printed; what is held against a
// bound is that nothing is lost. XMIG_SCALE is the number of hosts: 20 in a
// plain run; with it the same is done once more on three servers with three copies.
func TestScale(t *testing.T) {
	hosts, submits, most := 20, 100, 1
	if n, err := strconv.Atoi(os.Getenv("XMIG_SCALE")); err == nil && n >= 20 {
		hosts, submits, most = n, 1000, 3
	}
	for servers := 1; servers <= most; servers += 2 {
		t.Run(fmt.Sprintf("servers=%d", servers), func(t *testing.T) { scale(t, hosts, submits, servers) })
	}
}

// servers starts n servers that sync each write, and gives the first. Three are one cluster.
func servers(ctx context.Context, t *testing.T, n int) (first *bus.Server) {
	t.Helper()
	ports := cluster.Ports(t, n)
	var routes []string
	for _, p := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	var configs []bus.ServerConfig
	for i := range n {
		cfg := bus.ServerConfig{Name: fmt.Sprintf("scale%d", i), StoreDir: t.TempDir(), Sync: bus.SyncAlways, Log: zerolog.Nop()}
		if n > 1 {
			cfg.Listen, cfg.Port = "127.0.0.1", -1 // who listens to nobody forms no cluster
			cfg.Cluster = &bus.Cluster{Name: "scale", Host: "127.0.0.1", Port: ports[i], Routes: slices.Delete(slices.Clone(routes), i, i+1)}
		}
		configs = append(configs, cfg)
	}
	return start(ctx, t, configs)
}

// start starts them side by side: each waits for the others.
func start(ctx context.Context, t *testing.T, configs []bus.ServerConfig) *bus.Server {
	t.Helper()
	all := make([]*bus.Server, len(configs))
	var g errgroup.Group
	for i, cfg := range configs {
		g.Go(func() (err error) { all[i], err = bus.StartServer(ctx, cfg); return err })
	}
	err := g.Wait()
	for _, s := range all {
		if s != nil {
			t.Cleanup(s.Close)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func scale(t *testing.T, hosts, submits, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Config{InProcess: servers(ctx, t, n), Name: "scale", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Setup(ctx, bus.Layout{NodeTTL: 10 * time.Minute, Replicas: n}); err != nil {
		t.Fatal(err)
	}
	alive, end := context.WithCancel(ctx)
	var life errgroup.Group // what goes on meanwhile: every host tells again each 10 s
	defer func() { end(); _ = life.Wait() }()
	began, size := time.Now(), atomic.Int64{}
	var g errgroup.Group
	g.SetLimit(16)
	for i := range hosts {
		g.Go(func() error {
			h := toldOf(i)
			if v, err := bus.Encode(h); err == nil {
				size.Store(int64(len(v)))
			}
			p, err := b.Announce(ctx, bus.Announcement{Every: 10 * time.Second, Snapshot: func() jobs.Host { return h }})
			if err == nil {
				life.Go(func() error { return p.Run(alive) })
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts with 50 VMs announced in %s; a presence is %d bytes", hosts, time.Since(began).Round(time.Millisecond), size.Load())

	c := &coordinator.Coordinator{
		Records: b.Records(), Claims: b.Owners(), Hosts: told{b}, Nodes: nobody{}, Events: b, Name: "scale",
		Marks: bus.NewTable[coordinator.Mark](b, "host"), Policies: bus.NewTable[coordinator.Policy](b, "vm"), Wishes: bus.NewTable[jobs.Wish](b, "job"),
		Limits: coordinator.DefaultLimits(), Clock: time.Now, NewID: func() string { return ulid.Make().String() },
		IDTime: func(id string) (time.Time, error) { p, err := ulid.Parse(id); return p.Timestamp(), err }, Log: zerolog.Nop(),
	}
	life.Go(func() error { _ = c.Follow(alive); return nil })
	if _, err := c.Plan(ctx, toldOf(0).Node, coordinator.Emptying, jobs.Spec{}); err != nil { // waits until all was read
		t.Fatal(err)
	}

	began = time.Now()
	var clients errgroup.Group
	next := atomic.Int64{}
	for range 16 {
		clients.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= submits {
					return nil
				}
				vm := toldOf(i % hosts).VMs[i/hosts]
				if _, err := c.Submit(ctx, jobs.Spec{VM: vm.UUID, By: "scale"}); err != nil {
					return fmt.Errorf("vm %s: %w", vm.Name, err)
				}
			}
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	all, err := b.Records().List(ctx)
	if err != nil || len(all) != submits {
		t.Fatalf("%d records of %d submissions, %v", len(all), submits, err)
	}
	for _, r := range all {
		if own, err := b.Owners().Owner(ctx, r.VM.UUID); err != nil || own.Claim != r.ID {
			t.Fatalf("vm %s: its claim is %q, want %s: %v", r.VM.Name, own.Claim, r.ID, err)
		}
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("%d submissions of 16 clients stored, record and claim, in %s: %.0f a second; %d MiB of memory in use, the bus's included",
		submits, took.Round(time.Millisecond), float64(submits)/took.Seconds(), mem.Sys>>20)
}

func toldOf(i int) jobs.Host {
	h := jobs.Host{Node: fmt.Sprintf("hv%04d", i), Instance: "a", Home: fmt.Sprint(i), Hostname: fmt.Sprintf("hv%04d.example.net", i), Xen: "4.17.7", CPUs: 64,
		Memory: 512 << 30, FreeMemory: 100 << 30, Bridges: []string{"xenbr0", "xenbr1"}, Pools: []jobs.Pool{{Name: "vg0", Dir: "/dev/vg0", Role: "fast", Free: 4 << 40}}}
	for j := range 50 {
		name := fmt.Sprintf("vm-%04d-%02d", i, j)
		h.VMs = append(h.VMs, jobs.VM{VMRef: jobs.VMRef{UUID: fmt.Sprintf("%08x-0000-4000-8000-%012x", i, j), Name: name}, State: jobs.VMRunning, Type: "pvh",
			Memory: 4 << 30, VCPUs: 2, Config: "/etc/xen/" + name + ".cfg", Autostart: true, Bridges: []string{"xenbr0"},
			Disks: []jobs.Disk{{Name: "xvda", Path: "/dev/vg0/" + name, Size: 20 << 30, Allocated: 20 << 30, Kind: "lvm"}}})
	}
	return h
}

// told gives the coordinator what the bus knows of hosts; nobody answers for them.
type told struct{ *bus.Bus }

func (h told) WatchHosts(ctx context.Context, tell func(string, *jobs.Host)) error {
	return h.Bus.WatchHosts(ctx, func(ch bus.HostChange) {
		if ch.Gone {
			tell(ch.Node, nil)
			return
		}
		tell(ch.Node, &ch.Host)
	})
}

type nobody struct{}

func (nobody) Ring(context.Context, jobs.Record) error                   { return nil }
func (nobody) Examine(context.Context, jobs.Job) ([]jobs.Blocker, error) { return nil, nil }
func (nobody) Cancel(context.Context, jobs.Record, string) error         { return nil }
