package jobs

import (
	"fmt"
	"slices"
)

// The model: one VM, its host S, one or two hosts D that it may move to, the
// owner key and up to two attempts. It decides by the very functions of
// handover.go, attempt.go and owner.go and lets everything else happen that
// may: any order, workers that die anywhere, messages and swaps that come late,
// again or never, aborts at any time, a bus that is away for ever, hosts that
// crash, a store that is lost.
//
// Nothing of this needs a worker in the model: all that counts is in the
// journals, so a worker that died and one that is slow look alike, and every
// move that the rules allow may be the next one. A message is a reading of a
// journal, and journals only grow: what an old message can say, the journal
// still says. The key is read as it is or as it ever was. An order to a stub is
// decided by the journal at its effect, so an old order and a new one are alike.
//
// model_moves_test.go has what the hosts promise and do, model_live_test.go xl
// and its stub, model_store_test.go the key and its store, model_search_test.go
// the search and the invariants, model_controls_test.go the controls: rules
// weakened one at a time.

const (
	attempts = 2
	hosts    = 2  // that the VM may move to
	epochs   = 16 // no key comes to more
)

// copyState is what one host has of the guest.
type copyState uint8

const (
	copyNone    copyState = iota
	copyPaused            // nothing runs it but a command that was decided on
	copyHeld              // S only: suspended by xl, which may resume it by itself
	copyRunning           // nobody is about to stop it
	copyFlows             // S, live: it runs, and xl sends its memory
	copyPassed            // S, live: as held, and READY was passed to xl
	copyWaits             // S, live: suspended; xl has given GO and waits for its stub's word
	copyFills             // D, live: its memory is still to come
)

func (c copyState) runs() bool { return c == copyRunning || c == copyFlows }

// harm is what must never happen.
type harm uint8

const (
	noHarm    harm = iota
	twoRun         // two copies of the guest run
	oldRuns        // a copy runs although the guest ran elsewhere since it was made
	rawRuns        // a copy runs that was never sealed
	noneLeft       // the last copy was destroyed
	coldBoot       // a guest was booted although a whole image of it is there
	lateChunk      // a disk is written to that is another attempt's, or sealed
)

func (h harm) String() string {
	return [...]string{"no harm", "two copies run", "an outdated copy runs", "an unsealed copy runs", "no copy is left",
		"a whole image was given up for a cold boot", "a late chunk spoils a disk"}[h]
}

// factSet is a set of facts of one epoch.
type factSet uint16

// Marks are what one end knows of an attempt beside its journal.
const (
	made  = Fact("made")  // D made its copy: the image travels once
	open  = Fact("open")  // D: a session may write to the disks
	stood = Fact("stood") // S, live: xl has suspended the guest, so that its image is one
	early = Fact("early") // S: it began before the store was lost
)

var allFacts = []Fact{BEGIN, STOPPING, SEALED, READY, COMMITTING, BACK, RELEASED, ABORTED, GO, RUNNING, DONE, made, open, stood, early}

const promised factSet = 1<<11 - 1 // all but marks

func bit(f Fact) factSet { return 1 << slices.Index(allFacts, f) }

// world is one state of everything. Attempts are numbered from 0.
type world struct {
	epoch [attempts]uint8   // won by each attempt; 0: not begun
	s, d  [attempts]factSet // the journals, and marks; d's of the attempt's own host

	was   [epochs]keySet // every value that the key ever had, by epoch
	top   uint8          // the key's epoch now
	now   keyValue       // and what it says
	lost  bool           // the store was lost once
	stale bool           // the key there counts for nothing until it is recovered

	sCopy   copyState
	sOf     uint8 // the attempt that stopped it
	dCopy   [hosts]copyState
	dOf     [hosts]uint8 // the attempt that it is of
	sOld    bool         // the guest ran elsewhere since S's copy last ran
	dOld    [hosts]bool  // the guest ran elsewhere since D's copy was made
	crashed bool         // a host D lost the copy that it had let go, with all that ran there
	ended   bool         // the guest ran at D and ended by itself
	harmed  harm
}

