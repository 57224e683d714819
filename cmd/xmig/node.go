package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/node"
	"xmig/xen/xlsim"
)

type nodeCmd struct {
	NodeName string `placeholder:"NAME" help:"This host's name, 1 to 32 of a-z, 0-9 and - (default: the host name up to its first dot)."`
	StateDir string `default:"/var/lib/xmig" type:"path" help:"Journals and sessions; must survive a reboot."`

	LaneListen    string `placeholder:"ADDR" help:"Address or interface that disks and memory arrive on: the migration network (default: the address towards the bus)."`
	LaneAdvertise string `placeholder:"ADDR" help:"Address that other hosts reach it by (default: --lane-listen)."`
	LanePorts     string `placeholder:"A-B" help:"Port or range of ports to listen on, such as 7400-7449 (default: any free one)."`
	LinkRate      rate   `placeholder:"RATE" help:"Rate that lanes to this host are expected to carry, for predictions (default: 112MiB/s, that is 1 Gbit/s)."`

	XL           program       `name:"xl" placeholder:"CMD" help:"Command of the toolstack, words separated by blanks (default: xl)."`
	Xenstore     program       `placeholder:"CMD" help:"Words in front of xenstore-ls and xenstore-read (default: none)."`
	ConfigDir    string        `placeholder:"DIR" type:"path" help:"Where domain configs lie (default: /etc/xen)."`
	AutostartDir string        `placeholder:"DIR" type:"path" help:"Links to the domains that start at boot (default: auto in the config directory)."`
	SaveDir      string        `placeholder:"DIR" type:"path" help:"Images that would be restored at boot (default: /var/lib/xen/save)."`
	Bridges      []string      `placeholder:"NAME" help:"Bridges of this host (default: what /sys says)."`
	Pools        []string      `placeholder:"ROLE=DIR,..." help:"Where volumes lie, such as fast=/dev/vg0: shown as pools; a disk in a pool goes to the pool of the same role, whatever its directory is called there."`
	Tags         []string      `placeholder:"WORD" help:"Words that rules about alerts look for, such as automatic: a rule acts on no host without its word."`
	Metrics      string        `placeholder:"HOST:PORT" help:"Where Prometheus may ask this worker, such as 127.0.0.1:9469 (default: nowhere). Whoever reaches it may read; it tells no names of VMs."`
	Reserve      size          `placeholder:"SIZE" help:"Memory never given to arriving guests, such as 256MiB (default: none)."`
	ShutdownWait time.Duration `default:"5m" help:"How long a cold move waits for the guest to shut down."`
	ProveWait    time.Duration `default:"20s" help:"How long a guest may take to show that it runs."`
	Heartbeat    time.Duration `default:"10s" help:"How often this host says that it is there."`
	LaneTimeout  time.Duration `default:"15s" help:"Silence after which a lane is lost."`
	BWLimit      rate          `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second that this host sends, all moves together, until 'xmig host set' says otherwise (default: no limit)."`
	BWLimitHours []rateHours   `name:"bwlimit-hours" placeholder:"HOURS" help:"Another --bwlimit at some times, by this host's clock: ${rate_hours}. The first that holds counts; 0 is no limit. May be given several times."`
	Readers      int           `default:"0" help:"Reads in flight per disk (0: 4)."`
	ContentIndex size          `placeholder:"SIZE" help:"Memory that knows what content lies on disks here, such as 64MiB, good for 512 GiB: of VMs made from one image, which come here, what they have in common travels once. Costs a digest of all that travels (default: none)."`
	Compress     string        `enum:"auto,on,off" default:"auto" help:"Compress what travels: ${enum}."`
	Moves        int           `default:"2" help:"Migrations away from here that are driven at once."`
	Blackouts    int           `default:"1" help:"Guests that may stand still at once at a host, each way; the same on all hosts."`
	Attempts     int           `default:"0" help:"Attempts that may fail before a job does (0: the built-in number)."`
	Patience     time.Duration `default:"0s" help:"How long errors may repeat without progress before an attempt fails (0s: built in)."`
	BusPatience  time.Duration `default:"5s" help:"How long the hand-over waits for a bus that is away before the source gives the VM away directly; the guest stands still meanwhile."`
	Backoff      time.Duration `default:"0s" help:"First pause between tries (0s: built in)."`

	Simulate    string `placeholder:"DIR" type:"path" help:"For trying out: use the SIMULATED toolstack with the host in this directory, which is made if missing."`
	SimulateNet string `placeholder:"DIR" type:"path" help:"Directory that all simulated hosts share (default: net beside --simulate)."`
	Health      bool   `help:"Ask the node that uses --state-dir whether it is well: exit 0 or 1."`
}

