package jobs

import (
	"fmt"
	"slices"
)

// The model: one VM, hosts S and D, the owner key and up to two attempts. It
// decides by the very functions of handover.go and lets everything else happen
// that may: any order, workers that die anywhere, messages and swaps that come
// late, again or never, aborts at any time, a bus that is away for ever.
//
// Nothing of this needs a move of its own. No worker is in the model: all that
// counts is in the journals, so a worker that died and one that is slow look
// alike, and every move that the rules allow may be the next one. A message is
// a reading of a journal, and journals only grow: what an old message can say,
// the journal still says. The key is read as it is or as it ever was.
//
// model_moves_test.go has the moves, model_search_test.go the search and the
// invariants, model_controls_test.go the controls: rules weakened one at a time.

const attempts = 2

// copyState is what one host has of the guest.
type copyState uint8

const (
	copyNone   copyState = iota
	copyPaused           // nothing runs it but a command that was decided on
	copyHeld             // S only: suspended by xl save, which may resume it by itself
	copyRunning
)

// harm is what must never happen.
type harm uint8

const (
	noHarm   harm = iota
	twoRun        // two copies of the guest run
	oldRuns       // a copy runs although the guest ran elsewhere since it was made
	rawRuns       // a copy runs that was never sealed
	noneLeft      // the last copy was destroyed
	coldBoot      // a guest was booted although a whole image of it is there
)

func (h harm) String() string {
	return [...]string{"no harm", "two copies run", "an outdated copy runs", "an unsealed copy runs", "no copy is left", "a whole image was given up for a cold boot"}[h]
}

// factSet is a set of facts of one epoch.
type factSet uint16

// What an end can do but once in an attempt.
const (
	stopped  = Fact("stopped")  // S stopped the guest
	restored = Fact("restored") // D made its copy: the image travels once
)

var allFacts = []Fact{BEGIN, SEALED, READY, COMMITTING, BACK, RELEASED, ABORTED, GO, RUNNING, DONE, stopped, restored}

func bit(f Fact) factSet { return 1 << slices.Index(allFacts, f) }

// world is one state of everything. Attempts are numbered from 0.
type world struct {
	epoch  [attempts]uint8   // won by each attempt; 0: not begun
	s, d   [attempts]factSet // the journals
	key    [12]keyValue      // by epoch: every change of the key raises it
	top    uint8             // the key's epoch now
	sCopy  copyState
	dCopy  copyState
	dOf    uint8 // the attempt that dCopy is of
	lost   bool  // the key's store was lost once, and made anew
	sOld   bool  // the guest ran elsewhere since S's copy last ran
	dOld   bool  // the guest ran elsewhere since D's copy was made
	ended  bool  // the guest ran at D and ended by itself
	harmed harm
}

// keyValue is who owns the VM by whose write; 0: the key never had that epoch.
type keyValue uint8

const (
	unwritten keyValue = iota
	ownedByS           // + writer
	ownedByD  = ownedByS + writers

	// Writers: each attempt, each attempt's abort, and none of them (the
	// first key, or a repair).
	writers = 2*attempts + 1
	byAbort = attempts
	byOther = 2 * attempts
)

// move is one thing that may happen next.
type move struct {
	what    string
	attempt int // -1: of none
	to      world
	chance  bool // nobody does it; no way out may rest on it
}

func (m move) String() string {
	if m.attempt < 0 {
		return m.what
	}
	return fmt.Sprintf("%s (attempt %d)", m.what, m.attempt+1)
}

func start() world {
	w := world{sCopy: copyRunning}
	w.key[0] = ownedByS + byOther
	return w
}

func attemptName(a int) string { return fmt.Sprintf("job.%d", a+1) }

// owner is the key as it was in an epoch.
func (w world) owner(epoch uint8) Owner {
	v := w.key[epoch]
	o := Owner{VM: "u", Node: sNode, Epoch: uint64(epoch)}
	if v >= ownedByD {
		o.Node, v = dNode, v-writers
	}
	switch by := int(v - ownedByS); {
	case by < attempts:
		o.Attempt = attemptName(by)
	case by < byOther:
		o.Attempt = AbortAttempt(uint64(w.epoch[by-byAbort]))
	}
	return o
}

