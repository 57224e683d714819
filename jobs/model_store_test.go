package jobs

import "math/bits"

// The owner key and its store.

// keyValue is who owns the VM by whose write.
type keyValue uint8

// Writers: each attempt, each attempt's abort, and none of them (the first
// key, or a repair). Values are writer + owner × writers; owner 0 is S.
const (
	writers          = 2*attempts + 1
	byAbort keyValue = attempts
	byOther keyValue = 2 * attempts
)

func by(a int) keyValue                      { return keyValue(a) }
func (v keyValue) ownedBy(host int) keyValue { return v + keyValue(host+1)*writers }
func (v keyValue) owner() int                { return int(v / writers) }

// keySet is a set of values.
type keySet uint16

// write changes the key. All that it ever said may be read late. Where exact is
// set only what can decide something is kept: what an abort's swap wrote (R5b)
// and what a hand-over's did (R7); that nothing else does is in handover_test.go.
func (m *model) write(w *world, epoch uint8, v keyValue) {
	w.top, w.now, w.stale = epoch, v, false
	writer := v % writers
	if decides := v.owner() == 0 && writer >= byAbort && writer < byOther || v.owner() > 0 && writer < byAbort; decides || !m.exact {
		w.was[epoch] |= 1 << v
	}
}

// owner is the key as a reader has it.
func (m *model) owner(epoch uint8, v keyValue) Owner {
	o, ok := m.owners[[2]uint8{epoch, uint8(v)}]
	if !ok {
		o = Owner{VM: "u", Node: sNode, Epoch: uint64(epoch)}
		if v.owner() > 0 {
			o.Node = dNodes[v.owner()-1]
		}
		switch writer := v % writers; {
		case writer < byAbort:
			o.Attempt = m.job(&world{}, int(writer)).Attempt
		case writer < byOther:
			o.Attempt = AbortAttempt(uint64(epoch) - 1) // it writes the epoch behind its own
		}
		m.owners[[2]uint8{epoch, uint8(v)}] = o
	}
	return o
}

// asked is what a decision on a key depends on beside the key.
type asked struct {
	s, d    journalKey
	attempt uint8
	seen    CopySeen // empty: whether S may go back
}

// verdicts are which keys were tried before, and which of them will do.
type verdicts struct{ tried, yes [epochs]keySet }

// anyKey tells whether a decision may be made on any key that anybody may have read.
func (m *model) anyKey(w *world, a int, seen CopySeen, may func(*Owner) bool) bool {
	k := asked{w.journalKey(w.s), w.journalKey(w.d), uint8(a), seen}
	v := m.keys[k]
	if v == nil {
		v = &verdicts{}
		m.keys[k] = v
	}
	for e := range w.was {
		for news := w.was[e] &^ v.tried[e]; news != 0; news &= news - 1 {
			value := bits.TrailingZeros16(uint16(news))
			if key := m.owner(uint8(e), keyValue(value)); may(&key) {
				v.yes[e] |= 1 << value
			}
		}
		v.tried[e] |= w.was[e]
	}
	for e := range w.was {
		if w.was[e]&v.yes[e] != 0 {
			return true
		}
	}
	return false
}

// store is what happens to the key without an attempt's doing.
func (m *model) store(w *world, add func(move)) {
	s := m.sJournal(w)
	if !w.stale {
		key := m.owner(w.top, w.now)
		for h := range hosts {
			if key.Node != sNode && key.Node != dNodes[h] {
				continue
			}
			if r, ok := m.repair(key, sNode, dNodes[h], s, m.dJournal(w, h), w.sCopy.runs()); ok {
				to, v := *w, byOther
				if r.Node == dNodes[h] {
					v = v.ownedBy(h)
				}
				m.write(&to, uint8(r.Epoch), v)
				add(move{label{"repair", -1}, to, false})
			}
		}
	}
	switch {
	case w.stale:
		m.recover(w, add)
	case w.lost || w.latest() < 0:
	case m.recovers:
		m.lose(w, s, add)
	case m.backup:
		m.putBack(w, add)
	}
	if m.recovers && w.lost {
		m.latePuts(w, add)
	}
}

