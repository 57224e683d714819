package blocksync

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
)

const (
	streamVersion = 1

	// streamSlabs: one is filled while one is sent, one is compressed into, one waits.
	streamSlabs = 4

	// maxEmptyReads in a row make a reader that will not end.
	maxEmptyReads = 100

	streamName = "stream"
)

// StreamResult is what one end knows of a stream that arrived whole.
type StreamResult struct {
	Bytes  int64
	Digest [32]byte // BLAKE3-256 of the bytes
	Wire   int64    // payloads as sent, plus HeadCost per frame, both directions
}

// SendStream sends what r gives until io.EOF and returns when the other end
// has written all of it. Bytes are not held back: what r has given travels as
// soon as the lane takes it.
//
// A Read that blocks is interrupted when ctx or the other end ends, if r has a
// SetReadDeadline, as pipes and connections do; otherwise the caller has to
// make it return.
func SendStream(ctx context.Context, lane Lane, r io.Reader, set Settings) (StreamResult, error) {
	set, err := set.withDefaults()
	if err != nil {
		return StreamResult{}, fmt.Errorf("send stream: %w", err)
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	m := &meter{start: time.Now()}
	s := &streamSender{
		wire: &wire{lane: lane, end: endSource, path: streamName, limit: set.Limits, meter: m,
			stream: true, pass: binary.LittleEndian.Uint32(id[:])},
		hash: blake3.New(), slabs: newPool(&sourceMemory, streamSlabs, MaxPayload), full: make(chan part),
	}
	stop := reportProgress(set.Progress, m)
	defer stop()
	res, err := s.run(ctx, r, set.Compress)
	res.Wire = m.wire.Load()
	if err != nil {
		s.wire.abort(ctx, err)
		return res, fmt.Errorf("send stream: %w", err)
	}
	return res, nil
}

// part is the filled beginning of a slab.
type part struct {
	s *slab
	n int
}

type streamSender struct {
	wire  *wire
	hash  *blake3.Hasher // over all bytes so far
	slabs *pool
	full  chan part
}

func (s *streamSender) run(ctx context.Context, r io.Reader, mode Compress) (StreamResult, error) {
	var res StreamResult
	s.wire.pace = &pace{crew: 1, limit: s.wire.limit.perByte}
	sq, err := newSqueezer(mode, s.wire.pace)
	if err != nil {
		return res, err
	}
	defer sq.close()
	if err := s.wire.sendBody(ctx, kindStreamBegin, 0, []byte{streamVersion}); err != nil {
		return res, err
	}
	g, ctx := errgroup.WithContext(ctx)
	if d, ok := r.(interface{ SetReadDeadline(time.Time) error }); ok {
		// Its error means that r cannot be interrupted, as the comment above allows.
		stop := context.AfterFunc(ctx, func() { _ = d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	done := make(chan Frame, 1)
	g.Go(func() error {
		f, err := s.wire.recv(ctx)
		if err == nil && f.Kind != kindStreamDone {
			err = s.wire.corrupt(-1, "unexpected frame of kind %d", f.Kind)
		}
		if err == nil {
			done <- f
		}
		return err
	})
	g.Go(func() error { return s.fill(ctx, r) })
	g.Go(func() error {
		if err := s.drain(ctx, sq, &res); err != nil {
			return err
		}
		select {
		case f := <-done:
			if f.Digest != seal(&f, res.Digest) {
				return s.wire.corrupt(-1, "the other end has a different stream")
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	err = g.Wait()
	return res, err
}

// fill reads. It hands over whatever it has when the sender waits, and goes on
// filling the slab while the sender is busy: large frames under load, no delay without.
func (s *streamSender) fill(ctx context.Context, r io.Reader) error {
	for {
		b, err := s.slabs.get(ctx)
		if err != nil {
			return err
		}
		n, err := s.fillOne(r, b)
		if n > 0 {
			select {
			case s.full <- part{b, n}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			close(s.full) // only here: a failed read is no end
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("read the stream: %w", err)
		}
	}
}

// fillOne reads into b. It returns the bytes still to be handed over, none if
// the sender has taken b.
func (s *streamSender) fillOne(r io.Reader, b *slab) (n int, err error) {
	empty := 0
	for n < MaxPayload {
		m, err := r.Read(b.bytes(MaxPayload)[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m == 0 {
			if empty++; empty == maxEmptyReads {
				return n, io.ErrNoProgress
			}
			continue
		}
		empty = 0
		select {
		case s.full <- part{b, n}:
			return 0, nil
		default:
		}
	}
	return n, nil
}

// drain sends what fill reads, then the end.
func (s *streamSender) drain(ctx context.Context, sq *squeezer, res *StreamResult) error {
	packed := s.slabs.mustTake()
	for seq := int64(0); ; seq++ {
		var p part
		var ok bool
		select {
		case p, ok = <-s.full:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !ok {
			break
		}
		b := p.s.bytes(p.n)
		_, _ = s.hash.Write(b) // a hash never fails
		f := Frame{Kind: kindStreamData, Index: seq, Length: p.n, Payload: b, Slab: p.s.buf}
		if isZero(b) {
			f.Flags, f.Payload, f.Slab = flagZero, nil, nil
		} else if out, ok := sq.pack(packed.empty(), b); ok {
			f.Flags, f.Payload, f.Slab = flagZstd, out, packed.buf
		}
		if err := s.wire.send(ctx, f, digest(s.hash.Sum(nil))); err != nil {
			return err
		}
		s.slabs.put(p.s)
		res.Bytes += int64(p.n)
		s.wire.meter.done.Store(res.Bytes)
		s.wire.meter.sent.Store(res.Bytes)
	}
	res.Digest = digest(s.hash.Sum(nil))
	return s.wire.send(ctx, Frame{Kind: kindStreamEnd, Length: 8, Payload: encodeCount(res.Bytes)}, res.Digest)
}

// ReceiveStream writes the stream to w. Only without an error has w got all of
// it; every error wraps ErrInterrupted. Nothing is written that was not checked
// against the digest of all bytes so far.
//
// A Write that blocks is interrupted when ctx ends, if w has a SetWriteDeadline.
func ReceiveStream(ctx context.Context, lane Lane, w io.Writer, set Settings) (StreamResult, error) {
	set, err := set.withDefaults()
	if err != nil {
		return StreamResult{}, fmt.Errorf("receive stream: %w: %w", ErrInterrupted, err)
	}
	m := &meter{start: time.Now()}
	r := &streamReceiver{
		wire: &wire{lane: lane, end: endDestination, path: streamName, meter: m, stream: true},
		hash: blake3.New(),
	}
	stop := reportProgress(set.Progress, m)
	defer stop()
	if d, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetWriteDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	res, err := r.run(ctx, w)
	res.Wire = m.wire.Load()
	if err != nil {
		r.wire.abort(ctx, err)
		return res, fmt.Errorf("receive stream: %w after %d bytes: %w", ErrInterrupted, res.Bytes, err)
	}
	return res, nil
}

type streamReceiver struct {
	wire *wire
	hash *blake3.Hasher
	buf  []byte // decompressed content
	zero []byte
}

func (r *streamReceiver) run(ctx context.Context, w io.Writer) (StreamResult, error) {
	var res StreamResult
	inf, err := newInflater()
	if err != nil {
		return res, err
	}
	defer inf.close()
	f, err := r.wire.await(ctx, kindStreamBegin)
	if err != nil {
		return res, err
	}
	if len(f.Payload) != 1 || f.Payload[0] != streamVersion {
		return res, r.wire.corrupt(-1, "stream of version % x, this xmig speaks %d: use the same version at both ends", f.Payload, streamVersion)
	}
	for seq := int64(0); ; seq++ {
		f, err := r.wire.recv(ctx)
		if err != nil {
			return res, err
		}
		if f.Kind == kindStreamEnd {
			err := r.end(ctx, f, &res)
			return res, err
		}
		if f.Kind != kindStreamData || f.Index != seq {
			return res, r.wire.corrupt(res.Bytes, "frame of kind %d, number %d, instead of number %d", f.Kind, f.Index, seq)
		}
		b, err := r.content(f, inf)
		if err != nil {
			return res, r.wire.corrupt(res.Bytes, "%v", err)
		}
		_, _ = r.hash.Write(b) // a hash never fails
		if seal(&f, digest(r.hash.Sum(nil))) != f.Digest {
			return res, r.wire.corrupt(res.Bytes, "%v", errMisfit)
		}
		n, err := w.Write(b)
		res.Bytes += int64(n)
		r.wire.meter.done.Store(res.Bytes)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return res, fmt.Errorf("write the stream: %w", err)
		}
		r.wire.release(&f)
	}
}

func (r *streamReceiver) content(f Frame, inf *inflater) ([]byte, error) {
	b := f.Payload
	switch f.Flags {
	case 0:
	case flagZero:
		if r.zero == nil {
			r.zero = make([]byte, MaxPayload)
		}
		b = r.zero[:f.Length]
	case flagZstd:
		if r.buf == nil {
			r.buf = make([]byte, 0, MaxPayload)
		}
		var err error
		if b, err = inf.into(r.buf, f.Payload); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown flags %#x", f.Flags)
	}
	if len(b) != f.Length || len(b) == 0 {
		return nil, fmt.Errorf("%d bytes of content, announced are %d", len(b), f.Length)
	}
	return b, nil
}

// end checks that the stream is whole and says so to the sender.
func (r *streamReceiver) end(ctx context.Context, f Frame, res *StreamResult) error {
	n, err := decodeCount(f.Payload)
	d := digest(r.hash.Sum(nil))
	if err != nil || n != res.Bytes || seal(&f, d) != f.Digest {
		return r.wire.corrupt(res.Bytes, "the end frame speaks of another stream, of %d bytes", n)
	}
	res.Digest = d
	return r.wire.send(ctx, Frame{Kind: kindStreamDone}, d)
}
