package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"xmig/jobs"
)

const (
	// DefaultWindow is what may be under way in one direction of a lane, in
	// bytes: 10 Gbit/s over 13 ms.
	DefaultWindow = 16 << 20
	// channelWindow is the least one channel gets: one frame under way while
	// another is taken.
	channelWindow = 2 << 20
	// maxWindow of all channels together stays below the server's limit of
	// bytes that wait for one client, beyond which it closes the connection.
	maxWindow = 48 << 20
	// lanePending is that limit.
	lanePending = 64 << 20
	// lanePayload is one chunk with its head, and room.
	lanePayload = 2 << 20
	// DefaultLaneTimeout is how long the other end may be silent. It speaks
	// four times as often; a dom0 under memory pressure stalls for seconds.
	DefaultLaneTimeout = 15 * time.Second
	// laneMemory bounds what all lanes of a server hold, in bytes.
	laneMemory = 2 << 30
)

// LaneServerConfig describes a node's own server for its lanes.
type LaneServerConfig struct {
	Node      string
	Listen    string // address or interface of the migration network
	Advertise string // host name or address told to sources; default: Listen
	Ports     PortRange
	Dir       string        // an empty directory of its own; no lane data goes there
	Timeout   time.Duration // silence after which a lane is lost
	// Plain leaves TLS out: content, password and all travel readable. Only
	// for measuring what TLS costs; no worker can be told to.
	Plain bool
	// Opened is told how many lanes are open, whenever that changes. nil: nobody.
	Opened func(lanes int)
	Prefix string
	Log    zerolog.Logger
}

// LaneServer is the server, in memory only, that carries the lanes into this node.
type LaneServer struct {
	cfg   LaneServerConfig
	names names
	s     *server.Server
	auth  *laneAuth
	cert  []byte // DER
	port  int

	mu    sync.Mutex
	lanes map[string]*LaneEnd // by job
}

