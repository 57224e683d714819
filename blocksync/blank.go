package blocksync

import (
	"context"
	"math/rand/v2"
)

// A block device cannot be asked for its holes, and a volume made for the move
// is often all zero. To read it costs as much as to write it, only to learn that
// all of it has to be written. So the destination looks here and there first. If
// it sees nothing but zeroes it offers no marks: the source then sends what is
// not zero as it would onto zeroes. The destination writes whole chunks as they
// come; those that are zero at the source, or in part, it reads then, so that what
// is zero stays as it is: a thin volume stays thin. A presumption that is wrong
// costs what was sent for nothing, never content.

// presumed stands for the mark of a chunk that was not read because its device
// looks blank. Content whose mark it is by chance, 2^-128, is only sent for nothing.
var presumed = mark{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

const (
	// blankSize is the least a device must have, in bytes: a smaller one is read at once.
	blankSize = 64 << 20

	// blankLooks is how many pages are looked at, each in another part of the
	// device; a spinning disk takes seconds for them. Where a share f of the
	// pages is not zero it looks blank with a chance of (1-f)^1024, and f of it
	// is sent for nothing at most: on average never more than 0.04 %.
	blankLooks = 1024
)

// onZeroes says that a chunk with this mark at the destination is zero there, or
// will be written as if it were.
func onZeroes(k mark) bool { return k == mark{} || k == presumed }

// looksBlank reports whether the destination's device seems to be all zero. A
// file of which many parts are holes is no such device: what is not a hole has
// something in it.
func (r *receiver) looksBlank(ctx context.Context) (bool, error) {
	if r.set.blank || !r.plan.whole() || r.plan.size < blankSize {
		return r.set.blank, nil
	}
	page := alignedBytes(finePage)
	holes := newHoles(r.reader.dev)
	looks, seen := min(blankLooks, r.plan.n), int64(0)
	for i := range looks {
		first := i * r.plan.n / looks
		pos := first + rand.Int64N((i+1)*r.plan.n/looks-first)
		off, n := r.plan.extent(r.plan.at(pos))
		if n < finePage || holes.cover(off, n) {
			continue
		}
		at := off + rand.Int64N(int64(n/finePage))*finePage
		if err := r.reader.dev.readAt(page, finePage, at); err != nil {
			return false, err
		}
		r.meter.read.Add(finePage)
		if seen++; !isZero(page) || ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return seen > looks/2, nil
}

// zeroHere reports whether the chunk is zero on the device, which is read if
// that was presumed. What came is not in w.work yet.
func (w *writeWorker) zeroHere(j job) (bool, error) {
	w.mu.Lock()
	k := markAt(w.marks, j.pos)
	w.mu.Unlock()
	if k != presumed {
		return k == mark{}, nil
	}
	b := w.work.bytes(j.n + slack)
	if err := w.reader.dev.readAt(b, j.n, j.off); err != nil {
		return false, err
	}
	w.meter.read.Add(int64(j.n))
	return isZero(b[:j.n]), nil
}
