package bus

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// wires dials for a connection of a lane, TLS included, and keeps the socket,
// so that it can be cut while the client library is blocked in a write to it, and
// so that frames can be written past the library, which copies what it sends.
type wires struct {
	conf    *tls.Config     // nil for a lane without TLS
	ctx     context.Context // bounds the first dial
	timeout time.Duration   // of one write

	mu  sync.Mutex
	c   net.Conn
	out *outlet
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
	out := &outlet{Conn: c, timeout: w.timeout}
	w.mu.Lock()
	w.c, w.out = c, out
	w.mu.Unlock()
	if w.conf == nil {
		return out, nil
	}
	out.raw = &gather{Conn: c}
	if out.Conn, err = startTLS(ctx, out.raw, w.conf); err != nil {
		_ = c.Close() // nothing was sent over it
		return nil, err
	}
	return out, nil
}

// startTLS turns c into a connection with TLS. A server greets before TLS begins;
// the client library, which only sees what comes after, is given that greeting
// first. Nothing in it is trusted: a forged one can make the connection fail,
// as who is able to forge it can anyway.
//
// A server can also be told to wait for TLS without a word. Then it waits 50 ms
// for each connection within its own process too, to see whether that is TLS,
// and opening a lane takes two of them.
func startTLS(ctx context.Context, c net.Conn, conf *tls.Config) (net.Conn, error) {
	hello, err := greeting(ctx, c)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &greeted{Conn: t, greeting: hello}, nil
}

// maxGreeting is far above what a server says of itself, in bytes.
const maxGreeting = 16 << 10

// greeting reads the line that a server begins with. It says nothing behind it
// before it has heard from the client.
func greeting(ctx context.Context, c net.Conn) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // the read's error tells
	defer stop()
	line := make([]byte, 0, maxGreeting)
	for len(line) < cap(line) {
		n, err := c.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		switch at := bytes.IndexByte(line, '\n'); {
		case at >= 0 && at == len(line)-1:
			return line, nil
		case at >= 0:
			return nil, fmt.Errorf("%w: %d bytes behind the server's greeting", errCodec, len(line)-1-at)
		case err != nil:
			return nil, fmt.Errorf("the server's greeting: %w", errors.Join(context.Cause(ctx), err))
		}
	}
	return nil, fmt.Errorf("%w: the server's greeting has no end", errCodec)
}

// greeted gives what was read before TLS to who reads first.
type greeted struct {
	net.Conn
	greeting []byte
}

func (g *greeted) Read(b []byte) (int, error) {
	if len(g.greeting) == 0 {
		return g.Conn.Read(b)
	}
	n := copy(b, g.greeting)
	g.greeting = g.greeting[n:]
	return n, nil
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

// publish sends a message in the protocol of the bus, past the client library.
// The connection has been made. It returns when the kernel has all of it.
func (w *wires) publish(subject string, message []byte) error {
	w.mu.Lock()
	out := w.out
	w.mu.Unlock()
	var room [256]byte // for the line; it grows if it must
	line := fmt.Appendf(room[:0], "PUB %s %d\r\n", subject, len(message))
	_, err := out.write(line, message, []byte("\r\n"))
	return err
}

// outlet is a connection that two write to, the client library and publish:
// each writes whole commands of the protocol at a time.
//
// Records of TLS reach the socket many at a time: one system call for each of
// 16 KiB is a sixth of a source's CPU time.
type outlet struct {
	net.Conn
	raw     *gather // below TLS; nil without
	timeout time.Duration
	mu      sync.Mutex
}

func (o *outlet) Write(b []byte) (int, error) { return o.write(b) }

func (o *outlet) write(parts ...[]byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.Conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return 0, err
	}
	if o.raw != nil {
		o.raw.hold(true)
		defer func() {
			if ferr := o.raw.hold(false); err == nil && ferr != nil {
				n, err = 0, ferr
			}
		}()
	}
	for _, p := range parts {
		m, err := o.Conn.Write(p)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// SetWriteDeadline is not for the client library, which would lift the one of
// a write that is not its own.
func (o *outlet) SetWriteDeadline(time.Time) error { return nil }

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
