package blocksync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// What the source knows of a chunk.
const (
	sendOpen    uint8 = iota // not settled
	sendNarrow               // its sub-digests are on their way, its slab is kept
	sendAsked                // its digest is on its way, its slab is kept
	sendSettled              // equal, nothing was sent
	sendSent                 // content was sent
	sendResent               // content was refused and sent once more
)

// maxRefusals is how many chunks of a pass may be refused. More is not a flipped bit
// here and there but a broken machine. It also bounds the room for answers at the source.
const maxRefusals = 64

// asked is a chunk whose fate the destination is to tell.
type asked struct {
	slab   *slab
	theirs mark // of sendAsked: what the destination had at its place
}

// sender is the source end of one pass.
type sender struct {
	set    Settings
	pass   Pass
	plan   *plan
	wire   *wire
	meter  *meter
	reader *reader
	claims *claims
	crew   int // workers
	slabs  *pool

	left    atomic.Int64  // chunks not settled
	settled chan struct{} // closed when left is 0
	workers sync.WaitGroup
	answers chan Frame // fine and refuse frames; has room for all that can come
	last    chan Frame // done, then verified
	turn    struct {   // Settings.Turns
		sync.Mutex
		taken bool
	}

	mu      sync.Mutex
	marks   []byte // the other end's up to arrived; ours where settled
	state   []uint8
	arrived int64
	news    chan struct{}   // closed and replaced when digests arrive
	waiting map[int64]asked // chunks in state sendNarrow or sendAsked
	taste   taste
	known   filter // of content that the destination has elsewhere; nil: it told of none
}

// Send runs one pass at the source. It returns when the destination has
// written and flushed everything, or with the first error of either end. The
// source may change meanwhile: what was read is what the destination then has.
func Send(ctx context.Context, lane Lane, src *Device, pass Pass, set Settings) (Result, error) {
	s, err := newSender(lane, src, pass, set)
	if err != nil {
		return Result{}, fmt.Errorf("sync %s: %w", src.path, err)
	}
	defer s.close()
	stop := reportProgress(set.Progress, s.meter)
	defer stop()
	res, err := s.run(ctx)
	res.Counts = s.meter.counts()
	if err != nil {
		s.wire.abort(ctx, err)
		return res, fmt.Errorf("sync %s, pass %d: %w", src.path, pass.Number, err)
	}
	return res, nil
}

func newSender(lane Lane, src *Device, pass Pass, set Settings) (*sender, error) {
	set, err := set.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := newPlan(src.size, set.ChunkSize, pass.Ranges)
	if err != nil {
		return nil, err
	}
	if pass.Since != (digest{}) && pass.Ranges != nil {
		return nil, errors.New("a root vouches for a whole disk, the pass is over a part of it")
	}
	if pass.Secret == [32]byte{} {
		_, _ = rand.Read(pass.Secret[:]) // never fails
	}
	m := newMeter(p)
	crew := sourceMemory.begin(set.Readers)
	pc := &pace{crew: crew, limit: set.Limits.perByte}
	s := &sender{
		set: set, pass: pass, plan: p, meter: m,
		wire:    &wire{lane: lane, end: endSource, path: src.path, limit: set.Limits, pace: pc, meter: m, pass: pass.Number},
		reader:  &reader{dev: src, meter: m},
		claims:  newClaims(p, src),
		crew:    crew,
		slabs:   newPool(&sourceMemory, crew*(1+workSlabs), p.chunk),
		settled: make(chan struct{}),
		// Slabs bound what is asked, refusals are counted.
		answers: make(chan Frame, narrowWindow+2*crew*(1+workSlabs)+maxRefusals),
		last:    make(chan Frame, 2),
		marks:   make([]byte, markSize*p.n),
		state:   make([]uint8, p.n),
		news:    make(chan struct{}),
		waiting: make(map[int64]asked),
	}
	s.left.Store(p.n)
	if p.n == 0 {
		close(s.settled)
	}
	return s, nil
}

// close gives back what the pass was lent.
func (s *sender) close() {
	s.slabs.close()
	sourceMemory.end(s.crew)
}

func (s *sender) run(ctx context.Context) (Result, error) {
	res := Result{Pass: s.pass.Number, Final: s.pass.Final, Whole: s.plan.whole()}
	if err := s.reader.dev.refresh(); err != nil {
		return res, err
	}
	s.mu.Lock()
	news := s.news
	s.mu.Unlock()
	b := begin{since: s.since(), final: s.pass.Final, verify: s.set.Verify, sector: s.reader.dev.sector, secret: s.pass.Secret, plan: s.plan}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.listen(ctx) })
	if err := s.wire.sendBody(ctx, kindBegin, 0, b.encode()); err != nil {
		g.Go(func() error { return err }) // ends listen
		return res, g.Wait()
	}
	if b.since != (digest{}) {
		ended, err := s.unchanged(ctx, news, &res)
		if ended || err != nil {
			g.Go(func() error { return err })
			return res, g.Wait()
		}
	}
	workers, err := s.newWorkers()
	if err != nil {
		g.Go(func() error { return err })
		return res, g.Wait()
	}
	for _, w := range workers {
		s.workers.Add(1)
		g.Go(func() error {
			defer s.workers.Done()
			defer w.close()
			return w.run(ctx)
		})
	}
	g.Go(func() error {
		s.workers.Wait()
		s.giveTurn()
		return s.finish(ctx, &res)
	})
	err = g.Wait()
	return res, err
}

