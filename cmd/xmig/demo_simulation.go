package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/node"
	"xmig/xen/xlsim"
)

// simulation is a whole installation in one process: bus, coordinator and a
// worker for each simulated host.
type simulation struct {
	cmd    *demoCmd
	dir    string
	self   string
	log    zerolog.Logger
	guests []guest

	bus    *bus.Bus
	server *bus.Server
	run    *errgroup.Group
	life   context.Context // of run: ends with the first daemon that fails
	cancel context.CancelCauseFunc
}

// demoLog keeps the log of everything in a file of the directory: on the
// terminal are the bars. With --log-level debug it says more.
func demoLog(dir string, g *globals) (zerolog.Logger, func() error, error) {
	f, err := os.Create(filepath.Join(dir, "xmig.log"))
	if err != nil {
		return zerolog.Nop(), nil, fmt.Errorf("demo: %w", err)
	}
	t := &terminal{Err: io.Writer(f)}
	return g.logger(t), f.Close, nil
}

func newSimulation(c *demoCmd, dir string, log zerolog.Logger) (*simulation, error) {
	self, err := executable()
	if err != nil {
		return nil, err
	}
	d := &simulation{cmd: c, dir: dir, self: self, log: log}
	for i := range c.VMs {
		d.guests = append(d.guests, newGuest(c, i))
	}
	return d, nil
}

func hostName(i int) string { return fmt.Sprintf("hv%d", i+1) }

func (d *simulation) host(name string) string { return filepath.Join(d.dir, name) }
func (d *simulation) net() string             { return filepath.Join(d.dir, "net") }

// dom0MiB and freeMiB make each simulated host large enough for all VMs: what
// is shown is a move, not a lack of memory.
const (
	dom0MiB = 512
	freeMiB = 1024
)

// start makes hosts and guests and brings everything up.
func (d *simulation) start(ctx context.Context) error {
	if err := d.makeHosts(); err != nil {
		return err
	}
	if err := d.makeGuests(ctx); err != nil {
		return err
	}
	if err := d.startDaemons(ctx); err != nil {
		return err
	}
	return d.awaitHosts(ctx)
}

func (d *simulation) makeHosts() error {
	memory := dom0MiB + freeMiB + d.cmd.VMs*int(d.cmd.RAM>>20)
	for i := range d.cmd.Hosts {
		err := xlsim.CreateHost(d.host(hostName(i)), xlsim.HostSpec{Name: hostName(i), Net: d.net(), MemoryMiB: memory, Dom0MiB: dom0MiB})
		if err != nil {
			return err
		}
	}
	return nil
}

// startDaemons starts bus, coordinator and workers. They live until stop, also
// when ctx ends: what runs is ended in order.
func (d *simulation) startDaemons(ctx context.Context) error {
	life, cancel := context.WithCancelCause(context.Background())
	d.cancel = cancel
	d.run, life = errgroup.WithContext(life)
	d.life = life
	var err error
	d.server, err = bus.StartServer(ctx, bus.ServerConfig{StoreDir: filepath.Join(d.dir, "bus"), Sync: bus.SyncAlways, Log: d.log})
	if err != nil {
		return err
	}
	d.bus, err = bus.Connect(ctx, bus.Config{InProcess: d.server, Name: "xmig demo", Log: d.log})
	if err != nil {
		return err
	}
	if err := d.bus.Setup(ctx, bus.Layout{Replicas: 1}); err != nil {
		return err
	}
	d.run.Go(func() error { return ended(life, coordinate(life, d.bus, coordinatorSettings{Node: "demo"}, d.log)) })
	for i := range d.cmd.Hosts {
		cfg, err := d.nodeConfig(hostName(i))
		if err != nil {
			return err
		}
		d.run.Go(func() error { return ended(life, d.worker(life, cfg)) })
	}
	return nil
}

// demoHeartbeat is short: the coordinator sees a host's VMs by its heartbeat.
const demoHeartbeat = time.Second

