package cluster

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
	"xmig/xen/xlsim"
)

// Settings say what cluster a test needs; the zero value is two hosts.
type Settings struct {
	Hosts  int
	Server []string // more words for each server's command line
	Node   []string // and for each node's
	// Coordinators is how many servers there are beside the bus, which then is
	// the test's own; 0: one server with the bus in it.
	Coordinators int
	// Servers: three servers with the bus in each, as one cluster; Coordinators
	// are these then. Else one, or Coordinators.
	Servers Topology
	// Rules of alerts, TOML. With them every server answers HTTP (Cluster.URLs).
	Rules string
	// MemoryMiB of each host, 0: xlsim's default.
	MemoryMiB int
	// Harmed: lanes can be cut and workers' disks filled (harm.go).
	Harmed bool
}

// Topology is how servers stand together.
type Topology string

// ThreeServers that keep everything three times.
const ThreeServers Topology = "three"

// Short times, so that what takes minutes in a machine room takes seconds. A
// renewal still has time for an fsync on a busy disk.
const (
	// TTL of leases and presence: a host or holder that is silent for so long is gone.
	TTL       = 3 * time.Second
	heartbeat = 500 * time.Millisecond
	backoff   = 100 * time.Millisecond
	// laneTimeout is the silence that ends a lane, long enough for a stall on a loaded machine.
	laneTimeout = 6 * time.Second
	// patience is how long anything may take to come about before a test fails. It
	// only bounds a failure: on a busy machine a strike takes ten times as long.
	patience = 4 * time.Minute
)

// Cluster is one installation. Its methods end the test on any failure; they
// are for the test's own goroutine.
type Cluster struct {
	Dir    string // all files of the cluster
	Net    string // what the simulated hosts share: the witness
	Server *Process
	Hosts  []*Host
	Link   *Link // of commands and tests
	// Coordinators are the servers where the bus is the test's own; Server is the first.
	Coordinators []*Process
	URLs         []string // where the servers answer HTTP, in their order

	t   testing.TB
	bus *bus.Bus
	set Settings
	at  string // address of the test's own bus

	listens []string // addresses of three servers
}

// Host is a simulated dom0 with its worker.
type Host struct {
	Name  string // hv1, hv2, …
	Dir   string // of the simulated host
	State string // of the worker
	Node  *Process
	Link  *Link // of the worker to the bus
	Lane  *Link // of others to its lanes, with Settings.Harmed
	c     *Cluster
}

// New starts a cluster and waits until all hosts are seen.
func New(t testing.TB, s Settings) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "xmig-test-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Dir: dir, Net: filepath.Join(dir, "net"), t: t, set: s}
	t.Cleanup(c.clear)
	if s.Servers == ThreeServers {
		c.servers()
	} else if s.Coordinators > 0 {
		c.coordinators(s.Coordinators)
	} else {
		c.Server = c.process("server", slices.Concat([]string{"server", "--state-dir", filepath.Join(dir, "server"), "--server-name", "test", "--listen", "127.0.0.1:0",
			"--lease-ttl", TTL.String(), "--node-ttl", TTL.String(), "--sync", "always"}, c.http(), s.Server)...)
		c.Coordinators = []*Process{c.Server}
	}
	c.Link = newLink(t, c.address)
	for i := range cmp.Or(s.Hosts, 2) {
		c.Hosts = append(c.Hosts, c.host(fmt.Sprintf("hv%d", i+1)))
	}
	for _, p := range c.Coordinators {
		p.Start()
	}
	for _, h := range c.Hosts {
		h.Node.Start()
	}
	c.AwaitHosts()
	return c
}