// StartLaneServer starts the server. It listens with TLS 1.3 and lets in only
// who has the ticket of a lane that is open.
func StartLaneServer(ctx context.Context, cfg LaneServerConfig) (*LaneServer, error) {
	n, err := newNames(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	if err := checkNode(cfg.Node); err != nil {
		return nil, err
	}
	host, err := listenAddress(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.Advertise == "" {
		if net.ParseIP(host).IsUnspecified() {
			return nil, jobs.Failed(jobs.CodeUsage, "lane address %s is every address: name one that sources shall use", host)
		}
		cfg.Advertise = host
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultLaneTimeout
	}
	port, err := cfg.Ports.free(host)
	if err != nil {
		return nil, err
	}
	cert, err := ephemeralCertificate()
	if err != nil {
		return nil, fmt.Errorf("lane server: certificate: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("lane server: %w", err)
	}
	auth := newLaneAuth()
	secured := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	if cfg.Plain {
		secured = nil
	}
	s, err := runServer(ctx, &server.Options{
		ServerName: "xmig-lane-" + cfg.Node,
		Host:       host,
		Port:       port,
		TLS:        !cfg.Plain,
		TLSTimeout: 10,
		TLSConfig:  secured,
		MaxPayload: lanePayload,
		MaxPending: lanePending,
		JetStream:  true,
		StoreDir:   cfg.Dir,
		// One byte on disk is none: lanes lie in memory, and a lane on disk
		// would be a bug that shows at once.
		JetStreamMaxStore:          1,
		JetStreamMaxMemory:         laneMemory,
		CustomClientAuthentication: auth,
		NoSystemAccount:            true,
		NoSigs:                     true,
	}, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("lane server on %s: %w", host, err)
	}
	out := &LaneServer{cfg: cfg, names: n, s: s, auth: auth, cert: cert.Certificate[0], lanes: map[string]*LaneEnd{}}
	if a, ok := s.Addr().(*net.TCPAddr); ok {
		out.port = a.Port
	}
	return out, nil
}

// Address is what sources connect to.
func (s *LaneServer) Address() string {
	return net.JoinHostPort(s.cfg.Advertise, fmt.Sprint(s.port))
}

// Port is where the server listens.
func (s *LaneServer) Port() int { return s.port }

// Close closes every lane and the server. Services on it are closed before.
func (s *LaneServer) Close() {
	s.mu.Lock()
	open := make([]*LaneEnd, 0, len(s.lanes))
	for _, l := range s.lanes {
		open = append(open, l)
	}
	s.mu.Unlock()
	for _, l := range open {
		l.Close()
	}
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// Service answers a node's verbs on this server, for sources that cannot
// reach the control bus. Closing it closes its connection.
func (s *LaneServer) Service(cfg ServiceConfig) (*Service, error) {
	nc, err := s.connect(nil)
	if err != nil {
		return nil, err
	}
	node := s.cfg.Node
	svc, err := newService(nc, cfg, func(v string) string { return s.names.nodeVerb(node, v) }, "")
	if err != nil {
		nc.Close()
		return nil, err
	}
	svc.own = nc
	return svc, nil
}

// connect makes a connection within this process.
func (s *LaneServer) connect(lost func(error), more ...nats.Option) (*nats.Conn, error) {
	opts := append(laneOptions(lost, s.cfg.Timeout),
		nats.InProcessServer(s.s), nats.UserInfo(s.auth.self, s.auth.secret), nats.Name("lane of "+s.cfg.Node))
	nc, err := nats.Connect("nats://in-process", append(opts, more...)...)
	if err != nil {
		return nil, jobs.RetryLater(jobs.CodeLane, "lane server of %s: %w", s.cfg.Node, err)
	}
	return nc, nil
}

// LaneSpec describes one lane.
type LaneSpec struct {
	Job      string
	Epoch    uint64   // frames of another epoch end the lane
	Channels []string // disks by their vdev, and "memory"
	Window   int64    // bytes under way to the destination, all channels together; 0: DefaultWindow
	Timeout  time.Duration

	// opening is a token of the subjects that no other opening of the job's
	// lane has: what an earlier one left under way reaches nobody.
	opening string
}

func (s *LaneSpec) fill(timeout time.Duration) error {
	if s.Window == 0 {
		s.Window = DefaultWindow
	}
	if s.Timeout == 0 {
		s.Timeout = timeout
	}
	errs := []error{checkToken("job", s.Job)}
	for i, c := range s.Channels {
		errs = append(errs, checkToken("channel", c))
		for _, d := range s.Channels[:i] {
			if c == d {
				errs = append(errs, jobs.Failed(jobs.CodeInternal, "channel %s twice", c))
			}
		}
	}
	if len(s.Channels) == 0 {
		errs = append(errs, jobs.Failed(jobs.CodeInternal, "lane of job %s without channels", s.Job))
	}
	if all := s.chunkWindow() * int64(len(s.Channels)); all > maxWindow {
		errs = append(errs, jobs.Failed(jobs.CodeUsage, "lane of job %s: %d channels need a window of %d MiB, more than %d MiB", s.Job, len(s.Channels), all>>20, maxWindow>>20))
	}
	return errors.Join(errs...)
}

// chunkWindow is one channel's share of what travels to the destination.
func (s *LaneSpec) chunkWindow() int64 {
	return max(s.Window/int64(max(1, len(s.Channels))), channelWindow)
}

// streamBytes is what the stream of one direction may hold: twice what can be
// under way, so that nothing that was not taken is ever discarded.
func (s *LaneSpec) streamBytes(window int64) int64 {
	return 2 * window * int64(len(s.Channels))
}

// Open makes a lane and the ticket that lets its source in. An open lane of
// the same job is closed first: whoever held it gets ErrLaneLost.
func (s *LaneServer) Open(ctx context.Context, spec LaneSpec) (*LaneEnd, jobs.Ticket, error) {
	if err := spec.fill(s.cfg.Timeout); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	older := s.lanes[spec.Job]
	s.mu.Unlock()
	if older != nil {
		older.Close()
	}
	spec.opening = rand.Text()[:10]
	user := fmt.Sprintf("%s.%d.%s", spec.Job, spec.Epoch, rand.Text())
	plain, hash := secret()
	end, err := s.open(ctx, spec, user)
	if err != nil {
		return nil, nil, err
	}
	t, err := Encode(ticket{
		Job: spec.Job, Epoch: spec.Epoch, Opening: spec.opening, Node: s.cfg.Node, Prefix: s.names.prefix, Address: s.Address(), Plain: s.cfg.Plain,
		Certificate: s.cert, User: user, Secret: plain,
		Channels: spec.Channels, Window: spec.Window, Timeout: spec.Timeout,
	})
	if err != nil {
		end.Close()
		return nil, nil, err
	}
	s.auth.admit(user, hash, s.sourceRights(spec, user))
	s.keep(spec.Job, end)
	return end, t, nil
}

func (s *LaneServer) open(ctx context.Context, spec LaneSpec, user string) (*LaneEnd, error) {
	end := newEnd(spec, s.names, destination, s.cfg.Log)
	nc, err := s.connect(end.fail)
	if err != nil {
		return nil, err
	}
	end.nc = nc
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, jobs.Failed(jobs.CodeInternal, "lane: %w", err)
	}
	end.atClose = func() { s.forget(end, js, user) }
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	if err := makeLane(ctx, js, s.names, spec); err != nil {
		end.Close()
		return nil, jobs.RetryLater(jobs.CodeLane, "lane of job %s: %w", spec.Job, err)
	}
	if err := end.run(func() (func(), error) { return s.intake(end) }); err != nil {
		end.Close()
		return nil, err
	}
	return end, nil
}

// intake consumes what the source sends.
func (s *LaneServer) intake(end *LaneEnd) (stop func(), err error) {
	take := func(message, slab []byte) error {
		end.onFrame(message, slab)
		return nil
	}
	in, err := openIntake(s.s, s.auth.self, s.auth.secret, s.names.lane(end.spec, string(destination), laneIntake), take, end.fail)
	if err != nil {
		return nil, err
	}
	return in.close, nil
}

// makeLane creates the streams and their consumers, so that the source needs no
// right to make anything.
func makeLane(ctx context.Context, js jetstream.JetStream, n names, spec LaneSpec) error {
	if err := makeWay(ctx, js, n, spec, laneChunk, destination, spec.chunkWindow()); err != nil {
		return err
	}
	return makeWay(ctx, js, n, spec, laneDigest, source, channelWindow)
}

// makeWay creates the stream of one direction, which is pushed to that end as it
// comes: what may be under way is bounded by credit, well below the server's limit
// for one client.
//
// The stream has one subject and its consumer no filter: of one with more of
// them the server loads each message that was taken once more, only to see whether
// another consumer wants its subject, which is a sixth of a lane's CPU time.
func makeWay(ctx context.Context, js jetstream.JetStream, n names, spec LaneSpec, what string, to laneRole, window int64) error {
	way, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:      laneStream(spec.Job, what),
		Subjects:  []string{n.lane(spec, what)},
		Storage:   jetstream.MemoryStorage,
		Retention: jetstream.InterestPolicy, // what its end was given is gone: a lane holds what is under way
		Discard:   jetstream.DiscardOld,     // credit sees to it that only taken frames go
		MaxBytes:  spec.streamBytes(window),
		Replicas:  1,
	})
	if err != nil {
		return err
	}
	_, err = way.CreatePushConsumer(ctx, jetstream.ConsumerConfig{
		Durable:        string(to),
		DeliverSubject: n.lane(spec, string(to), laneIntake),
		AckPolicy:      jetstream.AckNonePolicy,
		MemoryStorage:  true,
	})
	return err
}

// forget removes all of a lane: credential first, so that nobody comes back.
func (s *LaneServer) forget(end *LaneEnd, js jetstream.JetStream, user string) {
	for _, id := range s.auth.dismiss(user) {
		if err := s.s.DisconnectClientByID(id); err != nil {
			s.cfg.Log.Debug().Err(err).Msg("source of the lane had left")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), confirm)
	defer cancel()
	for _, what := range []string{laneChunk, laneDigest} {
		err := js.DeleteStream(ctx, laneStream(end.spec.Job, what))
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) && s.s.Running() {
			s.cfg.Log.Warn().Err(err).Str("job", end.spec.Job).Msg("memory of a lane not freed")
		}
	}
	s.drop(end)
}

func (s *LaneServer) keep(job string, end *LaneEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[job] = end
	s.tell()
}

func (s *LaneServer) drop(end *LaneEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[end.spec.Job] == end {
		delete(s.lanes, end.spec.Job)
		s.tell()
	}
}

// tell says how many lanes are open; the caller holds the lock.
func (s *LaneServer) tell() {
	if s.cfg.Opened != nil {
		s.cfg.Opened(len(s.lanes))
	}
}