func (d *simulation) nodeConfig(name string) (node.Config, error) {
	cfg := node.Config{
		Name: name, StateDir: filepath.Join(d.dir, name+"-state"), Holder: []string{d.self, "hold", "--"}, Stub: []string{d.self, "xl-stub"},
		Heartbeat: demoHeartbeat, Moves: d.cmd.VMs, Limits: jobs.DefaultLimits(),
	}
	return cfg, onSimulatedHost(&cfg, d.host(name), d.self)
}

func (d *simulation) worker(ctx context.Context, cfg node.Config) error {
	return runNode(ctx, cfg, bus.Config{InProcess: d.server, Name: "xmig node " + cfg.Name, Node: cfg.Name, Log: d.log},
		bus.LaneServerConfig{Node: cfg.Name, Listen: "127.0.0.1", Log: d.log}, "", d.log.With().Str("node", cfg.Name).Logger())
}

// whileUp gives a context that also ends when a daemon does, with its error.
func (d *simulation) whileUp(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.life, func() { cancel(context.Cause(d.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// comeUp is how long hosts may take to be seen with their VMs.
const comeUp = 30 * time.Second

// awaitHosts waits until the bus knows every VM where it runs.
func (d *simulation) awaitHosts(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, comeUp, fmt.Errorf("the hosts did not come up within %s; the log is %s", comeUp, filepath.Join(d.dir, "xmig.log")))
	defer cancel()
	ctx, done := d.whileUp(ctx)
	defer done()
	for {
		hosts, err := d.bus.Hosts(ctx)
		if err == nil && d.allSeen(hosts) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(demoHeartbeat / 4):
		}
	}
}

func (d *simulation) allSeen(hosts []jobs.Host) bool {
	for _, g := range d.guests {
		at, vm, err := findVM(hosts, g.name, "")
		if err != nil || at != g.from || vm.State != jobs.VMRunning {
			return false
		}
	}
	return len(hosts) == d.cmd.Hosts
}

// migrate moves every guest while it runs, and proves the outcome.
func (d *simulation) migrate(ctx context.Context, g *globals, t *terminal) ([]show.Proof, error) {
	ctx, done := d.whileUp(ctx)
	defer done()
	var ids []string
	for _, gu := range d.guests {
		rec, err := submit(ctx, g, d.bus, d.spec(gu))
		if err != nil {
			return nil, err
		}
		ids = append(ids, rec.ID)
	}
	breaking, err := d.sabotage(ctx, ids[0])
	if err != nil {
		return nil, err
	}
	records, err := follow(ctx, d.bus, ids, newScreen(t, liveLines(g, t)))
	if err := errors.Join(err, breaking.end()); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(settleTime):
	}
	var proofs []show.Proof
	for i, gu := range d.guests {
		proofs = append(proofs, d.prove(ctx, gu, records[i]))
	}
	proofs[0].Findings = append(proofs[0].Findings, breaking.seen...)
	return proofs, nil
}

func (d *simulation) spec(gu guest) jobs.Spec {
	return jobs.Spec{
		VM: gu.name, From: gu.from, To: gu.to, Mode: d.cmd.mode(), MaxDowntime: d.cmd.MaxDowntime,
		Map: jobs.Mapping{Disks: map[string]string{d.disks(gu.from): d.disks(gu.to)}}, By: "xmig demo",
	}.WithDefaults()
}

// stop ends everything that was started: workers first, so that nothing looks
// at guests that are being ended; guests by their process ids.
func (d *simulation) stop() error {
	var errs []error
	if d.cancel != nil {
		d.cancel(jobs.ErrShutdown)
		errs = append(errs, d.run.Wait())
	}
	for i := range d.cmd.Hosts {
		if dir := d.host(hostName(i)); isDir(dir) {
			errs = append(errs, xlsim.StopHost(dir))
		}
	}
	if d.bus != nil {
		d.bus.Close()
	}
	if d.server != nil {
		d.server.Close()
	}
	return errors.Join(errs...)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
