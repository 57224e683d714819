package bus

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// wires dials for a connection of a lane, TLS included, and keeps the socket,
// so that it can be cut while the client library is blocked in a write to it.
type wires struct {
	conf *tls.Config     // nil for a lane without TLS
	ctx  context.Context // bounds the first dial

	mu sync.Mutex
	c  net.Conn
}

// dialPatience bounds one dial with its handshake.
const dialPatience = 5 * time.Second

// Dial is called by the client library.
func (w *wires) Dial(network, address string) (net.Conn, error) {
	w.mu.Lock()
	ctx := w.ctx
	w.ctx = nil
	w.mu.Unlock()
	if ctx == nil {
		ctx = context.Background() // a reconnect, long after that context ended
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.c = c
	w.mu.Unlock()
	if w.conf == nil {
		return c, nil
	}
	raw := &gather{Conn: c}
	secure := tls.Client(raw, w.conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close() // nothing was sent over it
		return nil, err
	}
	return &wholeWrites{secure, raw}, nil
}

// SkipTLSHandshake tells the client library that Dial has done it.
func (w *wires) SkipTLSHandshake() bool { return true }

func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c != nil {
		_ = w.c.Close() // it is to be dead; how it dies does not matter
	}
}

// wholeWrites is a TLS connection whose records reach the socket many at a
// time: one system call for each record of 16 KiB is a sixth of a source's CPU time.
type wholeWrites struct {
	*tls.Conn
	raw *gather
}

func (c *wholeWrites) Write(b []byte) (int, error) {
	c.raw.hold(true)
	n, err := c.Conn.Write(b)
	if ferr := c.raw.hold(false); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// gatherBytes is a compromise: larger saves nothing that can be measured.
const gatherBytes = 128 << 10

// gather is a connection that keeps what is written while it holds, up to gatherBytes.
type gather struct {
	net.Conn
	mu      sync.Mutex
	holding bool
	buf     []byte
	err     error // of the socket; for good, because something is missing in it then
}

// hold begins to keep what is written, or sends what was kept.
func (g *gather) hold(on bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = on
	if on {
		return nil
	}
	return g.flush()
}

func (g *gather) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.buf)+len(b) > gatherBytes {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	g.buf = append(g.buf, b...)
	if !g.holding {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (g *gather) flush() error {
	if g.err == nil && len(g.buf) > 0 {
		_, g.err = g.Conn.Write(g.buf)
		g.buf = g.buf[:0]
	}
	return g.err
}
