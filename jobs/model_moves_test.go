package jobs

// moves calls add with everything that may happen next.
func (m *model) moves(w world, add func(move)) {
	s, d := m.journal(w, w.s), m.journal(w, w.d)
	m.begin(w, add)
	m.guest(w, add)
	if r, ok := m.repair(w.owner(w.top), sNode, dNode, s, d, w.sCopy == copyRunning); ok {
		to, v := w, ownedByS+byOther
		if r.Node == dNode {
			v += writers
		}
		to.write(uint8(r.Epoch), v)
		add(move{"repair", -1, to, false})
	}
	if m.recovers && !w.lost && w.latest() >= 0 { // and is even wrong about who owns the VM
		to := w
		to.lost = true
		to.write(uint8(max(s.Highest(), d.Highest()))+2, ownedByS+byOther) // R12
		add(move{"recover", -1, to, true})
	}
	for a := range attempts {
		if w.epoch[a] == 0 {
			continue
		}
		m.swaps(w, a, add)
		m.source(w, a, s, d, add)
		m.sourceActs(w, a, add)
		m.destination(w, a, s, d, add)
		m.destinationActs(w, a, s, d, add)
	}
}

// begin is an attempt's own swap, with BEGIN in S's journal.
func (m *model) begin(w world, add func(move)) {
	last := w.latest()
	a := last + 1
	if a == attempts || w.key[w.top] >= ownedByD || w.sCopy != copyRunning {
		return
	}
	if last >= 0 && (w.said(w.s, COMMITTING, last) && !w.said(w.s, BACK, last) || w.said(w.s, DONE, last)) {
		return
	}
	to := w
	to.epoch[a] = w.top + 1
	if m.sameEpoch && a > 0 {
		to.epoch[a] = w.epoch[a-1]
	}
	to.s[a] = bit(BEGIN)
	to.write(to.epoch[a], ownedByS+keyValue(a))
	add(move{"begin", a, to, false})
}

// guest is what happens to copies without any decision.
func (m *model) guest(w world, add func(move)) {
	if w.sCopy == copyHeld {
		add(move{"xl resumes by itself", -1, w.runAtS(), true})
		to := w
		to.sCopy = copyPaused
		add(move{"xl save ends", -1, to, false})
	}
	switch w.dCopy {
	case copyRunning:
		to := w
		to.dCopy, to.ended = copyNone, true
		add(move{"the guest ends by itself at D", -1, to, true})
	case copyPaused:
		if !w.said(w.d, GO, int(w.dOf)) {
			to := w
			to.dCopy = copyNone
			add(move{"D loses its copy", -1, to, true})
		}
	}
}

// swaps may arrive whenever somebody could have sent them.
func (m *model) swaps(w world, a int, add func(move)) {
	e := w.epoch[a]
	if !w.keyIs(e, ownedByS+keyValue(a)) {
		return
	}
	to := w
	to.write(e+1, ownedByS+byAbort+keyValue(a))
	add(move{"abort's swap", a, to, false})
	if w.said(w.s, COMMITTING, a) || m.earlySwap {
		to := w
		to.write(e+1, ownedByD+keyValue(a))
		add(move{"swap", a, to, false})
	}
}

// source is what S may promise.
func (m *model) source(w world, a int, s, d Journal, add func(move)) {
	say := func(f Fact, may bool) {
		if may && !w.said(w.s, f, a) {
			to := w
			to.s[a] |= bit(f)
			add(move{"S: " + string(f), a, to, false})
		}
	}
	e := uint64(w.epoch[a])
	still := w.sCopy == copyHeld || w.sCopy == copyPaused
	say(SEALED, still && a == w.latest() && w.said(w.s, stopped, a) && w.said(w.d, BEGIN, a) && !w.said(w.s, BACK, a))
	if !w.said(w.s, COMMITTING, a) {
		say(COMMITTING, m.commit(s, d, e, SourceSees{CommandRuns: w.sCopy == copyHeld, Runs: w.sCopy == copyRunning}) == nil)
	}
	if !w.said(w.s, RELEASED, a) {
		say(RELEASED, m.release(s, e) == nil)
	}
	if !w.said(w.s, BACK, a) {
		say(BACK, m.mayGoBack(w, s, d, e) || m.liesD && m.goBack(s, e, sNode, Known{Word: &Word{Lost: dNode}}) == nil)
	}
	if !w.said(w.s, DONE, a) {
		say(DONE, m.finish(s, d, e) == nil || m.finish(s, m.journal(w, forget(w.d, ABORTED)), e) == nil)
	}
}

// forget is a journal as it was read before f was written.
func forget(facts [attempts]factSet, f Fact) [attempts]factSet {
	for a := range facts {
		facts[a] &^= bit(f)
	}
	return facts
}

// mayGoBack tries everything that S may know of the key.
func (m *model) mayGoBack(w world, s, d Journal, e uint64) bool {
	may := m.goBack(s, e, sNode, Known{Destination: d}) == nil
	for epoch := range w.key {
		if !may && w.key[epoch] != unwritten {
			key := w.owner(uint8(epoch))
			may = m.goBack(s, e, sNode, Known{Key: &key}) == nil
		}
	}
	return may
}

