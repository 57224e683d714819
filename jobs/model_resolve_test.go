package jobs

import (
	"fmt"
	"testing"
)

// The model and resolutions: from every world that the rules let come about,
// Resolve leads to exactly one running copy, by acts that the rules allow, and
// never asks for what is not needed.

// caseOf is what a resolution sees of a world; a host may be silent.
func (m *model) caseOf(w world, sAnswers, dAnswers bool, word *Word) Case {
	a := w.latest()
	key := w.owner(w.top)
	c := Case{State: Indeterminate, Key: &key, Job: Job{ID: "job", Attempt: attemptName(a), Epoch: uint64(w.epoch[a]), Kind: KindMigrate,
		VM: VMRef{UUID: "u"}, Source: sNode, Destination: dNode, Word: word}}
	end := func(node string, j Journal, copy copyState) *Evidence {
		e := &Evidence{Node: node, Journal: j}
		if copy != copyNone {
			e.Domains = []Seen{{State: map[copyState]VMState{copyPaused: VMPaused, copyHeld: VMPaused, copyRunning: VMRunning}[copy]}}
		}
		return e
	}
	if sAnswers {
		c.Source = end(sNode, m.journal(w, w.s), w.sCopy)
	}
	if dAnswers {
		c.Destination = end(dNode, m.journal(w, w.d), w.dCopy)
	}
	return c
}

// act carries one act out as the ends do: by the rules, and looking first.
func (m *model) act(w world, c Case, r Resolution) (world, error) {
	a := w.latest()
	e := uint64(w.epoch[a])
	s, d := m.journal(w, w.s), m.journal(w, w.d)
	known := Known{Key: c.Key, Word: c.Job.Word}
	if c.Destination != nil {
		known.Destination = d
	}
	switch r.Act {
	case ActBar, ActHandOver:
		if !w.keyIs(w.epoch[a], ownedByS+keyValue(a)) {
			return w, fmt.Errorf("the key is %+v", w.owner(w.top))
		}
		to := ownedByS + byAbort + keyValue(a)
		if r.Act == ActHandOver {
			to = ownedByD + keyValue(a)
		}
		w.write(w.epoch[a]+1, to)
	case ActGo:
		if err := m.goes(d, e, attemptName(a), dNode, c.permission(), m.copyOf(w, a)); err != nil {
			return w, err
		}
		w.d[a] |= bit(GO)
		if w.dCopy != copyRunning {
			w.dOf = uint8(a)
			w, w.ended = w.runAtD(a), false
		}
		w.d[a] |= bit(RUNNING)
	case ActAbort:
		if err := m.abort(d, e, m.copyOf(w, a)); err != nil {
			return w, err
		}
		w.d[a] |= bit(ABORTED)
		if of := int(w.dOf); w.dCopy != copyNone && of != a { // what an earlier attempt left goes too
			if err := m.abort(d, uint64(w.epoch[of]), m.copyOf(w, of)); err != nil {
				return w, err
			}
			w.d[of] |= bit(ABORTED)
		}
		w.dCopy = copyNone
	case ActBack:
		if err := m.goBack(s, e, sNode, known); err != nil {
			return w, err
		}
		if w.s[a] |= bit(BACK); w.sCopy != copyRunning {
			w = w.runAtS()
		}
	case ActFinish:
		if err := MayFinishByWord(s, d, e, dNode, c.Job.Word); err != nil {
			return w, err
		}
		w.s[a] |= bit(DONE)
		if w.dCopy != copyRunning && !w.ended {
			w.harmed = noneLeft
		}
		w.sCopy = copyNone
	case ActKey:
		to, ok := c.repaired()
		if !ok {
			return w, fmt.Errorf("the key is %+v and cannot be repaired", *c.Key)
		}
		v := ownedByS + byOther
		if to.Node == dNode {
			v += writers
		}
		w.write(uint8(to.Epoch), v)
	default:
		return w, fmt.Errorf("no such act without a person's word: %s", r.Act)
	}
	return w, nil
}

func (m *model) copyOf(w world, a int) CopySeen { return w.seen(a) }

// resolve goes on from a world by resolutions alone; the answer is how it ends.
func (m *model) resolve(w world, sAnswers, dAnswers bool, word *Word) (world, Act, error) {
	var did []Act
	for range longest {
		c := m.caseOf(w, sAnswers, dAnswers, word)
		r := Resolve(c)
		if did = append(did, r.Act); r.Stops() {
			return w, r.Act, nil
		}
		var err error
		if w, err = m.act(w, c, r); err != nil {
			return w, r.Act, fmt.Errorf("%v: %w", did, err)
		}
		if w.harmed != noHarm {
			return w, r.Act, fmt.Errorf("%v: %s", did, w.harmed)
		}
	}
	return w, "", fmt.Errorf("%v, and no end", did)
}

// TestModelResolve: from every world. A command that a person cannot see
// (xl save at work) is over before anybody resolves, as the VM's lock has it.
func TestModelResolve(t *testing.T) {
	for name, recovers := range map[string]bool{"the store keeps": false, "the store is lost once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := theRules()
			m.recovers = recovers
			f := search(m)
			counts := map[string]int{}
			for i, w := range f.worlds {
				if w.latest() < 0 || w.sCopy == copyHeld {
					continue
				}
				for _, x := range []struct {
					name   string
					s, d   bool
					word   *Word
					before func(*world)
				}{
					{"both answer", true, true, nil, func(*world) {}},
					{"S is silent", false, true, nil, func(*world) {}},
					{"D is silent", true, false, nil, func(*world) {}},
					{"S is lost", false, true, &Word{Lost: sNode}, func(w *world) { w.sCopy, w.dOld = copyNone, false }},
					{"D is lost", true, false, &Word{Lost: dNode}, func(w *world) { w.dCopy, w.sOld, w.ended = copyNone, false, false }},
				} {
					from := w
					x.before(&from)
					to, end, err := m.resolve(from, x.s, x.d, x.word)
					counts[x.name+": "+string(end)]++
					if err != nil {
						t.Fatalf("%s: %v, after\n%s", x.name, err, f.way(i))
					}
					if x.name == "both answer" && (end != ActEnd || !to.settled()) {
						t.Fatalf("%s: %s at %+v, after\n%s", x.name, end, to, f.way(i))
					}
					if x.word != nil && end == ActAsk {
						t.Fatalf("%s: the word is given and %s, after\n%s", x.name, end, f.way(i))
					}
					runs := to.dCopy == copyRunning || to.ended
					if x.s {
						runs = to.sCopy == copyRunning
					}
					if x.word != nil && end == ActEnd && !runs {
						t.Fatalf("%s: resolved, and it does not run, after\n%s", x.name, f.way(i))
					}
				}
			}
			t.Logf("%d worlds: %v", len(f.worlds), counts)
			for _, want := range []string{"both answer: end", "S is silent: end", "S is silent: ask", "D is silent: end", "D is silent: ask",
				"S is lost: end", "S is lost: gone", "D is lost: end", "D is lost: gone"} {
				if counts[want] == 0 {
					t.Errorf("never: %s", want)
				}
			}
		})
	}
}
