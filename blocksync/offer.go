package blocksync

import (
	"context"
	"time"
)

const (
	// maxBatch marks go into one frame: 4 KiB, whose head then costs little.
	maxBatch = 256

	// offerEvery bounds how long a mark waits for company. The source cannot
	// go on without it.
	offerEvery = 5 * time.Millisecond
)

// offers puts marks, which become ready out of order, into batches in order.
type offers struct {
	ready   int64              // marks below are there
	early   map[int64]struct{} // marks above ready that are there
	sent    int64              // marks below are sent, or being sent
	sending bool               // one goroutine at a time sends, so that batches stay in order
	limit   int64              // size of a batch: starts at 1 so that the source can begin, doubles
	last    time.Time          // when the last batch was sent
}

// add notes that the mark of pos is there.
func (o *offers) add(pos int64) {
	o.early[pos] = struct{}{}
	for {
		if _, ok := o.early[o.ready]; !ok {
			return
		}
		delete(o.early, o.ready)
		o.ready++
	}
}

// next returns the batch that is due, if one is.
func (o *offers) next(total int64) (from, to int64, ok bool) {
	n := o.ready - o.sent
	if o.sending || n == 0 {
		return 0, 0, false
	}
	if n < o.limit && o.ready < total && time.Since(o.last) < offerEvery {
		return 0, 0, false
	}
	from, to = o.sent, o.sent+min(n, maxBatch)
	o.sent, o.sending = to, true
	o.limit = min(maxBatch, o.limit*2)
	return from, to, true
}

// offerAll reads and marks the device, unless that looks blank, and sends the
// marks, together with the other readers. s is this reader's buffer.
func (r *receiver) offerAll(ctx context.Context, s *slab) error {
	defer r.slabs.put(s)
	m, err := newMarker(r.begin.secret)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		c, ok := r.claims.take()
		if !ok {
			return nil
		}
		k := presumed
		if !r.blank || c.hole {
			if k, err = r.reader.mark(c, s, m); err != nil {
				return err
			}
		}
		if err := r.offer(ctx, c.pos, k, s.marks[:countBlocks(c.n, coarseBlock)*markSize]); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// offer stores the marks of one chunk and sends the batches that are due.
func (r *receiver) offer(ctx context.Context, pos int64, k mark, blocks []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.marks[pos*markSize:], k[:])
	if k != presumed {
		r.lately.put(pos, blocks)
	}
	r.offers.add(pos)
	for {
		from, to, ok := r.offers.next(r.plan.n)
		if !ok {
			return nil
		}
		for p := from; p < to; p++ {
			r.state[p] = recvOffered
		}
		batch := r.marks[from*markSize : to*markSize]
		r.mu.Unlock()
		// Nobody touches the batch meanwhile: the source must have it before
		// it can send anything for these chunks.
		err := r.wire.sendBody(ctx, kindMarks, from, batch)
		r.mu.Lock()
		if err != nil {
			return err // and nobody sends any more: a later batch would pass for this one
		}
		r.offers.sending, r.offers.last = false, time.Now()
	}
}

// latelyBytes bounds the memory of a lately: with 1 MiB chunks, the last 4 GiB
// that were read, of which the source is behind by far less.
const latelyBytes = 1 << 20

// lately remembers the marks of the blocks of the chunks that were read last,
// so that a chunk that differs need not be read and marked again.
type lately struct {
	stride int     // bytes per chunk
	pos    []int64 // whose marks are in a slot, plus 1; 0: nobody's
	marks  []byte
}

func newLately(p *plan) lately {
	l := lately{stride: countBlocks(p.chunk, coarseBlock) * markSize}
	slots := max(1, min(p.n, int64(latelyBytes/l.stride)))
	l.pos, l.marks = make([]int64, slots), make([]byte, slots*int64(l.stride))
	return l
}

func (l *lately) put(pos int64, blocks []byte) {
	slot := pos % int64(len(l.pos))
	l.pos[slot] = pos + 1
	copy(l.marks[slot*int64(l.stride):], blocks)
}

// get copies the marks of a chunk's blocks to dst, if they are remembered.
func (l *lately) get(pos int64, dst []byte) bool {
	slot := pos % int64(len(l.pos))
	if l.pos[slot] != pos+1 {
		return false
	}
	copy(dst, l.marks[slot*int64(l.stride):])
	return true
}
