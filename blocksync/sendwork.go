package blocksync

import (
	"bytes"
	"context"
)

// sendWorker reads, compares and sends chunks, and answers for those that are
// being narrowed. Any worker may continue what another has begun.
type sendWorker struct {
	*sender
	marker *marker
	sq     *squeezer
	subs   []byte // page marks of one block
	coarse []byte // marks of one chunk's blocks, while they are sent
	work   *slab  // pages, or a chunk read again
	packed *slab  // the same, compressed
	digest digest // of the chunk that is asked for by kindSame, while it is sent
}

func newSendWorker(s *sender) (*sendWorker, error) {
	m, err := newMarker(s.pass.Secret)
	if err != nil {
		return nil, err
	}
	sq, err := newSqueezer(s.set.Compress, s.wire.pace)
	if err != nil {
		return nil, err
	}
	w := &sendWorker{sender: s, marker: m, sq: sq, subs: make([]byte, 0, pagesInBlock*pageMarkSize)}
	w.work, w.packed = s.slabs.mustTake(), s.slabs.mustTake()
	return w, nil
}

// newWorkers makes all of them before any runs: there are slabs for all then.
func (s *sender) newWorkers() ([]*sendWorker, error) {
	var out []*sendWorker
	for range s.crew {
		w, err := newSendWorker(s)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

func (w *sendWorker) close() {
	w.sq.close()
	w.slabs.put(w.work)
	w.slabs.put(w.packed)
}

// run takes chunks until none is left, then answers until all are settled.
func (w *sendWorker) run(ctx context.Context) error {
	for {
		s, err := w.room(ctx)
		if err != nil {
			return err
		}
		c, ok := w.claims.take()
		if !ok {
			w.slabs.put(s)
			break
		}
		if err := w.chunk(ctx, c, s); err != nil {
			return err
		}
	}
	for {
		select {
		case a := <-w.answers:
			if err := w.serve(ctx, a); err != nil {
				return err
			}
		case <-w.settled:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// room waits for a slab; answers come first, because they free slabs.
func (w *sendWorker) room(ctx context.Context) (*slab, error) {
	for {
		var a Frame
		select {
		case a = <-w.answers:
		default:
			if s, ok := w.slabs.try(); ok {
				return s, nil
			}
			select {
			case a = <-w.answers:
			case <-w.slabs.tokens:
				return w.slabs.take(), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if err := w.serve(ctx, a); err != nil {
			return nil, err
		}
	}
}

// await waits until the destination's mark of a position is here.
func (w *sendWorker) await(ctx context.Context, pos int64) error {
	for {
		w.mu.Lock()
		here, news := w.arrived > pos, w.news
		w.mu.Unlock()
		if here {
			return nil
		}
		select {
		case <-news:
		case a := <-w.answers:
			if err := w.serve(ctx, a); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// chunk reads and compares one chunk and sends what differs. It owns s.
func (w *sendWorker) chunk(ctx context.Context, c claim, s *slab) error {
	keep := false
	defer func() {
		if !keep {
			w.slabs.put(s)
		}
	}()
	mine, err := w.reader.mark(c, s, w.marker)
	if err != nil {
		return err
	}
	if err := w.await(ctx, c.pos); err != nil {
		return err
	}
	theirs := w.swap(c.pos, mine)
	switch {
	case mine == theirs && mine != presumed:
		w.mark(c.pos, sendSettled)
		w.meter.same.Add(int64(c.n))
		w.settle(c.n)
		return nil
	case mine == mark{} && theirs == presumed:
		w.meter.same.Add(int64(c.n)) // most likely; the destination will see
		return w.zero(ctx, c)
	}
	w.meter.differed.Add(1)
	w.meter.differing.Add(int64(c.n))
	switch {
	case mine == mark{}:
		w.meter.zero.Add(int64(c.n))
		err = w.zero(ctx, c)
	case w.knows(s.bytes(c.n)):
		keep, err = true, w.same(ctx, c, s, mine, theirs)
	default:
		keep, err = w.content(ctx, c, s, mine, theirs)
	}
	return err
}

// zero says that the chunk is.
func (w *sendWorker) zero(ctx context.Context, c claim) error {
	w.mark(c.pos, sendSent)
	err := w.wire.send(ctx, Frame{Kind: kindZero, Index: c.index, Length: c.n}, contentOf(mark{}))
	if err == nil {
		w.settle(c.n)
	}
	return err
}

// content sends a chunk that differs and is not zero. If it has to ask for that
// which pages do, it keeps s until the answer.
func (w *sendWorker) content(ctx context.Context, c claim, s *slab, mine, theirs mark) (keep bool, err error) {
	switch {
	case onZeroes(theirs):
		w.mark(c.pos, sendSent)
		err = w.onBlank(ctx, c, s, mine)
	case c.n <= finePage:
		w.mark(c.pos, sendSent)
		err = w.whole(ctx, c.index, s, c.n, mine)
	default:
		return true, w.narrow(ctx, c, s)
	}
	if err == nil {
		w.settle(c.n)
	}
	return false, err
}

func (w *sendWorker) mark(pos int64, state uint8) {
	w.mu.Lock()
	w.state[pos] = state
	w.mu.Unlock()
}

// whole sends all of the chunk in s.
func (w *sendWorker) whole(ctx context.Context, index int64, s *slab, n int, k mark) error {
	f := Frame{Kind: kindWhole, Index: index, Length: n, Payload: s.bytes(n), Slab: s.buf}
	w.meter.sent.Add(int64(n))
	return w.wire.send(ctx, w.squeeze(f), contentOf(k))
}

// onBlank sends a chunk that is zero at the destination: its pages that are not.
// Nothing has to be asked for that.
func (w *sendWorker) onBlank(ctx context.Context, c claim, s *slab, k mark) error {
	if err := w.takeTurn(ctx); err != nil {
		return err
	}
	content := s.bytes(c.n)
	head := bitmapLen(countBlocks(c.n, finePage))
	marks := w.work.bytes(head)
	clear(marks)
	total := 0
	for at := 0; at < c.n; at += finePage {
		if page := content[at:min(c.n, at+finePage)]; !isZero(page) {
			bitmap(marks).set(at / finePage)
			total += len(page)
		}
	}
	if nearlyAll(total+head, c.n) {
		return w.whole(ctx, c.index, s, c.n, k)
	}
	body := marks
	for i := range countBlocks(c.n, finePage) {
		if bitmap(marks).has(i) {
			body = append(body, content[i*finePage:min(c.n, (i+1)*finePage)]...)
		}
	}
	w.meter.sent.Add(int64(total))
	return w.wire.send(ctx, w.squeeze(Frame{Kind: kindPages, Flags: flagBlank, Index: c.index, Length: c.n, Payload: body, Slab: w.work.buf}), contentOf(k))
}

// nearlyAll says that a chunk costs no more to send than its pages do: copying
// them together, and the destination's overlay, would be for nothing.
func nearlyAll(pages, chunk int) bool { return pages > chunk-chunk/16 }

// squeeze compresses the payload of f into the worker's own slab, if it pays.
func (w *sendWorker) squeeze(f Frame) Frame {
	if out, ok := w.sq.pack(w.packed.empty(), f.Payload); ok {
		f.Flags |= flagZstd
		f.Payload, f.Slab = out, w.packed.buf
	}
	return f
}

// narrow asks which pages of the chunk differ. Until the answer the chunk stays in s.
func (w *sendWorker) narrow(ctx context.Context, c claim, s *slab) error {
	marks := s.marks[:countBlocks(c.n, coarseBlock)*markSize]
	f := Frame{Kind: kindCoarse, Index: c.index, Length: len(marks)}
	w.mu.Lock()
	w.state[c.pos] = sendNarrow
	w.waiting[c.pos] = asked{slab: s}
	if w.taste.eager() {
		f.Flags = flagEager
	}
	w.mu.Unlock()
	// The answer may be served, and s used again, before the frame is on its way.
	f.Payload = append(w.coarse[:0], marks...)
	return w.wire.send(ctx, f, sum(f.Payload))
}

// serve handles one answer of the destination.
func (w *sendWorker) serve(ctx context.Context, f Frame) error {
	pos, ok := w.plan.find(f.Index)
	if !ok {
		return w.wire.corrupt(-1, "answer about chunk %d, which is not part of the pass", f.Index)
	}
	off, n := w.plan.extent(f.Index)
	c := claim{pos: pos, index: f.Index, off: off, n: n}
	switch f.Kind {
	case kindRefuse:
		return w.again(ctx, c)
	case kindTaken:
		return w.taken(ctx, f, c)
	}
	a, mine, err := w.answered(c, sendNarrow)
	if err != nil {
		return err
	}
	defer w.slabs.put(a.slab)
	if err := w.pages(ctx, f, a.slab, n, mine); err != nil {
		return err
	}
	w.wire.release(&f)
	w.settle(n)
	return nil
}

// answered takes the chunk that the destination was asked about, and our mark of it.
func (w *sendWorker) answered(c claim, state uint8) (a asked, mine mark, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state[c.pos] != state {
		return a, mine, w.wire.corrupt(c.off, "answer about a chunk nobody asked for")
	}
	a, mine = w.waiting[c.pos], markAt(w.marks, c.pos)
	delete(w.waiting, c.pos)
	w.state[c.pos] = sendSent
	return a, mine, nil
}

// pages sends the pages of the chunk in s that the answer f shows to differ.
func (w *sendWorker) pages(ctx context.Context, f Frame, s *slab, n int, k mark) error {
	fine, err := decodeFine(f.Payload, n)
	if err != nil {
		off, _ := w.plan.extent(f.Index)
		return w.wire.corrupt(off, "answer about a chunk: %v", err)
	}
	total := countBlocks(n, finePage)
	head := bitmapLen(total)
	body := w.work.bytes(head)
	clear(body)
	marked, theirs := bitmap(body), fine.marks
	for i := range countBlocks(n, coarseBlock) {
		if !fine.differ.has(i) {
			continue
		}
		block := blockOf(s.bytes(n), i)
		first := i * pagesInBlock
		if fine.entire.has(i) {
			for p := range countBlocks(len(block), finePage) {
				marked.set(first + p)
			}
			body = append(body, block...)
			continue
		}
		w.subs = w.marker.appendPages(w.subs[:0], block)
		for p := range countBlocks(len(block), finePage) {
			at := p * pageMarkSize
			if !bytes.Equal(w.subs[at:at+pageMarkSize], theirs[at:at+pageMarkSize]) {
				marked.set(first + p)
				body = append(body, block[p*finePage:min(len(block), (p+1)*finePage)]...)
			}
		}
		theirs = theirs[len(w.subs):]
	}
	changed := marked.count()
	w.mu.Lock()
	w.taste.learn(changed, total)
	w.mu.Unlock()
	if nearlyAll(len(body), n) {
		return w.whole(ctx, f.Index, s, n, k)
	}
	w.meter.narrowed.Add(1)
	w.meter.sent.Add(int64(len(body) - head))
	return w.wire.send(ctx, w.squeeze(Frame{Kind: kindPages, Index: f.Index, Length: n, Payload: body, Slab: w.work.buf}), contentOf(k))
}

// again sends a chunk that did not arrive as it was sent: read anew, whole, once.
func (w *sendWorker) again(ctx context.Context, c claim) error {
	w.mu.Lock()
	was := w.state[c.pos]
	if was == sendSent {
		w.state[c.pos] = sendResent
	}
	w.mu.Unlock()
	if was != sendSent {
		return w.wire.corrupt(c.off, "the destination refuses a chunk it was not sent")
	}
	mine, err := w.reader.mark(c, w.work, w.marker)
	if err != nil {
		return err
	}
	w.swap(c.pos, mine)
	return w.whole(ctx, c.index, w.work, c.n, mine)
}

// taste remembers whether whole chunks have differed lately. Then marks of
// their pages are for nothing.
type taste struct {
	full int // chunks in a row that differed in most of their pages
}

// eagerAfter chunks of that kind the next ones are expected to be alike.
const eagerAfter = 2

func (t *taste) eager() bool { return t.full >= eagerAfter }

func (t *taste) learn(changed, pages int) {
	if changed*4 < pages*3 {
		t.full = 0
		return
	}
	t.full++
}
