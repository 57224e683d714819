package blocksync

import (
	"context"
	"sync"
	"unsafe"
)

const (
	// maxSlabs bounds the buffers of one end of one pass, whatever the disk.
	// Beside them a pass keeps 33 bytes per chunk: its digest and its state.
	maxSlabs = 64

	// narrowWindow is the number of chunks that wait for the other end's
	// sub-digests at a time: 32 MiB per round trip is 3 GB/s of disk at 10 ms.
	narrowWindow = 32

	// workSlabs is what one worker needs beside its chunk: room for the pages
	// or the content, and for their compressed form.
	workSlabs = 2

	pageSize = 4096

	// slack behind a chunk: O_DIRECT reads a short tail rounded up to a page;
	// the page bitmap and zstd's block heads need a few bytes.
	slack = pageSize
)

// slab is a buffer for one chunk with HeadRoom in front; the chunk begins on a page.
type slab struct {
	buf []byte // HeadRoom + chunk + slack
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

// pool hands out at most a fixed number of slabs and makes each only when no
// used one is free.
type pool struct {
	chunk  int
	tokens chan struct{} // one per slab that may be taken; receive, then call take
	mu     sync.Mutex
	free   []*slab
	made   int
}

func newPool(slabs, chunk int) *pool {
	p := &pool{chunk: chunk, tokens: make(chan struct{}, slabs)}
	for range slabs {
		p.tokens <- struct{}{}
	}
	return p
}

// take returns a slab; the caller has received a token.
func (p *pool) take() *slab {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		s := p.free[n-1]
		p.free = p.free[:n-1]
		return s
	}
	p.made++
	return newSlab(p.chunk)
}

// get waits for a slab.
func (p *pool) get(ctx context.Context) (*slab, error) {
	select {
	case <-p.tokens:
		return p.take(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) put(s *slab) {
	p.mu.Lock()
	p.free = append(p.free, s)
	p.mu.Unlock()
	p.tokens <- struct{}{}
}

// mustTake returns a slab that the caller knows to be free: pools are made with
// room for everything their workers take at the start.
func (p *pool) mustTake() *slab {
	<-p.tokens
	return p.take()
}
