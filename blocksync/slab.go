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
	maxWorkers = 16

	// spareBytes is what all passes at one end may hold beyond what their
	// workers need to go on.
	spareBytes = 40 << 20

	pageSize = 4096

	// slack behind a chunk: O_DIRECT reads a short tail rounded up to a page;
	// the page bitmap and zstd's block heads need a few bytes.
	slack = pageSize
)

// slab is a buffer for one chunk with HeadRoom in front; the chunk begins on a page.
type slab struct {
	buf   []byte // HeadRoom + chunk + slack
	marks [maxBlocks * markSize]byte
}

func newSlab(chunk int) *slab { return &slab{buf: alignedBytes(HeadRoom + chunk + slack)} }

// NewSlab returns a buffer for Frame.Slab: n bytes of payload that begin on a
// page, behind HeadRoom.
func NewSlab(n int) []byte { return alignedBytes(HeadRoom + n) }

// bytes returns the first n bytes behind the head room, with the slack as capacity.
func (s *slab) bytes(n int) []byte { return s.buf[HeadRoom : HeadRoom+n] }

// empty returns the room behind the head room as an empty slice to append to.
func (s *slab) empty() []byte { return s.buf[HeadRoom:HeadRoom] }

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
	spare   int64        // bytes of slabs beyond what the workers of their pass need
	used    [5]sync.Pool // free slabs of all passes, by the chunk's size
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

// free is where unused slabs for such chunks are kept until the garbage collector comes.
func (a *allowance) free(chunk int) *sync.Pool { return &a.used[bits.Len(uint(chunk/MinChunkSize))-1] }

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
	if s, ok := p.from.free(p.chunk).Get().(*slab); ok {
		return s
	}
	return newSlab(p.chunk)
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
	p.from.free(p.chunk).Put(s)
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
