package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
)

type serverCmd struct {
	StateDir   string `default:"/var/lib/xmig-server" type:"path" help:"Where the embedded bus keeps records and owner keys; must survive a reboot."`
	ServerName string `placeholder:"NAME" help:"This server's name (default: the host name)."`
	Listen     string `default:"127.0.0.1:4222" placeholder:"HOST:PORT" help:"Where the embedded bus listens."`

	Cluster     string   `placeholder:"HOST:PORT" help:"Where the embedded bus listens for the other servers of its cluster."`
	ClusterName string   `default:"xmig" help:"Name of the cluster; the same on all its servers."`
	Routes      []string `placeholder:"URL" help:"nats://HOST:PORT of the other servers' --cluster addresses."`
	Replicas    int      `default:"0" help:"Copies of everything stored: 1 or 3 (0: 3 with --cluster, else 1)."`

	LeaseTTL  time.Duration `name:"lease-ttl" default:"30s" help:"A lease that nobody renews is free after it; whole seconds."`
	NodeTTL   time.Duration `name:"node-ttl" default:"30s" help:"A host that says nothing is gone after it; whole seconds."`
	KeepEvent time.Duration `name:"keep-events" default:"720h" help:"How long events are kept."`

	MaxOut  int     `default:"2" help:"Migrations away from one host at a time."`
	MaxIn   int     `default:"2" help:"Migrations to one host at a time."`
	MaxAll  int     `default:"0" help:"Migrations at a time in all (0: as many as there are hosts)."`
	Hours   []hours `placeholder:"HOURS" help:"Other limits at some times, by this server's clock: ${hours}. The first that holds counts; 0 lets nothing start. May be given several times."`
	Hooks   string  `placeholder:"DIR" type:"path" help:"Executables to run around drains: before-drain, after-drain, before-restore, after-restore; one that is missing is no error, one before that fails refuses."`
	Durable string  `name:"sync" enum:"always,lazy" default:"always" help:"When the embedded bus calls fsync: ${enum}. lazy may lose acknowledged records with the host's power."`
	httpFlags
	Health bool `help:"Ask the server that uses --state-dir whether it is well: exit 0 or 1."`
}

func (serverCmd) Help() string {
	return `Takes submissions, picks destinations and starts jobs. With --nats or --context
it uses that bus, else it has one in itself. Any number of servers may run on one
bus. Whoever reaches the embedded bus is let in: let it listen on a network that
is yours alone.

Examples:

    xmig server --state-dir /var/lib/xmig-server --listen 10.0.0.1:4222
    xmig server --nats nats://nats1:4222,nats://nats2:4222 --replicas 3
    xmig server --listen 10.0.0.1:4222 --cluster 10.0.0.1:6222 --routes nats://10.0.0.2:6222,nats://10.0.0.3:6222 --server-name a
    xmig server --health

The same in /etc/xmig/xmig.toml:

    [server]
    listen = "10.0.0.1:4222"
    max-in = 2
    hours = ["mon-fri 08:00-18:00 out=1 in=1", "sun 02:00-04:00 all=0"]
    http = "10.0.0.1:8480"
    http-clients = "/etc/xmig/clients.toml"
    rules = "/etc/xmig/rules.toml"`
}

func (c *serverCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Health {
		return askHealth(c.StateDir)
	}
	if c.Replicas != 0 && c.Replicas != 1 && c.Replicas != 3 {
		return usage("--replicas %d: want 1 or 3", c.Replicas)
	}
	set, err := c.settings()
	if err != nil {
		return err
	}
	limitMemory(serverMemory)
	log := g.logger(t)
	if c.ServerName == "" {
		host, err := os.Hostname()
		if err != nil {
			return usage("this host has no name (%w): give --server-name", err)
		}
		c.ServerName = strings.ReplaceAll(host, " ", "-")
	}
	set.Node, set.MaxOut, set.MaxIn, set.MaxAll, set.Hours, set.Hooks = c.ServerName, c.MaxOut, c.MaxIn, c.MaxAll, c.Hours, c.Hooks
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return usage("state directory: %w; give --state-dir", err)
	}
	busCfg, err := g.busConfig("xmig server "+c.ServerName, log)
	if err != nil {
		return err
	}
	if g.NATS == "" && g.Context == "" {
		server, err := c.startBus(ctx, log)
		if err != nil {
			return err
		}
		defer server.Close()
		busCfg.InProcess, busCfg.URL = server, ""
		fmt.Fprintf(t.Out, "bus at %s\n", server.ClientURL())
	}
	return c.serve(ctx, busCfg, set, log)
}

// startBus starts the embedded bus.
func (c *serverCmd) startBus(ctx context.Context, log zerolog.Logger) (*bus.Server, error) {
	host, port, err := hostPort("listen", c.Listen)
	if err != nil {
		return nil, err
	}
	cfg := bus.ServerConfig{
		Name: c.ServerName, StoreDir: c.StateDir, Listen: host, Port: port, Sync: bus.Durability(c.Durable), Log: log,
	}
	if c.Cluster != "" {
		host, port, err := hostPort("cluster", c.Cluster)
		if err != nil {
			return nil, err
		}
		if len(c.Routes) == 0 {
			return nil, usage("--cluster without --routes: name the other servers")
		}
		cfg.Cluster = &bus.Cluster{Name: c.ClusterName, Host: host, Port: port, Routes: c.Routes}
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		log.Warn().Str("listen", c.Listen).Msg("whoever reaches the bus is let in")
	}
	return bus.StartServer(ctx, cfg)
}

func hostPort(flag, s string) (string, int, error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, usage("--%s %q: want HOST:PORT: %w", flag, s, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, usage("--%s %q: port %q: want 0 to 65535", flag, s, text)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if port == 0 {
		port = -1 // any free one, as the bus names it
	}
	return host, port, nil
}

func (c *serverCmd) layout() bus.Layout {
	l := bus.Layout{Replicas: c.Replicas, LeaseTTL: c.LeaseTTL, NodeTTL: c.NodeTTL, KeepEvent: c.KeepEvent}
	if l.Replicas == 0 {
		l.Replicas = 1
		if c.Cluster != "" {
			l.Replicas = 3
		}
	}
	return l
}

// serve connects, makes what the bus lacks and coordinates until ctx ends.
func (c *serverCmd) serve(ctx context.Context, busCfg bus.Config, set coordinatorSettings, log zerolog.Logger) error {
	set.Sync = c.ownSync(busCfg)
	g, ctx := errgroup.WithContext(ctx)
	well := &wellness{}
	g.Go(func() error { return serveHealth(ctx, c.StateDir, well.ask) })
	g.Go(func() error {
		b, err := bus.Connect(ctx, busCfg)
		if err != nil {
			return ended(ctx, err)
		}
		defer b.Close()
		if err := b.Setup(ctx, c.layout()); err != nil {
			return ended(ctx, err)
		}
		well.connected(b)
		log.Info().Str("server", c.ServerName).Msg("server is up")
		return ended(ctx, coordinate(ctx, b, set, log))
	})
	return g.Wait()
}

// ownSync is how the bus in this server writes; empty: it uses another's.
func (c *serverCmd) ownSync(cfg bus.Config) string {
	if cfg.InProcess == nil {
		return ""
	}
	return c.Durable
}
