package jobs

import (
	"fmt"
	"testing"
)

// The model and resolutions: from every world that the rules let come about,
// Resolve leads to exactly one running copy, by acts that the rules allow, and
// never asks for what is not needed. Where S's host crashed behind COMMITTING
// and D holds a whole image, the guest goes on there: no cold boot.

// resolving is a world with what its resolution is about: the last attempt
// that S began, between S and the host that it goes to.
type resolving struct {
	*model
	w    world
	a, h int
}

// caseOf is what a resolution sees; a host may be silent.
func (r *resolving) caseOf(sAnswers, dAnswers bool, word *Word) Case {
	key := r.owner(r.w.top, r.w.now)
	c := Case{State: Indeterminate, Key: &key, Job: r.job(&r.w, r.a)}
	c.Job.Word = word
	if sAnswers {
		c.Source = new(r.evidenceAtS(&r.w))
	}
	if dAnswers {
		c.Destination = new(r.evidenceAtD(&r.w, r.h))
	}
	return c
}

// act carries one act out as the ends do: by the rules, and looking first.
func (r *resolving) act(c Case, did Resolution) error {
	w, a := &r.w, r.a
	s, d := r.sJournal(w), r.dJournal(w, r.h)
	known := Known{Key: c.Key, Word: c.Job.Word}
	if c.Destination != nil {
		known.Destination = d
	}
	switch did.Act {
	case ActBar, ActHandOver:
		to, v := c.Job.aborted(), byAbort+by(a)
		if did.Act == ActHandOver {
			to, v = c.Job.handed(), by(a).ownedBy(r.h)
		}
		if write, err := r.swaps(*c.Key, c.Job.begun(), to); err != nil || !write {
			return fmt.Errorf("the key is %+v: %w", *c.Key, err)
		}
		r.write(w, w.epoch[a]+1, v)
	case ActGo:
		return r.letGo(c, d)
	case ActAbort:
		return r.abortAtD(c, d)
	case ActBack:
		return r.backAtS(s, known)
	case ActFinish:
		if err := MayFinishByWord(s, d, c.Job.Epoch, c.Job.Destination, c.Job.Word); err != nil {
			return err
		}
		if w.s[a] |= bit(DONE); w.sCopy != copyNone {
			*w = w.loseS()
		}
	case ActKey:
		to, ok := c.repaired()
		if !ok {
			return fmt.Errorf("the key is %+v and cannot be repaired", *c.Key)
		}
		v := byOther
		if to.Node != sNode {
			v = v.ownedBy(r.h)
		}
		r.write(w, uint8(to.Epoch), v)
	default:
		return fmt.Errorf("no such act without a person's word: %s", did.Act)
	}
	return nil
}

func (r *resolving) letGo(c Case, d Journal) error {
	w := &r.w
	if err := r.goes(d, c.Job.Epoch, c.Job.Attempt, c.Job.Destination, c.permission(), r.seen(w, r.a)); err != nil {
		return err
	}
	w.d[r.a] |= bit(GO)
	if w.dCopy[r.h] != copyRunning {
		*w = w.runAtD(r.h, r.a)
		w.ended, w.crashed = false, false
	}
	w.d[r.a] |= bit(RUNNING)
	return nil
}

func (r *resolving) abortAtD(c Case, d Journal) error {
	w := &r.w
	seen := r.seen(w, r.a)
	if r.w.dCopy[r.h] == copyFills {
		seen = CopyPaused
	}
	if err := MayAbortByWord(d, c.Job.Epoch, seen, c.Job.Destination, c.Job.Word); err != nil {
		return err
	}
	w.d[r.a] |= bit(ABORTED)
	if of := int(w.dOf[r.h]); w.dCopy[r.h] != copyNone && of != r.a { // what an earlier attempt left goes too
		if err := r.abort(d, uint64(w.epoch[of]), CopyPaused); err != nil {
			return err
		}
		w.d[of] |= bit(ABORTED)
	}
	w.dropD(r.h)
	return nil
}

// backAtS resumes the guest, or boots it where its host crashed.
func (r *resolving) backAtS(s Journal, known Known) error {
	w := &r.w
	if err := r.goBack(s, uint64(w.epoch[r.a]), sNode, known); err != nil {
		return err
	}
	w.s[r.a] |= bit(BACK)
	image := known.Destination != nil && w.dCopy[r.h] == copyPaused && !w.dOld[r.h] && w.said(w.d, READY, r.a) && !w.said(w.d, ABORTED, r.a)
	switch {
	case w.sCopy == copyRunning, w.sCopy == copyNone && !w.said(w.s, STOPPING, r.a):
	case w.sCopy == copyNone && image && w.said(w.s, COMMITTING, r.a) && (w.now == by(r.a) || w.now == by(r.a).ownedBy(r.h)):
		w.harmed = coldBoot
	case w.sCopy != copyFlows:
		*w = w.runAtS()
	default:
		w.sCopy, w.sOf = copyRunning, 0
	}
	return nil
}

// run goes on by resolutions alone; the answer is how it ends.
func (r *resolving) run(sAnswers, dAnswers bool, word *Word) (Act, error) {
	var did []Act
	for range longest {
		c := r.caseOf(sAnswers, dAnswers, word)
		next := Resolve(c)
		if did = append(did, next.Act); next.Act == ActEnd {
			return next.Act, r.end(c, next.State)
		}
		if next.Stops() {
			return next.Act, nil
		}
		if err := r.act(c, next); err != nil {
			return next.Act, fmt.Errorf("%v: %w", did, err)
		}
		if r.w.harmed != noHarm {
			return next.Act, fmt.Errorf("%v: %s", did, r.w.harmed)
		}
	}
	return "", fmt.Errorf("%v, and no end", did)
}

