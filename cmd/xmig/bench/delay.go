package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Delay is a TCP proxy that gives every byte late, and is no slower otherwise:
// what came in at t goes out at t + Way, in each direction.
type Delay struct {
	way    time.Duration
	to     string
	l      net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// StartDelay listens on from and passes everything on to to, one way's time later.
func StartDelay(ctx context.Context, from, to string, way time.Duration) (*Delay, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", from)
	if err != nil {
		return nil, fmt.Errorf("delaying proxy: %w", err)
	}
	d := &Delay{way: way, to: to, l: l}
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.ended.Add(1)
	go d.accept()
	return d, nil
}

// Addr is where it listens.
func (d *Delay) Addr() string { return d.l.Addr().String() }

// Close ends all connections.
func (d *Delay) Close() error {
	d.cancel()
	err := d.l.Close()
	d.ended.Wait()
	return err
}

func (d *Delay) accept() {
	defer d.ended.Done()
	for {
		in, err := d.l.Accept()
		if err != nil {
			return // closed
		}
		out, err := (&net.Dialer{}).DialContext(d.ctx, "tcp", d.to)
		if err != nil {
			in.Close() // the caller sees what it would see of a dead service
			continue
		}
		stop := context.AfterFunc(d.ctx, func() { in.Close(); out.Close() })
		var both sync.WaitGroup
		both.Add(2)
		go func() { defer both.Done(); d.carry(out, in) }()
		go func() { defer both.Done(); d.carry(in, out) }()
		d.ended.Add(1)
		go func() { // closes what neither direction needs any more
			defer d.ended.Done()
			both.Wait()
			stop()
			in.Close()
			out.Close()
		}()
	}
}

// late is what was read, and when it may go on.
type late struct {
	data []byte
	at   time.Time
}

// underWay is how much one direction holds: enough for the bandwidth of
// memory over any delay that is measured, so that only the delay counts.
const (
	proxyBuffer = 256 << 10
	underWay    = 1024
)

// carry passes one direction on until its end, which it passes on too.
func (d *Delay) carry(to, from net.Conn) {
	queue := make(chan late, underWay)
	pool := sync.Pool{New: func() any { b := make([]byte, proxyBuffer); return &b }}
	d.ended.Add(1)
	go func() {
		defer d.ended.Done()
		defer close(queue)
		for {
			b := *pool.Get().(*[]byte)
			n, err := from.Read(b)
			if n > 0 {
				queue <- late{b[:n], time.Now().Add(d.way)}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for l := range queue {
		if broken {
			continue // the reader must not be left hanging
		}
		time.Sleep(time.Until(l.at))
		if _, err := to.Write(l.data); err != nil {
			broken = true
			from.Close()
		}
		b := l.data[:cap(l.data)]
		pool.Put(&b)
	}
	if c, ok := to.(*net.TCPConn); ok {
		if err := c.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			to.Close()
		}
	}
}
