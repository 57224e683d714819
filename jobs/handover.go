package jobs

import (
	"fmt"
	"strings"
	"time"
)

// Fact is a promise in a host's journal. The rules R1 to R13 of the hand-over
// are decided on facts alone; doc.go has the rules in words.
type Fact string

const (
	BEGIN      Fact = "BEGIN"      // S: an attempt was won; D: it was accepted
	STOPPING   Fact = "STOPPING"   // S: from here on this attempt may have stopped the guest
	SEALED     Fact = "SEALED"     // S: the guest is stopped and the copy is whole
	READY      Fact = "READY"      // D: the copy is whole, durable and paused
	COMMITTING Fact = "COMMITTING" // S: nothing here resumes the guest by itself any more
	BACK       Fact = "BACK"       // S: the guest runs on here
	RELEASED   Fact = "RELEASED"   // S: D may go without the key
	ABORTED    Fact = "ABORTED"    // D: nothing of this epoch is ever unpaused
	GO         Fact = "GO"         // D: the guest may run here
	RUNNING    Fact = "RUNNING"    // D: it was seen running under its final name
	DONE       Fact = "DONE"       // S: the copy here is destroyed
	DISCARDED  Fact = "DISCARDED"  // S: a person did not want the copy here
)

// Promise is one fact with the epoch it belongs to.
type Promise struct {
	Fact    Fact      `json:"fact"`
	Epoch   uint64    `json:"epoch"`
	Attempt string    `json:"attempt"`
	At      time.Time `json:"at,omitzero"` // for people; nothing is decided by it
}

// Journal is what one host promised about one VM, in order.
type Journal []Promise

// Has reports whether fact f was promised for epoch e.
func (j Journal) Has(f Fact, e uint64) bool {
	for _, p := range j {
		if p.Fact == f && p.Epoch == e {
			return true
		}
	}
	return false
}

// Highest returns the highest epoch in the journal.
func (j Journal) Highest() (e uint64) {
	for _, p := range j {
		e = max(e, p.Epoch)
	}
	return e
}

// epochOf returns the epoch in which attempt promised something, 0 for none.
func (j Journal) epochOf(attempt string) (e uint64) {
	for _, p := range j {
		if p.Attempt == attempt {
			e = max(e, p.Epoch)
		}
	}
	return e
}

// epochOfJob returns the epoch of the job's last attempt here.
func (j Journal) epochOfJob(id string) (e uint64) {
	for _, p := range j {
		if strings.HasPrefix(p.Attempt, id+".") {
			e = max(e, p.Epoch)
		}
	}
	return e
}

// Known is what the source may know beside its own journal when it goes back.
type Known struct {
	Destination Journal `json:"destination,omitempty"` // read from D, however old
	Key         *Owner  `json:"key,omitempty"`         // as read or written
	Word        *Word   `json:"word,omitempty"`        // of a person, in a resolution
}

// RuleError says which rule forbids an act.
type RuleError struct {
	Rule, Act, Why string
	Epoch          uint64
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %s forbids %s in epoch %d: %s", e.Rule, e.Act, e.Epoch, e.Why)
}

// SourceSees is what the source looks at right before it commits.
type SourceSees struct {
	CommandRuns bool // a toolstack command of this attempt is still alive
	Runs        bool // the guest can execute: neither paused nor gone
	Gone        bool // no domain is there, and nobody shut it down: it may have run on, and ended
}

// MayCommit decides R4: may S journal COMMITTING(e)?
func MayCommit(s, d Journal, e uint64, sees SourceSees) error {
	no := func(why string) error { return &RuleError{"R4", "COMMITTING", why, e} }
	switch {
	case s.Has(BACK, e):
		return &RuleError{"R3", "COMMITTING", "the source went back", e}
	case s.Has(COMMITTING, e):
		return nil // said already; saying it again changes nothing
	case s.Late(e): // its guest may be stopped again, and no longer be what was sealed
		return &RuleError{"R1", "COMMITTING", "a later attempt began", e}
	case !s.Has(SEALED, e):
		return no("the source has not sealed the copy")
	case !d.Has(READY, e):
		return no("the destination is not known to be ready")
	case sees.CommandRuns:
		return no("a command that may resume the guest still runs")
	case sees.Runs:
		return no("the guest is not paused")
	case sees.Gone:
		return no("the guest is not there: whether it ran on since the seal cannot be told")
	}
	return nil
}

// MayGoBack decides R3 and R5: may S journal BACK(e)? A person's word that D
// is lost stands in for D's own (c).
func MayGoBack(s Journal, e uint64, source string, k Known) error {
	no := func(why string) error { return &RuleError{"R5", "BACK", why, e} }
	switch {
	case s.Has(BACK, e):
		return nil
	case s.Has(DONE, e):
		return no("the source's copy was given up")
	case !s.Has(COMMITTING, e):
		return nil
	case k.Destination.Has(ABORTED, e):
		return nil // (a), even after RELEASED
	case k.Word != nil && k.Word.Lost != "" && k.Word.Lost != source:
		return nil // (c)
	case s.Has(RELEASED, e):
		return no("the destination was released; only its ABORTED lets the source go back")
	case k.Key != nil && k.Key.Node == source && k.Key.Epoch == e+1 && k.Key.Attempt == AbortAttempt(e):
		return nil // (b)
	}
	return no("the source committed, and neither ABORTED nor the abort's swap is known")
}

