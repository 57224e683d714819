package jobs

// What the hosts promise, and what they do of it.

// moves calls add with everything that may happen next.
func (m *model) moves(w *world, add func(move)) {
	s := m.sJournal(w)
	m.begins(w, s, add)
	m.guest(w, add)
	m.stub(w, s, add)
	m.store(w, add)
	for a := range attempts {
		if w.epoch[a] == 0 {
			continue
		}
		d := m.dJournal(w, m.host(a))
		m.swapsOf(w, a, add)
		m.aborts(w, a, d, add)
		if !w.said(w.s, BEGIN, a) {
			continue // nobody hears more of it
		}
		m.source(w, a, s, d, add)
		m.sourceActs(w, a, s, add)
		m.accepts(w, a, d, add)
		if m.lanes {
			m.sessions(w, a, d, add)
		}
		m.destination(w, a, s, d, add)
		m.images(w, a, d, add)
		m.destinationActs(w, a, d, add)
	}
}

// begins is an attempt's own swap, with BEGIN in S's journal. The first one's
// may come later, where the store may be lost in between.
func (m *model) begins(w *world, s Journal, add func(move)) {
	stands := w.sCopy != copyNone && !w.sCopy.runs()
	for a := range attempts {
		if w.epoch[a] != 0 && !w.said(w.s, BEGIN, a) && m.begin(s, m.job(w, a), stands) == nil {
			to := *w
			to.s[a] |= bit(BEGIN)
			add(move{label{"S: BEGIN", int8(a)}, to, false})
		}
	}
	a := w.latest() + 1
	if a == attempts || w.stale || w.now.owner() != 0 || w.sCopy != copyRunning {
		return
	}
	to := *w
	to.epoch[a] = w.top + 1
	if m.sameEpoch && a > 0 {
		to.epoch[a] = w.epoch[a-1]
	}
	switch {
	case m.begin(s, m.job(&to, a), stands) != nil:
		if top := uint8(s.Highest()); w.top < top { // each that comes raises the key
			to = *w
			m.write(&to, top, byOther)
			add(move{label{"attempts begin in vain", -1}, to, false})
		}
		return
	case !m.twoMovers && (a > 0 || !m.recovers):
		to.s[a] = bit(BEGIN)
	}
	m.write(&to, to.epoch[a], by(a))
	add(move{label{"begin", int8(a)}, to, false})
}

// source is what S may promise.
func (m *model) source(w *world, a int, s, d Journal, add func(move)) {
	e := uint64(w.epoch[a])
	say := func(f Fact, may func() bool) {
		if !w.said(w.s, f, a) && may() {
			to := *w
			to.s[a] |= bit(f)
			add(move{label{"S: " + string(f), int8(a)}, to, false})
		}
	}
	stands := (w.sCopy == copyHeld || w.sCopy == copyPaused) && int(w.sOf) == a
	say(SEALED, func() bool {
		return stands && w.said(w.s, STOPPING, a) && w.said(w.d, open, a) && m.seal(s, e) == nil
	})
	say(COMMITTING, func() bool {
		return m.commit(s, d, e, SourceSees{CommandRuns: w.sCopy == copyHeld || w.sCopy == copyFlows || w.sCopy == copyPassed, Runs: w.sCopy.runs(), Gone: w.sCopy == copyNone}) == nil
	})
	say(RELEASED, func() bool { return m.release(s, e) == nil })
	say(BACK, func() bool {
		return m.mayGoBack(w, a, s, d) || m.liesD && m.goBack(s, e, sNode, Known{Word: &Word{Lost: dNodes[m.host(a)]}}) == nil
	})
	say(DONE, func() bool {
		before := w.d // D's journal as it was read before it aborted
		for b := range before {
			before[b] &^= bit(ABORTED)
			if m.host(b) != m.host(a) {
				before[b] = 0
			}
		}
		return m.finish(s, d, e) == nil || m.finish(s, m.journal(w, before), e) == nil
	})
}

// mayGoBack tries everything that S may know of the key.
func (m *model) mayGoBack(w *world, a int, s, d Journal) bool {
	may := func(k Known) bool { return m.goBack(s, uint64(w.epoch[a]), sNode, k) == nil }
	return may(Known{Destination: d}) || m.anyKey(w, a, "", func(key *Owner) bool { return may(Known{Key: key}) })
}

// sourceActs is what S does to its copy, by what it promised.
func (m *model) sourceActs(w *world, a int, s Journal, add func(move)) {
	e := uint64(w.epoch[a])
	act := func(what string, to world) { add(move{label{what, int8(a)}, to, false}) }
	if w.sCopy == copyRunning && m.stop(s, e) == nil {
		to := *w
		to.sCopy, to.sOf = copyHeld, uint8(a)
		if m.live {
			to.sCopy = copyFlows
		}
		to.s[a] |= bit(STOPPING)
		act("S stops the guest", to)
	}
	if m.resume(s, e) == nil {
		switch {
		case w.sCopy == copyPaused:
			act("S resumes the guest", w.runAtS())
		case w.sCopy == copyNone && w.said(w.s, STOPPING, a) && !w.said(w.s, DONE, a):
			act("S boots the guest", w.runAtS())
		}
	}
	if (w.sCopy == copyPaused || w.sCopy == copyWaits) && m.destroy(s, e) == nil {
		act("S destroys its copy", w.loseS())
	}
}