// coordinators makes the bus and n servers on it.
func (c *Cluster) coordinators(n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := bus.StartServer(ctx, bus.ServerConfig{StoreDir: filepath.Join(c.Dir, "bus"), Listen: "127.0.0.1", Port: -1, Sync: bus.SyncAlways, Log: zerolog.Nop()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Close)
	c.at = strings.TrimPrefix(s.ClientURL(), "nats://")
	for i := range n {
		name := fmt.Sprintf("server%d", i+1)
		c.Coordinators = append(c.Coordinators, c.process(name, slices.Concat([]string{"server", "--nats", s.ClientURL(), "--state-dir", filepath.Join(c.Dir, name),
			"--server-name", name, "--lease-ttl", TTL.String(), "--node-ttl", TTL.String()}, c.http(), c.set.Server)...))
	}
	c.Server = c.Coordinators[0]
}

// Active is the coordinator that decides now.
func (c *Cluster) Active() *Process {
	c.t.Helper()
	var found *Process
	c.Eventually(func() error {
		ctx, cancel := c.ask()
		defer cancel()
		h, err := c.Bus().Leases().Lookup(ctx, "coordinator")
		for _, p := range c.Coordinators {
			if err == nil && p.Name == h.Node && p.Alive() {
				found = p
				return nil
			}
		}
		return fmt.Errorf("the lease is held by %q (%v), which does not live; see %s", h.Node, err, c.Server.Log)
	})
	return found
}

func (c *Cluster) host(name string) *Host {
	h := &Host{Name: name, Dir: filepath.Join(c.Dir, name), State: filepath.Join(c.Dir, name+"-state"), Link: newLink(c.t, c.address), c: c}
	h.install()
	var lanes []string
	if c.set.Harmed {
		h.mountSmall()
		h.Lane, lanes = c.laneLink()
	}
	h.Node = c.process(name, c.nodeArgs(h, lanes...)...)
	return h
}

func (c *Cluster) nodeArgs(h *Host, lanes ...string) []string {
	sim := toolstack + " --host " + h.Dir
	return slices.Concat([]string{"node", "--node-name", h.Name, "--state-dir", h.State, "--simulate", h.Dir, "--nats", h.Link.URL(),
		"--xl", sim + " xl", "--xenstore", sim,
		"--pools", "disks=" + h.disks(), "--lane-listen", "127.0.0.1", "--heartbeat", heartbeat.String(), "--backoff", backoff.String(),
		"--lane-timeout", laneTimeout.String(), "--log-level", "debug"}, lanes, c.set.Node)
}

// install makes the simulated host, with nothing on it.
func (h *Host) install() {
	h.c.t.Helper()
	err := xlsim.CreateHost(h.Dir, xlsim.HostSpec{Name: h.Name, Net: h.c.Net, MemoryMiB: h.c.set.MemoryMiB})
	if err == nil {
		err = os.MkdirAll(h.disks(), 0o755)
	}
	if err != nil {
		h.c.t.Fatal(err)
	}
}

// Impostor is another machine with a worker of this host's name.
func (h *Host) Impostor() *Host {
	h.c.t.Helper()
	other := &Host{Name: h.Name, Dir: h.Dir + "-impostor", State: h.State + "-impostor", Link: h.Link, c: h.c}
	other.install()
	other.Node = h.c.process(h.Name+"-impostor", h.c.nodeArgs(other)...)
	return other
}

// Change changes the simulated host: its memory, delays and faults of its xl.
func (h *Host) Change(change func(*xlsim.HostSpec)) {
	h.c.t.Helper()
	if err := xlsim.ChangeHost(h.Dir, change); err != nil {
		h.c.t.Fatal(err)
	}
}

// Slow makes one command of the host's xl take longer by d; 0: not any more.
func (h *Host) Slow(command string, d time.Duration) {
	h.c.t.Helper()
	h.Change(func(s *xlsim.HostSpec) {
		if s.Delays == nil {
			s.Delays = map[string]time.Duration{}
		}
		s.Delays[command] = d
	})
}

// CutBus takes the bus away from every host.
func (c *Cluster) CutBus(how How) {
	for _, h := range c.Hosts {
		h.Link.Cut(how)
	}
}

// HealBus gives it back.
func (c *Cluster) HealBus() {
	for _, h := range c.Hosts {
		h.Link.Heal()
	}
}

var busLine = regexp.MustCompile(`(?m)^bus at nats://(\S+)$`)

// address is where the server said that it listens when it last started.
func (c *Cluster) address() string {
	if c.at != "" {
		return c.at
	}
	if len(c.listens) > 0 {
		return c.living()
	}
	log, err := os.ReadFile(c.Server.Log)
	if err != nil {
		return ""
	}
	said := busLine.FindAllSubmatch(log, -1)
	if len(said) == 0 {
		return ""
	}
	return string(said[len(said)-1][1])
}

// Bus is the real bus, as the command line reaches it.
func (c *Cluster) Bus() *bus.Bus {
	c.t.Helper()
	if c.bus != nil {
		return c.bus
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Config{URL: c.Link.URL(), Name: "test", Log: zerolog.Nop()})
	if err != nil {
		c.t.Fatalf("%v; see %s", err, c.Server.Log)
	}
	c.bus = b
	c.t.Cleanup(b.Close)
	return b
}

// AwaitHosts waits until the bus knows all hosts, by their present workers, and
// these answer: a worker takes its name first and serves a moment later.
func (c *Cluster) AwaitHosts() {
	c.t.Helper()
	c.AwaitPresence(c.Hosts...)
	b := c.Bus()
	for _, h := range c.Hosts {
		c.Eventually(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_, err := bus.Call[struct{}, []jobs.KeptDisk](ctx, b.Node(h.Name), "shadows", struct{}{})
			return err
		})
	}
}

// AwaitPresence waits until the hosts that the bus knows are exactly these.
func (c *Cluster) AwaitPresence(want ...*Host) {
	c.t.Helper()
	var names, logs []string
	for _, h := range want {
		names = append(names, h.Name)
	}
	for _, h := range c.Hosts {
		logs = append(logs, h.Node.Log)
	}
	b := c.Bus()
	c.Eventually(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		hosts, err := b.Hosts(ctx)
		var seen []string
		for _, h := range hosts {
			seen = append(seen, h.Node)
		}
		if err != nil || !slices.Equal(seen, names) {
			return fmt.Errorf("the bus knows the hosts %v, want %v (%v); see %s and %s", seen, names, err, strings.Join(logs, ", "), c.Server.Log)
		}
		return nil
	})
}

// pollEvery is how often what must come about is looked at.
const pollEvery = 25 * time.Millisecond

// Eventually looks until there is no error any more, and fails with the last.
func (c *Cluster) Eventually(look func() error) {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("not within %s: %v", patience, err)
		}
	}
}

// clear ends what still runs, guests and toolstack commands too, and removes
// the files of a test that passed. Daemons and links have ended before.
func (c *Cluster) clear() {
	for _, h := range c.Hosts {
		if err := xlsim.StopHost(h.Dir); err != nil {
			c.t.Errorf("stop simulated host %s: %v", h.Name, err)
		}
	}
	if err := endAll(c.Dir); err != nil {
		c.t.Error(err)
	}
	if c.t.Failed() {
		c.t.Logf("all logs and files of the cluster are kept in %s", c.Dir)
		return
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		c.t.Error(err)
	}
}

// ask bounds one question to the bus.
func (c *Cluster) ask() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// Record is the job's record now.
func (c *Cluster) Record(job string) jobs.Record {
	c.t.Helper()
	ctx, cancel := c.ask()
	defer cancel()
	rec, err := c.Bus().Records().Load(ctx, job)
	if err != nil {
		c.t.Fatalf("%v; see %s", err, c.Server.Log)
	}
	return rec
}
