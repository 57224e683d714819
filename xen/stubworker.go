package xen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// ErrStubGone: the stub ended, or there is none. What it did last is not known:
// look at xl, the domain and the journal.
var ErrStubGone = errors.New("the stub is gone")

// ErrStubRefused: the stub did not do it, or xl did otherwise; the text says why.
var ErrStubRefused = errors.New("the stub refused")

// StubWorker is a worker's end of the connection to a stub. Before READY was
// passed on, its Close is the end of the stub that was attached to.
type StubWorker struct{ conn *net.UnixConn }

// ReachStub connects to the stub that listens at a path.
func ReachStub(ctx context.Context, socket string) (*StubWorker, error) {
	var conn net.Conn
	err := throughDirectory(socket, func(short string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unixpacket", short)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStubGone, err)
	}
	return &StubWorker{conn.(*net.UnixConn)}, nil
}

// Attach has xl begin and returns what it sends. The stream must be read up to
// its end (Stream) and not a byte further.
func (w *StubWorker) Attach(ctx context.Context) (*os.File, error) {
	_, file, err := w.order(ctx, order{}, nil)
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, fmt.Errorf("%w: it gave no stream", ErrStubRefused)
	}
	return file, nil
}

// There tells whether the stub still is: a worker that reads the stream would
// not notice.
func (w *StubWorker) There(ctx context.Context) error {
	_, _, err := w.order(ctx, order{Effect: here}, nil)
	return err
}

// PassReady has xl give GO, under the VM's lock; the stub has made it a fact by
// then (Committed). With an error went tells whether xl has given GO all the
// same; if not, it has resumed the guest, or is about to, or is dead.
func (w *StubWorker) PassReady(ctx context.Context, lock *os.File, note []byte) (went bool, err error) {
	a, _, err := w.order(ctx, order{PassReady, note}, lock)
	return a.Went, err
}

// Destroy has xl destroy the source's copy, and returns when xl has ended.
func (w *StubWorker) Destroy(ctx context.Context, lock *os.File) error {
	return w.last(ctx, Destroy, lock)
}

// Resume has the guest run on at the source: by xl's own doing where it has not
// given GO, by an answer that says so where it has. It returns when xl is on
// its way; that it has ended shows elsewhere.
func (w *StubWorker) Resume(ctx context.Context, lock *os.File) error {
	return w.last(ctx, Resume, lock)
}

// last gives an order behind which the stub ends, which may cost its answer.
func (w *StubWorker) last(ctx context.Context, e StubEffect, lock *os.File) error {
	_, _, err := w.order(ctx, order{Effect: e}, lock)
	if errors.Is(err, ErrStubGone) && ctx.Err() == nil {
		return nil
	}
	return err
}

func (w *StubWorker) order(ctx context.Context, o order, lock *os.File) (answer, *os.File, error) {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := send(w.conn, o, lock)
	var a answer
	var file *os.File
	if err == nil {
		a, file, err = receive[answer](w.conn)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return a, nil, context.Cause(ctx)
	case err != nil:
		return a, nil, fmt.Errorf("%w: %w", ErrStubGone, err)
	case a.Error != "":
		return a, nil, fmt.Errorf("%w: %s", ErrStubRefused, a.Error)
	}
	return a, file, nil
}

// Close ends the connection.
func (w *StubWorker) Close() error { return w.conn.Close() }
