package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"xmig/jobs"
)

// DialLane enters a lane with the ticket of its destination.
func DialLane(ctx context.Context, tk jobs.Ticket, log zerolog.Logger) (*LaneEnd, error) {
	t, err := readTicket(tk)
	if err != nil {
		return nil, err
	}
	n, err := newNames(t.Prefix)
	if err != nil {
		return nil, err
	}
	spec := t.spec()
	if err := spec.fill(DefaultLaneTimeout); err != nil {
		return nil, err
	}
	e := newEnd(spec, n, source, log)
	e.t, e.wires = t, &wires{}
	e.heard.Store(time.Now().UnixNano())
	fail := func(err error) (*LaneEnd, error) {
		e.cancel(err)
		e.wires.cut()
		if e.nc != nil {
			e.nc.Close()
		}
		return nil, jobs.RetryLater(jobs.CodeLane, "lane to %s at %s: %w", t.Node, t.Address, err)
	}
	if e.nc, err = t.connect(ctx, e.fail, e.wires); err != nil {
		return fail(err)
	}
	if err := e.run(e.listen); err != nil {
		return fail(err)
	}
	e.beat("")
	return e, nil
}

func (t ticket) connect(ctx context.Context, lost func(error), w *wires) (*nats.Conn, error) {
	w.ctx, w.timeout = ctx, writeTime(t.Timeout)
	opts := append(laneOptions(lost, t.Timeout),
		nats.UserInfo(t.User, t.Secret), nats.CustomInboxPrefix(laneInbox(t.User)),
		nats.SetCustomDialer(w), nats.Name("lane of job "+t.Job))
	if t.Plain {
		return nats.Connect("nats://"+t.Address, opts...)
	}
	conf, err := t.tls()
	if err != nil {
		return nil, err
	}
	w.conf = conf
	return nats.Connect("tls://"+t.Address, append(opts, nats.Secure(conf))...)
}

// Node calls the lane's destination over a second connection, so that a call
// does not wait behind a window of chunks. It is made at the first use and
// lives until Close, even when the lane itself is lost.
func (e *LaneEnd) Node(ctx context.Context) (Caller, error) {
	if e.role != source {
		return Caller{}, jobs.Failed(jobs.CodeInternal, "lane of job %s: only its source calls over it", e.spec.Job)
	}
	e.callMu.Lock()
	defer e.callMu.Unlock()
	if e.calls == nil {
		nc, err := e.t.connect(ctx, nil, &wires{})
		if err != nil {
			return Caller{}, silent(err, "host %s does not answer at %s: %v", e.t.Node, e.t.Address, err)
		}
		e.calls = nc
	}
	node := e.t.Node
	return Caller{e.calls, func(v string) string { return e.names.nodeVerb(node, v) }, "host " + node, "is `xmig node` running there?"}, nil
}

// laneOptions: a lane's connection never comes back by itself, because what
// was under way when it broke is lost.
func laneOptions(lost func(error), timeout time.Duration) []nats.Option {
	o := []nats.Option{
		nats.Timeout(max(timeout, 5*time.Second)),
		nats.FlusherTimeout(writeTime(timeout)),
		nats.PingInterval(max(timeout/2, time.Second)),
		nats.MaxPingsOutstanding(2),
		nats.IgnoreDiscoveredServers(), // a lane has one server, and its ticket says which
	}
	if lost == nil {
		return append(o, nats.MaxReconnects(-1), nats.ReconnectWait(tryAgain), nats.ReconnectBufSize(-1))
	}
	return append(o, nats.NoReconnect(),
		nats.ClosedHandler(func(nc *nats.Conn) { lost(connectionLost(nc.LastError())) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { lost(err) }))
}

// writeTime is how long a socket may take nothing.
func writeTime(timeout time.Duration) time.Duration { return max(timeout, time.Second) }

func connectionLost(err error) error {
	if err == nil {
		return errors.New("connection closed")
	}
	return fmt.Errorf("connection: %w", err)
}
