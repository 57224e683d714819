package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"xmig/jobs"
)

// Durability says when the embedded server calls fsync.
type Durability string

const (
	// SyncAlways fsyncs before an acknowledgement. The server's own default
	// is every two minutes: a power failure then loses acknowledged writes,
	// young streams altogether.
	SyncAlways Durability = "always"
	// SyncLazy is for tests, where nobody pulls the plug.
	SyncLazy Durability = "lazy"
)

const (
	// serverStart is how long a server may take to come up; recovering a
	// large store from a slow disk takes seconds.
	serverStart = 30 * time.Second
	// serverPayload lets a record with config and boot files travel whole.
	serverPayload = maxMessage
)

// Role says what a user of the embedded server may do.
type Role string

const (
	RoleNode  Role = "node"  // a worker: its own queue, records, presence
	RoleAdmin Role = "admin" // coordinator and command line: everything
)

// User may log in to the embedded server, by password or by nkey.
type User struct {
	Name     string
	Password string
	NKey     string // public, begins with U
	Role     Role
	Node     string // for RoleNode
}

// Cluster joins the embedded server with others.
type Cluster struct {
	Name   string
	Host   string
	Port   int
	Routes []string // nats://host:port of the others
}

// ServerConfig describes an embedded server. Only StoreDir is required.
type ServerConfig struct {
	Name     string // without spaces; default xmig
	StoreDir string
	Listen   string // address; empty: connections from this process only
	Port     int    // 0: 4222, -1: any free one
	Sync     Durability
	Users    []User // none: everybody who reaches it is let in
	Prefix   string
	TLS      *tls.Config
	Cluster  *Cluster
	Log      zerolog.Logger
}

// Server is an embedded nats-server.
type Server struct {
	s          *server.Server
	user, pass string // of connections from this process, empty without users
	address    string
}

// StartServer starts an embedded server and waits until it takes connections.
func StartServer(ctx context.Context, cfg ServerConfig) (*Server, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	out := &Server{}
	if len(cfg.Users) > 0 {
		out.user, out.pass = "in-process", rand.Text()
		opts.Users = append(opts.Users, &server.User{Username: out.user, Password: out.pass})
	}
	where := "this process"
	if !opts.DontListen {
		where = fmt.Sprintf("%s port %d", opts.Host, opts.Port)
	}
	if out.s, err = runServer(ctx, opts, cfg.Log); err != nil {
		return nil, fmt.Errorf("bus server on %s, store %s: %w", where, cfg.StoreDir, err)
	}
	if !opts.DontListen {
		out.address = out.s.ClientURL()
	}
	return out, nil
}

func (cfg ServerConfig) options() (*server.Options, error) {
	if cfg.StoreDir == "" {
		return nil, jobs.Failed(jobs.CodeUsage, "bus server: no directory for its store")
	}
	if cfg.Name == "" {
		cfg.Name = "xmig"
	}
	n, err := newNames(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: cfg.Name,
		JetStream:  true,
		StoreDir:   cfg.StoreDir,
		SyncAlways: cfg.Sync != SyncLazy,
		Host:       cfg.Listen,
		Port:       cfg.Port,
		DontListen: cfg.Listen == "",
		MaxPayload: serverPayload,
		NoSigs:     true, // signals belong to the program
		TLSConfig:  cfg.TLS,
		TLS:        cfg.TLS != nil,
		TLSTimeout: 5,
	}
	if c := cfg.Cluster; c != nil {
		o.Cluster = server.ClusterOpts{Name: c.Name, Host: c.Host, Port: c.Port}
		o.Routes = server.RoutesFromStr(strings.Join(c.Routes, ","))
		// A fresh server has no meta leader for seconds; asking later is right.
		o.JetStreamRequestQueueLimit = 10_000
	}
	for _, u := range cfg.Users {
		perm, err := u.permissions(n)
		if err != nil {
			return nil, err
		}
		switch {
		case u.NKey != "":
			o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: u.NKey, Permissions: perm})
		case u.Name != "" && u.Password != "":
			o.Users = append(o.Users, &server.User{Username: u.Name, Password: u.Password, Permissions: perm})
		default:
			return nil, jobs.Failed(jobs.CodeUsage, "bus user %q: neither an nkey nor a name with a password", u.Name)
		}
	}
	return o, nil
}

// runServer starts s and waits for it. The caller shuts it down.
func runServer(ctx context.Context, opts *server.Options, log zerolog.Logger) (*server.Server, error) {
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	lines := &serverLog{log: log, fatal: make(chan string, 1)}
	s.SetLoggerV2(lines, false, false, false)
	ready := make(chan bool, 1)
	s.Start()
	go func() { ready <- s.ReadyForConnections(serverStart) }()
	var failed error
	select {
	case ok := <-ready:
		if ok {
			return s, nil
		}
		failed = fmt.Errorf("not ready after %s", serverStart)
	case text := <-lines.fatal:
		failed = errors.New(text)
	case <-ctx.Done():
		failed = context.Cause(ctx)
	}
	s.Shutdown()
	s.WaitForShutdown()
	return nil, failed
}

// ClientURL is where other processes connect; empty for none.
func (s *Server) ClientURL() string { return s.address }

// Close shuts the server down and waits until its store is closed.
func (s *Server) Close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// dial gives the options of a connection from this process, and its address.
// The scheme is plain even when the server demands TLS from others: a pipe
// within one process has nobody to hide from.
func (s *Server) dial() (string, []nats.Option) {
	opts := []nats.Option{nats.InProcessServer(s.s)}
	if s.user != "" {
		opts = append(opts, nats.UserInfo(s.user, s.pass))
	}
	u := url.URL{Scheme: "nats", Host: "in-process"}
	return u.String(), opts
}

// serverLog sends the server's lines to ours, a level lower: it is a part,
// and what matters to people is said by us.
type serverLog struct {
	log   zerolog.Logger
	fatal chan string
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug().Msgf("nats: "+format, v...) }

// Warnf: that a lane speaks TLS from its first byte on is a wish, and nobody
// but a lane's source ever comes there.
func (l *serverLog) Warnf(format string, v ...any) {
	level := zerolog.WarnLevel
	if strings.Contains(format, "TLS Handshake First") {
		level = zerolog.DebugLevel
	}
	l.log.WithLevel(level).Msgf("nats: "+format, v...)
}

func (l *serverLog) Errorf(format string, v ...any) { l.log.Error().Msgf("nats: "+format, v...) }
func (l *serverLog) Debugf(format string, v ...any) { l.log.Trace().Msgf("nats: "+format, v...) }
func (l *serverLog) Tracef(format string, v ...any) { l.log.Trace().Msgf("nats: "+format, v...) }

func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error().Msgf("nats: "+format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