func (nodeCmd) Help() string {
	return `Runs on every dom0, as root. It moves nothing by itself: it tells what the host
has and carries out the jobs of the coordinator. SIGTERM ends it softly: no new
work, and a job stops at its next step to carry on with the next start.

Examples:

    xmig node --nats nats://10.0.0.1:4222 --lane-listen eth1
    xmig node --config /etc/xmig/xmig.toml --node-name hv1 --lane-ports 7400-7449
    xmig node --simulate /tmp/hv1 --state-dir /tmp/hv1-state --node-name hv1
    xmig node --health

The same in /etc/xmig/xmig.toml:

    nats = "nats://10.0.0.1:4222"
    [node]
    node-name = "hv1"
    lane-listen = "eth1"
    bwlimit-hours = ["mon-fri 08:00-18:00 50MiB/s"]`
}

func (c *nodeCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Health {
		return askHealth(c.StateDir)
	}
	tuneMemory(1)
	log := g.logger(t)
	cfg, err := c.config(log)
	if err != nil {
		return err
	}
	busCfg, err := g.busConfig("xmig node "+cfg.Name, log)
	if err != nil {
		return err
	}
	busCfg.Node = cfg.Name
	ports, err := bus.ParsePorts(c.LanePorts)
	if err != nil {
		return err
	}
	listen := c.LaneListen
	if listen == "" {
		listen = localAddress(busCfg.URL)
	}
	return runNode(ctx, cfg, busCfg, bus.LaneServerConfig{Node: cfg.Name, Listen: listen, Advertise: c.LaneAdvertise, Ports: ports, Timeout: c.LaneTimeout, Opened: tuneMemory, Log: log}, c.Metrics, log)
}

// config makes the worker's settings of the flags.
func (c *nodeCmd) config(log zerolog.Logger) (node.Config, error) {
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return node.Config{}, usage("this host has no name (%w): give --node-name", err)
		}
		short, _, _ := strings.Cut(host, ".")
		c.NodeName = strings.ToLower(short)
	}
	if !jobs.ValidNode(c.NodeName) {
		return node.Config{}, usage("node name %q: want 1 to 32 of a-z, 0-9 and -; give --node-name", c.NodeName)
	}
	self, err := executable()
	if err != nil {
		return node.Config{}, err
	}
	pools, err := parsePools(c.Pools)
	if err != nil {
		return node.Config{}, err
	}
	cfg := node.Config{
		Name: c.NodeName, StateDir: c.StateDir, XL: c.XL, Xenstore: c.Xenstore, Holder: []string{self, "hold", "--"}, Stub: []string{self, "xl-stub"},
		ConfigDir: c.ConfigDir, AutostartDir: c.AutostartDir, SaveDir: c.SaveDir, Bridges: c.Bridges, Pools: pools, Tags: c.Tags,
		ReserveMemory: int64(c.Reserve), ShutdownWait: c.ShutdownWait, ProveWait: c.ProveWait, Heartbeat: c.Heartbeat,
		LinkRate: int64(c.LinkRate), Bandwidth: jobs.Bandwidth{Rate: int64(c.BWLimit), Hours: plainHours(c.BWLimitHours)}, Readers: c.Readers, ContentIndex: int64(c.ContentIndex), Compress: c.Compress, Moves: c.Moves, Blackouts: c.Blackouts, Limits: c.limits(),
	}
	if c.Simulate != "" {
		if err := c.simulate(&cfg, self); err != nil {
			return node.Config{}, err
		}
		log.Warn().Str("host", c.Simulate).Msg("SIMULATED: no hypervisor is involved; the toolstack and all guests of this host are simulated")
	}
	return cfg, nil
}

// parsePools reads ROLE=DIR, or DIR alone: shown, and mapped by nobody.
func parsePools(words []string) (pools []node.Pool, err error) {
	for _, w := range words {
		role, dir, ok := strings.Cut(w, "=")
		if !ok {
			role, dir = "", w
		}
		if !filepath.IsAbs(dir) || ok && !jobs.ValidNode(role) {
			return nil, usage("--pools %q: want ROLE=DIR with a path that begins with / and a role of a-z, 0-9 and -", w)
		}
		pools = append(pools, node.Pool{Role: role, Dir: filepath.Clean(dir)})
	}
	return pools, nil
}