// lose makes the store anew: by recover, which may even be wrong about who
// owns the VM (R12), or with the VM's first key, as of one never seen.
func (m *model) lose(w *world, s Journal, add func(move)) {
	highest := s.Highest()
	for h := range hosts {
		highest = max(highest, m.dJournal(w, h).Highest())
	}
	for _, anew := range []bool{false, true} {
		what, epoch := "recover", highest+recoverGap
		if anew {
			what, epoch = "the store is lost, and the VM seen anew", 0
		}
		to := *w
		to.lost = true
		for a := range attempts {
			if to.epoch[a] != 0 {
				to.s[a] |= bit(early)
			}
		}
		m.write(&to, uint8(epoch), byOther)
		add(move{label{what, -1}, to, true})
	}
}

// putBack is a backup: the key says again what it said before.
func (m *model) putBack(w *world, add func(move)) {
	for e := range w.was {
		for v := range keyValue(3 * writers) {
			if w.was[e]>>v&1 != 0 && (uint8(e) != w.top || v != w.now) {
				to := *w
				to.lost = true
				m.write(&to, uint8(e), v)
				add(move{label{"a backup of the store is put back", -1}, to, true})
			}
		}
	}
}

// recover is R12 by the hosts' own word.
func (m *model) recover(w *world, add func(move)) {
	all := []Account{{Evidence: m.evidenceAtS(w), Has: true}} // its config, until it is given up
	for a := range attempts {
		all[0].Has = all[0].Has && !w.said(w.s, DONE, a)
	}
	for h := range hosts {
		all = append(all, Account{Evidence: m.evidenceAtD(w, h), Has: w.dCopy[h] != copyNone})
	}
	for a := range attempts {
		if w.said(w.d, BEGIN, a) {
			all[1+m.host(a)].Arrivals = append(all[1+m.host(a)].Arrivals, m.job(w, a))
		}
	}
	r, err := Recover(all)
	if err != nil || r.Owner.Node == "" {
		return
	}
	to, v := *w, byOther
	for h, node := range dNodes {
		if r.Owner.Node == node {
			v = v.ownedBy(h)
		}
	}
	m.write(&to, uint8(r.Owner.Epoch), v)
	add(move{label{"recover", -1}, to, false})
}

// latePuts are writes of before the loss. Revisions have begun again, so that
// they match by accident; they carry the making of the store that they were for.
func (m *model) latePuts(w *world, add func(move)) {
	for a := range attempts {
		e := w.epoch[a]
		if !w.said(w.s, early, a) {
			continue
		}
		put := func(what string, v keyValue) {
			if w.top == e+1 && w.now == v {
				return
			}
			to := *w
			if m.counts(0, 1) == nil {
				m.write(&to, e+1, v)
			} else {
				to.top, to.now, to.stale = e+1, v, true
			}
			add(move{label{what, int8(a)}, to, true})
		}
		if w.said(w.s, BEGIN, a) || m.earlyBar {
			put("a late write of the abort's swap", byAbort+by(a))
		}
		if w.said(w.s, COMMITTING, a) {
			put("a late write of the swap", by(a).ownedBy(m.host(a)))
		}
	}
}

// swapsOf may arrive whenever somebody could have sent them.
func (m *model) swapsOf(w *world, a int, add func(move)) {
	if w.stale {
		return
	}
	job, cur := m.job(w, a), m.owner(w.top, w.now)
	try := func(what string, wants Owner, v keyValue) {
		if write, err := m.swaps(cur, job.begun(), wants); err == nil && write {
			to := *w
			m.write(&to, w.epoch[a]+1, v)
			add(move{label{what, int8(a)}, to, false})
		}
	}
	if w.said(w.s, BEGIN, a) || m.earlyBar {
		try("abort's swap", job.aborted(), byAbort+by(a))
	}
	if w.said(w.s, COMMITTING, a) || m.earlySwap {
		try("swap", job.handed(), by(a).ownedBy(m.host(a)))
	}
}
