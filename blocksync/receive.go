package blocksync

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// What the destination knows of a chunk. Each kind of frame is taken only in
// the states it belongs to, so at most one worker has a chunk at a time.
const (
	recvUnread   uint8 = iota // digest not offered yet
	recvOffered               // digest on its way to the source
	recvBusy                  // a worker has it
	recvAnswered              // the source was told what differs
	recvRefused               // what came did not fit, the whole chunk was asked for
	recvRetry                 // a worker has it, for the second time
	recvWritten
)

// receiver is the destination end of one pass.
type receiver struct {
	set    Settings
	begin  *begin
	plan   *plan
	wire   *wire
	meter  *meter
	reader *reader
	claims *claims
	crew   int // readers, and as many writers
	slabs  *pool
	name   string // of the device in the index
	blank  bool   // the device looks so, and is not read

	jobs     chan job
	inflight atomic.Int64
	idle     chan struct{} // holds a token when inflight has become 0
	quiet    chan struct{} // closed to end the periodic flushes
	syncer   sync.WaitGroup

	mu      sync.Mutex
	marks   []byte // as read; replaced by what is written
	lately  lately
	state   []uint8
	held    map[int64]*held // what is known of answered chunks, as far as there is room
	refused int             // chunks asked for again and not here yet
	refuses int             // chunks asked for again, ever
	offers  offers
}

// job is one frame for a worker.
type job struct {
	frame Frame
	pos   int64
	off   int64
	n     int
	retry bool
}

// Receive runs one pass at the destination: it waits for a begin frame, does
// what that says, and returns when the pass has ended. Frames before the begin
// frame, left over from a pass that failed, are dropped.
func Receive(ctx context.Context, lane Lane, dst *Device, set Settings) (Result, error) {
	set, err := set.withDefaults()
	if err != nil {
		return Result{}, fmt.Errorf("sync %s: %w", dst.path, err)
	}
	w := &wire{lane: lane, end: endDestination, path: dst.path, meter: &meter{start: time.Now()}}
	b, err := awaitBegin(ctx, w)
	if err == nil {
		err = fits(b, dst)
	}
	if err != nil {
		w.abort(ctx, err)
		return Result{}, fmt.Errorf("sync %s: %w", dst.path, err)
	}
	r := newReceiver(w, b, dst, set)
	defer r.close()
	stop := reportProgress(set.Progress, r.meter)
	defer stop()
	res, err := r.run(ctx)
	res.Counts = r.meter.counts()
	if err != nil {
		w.abort(ctx, err)
		return res, fmt.Errorf("sync %s, pass %d: %w", dst.path, w.pass, err)
	}
	return res, nil
}

// awaitBegin waits for the frame that begins a pass.
func awaitBegin(ctx context.Context, w *wire) (*begin, error) {
	f, err := w.await(ctx, kindBegin)
	if err != nil {
		return nil, err
	}
	return decodeBegin(f.Payload)
}

// fits refuses a disk that cannot be held by the device.
func fits(b *begin, dst *Device) error {
	switch {
	case !dst.writable:
		return fmt.Errorf("%s is not open for writing", dst.path)
	case b.plan.size > dst.size:
		return fmt.Errorf("%s has %d bytes, the source has %d: make it at least as large", dst.path, dst.size, b.plan.size)
	case dst.block && b.plan.size%int64(dst.sector) != 0:
		return fmt.Errorf("%s has sectors of %d bytes, the source's %d bytes are no multiple of that: use a device with sectors of %d bytes",
			dst.path, dst.sector, b.plan.size, b.sector)
	}
	return nil
}

func newReceiver(w *wire, b *begin, dst *Device, set Settings) *receiver {
	m := newMeter(b.plan)
	m.wire.Store(w.meter.wire.Load())
	w.meter = m
	crew := destinationMemory.begin(set.Readers)
	return &receiver{
		set: set, begin: b, plan: b.plan, wire: w, meter: m,
		reader: &reader{dev: dst, meter: m},
		claims: newClaims(b.plan, dst),
		crew:   crew,
		slabs:  newPool(&destinationMemory, crew*(1+workSlabs), b.plan.chunk),
		jobs:   make(chan job, crew),
		idle:   make(chan struct{}, 1),
		quiet:  make(chan struct{}),
		marks:  make([]byte, markSize*b.plan.n),
		lately: newLately(b.plan),
		state:  make([]uint8, b.plan.n),
		held:   make(map[int64]*held),
		offers: offers{limit: 1, last: time.Now(), early: make(map[int64]struct{})},
	}
}

// close gives back what the pass was lent.
func (r *receiver) close() {
	r.slabs.close()
	destinationMemory.end(r.crew)
}

func (r *receiver) run(ctx context.Context) (Result, error) {
	res := Result{Pass: r.wire.pass, Final: r.begin.final, Whole: r.plan.whole()}
	if err := r.reader.dev.refresh(); err != nil {
		return res, err
	}
	if root := r.begin.since; root != (digest{}) && r.set.Holds != nil && r.set.Holds(root) {
		r.meter.done.Store(r.meter.size)
		r.meter.same.Store(r.meter.size)
		res.Root = root
		return res, r.wire.sendBody(ctx, kindDone, 0, root[:])
	}
	if err := r.tell(ctx); err != nil {
		return res, err
	}
	var err error
	if r.blank, err = r.looksBlank(ctx); err != nil {
		return res, err
	}
	workers, err := r.newWorkers()
	if err != nil {
		return res, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		s := r.slabs.mustTake()
		g.Go(func() error { return r.offerAll(ctx, s) })
		g.Go(func() error {
			defer w.close()
			return w.run(ctx)
		})
	}
	r.syncer.Add(1)
	g.Go(func() error {
		defer r.syncer.Done()
		return r.flushNowAndThen(ctx)
	})
	g.Go(func() error {
		defer close(r.jobs)
		return r.listen(ctx, &res)
	})
	err = g.Wait()
	return res, err
}