// sourceActs is what S does to its copy, by what it promised.
func (m *model) sourceActs(w world, a int, add func(move)) {
	last := a == w.latest()
	mayStop := last && !w.said(w.s, BACK, a) && !w.said(w.s, COMMITTING, a) && (m.stopsTwice || !w.said(w.s, stopped, a))
	if w.sCopy == copyRunning && mayStop {
		to := w
		to.sCopy = copyHeld
		to.s[a] |= bit(stopped)
		add(move{"S stops the guest", a, to, false})
	}
	if w.sCopy == copyPaused && w.said(w.s, BACK, a) && (last || m.lateBack) {
		add(move{"S resumes the guest", a, w.runAtS(), false})
	}
	if w.sCopy == copyPaused && w.said(w.s, DONE, a) && last {
		to := w
		to.sCopy = copyNone
		if w.dCopy != copyRunning && !w.ended {
			to.harmed = noneLeft
		}
		add(move{"S destroys its copy", a, to, false})
	}
}

// destination is what D may promise.
func (m *model) destination(w world, a int, s, d Journal, add func(move)) {
	e := uint64(w.epoch[a])
	say := func(f Fact, to world) {
		to.d[a] |= bit(f)
		add(move{"D: " + string(f), a, to, false})
	}
	if !w.said(w.d, BEGIN, a) && !w.said(w.d, ABORTED, a) && d.Highest() < e && w.dCopy == copyNone {
		to, clear := w, true
		for earlier := range a { // R1: nothing of an earlier attempt is left, nor may it come
			clear = clear && (!w.said(w.d, GO, earlier) || w.said(w.d, ABORTED, earlier))
			if w.said(w.d, BEGIN, earlier) {
				to.d[earlier] |= bit(ABORTED)
			}
		}
		if clear {
			say(BEGIN, to)
		}
	}
	mine := w.dCopy == copyPaused && int(w.dOf) == a
	if mine && w.said(w.s, SEALED, a) && !w.said(w.d, READY, a) && !w.said(w.d, ABORTED, a) {
		say(READY, w)
	}
	if !w.said(w.d, GO, a) && m.mayGo(w, a, s, d) {
		say(GO, w)
	}
	if w.said(w.d, GO, a) && !w.said(w.d, RUNNING, a) && w.dCopy == copyRunning && int(w.dOf) == a {
		say(RUNNING, w)
	}
	if !w.said(w.d, ABORTED, a) && m.abort(d, e, [...]CopySeen{CopyNone, CopyPaused, CopyRuns, CopyRuns}[w.dCopy]) == nil {
		say(ABORTED, w)
	}
}

// seen is what D sees of attempt a's copy.
func (w world) seen(a int) CopySeen {
	switch {
	case w.dCopy == copyNone:
		return CopyNone
	case w.dCopy == copyPaused && int(w.dOf) == a:
		return CopyPaused
	}
	return CopyRuns
}

// mayGo tries everything that D may know of the key.
func (m *model) mayGo(w world, a int, s, d Journal) bool {
	may := func(key *Owner) bool {
		return m.goes(d, uint64(w.epoch[a]), attemptName(a), dNode, Permission{Key: key, Source: s}, w.seen(a)) == nil
	}
	if m.liesS && w.seen(a) == CopyPaused && m.goes(d, uint64(w.epoch[a]), attemptName(a), dNode, Permission{Word: &Word{Lost: sNode}}, CopyPaused) == nil {
		return true
	}
	if may(nil) {
		return true
	}
	for epoch := range w.key {
		if key := w.owner(uint8(epoch)); w.key[epoch] != unwritten && may(&key) {
			return true
		}
	}
	return false
}

// destinationActs is what D does to its copy, by what it promised.
func (m *model) destinationActs(w world, a int, s, d Journal, add func(move)) {
	sends := (w.sCopy == copyHeld || w.sCopy == copyPaused) && a == w.latest() && w.said(w.s, stopped, a)
	if w.dCopy == copyNone && sends && w.said(w.d, BEGIN, a) && !w.said(w.d, ABORTED, a) && !w.said(w.d, restored, a) {
		to := w
		to.d[a] |= bit(restored)
		to.dCopy, to.dOf, to.dOld = copyPaused, uint8(a), false
		add(move{"D restores", a, to, false})
	}
	if m.boots && w.dCopy == copyNone && w.said(w.d, GO, a) && !w.said(w.d, ABORTED, a) && !w.said(w.d, RUNNING, a) && a == w.latest() {
		to := w // R9: a copy that is gone behind GO
		to.dOf = uint8(a)
		to = to.runAtD(a)
		if !w.ended && to.harmed == noHarm { // its memory is at S still, and nothing ran since
			to.harmed = coldBoot
		}
		to.ended = false
		add(move{"D boots by a resolution", a, to, false})
	}
	if w.dCopy != copyPaused || int(w.dOf) != a {
		return
	}
	if w.said(w.d, GO, a) && m.goes(d, uint64(w.epoch[a]), attemptName(a), dNode, Permission{}, CopyPaused) == nil {
		add(move{"D unpauses", a, w.runAtD(a), false})
	}
	if w.said(w.d, ABORTED, a) {
		to := w
		to.dCopy = copyNone
		add(move{"D destroys its copy", a, to, false})
	}
}
