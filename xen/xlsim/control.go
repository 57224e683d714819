package xlsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// order is one line to a guest's control socket, answered by a reply.
type order struct {
	Op     string
	Reason int `json:",omitempty"`
}

// What a guest can be told. Freeze holds it still, without a sign in
// `xl list`, until the connection ends.
const (
	opPause    = "pause"
	opUnpause  = "unpause"
	opSuspend  = "suspend"
	opResume   = "resume"
	opShutdown = "shutdown"
	opFreeze   = "freeze"
)

type reply struct {
	Error string `json:",omitempty"`
}

// Errors a guest answers with; the callers turn them into Xen's texts.
var (
	errNotPaused  = errors.New("not paused")
	errNoAnswer   = errors.New("does not answer: paused, suspended or shut down")
	errLate       = errors.New("answers, and suspends later")
	controlErrors = map[string]error{errNotPaused.Error(): errNotPaused, errNoAnswer.Error(): errNoAnswer, errLate.Error(): errLate}
)

// controlTimeout bounds an order: writes under way are finished first, and a
// disk may be slow.
const controlTimeout = 60 * time.Second

// throughDir lets f use a short path to a socket in dir: socket names have 108
// bytes at most, directories more.
func throughDir(dir string, f func(socket string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/ctl", d.Fd()))
}

// tell gives a guest an order and waits until it is carried out. The
// connection stays open: for a freeze it is the handle.
func tell(ctx context.Context, dir string, id int, o order) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var conn net.Conn
	err := throughDir(runtimeDir(dir, id), func(socket string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", socket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("domain %d: %w: %w", id, errNotRunning, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var r reply
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		conn.Close()
		return nil, fmt.Errorf("domain %d: %s: %w", id, o.Op, err)
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		conn.Close()
		return nil, fmt.Errorf("domain %d: %s: %w", id, o.Op, err)
	}
	if r.Error == "" {
		return conn, nil
	}
	conn.Close()
	if known := controlErrors[r.Error]; known != nil {
		return nil, known
	}
	return nil, fmt.Errorf("domain %d: %s: %s", id, o.Op, r.Error)
}

// do is tell for orders without a handle.
func do(dir string, id int, op string) error {
	conn, err := tell(context.Background(), dir, id, order{Op: op})
	if err == nil {
		conn.Close()
	}
	return err
}

// serve answers one connection of the control socket. When the guest is over
// it waits for nothing more, but still answers: who asked for the shutdown is
// told that it was carried out.
func (g *guest) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	var o order
	if err := json.NewDecoder(io.LimitReader(conn, 4096)).Decode(&o); err != nil {
		return // who says nothing gets nothing
	}
	err := g.obey(o)
	var r reply
	if err != nil {
		r.Error = err.Error()
	}
	sent := json.NewEncoder(conn).Encode(r)
	if o.Op != opFreeze || err != nil {
		return
	}
	if sent == nil {
		_, _ = conn.Read(make([]byte, 1)) // ends with the connection
	}
	_ = g.change(func() { g.frozen-- }) // never fails
}

// obey carries an order out before it returns.
func (g *guest) obey(o order) error {
	switch o.Op {
	case opPause:
		return g.change(func() { g.paused = true })
	case opUnpause:
		return g.unpause()
	case opSuspend:
		return g.suspend()
	case opResume:
		return g.change(func() { g.suspended = false })
	case opShutdown:
		return g.askShutdown(o.Reason)
	case opFreeze:
		return g.change(func() { g.frozen++ })
	}
	return fmt.Errorf("%q: unknown order", o.Op)
}
