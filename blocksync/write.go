package blocksync

import (
	"context"
	"errors"
	"fmt"
)

// errMisfit is the content's disagreement with its digest: worth one more try.
var errMisfit = errors.New("content does not fit its digest")

// writeWorker checks and writes what arrives.
type writeWorker struct {
	*receiver
	marker *marker
	inf    *inflater
	body   []byte // an answer under construction
	own    held   // of a chunk that is not kept, or not narrowed
	work   *slab  // what came, decompressed
}

// held is what a writer knows of a chunk on the device while it is narrowed.
type held struct {
	slab *slab    // its marks are the chunk's, whether its blocks are there or not
	read blockSet // these blocks are there
}

// newWorkers makes all of them before any runs: there are slabs for all then.
func (r *receiver) newWorkers() ([]*writeWorker, error) {
	var out []*writeWorker
	for range r.crew {
		m, err := newMarker(r.begin.secret)
		if err != nil {
			return nil, err
		}
		inf, err := newInflater()
		if err != nil {
			return nil, err
		}
		out = append(out, &writeWorker{receiver: r, marker: m, inf: inf, own: held{slab: r.slabs.mustTake()}, work: r.slabs.mustTake()})
	}
	return out, nil
}

func (w *writeWorker) close() {
	w.inf.close()
	w.slabs.put(w.own.slab)
	w.slabs.put(w.work)
}

