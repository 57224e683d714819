package blocksync

import "context"

// Content that differs may be elsewhere at the destination (Index): then it
// says so before any marks, the source asks for each such chunk by its digest,
// and the chunk is written from there.

// tell tells the source what else is here, before it hears of any chunk.
func (r *receiver) tell(ctx context.Context) error {
	if r.set.Index == nil || r.plan.n == 0 {
		return nil
	}
	var err error
	if r.name, err = deviceName(r.reader.dev.path); err != nil {
		return err
	}
	if f := r.set.Index.filter(); f != nil {
		return r.wire.sendBody(ctx, kindKnown, 0, f)
	}
	return nil
}

// know stores the destination's filter, which comes before its marks.
func (s *sender) know(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := decodeFilter(f.Payload)
	switch {
	case err != nil:
		return s.wire.corrupt(-1, "what the destination has: %v", err)
	case s.known != nil || s.arrived != 0:
		return s.wire.corrupt(-1, "the destination tells late, or twice, what it has")
	}
	s.known = known
	return nil
}

// knows says that the destination may have this content elsewhere. It leaves
// the digest in w.digest.
func (w *sendWorker) knows(content []byte) bool {
	w.mu.Lock()
	known := w.known
	w.mu.Unlock()
	if known == nil {
		return false
	}
	w.digest = sum(content)
	return known.has(w.digest)
}

// same asks the destination to take the chunk from where it has it. Until the
// answer the chunk stays in s.
func (w *sendWorker) same(ctx context.Context, c claim, s *slab, mine, theirs mark) error {
	w.mu.Lock()
	w.state[c.pos] = sendAsked
	w.waiting[c.pos] = asked{s, theirs}
	w.mu.Unlock()
	return w.wire.send(ctx, Frame{Kind: kindSame, Index: c.index, Length: c.n, Payload: w.digest[:]}, contentOf(mine))
}

// taken ends a chunk that the destination had, and sends one that it had not.
func (w *sendWorker) taken(ctx context.Context, f Frame, c claim) error {
	a, mine, err := w.answered(c, sendAsked)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			w.slabs.put(a.slab)
		}
	}()
	switch {
	case len(f.Payload) == 1 && f.Payload[0] == 1:
		w.meter.found.Add(int64(c.n))
		w.settle(c.n)
	case len(f.Payload) == 1 && f.Payload[0] == 0:
		keep, err = w.content(ctx, c, a.slab, mine, a.theirs)
	default:
		err = w.wire.corrupt(c.off, "answer % x about content that the destination has", f.Payload)
	}
	return err
}

// learn has the index know content that is written now.
func (w *writeWorker) learn(j job, content []byte) {
	if w.set.Index != nil {
		w.set.Index.note(sum(content), w.name, j.off, j.n)
	}
}

// same writes content that is elsewhere on this end, if it still is. That it
// is the source's chunk is proven by the seal, as if it had come from there.
func (w *writeWorker) same(ctx context.Context, j job) error {
	if w.set.Index == nil || len(j.frame.Payload) != len(digest{}) {
		return w.wire.corrupt(j.off, "asked for content by a digest of %d bytes", len(j.frame.Payload))
	}
	answer := []byte{0}
	took, err := w.takeFrom(digest(j.frame.Payload), j)
	if err != nil {
		return err
	}
	if took {
		answer[0] = 1
	} else {
		w.mu.Lock()
		w.state[j.pos] = recvOffered // as if nothing had been asked
		w.mu.Unlock()
	}
	w.wire.release(&j.frame)
	return w.wire.sendBody(ctx, kindTaken, j.frame.Index, answer)
}

// takeFrom reports whether the chunk was found and written. A place that
// cannot be read, or has other content by now, is none.
func (w *writeWorker) takeFrom(d digest, j job) (bool, error) {
	at, ok := w.set.Index.find(d)
	if !ok || int(at.size) != j.n || at.read(w.own.slab) != nil {
		return false, nil
	}
	w.meter.read.Add(int64(j.n))
	b := w.own.slab.bytes(j.n)
	marks := w.own.slab.marks[:countBlocks(j.n, coarseBlock)*markSize]
	w.marker.blocks(marks, b, allBlocks(countBlocks(j.n, coarseBlock)))
	k := w.marker.chunk(marks)
	if seal(&j.frame, contentOf(k)) != j.frame.Digest {
		return false, nil
	}
	n, err := w.writeFilled(b, j)
	if err != nil {
		return false, err
	}
	w.meter.found.Add(int64(j.n))
	w.written(j, k, n)
	return true, nil
}

// writeFilled writes a chunk; where the device has zeroes, its pages that are not,
// so that what is a hole stays one. It returns how many bytes that were.
func (w *writeWorker) writeFilled(chunk []byte, j job) (n int, err error) {
	hole, err := w.zeroHere(j)
	if err != nil {
		return 0, err
	}
	if !hole {
		return j.n, w.reader.dev.writeAt(chunk, j.off)
	}
	var bits [maxBlocks * pagesInBlock / 8]byte
	filled := bitmap(bits[:bitmapLen(countBlocks(j.n, finePage))])
	for i := range countBlocks(j.n, finePage) {
		if page := chunk[i*finePage : min(j.n, (i+1)*finePage)]; !isZero(page) {
			filled.set(i)
			n += len(page)
		}
	}
	return n, w.writeMarked(chunk, filled, allBlocks(countBlocks(j.n, coarseBlock)), 0, j.off)
}