// writes tells whether a session that pick names may write at a host.
func (m *model) writes(w *world, host int, pick func(b int) bool) bool {
	for b := range attempts {
		if m.lanes && m.host(b) == host && pick(b) && w.said(w.d, open, b) {
			return true
		}
	}
	return false
}

// accepts is how D takes an attempt in. What earlier ones left goes first.
func (m *model) accepts(w *world, a int, d Journal, add func(move)) {
	h := m.host(a)
	before := m.writes(w, h, func(b int) bool { return b < a })
	if w.said(w.d, BEGIN, a) || m.accept(d, m.job(w, a), before) != nil || m.replace(d) != nil {
		return
	}
	if states := m.states(w, h); len(states) > 0 && !Leftover(d, states) {
		return
	}
	to := *w
	for _, old := range d.Unended() {
		for b := range a {
			if uint64(w.epoch[b]) == old.Epoch {
				to.d[b] |= bit(ABORTED)
			}
		}
	}
	to.dropD(h)
	to.d[a] |= bit(BEGIN) | bit(open)
	add(move{label{"D: BEGIN", int8(a)}, to, false})
}

// sessions of an attempt are opened, and end, more than once.
func (m *model) sessions(w *world, a int, d Journal, add func(move)) {
	to := *w
	to.d[a] ^= bit(open)
	switch {
	case w.said(w.d, open, a):
		add(move{label{"D's session ends", int8(a)}, to, false})
		m.chunks(w, a, add)
	case m.fill(d, m.job(w, a)) == nil:
		add(move{label{"D opens a session", int8(a)}, to, false})
	}
}

// destination is what D may promise.
func (m *model) destination(w *world, a int, s, d Journal, add func(move)) {
	h := m.host(a)
	say := func(f Fact, may func() bool) {
		if !w.said(w.d, f, a) && may() {
			to := *w
			to.d[a] |= bit(f)
			add(move{label{"D: " + string(f), int8(a)}, to, false})
		}
	}
	seen := m.seen(w, a)
	say(READY, func() bool {
		return seen == CopyPaused && w.said(w.s, SEALED, a) && m.ready(d, m.job(w, a), seen, m.writes(w, h, func(int) bool { return true })) == nil
	})
	say(GO, func() bool { return m.mayGo(w, a, s, d, seen) })
	say(RUNNING, func() bool { return w.said(w.d, GO, a) && w.dCopy[h] == copyRunning && int(w.dOf[h]) == a })
}

// aborts is D's ABORTED. An abort may overtake all else of its attempt.
func (m *model) aborts(w *world, a int, d Journal, add func(move)) {
	job := m.job(w, a)
	seen := [...]CopySeen{copyNone: CopyNone, copyPaused: CopyPaused, copyRunning: CopyRuns, copyFills: CopyPaused}[w.dCopy[m.host(a)]]
	if d.Late(job.Epoch) {
		seen = CopyNone // it is a later attempt's
	}
	if !w.said(w.d, ABORTED, a) && !m.foreign(d, job) && m.abort(d, job.Epoch, seen) == nil {
		to := *w
		to.d[a] |= bit(ABORTED)
		add(move{label{"D: ABORTED", int8(a)}, to, false})
	}
}

// seen is what D sees of attempt a's copy.
func (m *model) seen(w *world, a int) CopySeen {
	switch h := m.host(a); {
	case w.dCopy[h] == copyNone:
		return CopyNone
	case w.dCopy[h] == copyPaused && int(w.dOf[h]) == a:
		return CopyPaused
	}
	return CopyRuns
}

// mayGo tries everything that D may know of the key.
func (m *model) mayGo(w *world, a int, s, d Journal, seen CopySeen) bool {
	job := m.job(w, a)
	may := func(p Permission) bool { return m.goes(d, job.Epoch, job.Attempt, job.Destination, p, seen) == nil }
	if m.liesS && seen == CopyPaused && may(Permission{Word: &Word{Lost: sNode}}) {
		return true
	}
	return may(Permission{Source: s}) || m.anyKey(w, a, seen, func(key *Owner) bool { return may(Permission{Key: key, Source: s}) })
}

// destinationActs is what D does to its copy, by what it promised.
func (m *model) destinationActs(w *world, a int, d Journal, add func(move)) {
	h := m.host(a)
	act := func(what string, to world) { add(move{label{what, int8(a)}, to, false}) }
	if m.boots && w.dCopy[h] == copyNone && w.said(w.d, GO, a) && !w.said(w.d, ABORTED, a) && !w.said(w.d, RUNNING, a) && !d.Late(uint64(w.epoch[a])) {
		to := w.runAtD(h, a) // R9: a copy that is gone behind GO
		if !w.ended && !w.crashed && to.harmed == noHarm {
			to.harmed = coldBoot // its memory is at S still, and nothing ran since
		}
		to.ended, to.crashed = false, false
		act("D boots by a resolution", to)
	}
	if w.dCopy[h] == copyNone || int(w.dOf[h]) != a || w.dCopy[h] == copyRunning {
		return
	}
	job := m.job(w, a)
	if w.dCopy[h] == copyPaused && w.said(w.d, GO, a) && m.goes(d, job.Epoch, job.Attempt, job.Destination, Permission{}, CopyPaused) == nil {
		act("D unpauses", w.runAtD(h, a))
	}
	if w.said(w.d, ABORTED, a) {
		to := *w
		to.dropD(h)
		act("D destroys its copy", to)
	}
}