// move is one thing that may happen next.
type move struct {
	label
	to     world
	chance bool // nobody does it; no way out may rest on it
}

// label tells a move.
type label struct {
	what    string
	attempt int8 // -1: of none
}

func (l label) String() string {
	if l.attempt < 0 {
		return l.what
	}
	return fmt.Sprintf("%s (attempt %d)", l.what, l.attempt+1)
}

func (m *model) start() world {
	w := world{sCopy: copyRunning}
	m.write(&w, 0, byOther)
	return w
}

func (w *world) said(facts [attempts]factSet, f Fact, a int) bool { return facts[a]&bit(f) != 0 }

// latest is the last attempt begun, -1 for none.
func (w *world) latest() int {
	for a := attempts - 1; a >= 0; a-- {
		if w.epoch[a] != 0 {
			return a
		}
	}
	return -1
}

// model is the rules to decide by, and what the ends are trusted with.
type model struct {
	begin       func(s Journal, job Job, stands bool) error
	accept      func(d Journal, job Job, writes bool) error
	replace     func(d Journal) error
	fill        func(d Journal, job Job) error
	ready       func(d Journal, job Job, copy CopySeen, writes bool) error
	stop, seal  func(s Journal, e uint64) error
	passReady   func(s, d Journal, e uint64) error
	commit      func(s, d Journal, e uint64, sees SourceSees) error
	goBack      func(s Journal, e uint64, source string, k Known) error
	resume      func(s Journal, e uint64) error
	tellResume  func(s Journal, e uint64) error
	release     func(s Journal, e uint64) error
	goes        func(d Journal, e uint64, attempt, destination string, p Permission, copy CopySeen) error
	foreign     func(d Journal, job Job) bool
	abort       func(d Journal, e uint64, copy CopySeen) error
	finish      func(s, d Journal, e uint64) error
	destroy     func(s Journal, e uint64) error
	tellDestroy func(s Journal, e uint64) error
	repair      func(key Owner, sNode, dNode string, s, d Journal, sRuns bool) (Owner, bool)
	swaps       func(cur, from, to Owner) (bool, error)
	counts      func(written, made uint64) error

	live      bool // by xl migrate; else by xl save and restore
	elsewhere bool // the second attempt goes to another host
	recovers  bool // the store may be lost once, and made anew by R12
	exact     bool // of the key's history only what R5b and R7 look for is kept
	crashes   bool // S's host may crash
	lanes     bool // sessions of attempts end and are opened again; else each is open as long as it may be

	earlySwap bool // the hand-over's swap may come before COMMITTING
	earlyBar  bool // the abort's swap may come before BEGIN
	sameEpoch bool // an attempt begins without a swap that raises the epoch (against R1)
	twoMovers bool // S says BEGIN some time after its swap, also for the second attempt
	backup    bool // an old copy of the store is put back and believed
	pipe      bool // live: D's copy hangs on a pipe also behind GO (against R10)
	boots     bool // a resolution boots a copy that is gone behind GO (R9)
	liesS     bool // a person says that S is lost, and it is not
	liesD     bool // the same of D

	// What was worked out before, by what it depends on.
	journals map[journalKey]Journal
	owners   map[[2]uint8]Owner
	named    map[[2]uint8]Job
	keys     map[asked]*verdicts
}

func theRules() *model {
	return &model{begin: MayBegin, accept: MayAccept, replace: MayReplace, fill: MayFill, ready: MayReady, stop: MayStop, seal: MaySeal,
		passReady: MayPassReady, commit: MayCommit, goBack: MayGoBack, resume: MayResume, tellResume: MayTellResume, release: MayRelease,
		goes: MayGo, foreign: Journal.OfAnotherJob, abort: MayAbort, finish: MayFinish, destroy: MayDestroy, tellDestroy: MayTellDestroy,
		repair: Repair, swaps: Swaps, counts: KeyCounts, boots: true,
		journals: map[journalKey]Journal{}, owners: map[[2]uint8]Owner{}, named: map[[2]uint8]Job{}, keys: map[asked]*verdicts{}}
}

// host is the number of the host that an attempt goes to.
func (m *model) host(a int) int {
	if m.elsewhere {
		return a
	}
	return 0
}

