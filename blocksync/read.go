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

// reader reads and digests chunks of one device.
type reader struct {
	dev    *Device
	zeroes *zeroes
	meter  *meter
}

// digest reads the chunk into s and returns its digest and whether it is zero;
// a hole is not read.
func (r *reader) digest(c claim, s *slab) (digest, bool, error) {
	if c.hole {
		r.meter.hole.Add(int64(c.n))
		return r.zeroes.of(c.n), true, nil
	}
	if err := r.dev.readAt(s.bytes(c.n+slack), c.n, c.off); err != nil {
		return digest{}, false, err
	}
	r.meter.read.Add(int64(c.n))
	b := s.bytes(c.n)
	if isZero(b) {
		return r.zeroes.of(c.n), true, nil
	}
	return sum(b), false, nil
}

// again reads every chunk of the pass a second time and compares it with what
// the pass believes to be there.
func (r *reader) again(ctx context.Context, p *plan, slabs *pool, readers int, digests []byte) error {
	if err := r.dev.refresh(); err != nil {
		return err
	}
	todo := newClaims(p, r.dev)
	g, ctx := errgroup.WithContext(ctx)
	for range readers {
		g.Go(func() error {
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
				d, _, err := r.digest(c, s)
				if err != nil {
					return err
				}
				if d != digestAt(digests, c.pos) {
					return &CorruptError{Path: r.dev.path, Offset: c.off, Reason: "read again after the last flush, it is not what was compared or written"}
				}
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

// digestAt returns the digest of a position from a row of them.
func digestAt(digests []byte, pos int64) digest {
	return digest(digests[pos*32 : pos*32+32])
}

// rootOf is the BLAKE3-256 over the geometry of the pass and its digests.
func rootOf(p *plan, digests []byte) digest {
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
	_, _ = h.Write(digests)
	return digest(h.Sum(nil))
}
