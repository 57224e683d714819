package blocksync

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// errMisfit is the content's disagreement with its digest: worth one more try.
var errMisfit = errors.New("content does not fit its digest")

// writeWorker checks and writes what arrives.
type writeWorker struct {
	*receiver
	sub  *subHasher
	inf  *inflater
	body []byte // an answer under construction
	old  *slab  // the chunk as it is on the device
	work *slab  // what came, decompressed
}

// newWorkers makes all of them before any runs: there are slabs for all then.
func (r *receiver) newWorkers() ([]*writeWorker, error) {
	var out []*writeWorker
	for range r.set.Readers {
		sub, err := newSubHasher(r.begin.secret)
		if err != nil {
			return nil, err
		}
		inf, err := newInflater()
		if err != nil {
			return nil, err
		}
		out = append(out, &writeWorker{receiver: r, sub: sub, inf: inf, old: r.slabs.mustTake(), work: r.slabs.mustTake()})
	}
	return out, nil
}

func (w *writeWorker) close() { w.inf.close() }

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
		if s := w.unhold(j.pos); s != nil { // all pages differed
			w.slabs.put(s)
		}
		err = w.whole(j)
	case kindCoarse:
		return w.answer(ctx, j)
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

// written notes that the chunk now has the content with digest d.
func (w *writeWorker) written(j job, d digest, bytes int) {
	w.meter.written.Add(int64(bytes))
	w.meter.done.Add(int64(j.n))
	w.meter.differed.Add(1)
	w.meter.differing.Add(int64(j.n))
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(w.digests[j.pos*32:], d[:])
	w.state[j.pos] = recvWritten
	if j.retry {
		w.refused--
	}
}

func (w *writeWorker) zero(j job) error {
	d := w.reader.zeroes.of(j.n)
	if len(j.frame.Payload) != 0 || seal(&j.frame, d) != j.frame.Digest {
		return errMisfit
	}
	if err := w.reader.dev.zero(j.off, j.n); err != nil {
		return err
	}
	w.meter.zero.Add(int64(j.n))
	w.written(j, d, j.n)
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
	if addressOf(b)%pageSize != 0 { // a lane's buffer; direct writes need a page
		b = append(w.work.empty(), b...)
	}
	d := sum(b)
	if seal(&j.frame, d) != j.frame.Digest {
		return errMisfit
	}
	if err := w.reader.dev.writeAt(b, j.off); err != nil {
		return err
	}
	w.meter.sent.Add(int64(j.n))
	w.written(j, d, j.n)
	return nil
}

// answer tells the source which pages may differ, by their sub-digests.
func (w *writeWorker) answer(ctx context.Context, j job) error {
	blocks := countBlocks(j.n, coarseBlock)
	theirs := j.frame.Payload
	if len(theirs) != blocks*subSize {
		return w.wire.corrupt(j.off, "%d bytes of sub-digests for %d blocks", len(theirs), blocks)
	}
	s, keep := w.old, false
	select {
	case <-w.slabs.tokens: // room to keep the old content for the pages to come
		s, keep = w.slabs.take(), true
	default:
	}
	if err := w.reader.dev.readAt(s.bytes(j.n+slack), j.n, j.off); err != nil {
		return err
	}
	w.meter.read.Add(int64(j.n))
	w.body = w.answerBody(s.bytes(j.n), theirs)
	w.wire.release(&j.frame)
	w.mu.Lock()
	w.state[j.pos] = recvAnswered
	if keep {
		w.held[j.pos] = s
	}
	w.mu.Unlock()
	return w.wire.sendBody(ctx, kindFine, j.frame.Index, w.body)
}

func (w *writeWorker) answerBody(content, theirs []byte) []byte {
	blocks := countBlocks(len(content), coarseBlock)
	head := bitmapLen(blocks)
	body := append(w.body[:0], make([]byte, head)...)
	for i := range blocks {
		block := content[i*coarseBlock : min(len(content), (i+1)*coarseBlock)]
		at := len(body)
		body = w.sub.append(body, block, coarseBlock)
		equal := slices.Equal(body[at:], theirs[i*subSize:(i+1)*subSize])
		body = body[:at]
		if !equal {
			bitmap(body[:head]).set(i)
			body = w.sub.append(body, block, finePage)
		}
	}
	return body
}

// unhold returns the kept old content of a chunk, if there was room to keep it.
func (w *writeWorker) unhold(pos int64) *slab {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.held[pos]
	delete(w.held, pos)
	return s
}

// under returns a slab with what the pages of a frame lie on: zeroes, or the
// old content, kept or read again. It is w.old, or belongs to the caller.
func (w *writeWorker) under(j job) (*slab, error) {
	if j.frame.Flags&flagBlank != 0 {
		clear(w.old.bytes(j.n))
		return w.old, nil
	}
	if s := w.unhold(j.pos); s != nil {
		return s, nil
	}
	if err := w.reader.dev.readAt(w.old.bytes(j.n+slack), j.n, j.off); err != nil {
		return nil, err
	}
	w.meter.read.Add(int64(j.n))
	return w.old, nil
}

// pages lays the pages over the old content, checks the whole, and writes what changed.
func (w *writeWorker) pages(j job) error {
	s, err := w.under(j)
	if err != nil {
		return err
	}
	if s != w.old {
		defer w.slabs.put(s)
	}
	body, err := w.content(&j.frame)
	if err != nil {
		return err
	}
	marks, content, err := decodePages(body, j.n)
	if err != nil {
		return fmt.Errorf("%w: %w", errMisfit, err)
	}
	chunk, size := s.bytes(j.n), len(content)
	for i := range countBlocks(j.n, finePage) {
		if marks.has(i) {
			content = content[copy(chunk[i*finePage:min(j.n, (i+1)*finePage)], content):]
		}
	}
	d := sum(chunk)
	if seal(&j.frame, d) != j.frame.Digest {
		return errMisfit
	}
	if err := w.writeMarked(chunk, marks, j.off); err != nil {
		return err
	}
	w.meter.sent.Add(int64(size))
	w.meter.narrowed.Add(1)
	w.written(j, d, size)
	return nil
}

// writeMarked writes the marked pages of the chunk, neighbours in one go.
func (w *writeWorker) writeMarked(chunk []byte, marks bitmap, off int64) error {
	n := countBlocks(len(chunk), finePage)
	for i := 0; i < n; {
		if !marks.has(i) {
			i++
			continue
		}
		from := i
		for i < n && marks.has(i) {
			i++
		}
		a, b := from*finePage, min(len(chunk), i*finePage)
		if err := w.reader.dev.writeAt(chunk[a:b], off+int64(a)); err != nil {
			return err
		}
	}
	return nil
}