// listen takes what the source says, hands it to the workers, and ends the pass.
func (r *receiver) listen(ctx context.Context, res *Result) error {
	for {
		f, err := r.wire.recv(ctx)
		if err != nil {
			return err
		}
		switch f.Kind {
		case kindZero, kindWhole, kindCoarse, kindPages, kindSame:
			j, err := r.admit(f)
			if err != nil {
				return err
			}
			r.inflight.Add(1)
			select {
			case r.jobs <- j:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case kindEnd:
			if err := r.awaitIdle(ctx); err != nil {
				return err
			}
			if r.awaitsMore() {
				continue // the source says the end again after what was refused
			}
			return r.finish(ctx, f, res)
		default:
			return r.wire.corrupt(-1, "unexpected frame of kind %d", f.Kind)
		}
	}
}

// admit checks that the frame's chunk exists and is in a state for it.
func (r *receiver) admit(f Frame) (job, error) {
	pos, ok := r.plan.find(f.Index)
	if !ok {
		return job{}, r.wire.corrupt(-1, "frame of kind %d for chunk %d, which is not part of the pass", f.Kind, f.Index)
	}
	off, n := r.plan.extent(f.Index)
	if f.Kind != kindCoarse && f.Length != n {
		return job{}, r.wire.corrupt(off, "frame of kind %d for %d bytes, the chunk has %d", f.Kind, f.Length, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.state[pos]
	blank := f.Kind == kindPages && f.Flags&flagBlank != 0 && onZeroes(markAt(r.marks, pos))
	switch {
	case was == recvOffered && (f.Kind != kindPages || blank), was == recvAnswered && (f.Kind == kindWhole || f.Kind == kindPages && f.Flags&flagBlank == 0):
		r.state[pos] = recvBusy
	case was == recvRefused && f.Kind == kindWhole:
		r.state[pos] = recvRetry
	default:
		return job{}, r.wire.corrupt(off, "frame of kind %d for a chunk in state %d", f.Kind, was)
	}
	return job{frame: f, pos: pos, off: off, n: n, retry: was == recvRefused}, nil
}

// awaitIdle waits until the workers have nothing to do. Only the caller gives them more.
func (r *receiver) awaitIdle(ctx context.Context) error {
	for r.inflight.Load() != 0 {
		select {
		case <-r.idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *receiver) awaitsMore() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused > 0
}

// finish flushes, compares roots and tells the source.
func (r *receiver) finish(ctx context.Context, end Frame, res *Result) error {
	r.mu.Lock()
	open := r.plan.n - r.offers.sent
	open += int64(len(r.held))
	r.mu.Unlock()
	if open != 0 || len(end.Payload) != 32 {
		return r.wire.corrupt(-1, "the source ended the pass with %d chunks open", open)
	}
	close(r.quiet)
	r.syncer.Wait()
	if err := r.reader.dev.flush(); err != nil {
		return err
	}
	r.meter.durable.Store(r.meter.written.Load())
	r.meter.done.Store(r.meter.size)
	r.meter.same.Store(r.meter.size - r.meter.differing.Load())
	res.Root = rootOf(r.plan, r.marks)
	if r.begin.verify != VerifyNone && res.Root != digest(end.Payload) {
		return fmt.Errorf("%s: %w: run another pass", r.wire.path, errRoots)
	}
	if err := r.wire.sendBody(ctx, kindWritten, 0, encodeCount(r.meter.durable.Load())); err != nil {
		return err
	}
	if err := r.wire.sendBody(ctx, kindDone, 0, res.Root[:]); err != nil {
		return err
	}
	if !r.begin.final || r.begin.verify != VerifyFull {
		return nil
	}
	return r.verify(ctx, res)
}

// verify reads the device again while the source does the same, and exchanges
// roots of what was read.
func (r *receiver) verify(ctx context.Context, res *Result) error {
	var mine, theirs digest
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if mine, err = r.reader.again(ctx, r.plan, r.slabs, r.crew, r.begin.secret, r.marks); err != nil {
			return err
		}
		return r.wire.sendBody(ctx, kindVerified, 0, mine[:])
	})
	g.Go(func() error { // hears at once if the source gives up
		f, err := r.wire.recv(ctx)
		if err == nil && (f.Kind != kindVerified || len(f.Payload) != len(theirs)) {
			err = r.wire.corrupt(-1, "frame of kind %d instead of the source's root", f.Kind)
		}
		if err == nil {
			theirs = digest(f.Payload)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if mine != theirs {
		return fmt.Errorf("%s: read again: %w", r.wire.path, errRoots)
	}
	res.Verified, res.Content = true, mine
	return nil
}

// flushNowAndThen makes written data durable during the pass and says so.
func (r *receiver) flushNowAndThen(ctx context.Context) error {
	tick := time.NewTicker(r.set.SyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.quiet:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		n := r.meter.written.Load() // before the flush: what comes later is not covered by it
		if n == r.meter.durable.Load() {
			continue
		}
		if err := r.reader.dev.flush(); err != nil {
			return err
		}
		r.meter.durable.Store(n)
		if err := r.wire.sendBody(ctx, kindWritten, 0, encodeCount(n)); err != nil {
			return err
		}
	}
}