// AbortAttempt is what the abort swap {S,e}→{S,e+1} writes as attempt, so that
// no later begin or repair can be taken for it (R5b wants it exact).
func AbortAttempt(e uint64) string { return fmt.Sprintf("abort-of-%d", e) }

// MayRelease decides R6: may S journal RELEASED(e)?
func MayRelease(s Journal, e uint64) error {
	switch {
	case s.Has(BACK, e):
		return &RuleError{"R6", "RELEASED", "the source went back", e}
	case !s.Has(COMMITTING, e):
		return &RuleError{"R6", "RELEASED", "the source has not committed", e}
	}
	return nil
}

// CopySeen is what D sees of its copy right before an effect.
type CopySeen string

const (
	CopyPaused CopySeen = "paused" // it is there and never ran
	CopyRuns   CopySeen = "runs"
	CopyNone   CopySeen = "none"
	// CopyHalted: the guest was halted at the source; there is nothing to unpause.
	CopyHalted CopySeen = "halted"
)

// MayGo decides R7 and R8: may D journal GO(e)? A person's word that S is
// lost, or that the copy here counts, stands in for S's COMMITTING and the key.
func MayGo(d Journal, e uint64, attempt, destination string, p Permission, copy CopySeen) error {
	no := func(why string) error { return &RuleError{"R7", "GO", why, e} }
	switch {
	case d.Has(ABORTED, e):
		return &RuleError{"R8", "GO", "the destination aborted this epoch", e}
	case d.Has(GO, e):
		return nil
	case p.Word.keeps(destination) && copy == CopyRuns:
		return nil
	case !d.Has(READY, e):
		return no("the copy is not ready")
	case p.Word != nil && p.Word.Lost != "" && p.Word.Lost != destination && copy != CopyRuns:
		return nil // one that is gone is booted from the disks that READY vouches for
	case copy != CopyPaused && copy != CopyHalted:
		return no("its copy of this attempt is not there and paused")
	case !p.Source.Has(COMMITTING, e):
		return no("the source is not known to have committed")
	case p.Source.Has(RELEASED, e):
		return nil
	case p.Key != nil && p.Key.Node == destination && p.Key.Epoch == e+1 && p.Key.Attempt == attempt:
		return nil
	}
	return no("neither the key nor the source gives it the guest")
}

// MayAbort decides R9: may D journal ABORTED(e)? After GO only while the copy
// provably never ran: still paused, with no command on it.
func MayAbort(d Journal, e uint64, copy CopySeen) error {
	switch {
	case d.Has(ABORTED, e), !d.Has(GO, e):
		return nil
	case d.Has(RUNNING, e):
		return &RuleError{"R9", "ABORTED", "the guest ran here", e}
	case copy == CopyPaused:
		return nil
	}
	return &RuleError{"R9", "ABORTED", "GO was given and the copy may have run", e}
}

// MayFinish decides R13: may S journal DONE(e) and destroy its copy?
func MayFinish(s, d Journal, e uint64) error {
	no := func(why string) error { return &RuleError{"R13", "DONE", why, e} }
	switch {
	case s.Has(DONE, e):
		return nil
	case s.Has(BACK, e):
		return no("the source went back")
	case d.Has(ABORTED, e):
		return no("the destination aborted")
	case !d.Has(RUNNING, e):
		return no("the guest was not seen running at the destination")
	}
	return nil
}

// Repair decides R11: the key follows the hosts. sRuns: the guest runs at s.
// It returns the owner to write and whether one may be written at all.
// Only promises since the VM last arrived at a host count: what that host
// promised when it gave the VM away earlier is history.
func Repair(key Owner, sNode, dNode string, s, d Journal, sRuns bool) (Owner, bool) {
	highest := max(key.Epoch, s.Highest(), d.Highest())
	to := key
	to.Epoch, to.Attempt = highest+1, ""
	went := d.lastGo()
	switch {
	case key.Node == sNode && !sRuns && went > 0 && went == max(s.Highest(), d.Highest()):
		to.Node = dNode
		return to, true
	case key.Node == dNode && sRuns && s.since(s.lastGo()).ownsGuest():
		to.Node = sNode
		return to, true
	}
	return key, false
}

// lastGo is the highest epoch in which this host took the VM over, 0 for none.
func (j Journal) lastGo() (e uint64) {
	for _, p := range j {
		if p.Fact == GO && !j.Has(ABORTED, p.Epoch) {
			e = max(e, p.Epoch)
		}
	}
	return e
}

// since leaves the promises of epochs after e.
func (j Journal) since(e uint64) (later Journal) {
	for _, p := range j {
		if p.Epoch > e {
			later = append(later, p)
		}
	}
	return later
}

// ownsGuest: every COMMITTING was taken back and nothing was given up.
func (j Journal) ownsGuest() bool {
	for _, p := range j {
		if p.Fact == DONE || p.Fact == COMMITTING && !j.Has(BACK, p.Epoch) {
			return false
		}
	}
	return true
}