// since is the root that the destination is asked for. A full check reads in any case.
func (s *sender) since() digest {
	if s.rereads() || s.plan.n == 0 {
		return digest{}
	}
	return s.pass.Since
}

// unchanged waits for the destination's first word: that it has not changed
// either, which ends the pass, or marks.
func (s *sender) unchanged(ctx context.Context, news <-chan struct{}, res *Result) (ended bool, err error) {
	select {
	case <-news:
		return false, nil
	case f := <-s.last:
		if f.Kind != kindDone || digest(f.Payload) != s.pass.Since {
			return false, s.wire.corrupt(-1, "the destination ended the pass with another root than it was asked for")
		}
		res.Root = s.pass.Since
		s.meter.done.Store(s.meter.size)
		s.meter.same.Store(s.meter.size)
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// listen takes what the destination says. It never waits for anything but the
// lane (see doc.go) and ends with the last frame of the pass.
func (s *sender) listen(ctx context.Context) error {
	for {
		f, err := s.wire.recv(ctx)
		if err != nil {
			return err
		}
		switch f.Kind {
		case kindMarks:
			err = s.arrive(f)
		case kindKnown:
			err = s.know(f)
		case kindFine, kindRefuse, kindTaken:
			select {
			case s.answers <- f:
			default:
				err = s.wire.corrupt(-1, "the destination answers more than it was asked")
			}
		case kindWritten:
			var n int64
			if n, err = decodeCount(f.Payload); err == nil {
				s.meter.durable.Store(n)
				s.meter.written.Store(n)
			}
		case kindDone, kindVerified:
			if len(f.Payload) != 32 || len(s.last) == cap(s.last) {
				return s.wire.corrupt(-1, "frame of kind %d with %d bytes", f.Kind, len(f.Payload))
			}
			s.last <- f
			if f.Kind == kindVerified || !s.rereads() {
				return nil
			}
		default:
			err = s.wire.corrupt(-1, "unexpected frame of kind %d", f.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// takeTurn waits for one of the turns of the lane. The pass keeps it until its
// workers are done: what it then waits for, no other pass has to wait for too.
func (s *sender) takeTurn(ctx context.Context) error {
	if s.set.Turns == nil {
		return nil
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.turn.taken {
		return nil
	}
	if err := s.set.Turns.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	s.turn.taken = true
	return nil
}

// giveTurn is called when no worker runs any more.
func (s *sender) giveTurn() {
	if s.turn.taken {
		s.turn.taken = false
		s.set.Turns.Release(1)
	}
}

func (s *sender) rereads() bool { return s.pass.Final && s.set.Verify == VerifyFull }

// arrive stores a batch of the destination's marks.
func (s *sender) arrive(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := int64(len(f.Payload) / markSize)
	if k == 0 || len(f.Payload)%markSize != 0 || f.Index != s.arrived || k > s.plan.n-s.arrived {
		return s.wire.corrupt(-1, "%d bytes of marks from chunk %d on, expected chunk %d of %d", len(f.Payload), f.Index, s.arrived, s.plan.n)
	}
	copy(s.marks[s.arrived*markSize:], f.Payload)
	s.arrived += k
	s.wire.release(&f)
	close(s.news)
	s.news = make(chan struct{})
	return nil
}

// swap replaces the destination's mark of a position by ours.
func (s *sender) swap(pos int64, mine mark) (theirs mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	theirs = markAt(s.marks, pos)
	copy(s.marks[pos*markSize:], mine[:])
	return theirs
}

// settle counts a chunk as done.
func (s *sender) settle(n int) {
	s.meter.done.Add(int64(n))
	if s.left.Add(-1) == 0 {
		close(s.settled)
	}
}

// finish tells the end of the pass and waits until the destination has everything.
func (s *sender) finish(ctx context.Context, res *Result) error {
	if s.left.Load() != 0 { // a worker failed, and its error ends ctx
		<-ctx.Done()
		return context.Cause(ctx)
	}
	w, err := newSendWorker(s)
	if err != nil {
		return err
	}
	defer w.close()
	for {
		// The end is said again after each chunk that was refused late: the
		// destination ignores it while refused chunks are on their way.
		res.Root = rootOf(s.plan, s.marks)
		if err := s.wire.sendBody(ctx, kindEnd, 0, res.Root[:]); err != nil {
			return err
		}
		select {
		case a := <-s.answers:
			if err := w.serve(ctx, a); err != nil {
				return err
			}
		case f := <-s.last:
			return s.conclude(ctx, f, res)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errRoots = errors.New("the roots of both ends differ")

// conclude compares roots, after a second read where that is asked for.
func (s *sender) conclude(ctx context.Context, done Frame, res *Result) error {
	if done.Kind != kindDone {
		return s.wire.corrupt(-1, "frame of kind %d before the end", done.Kind)
	}
	s.meter.durable.Store(s.meter.written.Load())
	if s.set.Verify != VerifyNone && digest(done.Payload) != res.Root {
		return fmt.Errorf("%s: %w: run another pass", s.wire.path, errRoots)
	}
	if !s.rereads() {
		return nil
	}
	content, err := s.reader.again(ctx, s.plan, s.slabs, s.crew, s.pass.Secret, s.marks)
	if err != nil {
		return err
	}
	if err := s.wire.sendBody(ctx, kindVerified, 0, content[:]); err != nil {
		return err
	}
	select {
	case f := <-s.last:
		if digest(f.Payload) != content {
			return fmt.Errorf("%s: read again: %w", s.wire.path, errRoots)
		}
		res.Verified, res.Content = true, content
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
