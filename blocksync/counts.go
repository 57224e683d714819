package blocksync

import (
	"sync/atomic"
	"time"
)

// Counts is what one end has seen of a pass. All are bytes of the disk unless
// said otherwise; the fields that only the other end knows stay zero.
type Counts struct {
	Size      int64 // bytes the pass covers
	Done      int64 // bytes settled so far: compared and, where they differed, sent (source) or written (destination)
	Same      int64 // equal at both ends, nothing sent (source)
	Differing int64 // in chunks that differed, zero ones included
	Zero      int64 // differing chunks that are all zero: a flag was sent, no content
	Hole      int64 // in holes of this end's file, not read
	Found     int64 // differing content that the destination had elsewhere and took from there
	Sent      int64 // content sent (source) or taken (destination), before compression
	Wire      int64 // both directions: payloads as sent, digests included, plus HeadCost per frame
	Read      int64 // read from this end's device
	Written   int64 // written to the device, zeroed ranges included (destination)
	Durable   int64 // of Written: flushed to stable storage, as far as acknowledged

	Chunks   int64 // chunks the pass covers
	Differed int64 // chunks that differed
	Narrowed int64 // of these: chunks sent as single pages

	Elapsed time.Duration
}

// Progress is a snapshot of the counts while the pass runs.
type Progress = Counts

// HeadCost is what Counts.Wire adds per frame for its head, in bytes: that of
// a frame and of the message around it.
const HeadCost = 160

// Rate is the disk bytes settled per second.
func (c Counts) Rate() float64 {
	if c.Elapsed <= 0 {
		return 0
	}
	return float64(c.Done) / c.Elapsed.Seconds()
}

// Result is what one end knows after a pass that succeeded.
type Result struct {
	Counts
	Pass     uint32
	Final    bool
	Whole    bool     // it was over the whole disk
	Root     [32]byte // over the geometry and the marks of all chunks: equal at both ends of this pass, and of no other
	Verified bool     // both devices were read again after the last fsync and were equal
	Content  [32]byte // if so: BLAKE3-256 over the geometry and the digests of all chunks
}

// meter collects counts from many goroutines.
type meter struct {
	start                  time.Time
	size, chunks           int64
	done, same, differing  atomic.Int64
	zero, hole, sent, wire atomic.Int64
	found                  atomic.Int64
	read, written, durable atomic.Int64
	differed, narrowed     atomic.Int64
}

func (m *meter) counts() Counts {
	return Counts{
		Size: m.size, Chunks: m.chunks,
		Done: m.done.Load(), Same: m.same.Load(), Differing: m.differing.Load(),
		Zero: m.zero.Load(), Hole: m.hole.Load(), Found: m.found.Load(), Sent: m.sent.Load(), Wire: m.wire.Load(),
		Read: m.read.Load(), Written: m.written.Load(), Durable: m.durable.Load(),
		Differed: m.differed.Load(), Narrowed: m.narrowed.Load(),
		Elapsed: time.Since(m.start),
	}
}

func newMeter(p *plan) *meter {
	return &meter{start: time.Now(), size: p.bytes(), chunks: p.n}
}

// progressEvery is fine enough for a bar and costs nothing.
const progressEvery = 200 * time.Millisecond

// reportProgress calls tell now and then until the function it returns is
// called, and once more then.
func reportProgress(tell func(Progress), m *meter) (stop func()) {
	if tell == nil {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell(m.counts())
			case <-quit:
				tell(m.counts())
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
