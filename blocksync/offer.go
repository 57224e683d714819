package blocksync

import (
	"context"
	"time"
)

const (
	// maxBatch digests go into one frame: 4 KiB, whose head then costs 1.5 %.
	maxBatch = 128

	// offerEvery bounds how long a digest waits for company. The source cannot
	// go on without it.
	offerEvery = 5 * time.Millisecond
)

// offers puts digests, which become ready out of order, into batches in order.
type offers struct {
	ready   int64              // digests below are there
	early   map[int64]struct{} // digests above ready that are there
	sent    int64              // digests below are sent, or being sent
	sending bool               // one goroutine at a time sends, so that batches stay in order
	limit   int64              // size of a batch: starts at 1 so that the source can begin, doubles
	last    time.Time          // when the last batch was sent
}

// add notes that the digest of pos is there.
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

// offerAll reads and digests the device and sends the digests, together with
// the other readers. s is this reader's buffer.
func (r *receiver) offerAll(ctx context.Context, s *slab) error {
	defer r.slabs.put(s)
	for ctx.Err() == nil {
		c, ok := r.claims.take()
		if !ok {
			return nil
		}
		d, _, err := r.reader.digest(c, s)
		if err != nil {
			return err
		}
		if err := r.offer(ctx, c.pos, d); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// offer stores one digest and sends the batches that are due.
func (r *receiver) offer(ctx context.Context, pos int64, d digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.digests[pos*32:], d[:])
	r.offers.add(pos)
	for {
		from, to, ok := r.offers.next(r.plan.n)
		if !ok {
			return nil
		}
		for p := from; p < to; p++ {
			r.state[p] = recvOffered
		}
		batch := r.digests[from*32 : to*32]
		r.mu.Unlock()
		// Nobody touches the batch meanwhile: the source must have it before
		// it can send anything for these chunks.
		err := r.wire.sendBody(ctx, kindDigests, from, batch)
		r.mu.Lock()
		if err != nil {
			return err // and nobody sends any more: a later batch would pass for this one
		}
		r.offers.sending, r.offers.last = false, time.Now()
	}
}