func (w *writeWorker) run(ctx context.Context) error {
	for {
		select {
		case j, ok := <-w.jobs:
			if !ok {
				return nil
			}
			if err := w.do(ctx, j); err != nil {
				return err
			}
			if w.inflight.Add(-1) == 0 {
				select {
				case w.idle <- struct{}{}:
				default:
				}
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *writeWorker) do(ctx context.Context, j job) error {
	var err error
	switch j.frame.Kind {
	case kindZero:
		err = w.zero(j)
	case kindWhole:
		w.release(w.unhold(j.pos)) // all pages differed
		err = w.whole(j)
	case kindCoarse:
		return w.answer(ctx, j)
	case kindSame:
		return w.same(ctx, j)
	case kindPages:
		err = w.pages(j)
	}
	w.wire.release(&j.frame)
	if errors.Is(err, errMisfit) {
		return w.refuse(ctx, j, err)
	}
	return err
}

// refuse asks for the whole chunk, once.
func (w *writeWorker) refuse(ctx context.Context, j job, why error) error {
	if j.retry {
		return w.wire.corrupt(j.off, "%v, twice", why)
	}
	w.mu.Lock()
	w.state[j.pos] = recvRefused
	w.refused++
	w.refuses++
	many := w.refuses > maxRefusals
	w.mu.Unlock()
	if many {
		return w.wire.corrupt(j.off, "%v, as in %d chunks before", why, maxRefusals)
	}
	return w.wire.sendBody(ctx, kindRefuse, j.frame.Index, nil)
}

// written notes that the chunk now has the content with mark k.
func (w *writeWorker) written(j job, k mark, bytes int) {
	w.meter.written.Add(int64(bytes))
	w.meter.done.Add(int64(j.n))
	w.meter.differed.Add(1)
	w.meter.differing.Add(int64(j.n))
	w.settled(j, k)
}

func (w *writeWorker) settled(j job, k mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(w.marks[j.pos*markSize:], k[:])
	w.state[j.pos] = recvWritten
	if j.retry {
		w.refused--
	}
}

func (w *writeWorker) zero(j job) error {
	if len(j.frame.Payload) != 0 || seal(&j.frame, contentOf(mark{})) != j.frame.Digest {
		return errMisfit
	}
	is, err := w.zeroHere(j)
	if err != nil {
		return err
	}
	if is {
		w.meter.done.Add(int64(j.n))
		w.settled(j, mark{})
		return nil
	}
	if err := w.reader.dev.zero(j.off, j.n); err != nil {
		return err
	}
	w.meter.zero.Add(int64(j.n))
	w.written(j, mark{}, j.n)
	return nil
}

// content returns the payload of a frame, decompressed; at most one slab of it.
func (w *writeWorker) content(f *Frame) ([]byte, error) {
	switch f.Flags &^ flagBlank {
	case 0:
		return f.Payload, nil
	case flagZstd:
		out, err := w.inf.into(w.work.empty(), f.Payload)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMisfit, err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: unknown flags %#x", errMisfit, f.Flags)
}

func (w *writeWorker) whole(j job) error {
	b, err := w.content(&j.frame)
	if err != nil {
		return err
	}
	if len(b) != j.n {
		return fmt.Errorf("%w: %d bytes instead of %d", errMisfit, len(b), j.n)
	}
	if addressOf(b)%pageSize != 0 { // direct writes need a page
		b = append(w.work.empty(), b...)
	}
	blocks := countBlocks(j.n, coarseBlock)
	marks := w.own.slab.marks[:blocks*markSize]
	w.marker.blocks(marks, b, allBlocks(blocks))
	k := w.marker.chunk(marks)
	if seal(&j.frame, contentOf(k)) != j.frame.Digest {
		return errMisfit
	}
	if err := w.reader.dev.writeAt(b, j.off); err != nil {
		return err
	}
	w.meter.sent.Add(int64(j.n))
	w.written(j, k, j.n)
	w.learn(j, b)
	return nil
}

// answer tells the source what may differ: blocks, and of most of them the pages.
func (w *writeWorker) answer(ctx context.Context, j job) error {
	blocks := countBlocks(j.n, coarseBlock)
	theirs := j.frame.Payload
	if len(theirs) != blocks*markSize || j.frame.Flags&^flagEager != 0 {
		return w.wire.corrupt(j.off, "%d bytes of marks for %d blocks, flags %#x", len(theirs), blocks, j.frame.Flags)
	}
	h, kept := &w.own, false
	if s, ok := w.slabs.try(); ok { // room to keep the old content for the pages to come
		h, kept = &held{slab: s}, true
	}
	h.read = 0
	marks := h.slab.marks[:blocks*markSize]
	w.mu.Lock()
	known := w.lately.get(j.pos, marks)
	w.mu.Unlock()
	if !known {
		if err := w.readWhole(h, j); err != nil {
			return err
		}
	}
	f := fineBody{differ: differing(marks, theirs)}
	if j.frame.Flags&flagEager != 0 {
		f.entire = f.differ.inner(blocks)
	}
	w.wire.release(&j.frame)
	if err := w.readBlocks(h, j, f.differ&^f.entire); err != nil {
		return err
	}
	w.body = appendFine(w.body[:0], f.differ, f.entire)
	for i := range blocks {
		if (f.differ &^ f.entire).has(i) {
			w.body = w.marker.appendPages(w.body, blockOf(h.slab.bytes(j.n), i))
		}
	}
	w.mu.Lock()
	w.state[j.pos] = recvAnswered
	if kept {
		w.held[j.pos] = h
	}
	w.mu.Unlock()
	return w.wire.sendBody(ctx, kindFine, j.frame.Index, w.body)
}

// readWhole reads and marks all of the chunk.
func (w *writeWorker) readWhole(h *held, j job) error {
	if err := w.reader.dev.readAt(h.slab.bytes(j.n+slack), j.n, j.off); err != nil {
		return err
	}
	w.meter.read.Add(int64(j.n))
	h.read = allBlocks(countBlocks(j.n, coarseBlock))
	w.marker.blocks(h.slab.marks[:], h.slab.bytes(j.n), h.read)
	return nil
}

// readBlocks reads the blocks that are not there yet, neighbours in one go.
func (w *writeWorker) readBlocks(h *held, j job, which blockSet) error {
	which &^= h.read
	for i := 0; i < maxBlocks; i++ {
		if !which.has(i) {
			continue
		}
		from := i
		for i < maxBlocks && which.has(i) {
			i++
		}
		a, n := from*coarseBlock, min(j.n, i*coarseBlock)-from*coarseBlock
		if err := w.reader.dev.readAt(h.slab.bytes(j.n + slack)[a:], n, j.off+int64(a)); err != nil {
			return err
		}
		w.meter.read.Add(int64(n))
	}
	h.read |= which
	return nil
}

// unhold returns what was kept of a chunk, nil if there was no room.
func (w *writeWorker) unhold(pos int64) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[pos]
	delete(w.held, pos)
	return h
}

// release gives the slab of what unhold returned back.
func (w *writeWorker) release(h *held) {
	if h != nil && h != &w.own {
		w.slabs.put(h.slab)
	}
}

// under is what the pages of a frame lie on: zeroes, or the old content, kept
// or read again.
func (w *writeWorker) under(j job) (*held, error) {
	if j.frame.Flags&flagBlank != 0 {
		clear(w.own.slab.bytes(j.n))
		clear(w.own.slab.marks[:])
		w.own.read = allBlocks(countBlocks(j.n, coarseBlock))
		return &w.own, nil
	}
	if h := w.unhold(j.pos); h != nil {
		return h, nil
	}
	return &w.own, w.readWhole(&w.own, j)
}

// pages lays the pages over the old content, checks the whole, and writes what changed.
func (w *writeWorker) pages(j job) error {
	blank, hole := j.frame.Flags&flagBlank != 0, false
	if blank {
		var err error
		if hole, err = w.zeroHere(j); err != nil {
			return err
		}
	}
	h, err := w.under(j)
	if err != nil {
		return err
	}
	defer w.release(h)
	body, err := w.content(&j.frame)
	if err != nil {
		return err
	}
	marked, content, err := decodePages(body, j.n)
	if err != nil {
		return fmt.Errorf("%w: %w", errMisfit, err)
	}
	chunk, sent := h.slab.bytes(j.n), len(content)
	wrote := sent
	touched, full := marked.blocks(j.n)
	if touched&^(h.read|full) != 0 {
		return fmt.Errorf("%w: pages in a block that was not asked for", errMisfit)
	}
	for i := range countBlocks(j.n, finePage) {
		if marked.has(i) {
			content = content[copy(chunk[i*finePage:min(j.n, (i+1)*finePage)], content):]
		}
	}
	marks := h.slab.marks[:countBlocks(j.n, coarseBlock)*markSize]
	w.marker.blocks(marks, chunk, touched)
	k := w.marker.chunk(marks)
	if seal(&j.frame, contentOf(k)) != j.frame.Digest {
		return errMisfit
	}
	switch {
	case hole: // what is not written stays one
		err = w.writeMarked(chunk, marked, h.read|full, 0, j.off)
	case blank: // there is something between the pages
		wrote, err = j.n, w.reader.dev.writeAt(chunk, j.off)
	default:
		err = w.writeMarked(chunk, marked, h.read|full, mergeGap, j.off)
	}
	if err != nil {
		return err
	}
	w.meter.sent.Add(int64(sent))
	w.meter.narrowed.Add(1)
	w.written(j, k, wrote)
	if h.read|full == allBlocks(countBlocks(j.n, coarseBlock)) {
		w.learn(j, chunk)
	}
	return nil
}

// mergeGap pages between two that changed are written once more with them: one
// request of 32 KiB costs any disk less than two of 4 KiB.
const mergeGap = 6

// writeMarked writes the marked pages of the chunk: neighbours in one go, and
// those with at most gap pages between them, where all of their content is there.
func (w *writeWorker) writeMarked(chunk []byte, marked bitmap, there blockSet, gap int, off int64) error {
	n := countBlocks(len(chunk), finePage)
	for i := 0; i < n; i++ {
		if !marked.has(i) {
			continue
		}
		from, to := i, i+1 // pages to write
		for i++; i < n && i <= to+gap && there.has(i/pagesInBlock); i++ {
			if marked.has(i) {
				to = i + 1
			}
		}
		i = to - 1
		a, b := from*finePage, min(len(chunk), to*finePage)
		if err := w.reader.dev.writeAt(chunk[a:b], off+int64(a)); err != nil {
			return err
		}
	}
	return nil
}