// end does the last acts of either end once more: a crash may have cut them off.
func (r *resolving) end(c Case, state State) error {
	known := Known{Key: c.Key, Word: c.Job.Word}
	if c.Destination != nil {
		known.Destination = r.dJournal(&r.w, r.h)
	}
	switch {
	case state == Succeeded && c.Source != nil:
		return r.act(c, Resolution{Act: ActFinish})
	case state == Succeeded:
		return nil
	case c.Source != nil:
		if err := r.backAtS(r.sJournal(&r.w), known); err != nil {
			return err
		}
	}
	if c.Destination != nil {
		return r.abortAtD(c, r.dJournal(&r.w, r.h))
	}
	return nil
}

// resolvings calls f with every world of a setting that can be resolved. A command
// that a person cannot see (xl save at work) is over before anybody resolves,
// as the VM's lock has it; a key that counts for nothing is recovered first.
func (m *model) resolvings(f *found, do func(i int, r resolving)) {
	for i, w := range f.worlds {
		a := -1
		for b := range attempts {
			if w.said(w.s, BEGIN, b) && (a < 0 || w.epoch[b] > w.epoch[a]) {
				a = b
			}
		}
		if a >= 0 && !w.stale && (w.sCopy != copyHeld || m.live) {
			do(i, resolving{m, w, a, m.host(a)})
		}
	}
}

// sweep is what a host does by itself that an earlier attempt went to.
func (r *resolving) sweep() {
	for a := range attempts {
		if h := r.host(a); h != r.h && r.w.dCopy[h] != copyNone && r.abort(r.dJournal(&r.w, h), uint64(r.w.epoch[a]), CopyPaused) == nil {
			r.w.d[a] |= bit(ABORTED)
			r.w.dropD(h)
		}
	}
}

// answers is who answers a resolution, and which word is given for who does not.
type answers struct {
	name string
	s, d bool
	lost string
}

var allAnswers = []answers{
	{"both answer", true, true, ""},
	{"S is silent", false, true, ""},
	{"D is silent", true, false, ""},
	{"S is lost", false, true, sNode},
	{"D is lost", true, false, dNode},
}

// check resolves a world, and tells how it ended.
func (x answers) check(r resolving) (end Act, err error) {
	var word *Word
	switch x.lost {
	case sNode:
		word = &Word{Lost: sNode}
		r.w.sCopy, r.w.sOf, r.w.dOld = copyNone, 0, [hosts]bool{}
	case dNode:
		word = &Word{Lost: dNodes[r.h]}
		r.w.dropD(r.h)
		r.w.sOld, r.w.ended, r.w.crashed = false, false, false
	}
	if end, err = r.run(x.s, x.d, word); err != nil {
		return end, err
	}
	r.sweep()
	runs := r.w.ended
	for _, c := range r.w.dCopy {
		runs = runs || c == copyRunning
	}
	if x.s {
		runs = r.w.sCopy == copyRunning
	}
	switch {
	case x.name == "both answer" && (end != ActEnd || !r.settled(&r.w)):
		return end, fmt.Errorf("%s at %+v", end, r.w)
	case word != nil && end == ActAsk:
		return end, fmt.Errorf("the word is given and %s", end)
	case word != nil && end == ActEnd && !runs:
		return end, fmt.Errorf("resolved, and it does not run")
	}
	return end, nil
}

// TestModelResolve: from every world.
func TestModelResolve(t *testing.T) {
	for _, c := range settings() {
		t.Run(c.name, func(t *testing.T) {
			m, f := c.searched(t)
			counts, worlds := map[string]int{}, 0
			m.resolvings(f, func(i int, r resolving) {
				worlds++
				for _, x := range allAnswers {
					end, err := x.check(r)
					if counts[x.name+": "+string(end)]++; err != nil {
						t.Fatalf("%s: %v, after\n%s", x.name, err, f.way(i))
					}
				}
			})
			t.Logf("%d worlds: %v", worlds, counts)
			for _, want := range []string{"both answer: end", "S is silent: end", "S is silent: ask", "D is silent: end", "D is silent: ask",
				"S is lost: end", "S is lost: gone", "D is lost: end", "D is lost: gone"} {
				if counts[want] == 0 {
					t.Errorf("never: %s", want)
				}
			}
		})
	}
}

// TestModelRecover: from every world, a key that is recovered and the
// resolution behind it lead to one running copy.
func TestModelRecover(t *testing.T) {
	for _, c := range settings()[:4] {
		t.Run(c.name, func(t *testing.T) {
			m, f := c.searched(t)
			m.resolvings(f, func(i int, r resolving) {
				if i%7 != 0 { // each world differs little from its neighbours
					return
				}
				r.w.lost, r.w.stale = true, true
				m.recover(&r.w, func(mv move) { r.w = mv.to })
				if r.w.stale {
					t.Fatalf("not recovered, after\n%s", f.way(i))
				}
				if end, err := allAnswers[0].check(r); err != nil {
					t.Fatalf("%s, %v, after\n%s", end, err, f.way(i))
				}
			})
		})
	}
}