func (w *world) write(epoch uint8, v keyValue) { w.top, w.key[epoch] = epoch, v }

func (w world) keyIs(epoch uint8, v keyValue) bool { return w.top == epoch && w.key[epoch] == v }

func (w world) said(facts [attempts]factSet, f Fact, a int) bool { return facts[a]&bit(f) != 0 }

// latest is the last attempt begun, -1 for none.
func (w world) latest() int {
	for a := attempts - 1; a >= 0; a-- {
		if w.epoch[a] != 0 {
			return a
		}
	}
	return -1
}

// journalKey is what a journal is made of.
type journalKey struct {
	epoch [attempts]uint8
	facts [attempts]factSet
}

// model is the rules to decide by, and what the ends are trusted with.
type model struct {
	commit  func(s, d Journal, e uint64, sees SourceSees) error
	goBack  func(s Journal, e uint64, source string, k Known) error
	release func(s Journal, e uint64) error
	goes    func(d Journal, e uint64, attempt, destination string, p Permission, copy CopySeen) error
	abort   func(d Journal, e uint64, copy CopySeen) error
	finish  func(s, d Journal, e uint64) error
	repair  func(key Owner, sNode, dNode string, s, d Journal, sRuns bool) (Owner, bool)

	recovers   bool // the store may be lost once, and made anew by R12
	earlySwap  bool // the hand-over's swap may come before COMMITTING
	sameEpoch  bool // an attempt begins without a swap that raises the epoch (against R1)
	stopsTwice bool // one attempt stops the guest more than once
	boots      bool // a resolution boots a copy that is gone behind GO (R9)
	liesS      bool // a person says that S is lost, and it is not
	liesD      bool // the same of D
	lateBack   bool // BACK is carried out in a later attempt too

	journals map[journalKey]Journal
}

func theRules() *model {
	return &model{commit: MayCommit, goBack: MayGoBack, release: MayRelease, goes: MayGo, abort: MayAbort, finish: MayFinish, repair: Repair, boots: true,
		journals: map[journalKey]Journal{}}
}

func (m *model) journal(w world, facts [attempts]factSet) Journal {
	k := journalKey{w.epoch, facts}
	j, ok := m.journals[k]
	if !ok {
		for a, set := range facts {
			for i, f := range allFacts {
				if set&(1<<i) != 0 {
					j = append(j, Promise{Fact: f, Epoch: uint64(w.epoch[a]), Attempt: attemptName(a)})
				}
			}
		}
		m.journals[k] = j
	}
	return j
}

func (w world) runAtS() world {
	switch {
	case w.dCopy == copyRunning:
		w.harmed = twoRun
	case w.sOld:
		w.harmed = oldRuns
	}
	w.sCopy, w.dOld = copyRunning, w.dOld || w.dCopy != copyNone
	return w
}

func (w world) runAtD(a int) world {
	switch {
	case w.sCopy == copyRunning:
		w.harmed = twoRun
	case w.dOld:
		w.harmed = oldRuns
	case !w.said(w.s, SEALED, a):
		w.harmed = rawRuns
	}
	w.dCopy, w.sOld = copyRunning, true
	return w
}

// settled: exactly one copy runs, nothing is pending, and the key says so.
func (w world) settled() bool {
	if w.ended {
		return true // it ended by itself, which is its own choice
	}
	for a := range attempts {
		if w.said(w.s, COMMITTING, a) && !w.said(w.s, BACK, a) && !w.said(w.s, DONE, a) {
			return false
		}
	}
	atS := w.sCopy == copyRunning && w.dCopy == copyNone && w.key[w.top] < ownedByD
	atD := w.dCopy == copyRunning && w.sCopy == copyNone && w.key[w.top] >= ownedByD
	return atS || atD
}
