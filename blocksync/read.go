package blocksync

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
)

// claim is one chunk that a reader has taken upon itself.
type claim struct {
	pos, index, off int64
	n               int
	hole            bool
}

// claims hands out the chunks of a pass in order, to any number of readers.
type claims struct {
	plan *plan

	mu    sync.Mutex
	next  int64
	holes *holes
}

func newClaims(p *plan, d *Device) *claims { return &claims{plan: p, holes: newHoles(d)} }

func (c *claims) take() (claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == c.plan.n {
		return claim{}, false
	}
	pos := c.next
	c.next++
	index := c.plan.at(pos)
	off, n := c.plan.extent(index)
	return claim{pos, index, off, n, c.holes.cover(off, n)}, true
}

// reader reads and marks chunks of one device.
type reader struct {
	dev   *Device
	meter *meter
}

// mark reads the chunk into s and marks it there, block by block and as a
// whole; a hole is not read.
func (r *reader) mark(c claim, s *slab, m *marker) (mark, error) {
	blocks := countBlocks(c.n, coarseBlock)
	marks := s.marks[:blocks*markSize]
	if c.hole {
		r.meter.hole.Add(int64(c.n))
		clear(marks)
		return mark{}, nil
	}
	if err := r.dev.readAt(s.bytes(c.n+slack), c.n, c.off); err != nil {
		return mark{}, err
	}
	r.meter.read.Add(int64(c.n))
	m.blocks(marks, s.bytes(c.n), allBlocks(blocks))
	return m.chunk(marks), nil
}

// again reads every chunk of the pass a second time and compares it with what
// the pass believes to be there. It returns a root of all content that was read.
func (r *reader) again(ctx context.Context, p *plan, slabs *pool, readers int, secret [32]byte, marks []byte) (digest, error) {
	if err := r.dev.refresh(); err != nil {
		return digest{}, err
	}
	todo := newClaims(p, r.dev)
	sums := make([]byte, p.n*int64(len(digest{})))
	g, ctx := errgroup.WithContext(ctx)
	for range readers {
		g.Go(func() error {
			m, err := newMarker(secret)
			if err != nil {
				return err
			}
			s, err := slabs.get(ctx)
			if err != nil {
				return err
			}
			defer slabs.put(s)
			for ctx.Err() == nil {
				c, ok := todo.take()
				if !ok {
					return nil
				}
				k, err := r.mark(c, s, m)
				if err != nil {
					return err
				}
				if k != markAt(marks, c.pos) {
					return &CorruptError{Path: r.dev.path, Offset: c.off, Reason: "read again after the last flush, it is not what was compared or written"}
				}
				if k != (mark{}) { // zeroes stay zeroes: the root holds their lengths
					d := sum(s.bytes(c.n))
					copy(sums[c.pos*int64(len(d)):], d[:])
				}
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return digest{}, err
	}
	return rootOf(p, sums), nil
}

// markAt returns the mark of a position from a row of them.
func markAt(marks []byte, pos int64) mark {
	return mark(marks[pos*markSize : (pos+1)*markSize])
}

// rootOf is the BLAKE3-256 over the geometry of the pass and what stands for
// its chunks: their marks, or in a full check their digests.
func rootOf(p *plan, rows []byte) digest {
	h := blake3.New()
	var b [16]byte
	put := func(x, y int64) {
		binary.LittleEndian.PutUint64(b[:], uint64(x))
		binary.LittleEndian.PutUint64(b[8:], uint64(y))
		_, _ = h.Write(b[:]) // a hash never fails
	}
	put(p.size, int64(p.chunk))
	put(p.n, int64(len(p.runs)))
	for _, r := range p.runs {
		put(r.first, r.count)
	}
	_, _ = h.Write(rows)
	return digest(h.Sum(nil))
}
