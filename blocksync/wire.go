package blocksync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// abortPatience is how long a failing end tries to tell the other end why.
// A lane without credit or without a peer must not hold up the failure.
const abortPatience = 2 * time.Second

// wire is one end's use of the lane during one pass: it seals, limits, counts,
// and lets many goroutines send.
type wire struct {
	lane  Lane
	end   string // the name of this end in messages
	path  string // this end's device
	limit Limits
	pace  *pace // of the link; nil: nobody asks
	meter *meter

	// stream says that pass is the random number of a stream: frames of any
	// other number are left over, not only those of smaller ones.
	stream bool

	mu   sync.Mutex // held while a frame is sent: a lane has one sender
	pass uint32
	out  Frame // the frame being sent; kept here so that it is not allocated each time
}

// peer is the name of the other end.
func (w *wire) peer() string {
	if w.end == endSource {
		return endDestination
	}
	return endSource
}

const (
	endSource      = "source"
	endDestination = "destination"
)

// send seals f over content and sends it.
func (w *wire) send(ctx context.Context, f Frame, content digest) error {
	if err := w.pay(ctx, len(f.Payload)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.Pass = w.pass
	f.Digest = seal(&f, content)
	w.out = f
	began := time.Now()
	err := w.lane.Send(ctx, &w.out)
	w.out = Frame{}
	if w.pace != nil {
		w.pace.sent(len(f.Payload), time.Since(began))
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("send to the %s: %w", w.peer(), err)
	}
	w.meter.wire.Add(int64(len(f.Payload)) + HeadCost)
	return nil
}

// sendBody sends a frame whose content is its payload.
func (w *wire) sendBody(ctx context.Context, kind Kind, index int64, body []byte) error {
	return w.send(ctx, Frame{Kind: kind, Index: index, Length: len(body), Payload: body}, sum(body))
}

// pay waits until every limiter grants n bytes.
func (w *wire) pay(ctx context.Context, n int) error {
	for _, l := range w.limit {
		if err := payTo(ctx, l, n); err != nil {
			return err
		}
	}
	return nil
}

// payTo takes the grants in parts that fit the burst and take a tenth of a
// second each: what is waited for already a change of the rate does not shorten.
func payTo(ctx context.Context, l *rate.Limiter, n int) error {
	for n > 0 {
		part := n
		if r := l.Limit(); r != rate.Inf {
			part = max(1, min(n, l.Burst(), int(r/10)))
		}
		if err := l.WaitN(ctx, part); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			// The burst was lowered between the two calls, or the deadline is too near.
			if part > l.Burst() {
				continue
			}
			return fmt.Errorf("bandwidth limit: %w", err)
		}
		n -= part
	}
	return nil
}

// recv returns the next frame of this pass. Frames of earlier passes are
// dropped; an abort becomes an error; bodies are checked against their seal.
func (w *wire) recv(ctx context.Context) (Frame, error) {
	for {
		f, err := w.lane.Recv(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return Frame{}, fmt.Errorf("receive from the %s: %w", w.peer(), err)
		}
		w.meter.wire.Add(int64(len(f.Payload)) + HeadCost)
		if f.Pass < w.pass || w.stream && f.Pass != w.pass {
			w.release(&f)
			continue
		}
		if f.Pass > w.pass {
			return Frame{}, w.corrupt(-1, "frame of pass %d during pass %d", f.Pass, w.pass)
		}
		if err := w.check(&f); err != nil {
			return Frame{}, err
		}
		if f.Kind == kindAbort {
			return Frame{}, &AbortError{End: w.peer(), Text: string(f.Payload), Corrupt: f.Index == abortCorrupt}
		}
		return f, nil
	}
}

// await waits for the frame that begins a pass or a stream, drops all before
// it, and takes its number.
func (w *wire) await(ctx context.Context, kind Kind) (Frame, error) {
	for {
		f, err := w.lane.Recv(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return Frame{}, fmt.Errorf("receive from the %s: %w", w.peer(), err)
		}
		w.meter.wire.Add(int64(len(f.Payload)) + HeadCost)
		w.pass = f.Pass // whoever sent this shall hear of a fault in it
		if err := w.check(&f); err != nil {
			return Frame{}, err
		}
		if f.Kind == kind {
			return f, nil
		}
		w.release(&f)
	}
}

// check verifies what can be verified without the disk.
func (w *wire) check(f *Frame) error {
	if len(f.Payload) > MaxPayload || f.Length < 0 || f.Length > MaxPayload || f.Index < 0 {
		return w.corrupt(-1, "frame of kind %d with index %d, length %d and %d bytes of payload", f.Kind, f.Index, f.Length, len(f.Payload))
	}
	switch f.Kind {
	case kindZero, kindWhole, kindPages, kindSame, kindStreamData, kindStreamEnd, kindStreamDone:
		return nil // sealed over content that is not known yet
	}
	if f.Length != len(f.Payload) || seal(f, sum(f.Payload)) != f.Digest {
		return w.corrupt(-1, "frame of kind %d does not fit its digest", f.Kind)
	}
	return nil
}

// abort tells the other end why this one gives up, as far as there is a lane.
func (w *wire) abort(ctx context.Context, cause error) {
	var told *AbortError
	if errors.As(cause, &told) || errors.Is(cause, ErrLaneLost) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortPatience)
	defer cancel()
	text, kind := cause.Error(), int64(0)
	if errors.As(cause, new(*CorruptError)) {
		kind = abortCorrupt
	}
	w.limit = nil // a reason does not wait behind the bandwidth cap
	// A failure to tell leaves the other end to its own timeout or lost lane; the cause is what counts.
	_ = w.sendBody(ctx, kindAbort, kind, []byte(text[:min(len(text), maxAbortText)]))
}

// release gives a frame's payload back to a lane that reuses its buffers.
func (w *wire) release(f *Frame) {
	if r, ok := w.lane.(Releaser); ok {
		r.Release(f)
	}
}

// Releaser is a lane that wants its received payloads back. A frame that is
// not released is left to the garbage collector.
type Releaser interface {
	Release(f *Frame)
}

func (w *wire) corrupt(off int64, format string, args ...any) error {
	return &CorruptError{Path: w.path, Offset: off, Reason: fmt.Sprintf(format, args...)}
}