func (c *nodeCmd) limits() jobs.Limits {
	l := jobs.DefaultLimits()
	if c.Attempts > 0 {
		l.Attempts = c.Attempts
	}
	if c.Patience > 0 {
		l.Patience = c.Patience
	}
	if c.Backoff > 0 {
		l.Backoff = c.Backoff
	}
	if c.BusPatience > 0 {
		l.BusPatience = c.BusPatience
	}
	return l
}

// simulate points the worker at a simulated host; one that is missing is made.
func (c *nodeCmd) simulate(cfg *node.Config, self string) error {
	net := c.SimulateNet
	if net == "" {
		net = filepath.Join(filepath.Dir(c.Simulate), "net")
	}
	if _, err := xlsim.LoadHost(c.Simulate); errors.Is(err, fs.ErrNotExist) {
		if err := xlsim.CreateHost(c.Simulate, xlsim.HostSpec{Name: cfg.Name, Net: net}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return onSimulatedHost(cfg, c.Simulate, self)
}

// onSimulatedHost fills in what the flags left open for a simulated host.
func onSimulatedHost(cfg *node.Config, dir, self string) error {
	spec, err := xlsim.LoadHost(dir)
	if err != nil {
		return err
	}
	sim := []string{self, "xlsim", "--host", dir}
	cfg.Simulated = true
	// A simulated host reboots alone: whoever does that leaves a new id here.
	if id, err := os.ReadFile(filepath.Join(dir, "boot-id")); err == nil {
		cfg.BootID = string(id)
	}
	if len(cfg.XL) == 0 {
		cfg.XL = append(sim[:len(sim):len(sim)], "xl")
	}
	if len(cfg.Xenstore) == 0 {
		cfg.Xenstore = sim
	}
	if cfg.ConfigDir == "" {
		cfg.ConfigDir = filepath.Join(dir, "etc-xen")
	}
	for _, d := range []struct {
		field *string
		value string
	}{
		{&cfg.AutostartDir, filepath.Join(cfg.ConfigDir, "auto")},
		{&cfg.SaveDir, filepath.Join(dir, "save")},
		{&cfg.XAPIMark, filepath.Join(dir, "xensource-inventory")},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	cfg.LibvirtDirs = []string{filepath.Join(dir, "libvirt")}
	for _, d := range []string{cfg.AutostartDir, cfg.SaveDir, simulatedDisks(dir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("simulated host %s: %w", dir, err)
		}
	}
	if len(cfg.Bridges) == 0 {
		cfg.Bridges = spec.Bridges
	}
	if len(cfg.Pools) == 0 {
		cfg.Pools = []node.Pool{{Dir: dir}}
	}
	return nil
}

// runNode runs a worker until ctx ends.
func runNode(ctx context.Context, cfg node.Config, busCfg bus.Config, lanes bus.LaneServerConfig, metrics string, log zerolog.Logger) error {
	dir, err := laneDir(cfg.StateDir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lanes.Dir = dir
	server, err := bus.StartLaneServer(ctx, lanes)
	if err != nil {
		return err
	}
	defer server.Close()
	g, ctx := errgroup.WithContext(ctx)
	// Health checks are answered before the bus is there: what is wrong then is
	// the bus, and not this process.
	well := &wellness{}
	g.Go(func() error { return serveHealth(ctx, cfg.StateDir, well.ask) })
	g.Go(func() error {
		b, err := bus.Connect(ctx, busCfg)
		if err != nil {
			return ended(ctx, err)
		}
		defer b.Close()
		if err := b.AwaitSetup(ctx); err != nil {
			return ended(ctx, err)
		}
		n, err := node.New(cfg, b, server, log)
		if err != nil {
			return err
		}
		well.connected(b)
		g.Go(func() error { return ended(ctx, serveMetrics(ctx, b, cfg.Name, metrics, log)) })
		return ended(ctx, n.Run(ctx))
	})
	return g.Wait()
}

// ended: to end when told so is no failure.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), jobs.ErrShutdown) {
		return nil
	}
	return err
}

// laneDir makes an empty directory for the lanes' server, named by process:
// one of a worker that was killed is taken away.
func laneDir(state string) (string, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(state, "lanes-*"))
	if err != nil {
		return "", fmt.Errorf("state directory %s: %w", state, err)
	}
	for _, dir := range old {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "lanes-"))
		if err == nil && (pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)) {
			if err := os.RemoveAll(dir); err != nil {
				return "", fmt.Errorf("state directory: %w", err)
			}
		}
	}
	dir := filepath.Join(state, fmt.Sprintf("lanes-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return dir, nil
}
