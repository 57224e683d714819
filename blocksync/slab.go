package blocksync

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	// narrowWindow is the number of chunks of a pass that wait for the other end's
	// page marks at a time: 32 MiB per round trip is 3 GB/s of disk at 10 ms.
	narrowWindow = 32

	// workSlabs is what one worker needs beside its chunk: room for the pages
	// or the content, and for their compressed form.
	workSlabs = 2

	// maxWorkers is how many workers all passes at one end have together, except
	// that each has one: a VM with many disks gets no more of a dom0 than one with one.
	maxWorkers = 12

	// spareBytes is what all passes at one end may hold beyond what their
	// workers need to go on.
	spareBytes = 32 << 20

	// keptSlabs outlive the last pass.
	keptSlabs = 8

	pageSize = 4096

	// slack behind a chunk: O_DIRECT reads a short tail rounded up to a page; zstd
	// wants room for a 256th more than it is given, and the page bitmap needs a few bytes.
	slack = pageSize
)

// slab is a buffer for one chunk with HeadRoom in front; the chunk begins on a page.
// It is made when first used: many workers never need all of theirs.
type slab struct {
	size  int
	buf   []byte // HeadRoom + chunk + slack
	marks [maxBlocks * markSize]byte
}

func newSlab(chunk int) *slab { return &slab{size: HeadRoom + chunk + slack} }

func (s *slab) make() {
	if s.buf == nil {
		s.buf = alignedBytes(s.size)
	}
}

// NewSlab returns a buffer for Frame.Slab: n bytes of payload that begin on a
// page, behind HeadRoom.
func NewSlab(n int) []byte { return alignedBytes(HeadRoom + n) }

// bytes returns the first n bytes behind the head room, with the slack as capacity.
func (s *slab) bytes(n int) []byte {
	s.make()
	return s.buf[HeadRoom : HeadRoom+n]
}

// empty returns the room behind the head room as an empty slice to append to.
func (s *slab) empty() []byte { return s.bytes(0) }

// alignedBytes returns n bytes that begin on a page.
func alignedBytes(n int) []byte {
	b := make([]byte, n+pageSize-1)
	skip := 0
	if r := addressOf(b) % pageSize; r != 0 {
		skip = int(pageSize - r)
	}
	return b[skip : skip+n : skip+n]
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// allowance is shared by all passes at one end in this process.
type allowance struct {
	mu      sync.Mutex
	passes  int
	workers int
	spare   int64      // bytes of slabs beyond what the workers of their pass need
	unused  [5][]*slab // of all passes, by the chunk's size; the last one used is the next, its memory is in the cache
}

// sourceMemory and destinationMemory are apart, so that a host that is left
// and a host that is filled, which one worker may be both, do not wait for each other.
var sourceMemory, destinationMemory allowance

// begin gives a pass its workers; end takes them back.
func (a *allowance) begin(wanted int) (workers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	workers = max(1, min(wanted, maxWorkers-a.workers, maxWorkers/(a.passes+1)))
	a.passes++
	a.workers += workers
	return workers
}

func (a *allowance) end(workers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passes--
	a.workers -= workers
	if a.passes == 0 { // the next pass begins with some, the rest is the garbage collector's
		for i, free := range a.unused {
			keep := min(len(free), keptSlabs)
			clear(free[keep:])
			a.unused[i] = free[:keep]
		}
	}
}

// lend grants n more bytes to a pass that has mine already, if there are any:
// each pass may have its share.
func (a *allowance) lend(n, mine int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spare+n > spareBytes || mine+n > spareBytes/int64(max(1, a.passes)) {
		return false
	}
	a.spare += n
	return true
}

func (a *allowance) takeBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spare -= n
}

func (a *allowance) unusedFor(chunk int) *[]*slab {
	return &a.unused[bits.Len(uint(chunk/MinChunkSize))-1]
}

func (a *allowance) take(chunk int) *slab {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := a.unusedFor(chunk)
	n := len(*free)
	if n == 0 {
		return newSlab(chunk)
	}
	s := (*free)[n-1]
	(*free)[n-1] = nil
	*free = (*free)[:n-1]
	return s
}

func (a *allowance) put(s *slab, chunk int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := a.unusedFor(chunk)
	*free = append(*free, s)
}

// pool hands out a pass's slabs: its own, which are never given to others, so
// that it can always go on, and more as far as the allowance lends them.
type pool struct {
	chunk  int
	from   *allowance
	tokens chan struct{} // one per slab of its own that may be taken; receive, then call take
	lent   atomic.Int64  // bytes
	out    atomic.Int64  // slabs taken and not put back
	most   atomic.Int64  // of out, ever
}

func newPool(from *allowance, own, chunk int) *pool {
	p := &pool{chunk: chunk, from: from, tokens: make(chan struct{}, own)}
	for range own {
		p.tokens <- struct{}{}
	}
	return p
}

// take returns a slab; the caller has received a token.
func (p *pool) take() *slab {
	n := p.out.Add(1)
	for m := p.most.Load(); n > m && !p.most.CompareAndSwap(m, n); m = p.most.Load() {
	}
	return p.from.take(p.chunk)
}

// try returns a slab if one can be had at once.
func (p *pool) try() (*slab, bool) {
	select {
	case <-p.tokens:
		return p.take(), true
	default:
	}
	if p.lent.Load() >= int64(narrowWindow*p.chunk) || !p.from.lend(int64(p.chunk), p.lent.Load()) {
		return nil, false
	}
	p.lent.Add(int64(p.chunk))
	return p.take(), true
}

// get waits for one of its own slabs.
func (p *pool) get(ctx context.Context) (*slab, error) {
	select {
	case <-p.tokens:
		return p.take(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// put takes a slab back: as one of its own if any of these is missing,
// because only for those somebody waits.
func (p *pool) put(s *slab) {
	p.out.Add(-1)
	p.from.put(s, p.chunk)
	select {
	case p.tokens <- struct{}{}:
	default:
		p.lent.Add(-int64(p.chunk))
		p.from.takeBack(int64(p.chunk))
	}
}

// close gives back what was lent for slabs that are still out when a pass
// has failed; the garbage collector has them.
func (p *pool) close() {
	p.from.takeBack(p.lent.Swap(0))
}

// mustTake returns a slab that the caller knows to be free: pools are made with
// room for everything their workers take at the start.
func (p *pool) mustTake() *slab {
	<-p.tokens
	return p.take()
}
