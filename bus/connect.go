package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/synadia-io/orbit.go/natscontext"

	"xmig/jobs"
)

const (
	// tryAgain is the pause between attempts to reach a bus that is away.
	tryAgain = 500 * time.Millisecond
	// oneTry is what a single request to the bus may take before it is made
	// again; a replicated store answers within milliseconds.
	oneTry = 2 * time.Second
	// readTime bounds a read whose caller set no earlier end.
	readTime = 10 * time.Second
	// closeTime is how long Close waits for events under way.
	closeTime = 2 * time.Second
)

// Config says how to reach the bus. One of URL, Context and InProcess is required.
type Config struct {
	URL       string  // nats://host:port, several with commas
	Context   string  // a context of the nats command line tool
	InProcess *Server // the embedded server of this process
	Creds     string  // file
	NKey      string  // file with a seed, mode 0600
	User      string
	Password  string
	CA        string // file with the authority's certificate
	Name      string // shown in the server's connection list
	Node      string // node id: sets the inbox that its permissions name
	Prefix    string
	Log       zerolog.Logger
}

// Bus is one connection to the control bus and all that is done over it.
// Its methods may be called by several goroutines.
type Bus struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	names names
	log   zerolog.Logger

	counts counts

	mu        sync.Mutex
	forbidden map[string]time.Time // subject → when the server last refused it
}

// Connect connects to the bus and waits for one that is away until ctx ends.
// Once connected it stays so: it reconnects for ever.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	n, err := newNames(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	if cfg.Node != "" {
		if err := checkNode(cfg.Node); err != nil {
			return nil, err
		}
	}
	b := &Bus{names: n, log: cfg.Log, forbidden: map[string]time.Time{}}
	if b.nc, err = b.dial(ctx, cfg); err != nil {
		return nil, err
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncErrHandler(b.eventLost)); err != nil {
		b.nc.Close()
		return nil, jobs.Failed(jobs.CodeInternal, "bus: %w", err)
	}
	return b, nil
}

func (b *Bus) dial(ctx context.Context, cfg Config) (*nats.Conn, error) {
	opts, where, err := cfg.options(b)
	if err != nil {
		return nil, err
	}
	said := false
	for {
		nc, err := cfg.connect(where, opts)
		switch {
		case err == nil:
			if said {
				b.log.Info().Str("bus", where).Msg("bus reached")
			}
			return nc, nil
		case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
			return nil, jobs.Failed(jobs.CodeUsage, "bus at %s refuses this user: %w; check creds, nkey or context", where, err)
		case !reachable(err):
			return nil, jobs.Failed(jobs.CodeUsage, "bus at %s: %w", where, err)
		}
		if !said {
			said = true
			b.log.Warn().Str("bus", where).Err(err).Msg("bus does not answer, waiting for it")
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return nil, silent(err, "bus at %s does not answer: %v; start `xmig server` there, or name another with --nats", where, err)
		}
	}
}

// reachable reports whether trying again may help: what fails before any
// network is touched (a file that is missing, a context that does not parse) stays as it is.
func reachable(err error) bool {
	var network interface{ Timeout() bool }
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrStaleConnection) || errors.As(err, &network)
}

func (cfg Config) connect(where string, opts []nats.Option) (*nats.Conn, error) {
	if cfg.Context != "" {
		nc, _, err := natscontext.Connect(cfg.Context, opts...)
		return nc, err
	}
	return nats.Connect(where, opts...)
}

func (cfg Config) options(b *Bus) (opts []nats.Option, where string, err error) {
	// No reconnect buffer: a write that leaves seconds later, when somebody
	// else may have decided, is worse than one that fails now.
	opts = []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1), // a worker outlives any outage of the bus
		nats.ReconnectWait(tryAgain),
		nats.ReconnectJitter(tryAgain, tryAgain), // a fleet must not come back in one instant
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), // a server that restarts with its users not yet loaded
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2), // a dead path is noticed after 30 s at most
		nats.Timeout(5 * time.Second),
		nats.ErrorHandler(b.asyncError),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // else it is we who leave
				b.log.Warn().Err(err).Msg("bus lost, reconnecting")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Info().Str("bus", nc.ConnectedUrlRedacted()).Msg("bus reached again")
		}),
	}
	if cfg.Node != "" {
		opts = append(opts, nats.CustomInboxPrefix(inboxOf(cfg.Node)))
	}
	switch {
	case cfg.InProcess != nil:
		url, in := cfg.InProcess.dial()
		if cfg.User != "" { // tests log in as somebody else
			in = append(in, nats.UserInfo(cfg.User, cfg.Password))
		}
		return append(opts, in...), url, nil
	case cfg.Context != "":
		where = "context " + cfg.Context
	case cfg.URL != "":
		where = cfg.URL
	default:
		return nil, "", jobs.Failed(jobs.CodeUsage, "no bus named: set --nats, NATS_URL or --context")
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(cfg.NKey)
		if err != nil {
			return nil, "", jobs.Failed(jobs.CodeUsage, "bus: nkey file %s: %w", cfg.NKey, err)
		}
		opts = append(opts, o)
	}
	return opts, where, nil
}

// Close ends the connection after events under way were taken.
func (b *Bus) Close() {
	select {
	case <-b.js.PublishAsyncComplete():
	case <-time.After(closeTime):
	}
	b.nc.Close()
}

// Connected reports whether the bus answers right now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Conn is the connection itself, for Caller and Service.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// asyncError is called on the connection's one callback goroutine: it must not block.
func (b *Bus) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	line := b.log.Warn().Err(err)
	if sub != nil {
		line = line.Str("subject", sub.Subject)
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		b.mu.Lock()
		b.forbidden[err.Error()] = time.Now()
		b.mu.Unlock()
		line.Msg("the bus forbids it")
		return
	}
	line.Msg("bus")
}

// explain turns the time-out that a forbidden request ends in into the
// reason that came on the side since the request began.
func (b *Bus) explain(since time.Time, err error) error {
	if err == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for text, at := range b.forbidden {
		if !at.Before(since) {
			return jobs.Failed(jobs.CodeUsage, "%w: %w (%s); docs/operations.md lists those that it needs", err, errForbidden, text)
		}
	}
	return err
}

// errForbidden: the bus user lacks a right.
var errForbidden = errors.New("this user's permissions do not allow it")

// away wraps a failed request of unknown outcome.
func away(what string, err error) error {
	return jobs.RetryLater(jobs.CodeAway, "%s: %w: %w", what, jobs.ErrAway, err)
}

// bounded gives ctx an end for a read if it has none that is earlier.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %s", d))
}
