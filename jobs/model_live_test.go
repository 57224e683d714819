package jobs

// What copies, toolstack and hosts do without any decision, and what xl does
// for the stub that decides for it.

func (m *model) guest(w *world, add func(move)) {
	runs := func(what string, chance bool) { add(move{label{what, -1}, w.runAtS(), chance}) }
	turns := func(what string, to copyState, chance bool) {
		next := *w
		next.sCopy = to
		add(move{label{what, -1}, next, chance})
	}
	switch w.sCopy {
	case copyHeld:
		if m.live { // also where its worker hangs up
			runs("xl resumes the guest by itself", false)
			turns("xl dies", copyPaused, true)
		} else {
			runs("xl resumes the guest by itself", true)
			turns("xl save ends", copyPaused, false)
		}
	case copyFlows:
		runs("xl gives up, and the guest runs on", false)
		next := *w
		next.sCopy = copyHeld
		next.s[w.sOf] |= bit(stood)
		add(move{label{"xl suspends the guest", -1}, next, false})
	case copyPassed:
		turns("xl gives GO", copyWaits, false)
		runs("xl cannot give its domain another name, and resumes the guest", true)
		turns("xl dies", copyPaused, true)
	case copyWaits:
		turns("the stub dies, and xl ends", copyPaused, true)
	}
	if a := w.latest(); m.crashes && w.sCopy == copyRunning && a >= 0 && w.said(w.s, STOPPING, a) && !w.said(w.s, BACK, a) {
		turns("the guest, which runs on at S, ends by itself", copyNone, true)
	}
	if m.crashes && w.sCopy != copyRunning && w.sCopy != copyNone {
		m.crashS(w, add)
	}
	for h := range hosts {
		m.guestAtD(w, h, add)
	}
}

// crashS takes all that S's host had. Before the seal its link to start the
// guest at boot is still there.
func (m *model) crashS(w *world, add func(move)) {
	to := *w
	to.sCopy, to.sOf = copyNone, 0
	add(move{label{"S's host crashes", -1}, to, true})
	linked := true
	for a := range attempts {
		linked = linked && (!w.said(w.s, SEALED, a) || w.said(w.s, BACK, a))
	}
	if linked {
		add(move{label{"S's host crashes, and starts the guest", -1}, w.runAtS(), true})
	}
}

func (m *model) guestAtD(w *world, h int, add func(move)) {
	a := int(w.dOf[h])
	to := *w
	went := w.said(w.d, GO, a)
	switch c := w.dCopy[h]; {
	case c == copyRunning:
		to.dCopy[h], to.ended = copyNone, true
		add(move{label{"the guest ends by itself at D", -1}, to, true})
		if went && !w.said(w.d, RUNNING, a) {
			to.crashed, to.ended = true, false
			add(move{label{"D's host crashes", -1}, to, true})
		}
	case c == copyPaused && went:
		to.dropD(h)
		to.crashed = !m.pipe
		what := "D's host crashes"
		if m.pipe {
			what = "the pipe breaks, and D loses its copy"
		}
		add(move{label{what, -1}, to, true})
	case c == copyPaused, c == copyFills:
		to.dropD(h)
		add(move{label{"D loses its copy", -1}, to, true})
	}
}

// stub is what xl does at S for its stub's word: each by the journal right
// before the effect.
func (m *model) stub(w *world, s Journal, add func(move)) {
	a := int(w.sOf)
	e := uint64(w.epoch[a])
	next := func(what string, to world) { add(move{label{what, int8(a)}, to, false}) }
	switch w.sCopy {
	case copyHeld:
		if m.live && m.passReady(s, m.dJournal(w, m.host(a)), e) == nil {
			to := *w
			to.sCopy = copyPassed
			next("the stub passes READY on", to)
		}
	case copyWaits:
		if m.tellResume(s, e) == nil {
			next("xl resumes the guest at its stub's word", w.runAtS())
		}
		if m.tellDestroy(s, e) == nil {
			next("xl destroys the copy at S at its stub's word", w.loseS())
		}
	}
}

// loseS destroys S's copy. Where the guest is not elsewhere it was the last.
func (w world) loseS() world {
	w.sCopy, w.sOf = copyNone, 0
	if !w.ended && !w.crashed {
		w.harmed = noneLeft
		for _, c := range w.dCopy {
			if c == copyRunning {
				w.harmed = noHarm
			}
		}
	}
	return w
}

// images is how D comes by a copy: xl restore makes it at once, xl
// migrate-receive fills it until the guest was suspended.
func (m *model) images(w *world, a int, d Journal, add func(move)) {
	h := m.host(a)
	to := *w
	switch {
	case w.dCopy[h] == copyFills && int(w.dOf[h]) == a && w.said(w.s, stood, a):
		to.dCopy[h] = copyPaused
		add(move{label{"the image is whole at D", int8(a)}, to, false})
		return
	case w.dCopy[h] != copyNone, w.said(w.d, made, a), !w.said(w.d, open, a), m.fill(d, m.job(w, a)) != nil:
		return
	case m.live && !w.said(w.s, stood, a):
		to.dCopy[h] = copyFills
	case !m.live && (w.sCopy == copyHeld || w.sCopy == copyPaused) && int(w.sOf) == a && w.said(w.s, STOPPING, a):
		to.dCopy[h] = copyPaused
	default:
		return
	}
	to.d[a] |= bit(made)
	to.dOf[h], to.dOld[h] = uint8(a), false
	add(move{label{"D takes the image in", int8(a)}, to, false})
}

// chunks of a session that is open may be written at any time.
func (m *model) chunks(w *world, a int, add func(move)) {
	h := m.host(a)
	spoils := w.dCopy[h] == copyRunning
	for b := range attempts {
		if m.host(b) == h && !w.said(w.d, ABORTED, b) {
			spoils = spoils || w.said(w.d, READY, b) || a != b && w.said(w.s, SEALED, b) && w.said(w.d, BEGIN, b)
		}
	}
	if spoils {
		to := *w
		to.harmed = lateChunk
		add(move{label{"a chunk is written", int8(a)}, to, true})
	}
}