var dNodes = [hosts]string{dNode, "hv3"}

// job is an attempt as the ends are told of it. Attempts of one job are the
// harder case for whoever tells jobs apart, attempts of two can have the same
// epoch where the store was lost.
func (m *model) job(w *world, a int) Job {
	k := [2]uint8{uint8(a), w.epoch[a]}
	job, ok := m.named[k]
	if !ok {
		job = Job{ID: "job", Epoch: uint64(w.epoch[a]), Kind: KindMigrate, VM: VMRef{UUID: "u"}, Source: sNode, Destination: dNodes[m.host(a)]}
		if m.elsewhere || m.recovers {
			job.ID = fmt.Sprintf("job%d", a+1)
		}
		job.Attempt = fmt.Sprintf("%s.%d", job.ID, a+1)
		m.named[k] = job
	}
	return job
}

// journalKey is what a journal is made of.
type journalKey struct {
	epoch [attempts]uint8
	facts [attempts]factSet
}

func (w *world) journalKey(facts [attempts]factSet) journalKey {
	k := journalKey{epoch: w.epoch}
	for a, f := range facts {
		k.facts[a] = f & promised
	}
	return k
}

func (m *model) journal(w *world, facts [attempts]factSet) Journal {
	k := w.journalKey(facts)
	j, ok := m.journals[k]
	if !ok {
		for a, set := range k.facts {
			for i, f := range allFacts {
				if set&(1<<i) != 0 {
					j = append(j, Promise{Fact: f, Epoch: uint64(w.epoch[a]), Attempt: m.job(w, a).Attempt})
				}
			}
		}
		m.journals[k] = j
	}
	return j
}

func (m *model) sJournal(w *world) Journal { return m.journal(w, w.s) }

// dJournal is the journal of one host D.
func (m *model) dJournal(w *world, host int) Journal {
	facts := w.d
	for a := range facts {
		if m.host(a) != host {
			facts[a] = 0
		}
	}
	return m.journal(w, facts)
}

// runAtS lets the guest run at S, so that every other copy is outdated.
func (w world) runAtS() world {
	switch {
	case slices.Contains(w.dCopy[:], copyRunning):
		w.harmed = twoRun
	case w.sOld:
		w.harmed = oldRuns
	}
	for h := range w.dCopy {
		still := w.dCopy[h] == copyFills && !w.said(w.s, stood, int(w.dOf[h])) // it is outdated anyway
		w.dOld[h] = w.dOld[h] || w.dCopy[h] != copyNone && !still
	}
	w.sCopy, w.sOf = copyRunning, 0
	return w
}

func (w world) runAtD(host, a int) world {
	for h, c := range w.dCopy {
		if h != host {
			if c == copyRunning {
				w.harmed = twoRun
			}
			w.dOld[h] = w.dOld[h] || c != copyNone
		}
	}
	switch {
	case w.sCopy.runs():
		w.harmed = twoRun
	case w.dOld[host]:
		w.harmed = oldRuns
	case !w.said(w.s, SEALED, a):
		w.harmed = rawRuns
	}
	w.dCopy[host], w.dOf[host], w.sOld = copyRunning, uint8(a), true
	return w
}

// dropD takes D's copy away.
func (w *world) dropD(host int) { w.dCopy[host], w.dOf[host], w.dOld[host] = copyNone, 0, false }

// settled: exactly one copy runs, nothing is pending, and the key says so.
func (m *model) settled(w *world) bool {
	if w.ended {
		return true // it ended by itself, which is its own choice
	}
	for a := range attempts {
		if w.said(w.s, COMMITTING, a) && !w.said(w.s, BACK, a) && !w.said(w.s, DONE, a) {
			return false
		}
	}
	at := -1 // where the only copy is
	for h, c := range w.dCopy {
		if c != copyNone {
			if c != copyRunning || at >= 0 || w.sCopy != copyNone {
				return false
			}
			at = h
		}
	}
	return !w.stale && w.now.owner() == at+1 && (at >= 0 || w.sCopy == copyRunning)
}
