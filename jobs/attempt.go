package jobs

import (
	"slices"
	"strings"
)

// What an attempt may do at either end before anything is handed over, and
// what of a promise may be carried out: the parts of R1, R3, R4 and R13 that
// are asked beside the promises of handover.go. All are asked under the VM's lock.

// MayBegin decides R1 at S: an attempt begins only in an epoch that is new
// here, and while no earlier one holds the guest: what that one promised would
// be late then, and nobody would carry it out. stands: the guest is there, and
// paused or suspended.
func MayBegin(s Journal, job Job, stands bool) error {
	if err := s.isNew(job); err != nil || s.Has(BEGIN, job.Epoch) {
		return err
	}
	if top := s.Highest(); top >= job.Epoch {
		return NotOurs("epoch %d is not new, the journal is at %d", job.Epoch, top)
	}
	for _, p := range s.since(s.lastGo()) {
		if (p.Fact == STOPPING || p.Fact == COMMITTING) && !s.Has(BACK, p.Epoch) && !s.Has(DONE, p.Epoch) {
			return Failed(CodeConflict, "attempt %s (epoch %d) holds the guest still: end it with `xmig resolve %s`", p.Attempt, p.Epoch, p.job())
		}
	}
	if stands {
		return RetryLater(CodeConflict, "the guest does not run: whoever holds it comes first")
	}
	return nil
}

// Foreign reports whether another attempt promised something here in the job's
// very epoch: what is late of the job's own is nobody's word for that one. Only
// a bus that was lost gives an epoch twice, where the first never began.
func (j Journal) Foreign(job Job) bool {
	return slices.ContainsFunc(j, func(p Promise) bool { return p.Epoch == job.Epoch && p.Attempt != "" && p.Attempt != job.Attempt })
}

// OfAnotherJob reports the same of another job. The way back of a job may come
// under the name of an attempt that never began: it undoes the one before.
func (j Journal) OfAnotherJob(job Job) bool {
	return slices.ContainsFunc(j, func(p Promise) bool { return p.Epoch == job.Epoch && p.Attempt != "" && p.job() != job.ID })
}

// job is the id of the job whose attempt promised it.
func (p Promise) job() string {
	id, _, _ := strings.Cut(p.Attempt, ".")
	return id
}

// isNew refuses an epoch in which another attempt promised something here, or
// another job in a later one: only a bus that was lost counts epochs anew, and
// nothing that was promised under the old count may be taken for this attempt's.
func (j Journal) isNew(job Job) error {
	for _, p := range j {
		if p.Epoch >= job.Epoch && p.Attempt != "" && !strings.HasPrefix(p.Attempt, job.ID+".") {
			return Failed(CodeConflict, "epoch %d is not new: %s was promised in epoch %d by attempt %s; if the bus was lost since, run `xmig recover`",
				job.Epoch, p.Fact, p.Epoch, p.Attempt)
		}
	}
	if j.Foreign(job) {
		return NotOurs("epoch %d is another attempt's", job.Epoch)
	}
	return nil
}

// MayAccept decides R1 at D: nothing late is taken in, and nothing while a
// session of an earlier attempt may still write. What such an attempt left of
// a copy must be a Leftover, and goes before BEGIN is said.
func MayAccept(d Journal, job Job, writes bool) error {
	if err := d.isNew(job); err != nil {
		return err
	}
	switch top := d.Highest(); {
	case d.Has(ABORTED, job.Epoch):
		return RetryLater(CodeAborted, "epoch %d was aborted", job.Epoch)
	case d.Has(READY, job.Epoch):
		return RetryLater(CodeAborted, "the copy of epoch %d is whole already", job.Epoch)
	case top == job.Epoch && d.Has(BEGIN, job.Epoch):
		return nil
	case top >= job.Epoch:
		return NotOurs("epoch %d is not new, the journal is at %d", job.Epoch, top)
	case writes:
		return RetryLater(CodeConflict, "a session of an earlier attempt still writes")
	}
	return nil
}

// MayReplace decides whether D may write over what it has of the VM: not where
// the VM lives, though no domain is seen. It may have ended, or its host crashed.
func MayReplace(d Journal) error {
	if d.lives() {
		return RetryLater(CodeConflict, "it was let go here in epoch %d and was not given away since: its disks here are the newest", d.lastGo())
	}
	return nil
}

// MayFill decides R1 for whoever makes, writes or restores at D in the name of
// an attempt: it was accepted, is the newest, and has promised nothing about
// its copy yet.
func MayFill(d Journal, job Job) error {
	e := job.Epoch
	accepted := slices.ContainsFunc(d, func(p Promise) bool { return p.Fact == BEGIN && p.Epoch == e && p.Attempt == job.Attempt })
	if !accepted || d.Has(ABORTED, e) || d.Has(READY, e) || d.Late(e) {
		return RetryLater(CodeAborted, "attempt %s (epoch %d) is not open, or over", job.Attempt, e)
	}
	return nil
}

// MayReady decides whether D may promise READY(e): its copy is there and
// paused, and nobody writes to its disks any more.
func MayReady(d Journal, job Job, copy CopySeen, writes bool) error {
	switch {
	case writes:
		return RetryLater(CodeConflict, "a session still writes to its disks")
	case copy != CopyPaused && copy != CopyHalted:
		return RetryLater(CodeToolstack, "its copy is not there and paused")
	}
	return MayFill(d, job)
}

// MayStop decides R1 for S's guest: an attempt stops it once, and none does
// that is over.
func MayStop(s Journal, e uint64) error {
	switch {
	case s.Has(BACK, e), s.Has(COMMITTING, e), s.Late(e):
		return RetryLater(CodeAborted, "epoch %d is over", e)
	case s.Has(STOPPING, e):
		return RetryLater(CodeAborted, "the guest was stopped in epoch %d before", e)
	}
	return nil
}

// MaySeal decides whether S may promise SEALED(e). That the guest stands is
// looked at when it commits.
func MaySeal(s Journal, e uint64) error {
	if s.Has(BACK, e) || s.Late(e) {
		return RetryLater(CodeAborted, "epoch %d is over", e)
	}
	return nil
}

// MayPassReady decides R4 at the stub of a live migration: may its xl, which
// waits for READY, go over its own line? Behind it xl resumes nothing by itself.
func MayPassReady(s, d Journal, e uint64) error { return MayCommit(s, d, e, SourceSees{}) }

// MayTellResume decides R3 at a stub whose xl has given GO: may it be told to
// resume the guest? It is this attempt's own, whatever began since.
func MayTellResume(s Journal, e uint64) error {
	if !s.Has(BACK, e) {
		return &RuleError{"R3", "a resume", "the source did not go back", e}
	}
	return nil
}

// MayTellDestroy decides R13 at such a stub: may xl be told to destroy the
// source's copy?
func MayTellDestroy(s Journal, e uint64) error {
	if !s.Has(DONE, e) || s.Has(BACK, e) {
		return &RuleError{"R13", "the end of the source's copy", "the source did not promise it", e}
	}
	return nil
}

// MayResume decides whether S has the guest run on by hand: an attempt that
// never stopped it has nothing to resume, and what was promised in an epoch
// before is carried out no more, for a later attempt may hold it.
func MayResume(s Journal, e uint64) error {
	switch {
	case s.Late(e):
		return &RuleError{"R1", "a resume", "a later attempt began", e}
	case !s.Has(STOPPING, e):
		return &RuleError{"R1", "a resume", "the attempt never stopped the guest", e}
	}
	return MayTellResume(s, e)
}

// Late reports whether a later attempt than that of epoch e began here.
func (j Journal) Late(e uint64) bool { return j.Highest() > e }

// MayDestroy decides whether S ends its copy by hand: not once the VM came back.
func MayDestroy(s Journal, e uint64) error {
	switch {
	case !s.Has(DONE, e):
		return &RuleError{"R13", "the end of the source's copy", "the source did not promise it", e}
	case s.Late(e):
		return &RuleError{"R1", "the end of the source's copy", "a later attempt began", e}
	}
	return nil
}

// Leftover tells whether the copies here, by their states, can only be what
// attempts that came to nothing left: this host took some in, never let one
// run, and the VM does not live here. A copy that is paused but lives here is
// the guest itself.
func Leftover(d Journal, copies []VMState) bool {
	for _, c := range copies {
		if c == VMRunning || c == VMSuspended { // it runs, or a resume lets it run on
			return false
		}
	}
	if d.lives() {
		return false
	}
	for _, p := range d {
		if d.arrived(p) {
			return true
		}
	}
	return false
}

// Unended lists the attempts to this host, by their BEGIN, that were neither
// let go nor aborted.
func (j Journal) Unended() (all Journal) {
	for _, p := range j {
		if j.arrived(p) && !j.Has(ABORTED, p.Epoch) {
			all = append(all, p)
		}
	}
	return all
}

// arrived: p is the begin of an attempt to this host that was never let go.
func (j Journal) arrived(p Promise) bool {
	if p.Fact != BEGIN || j.Has(GO, p.Epoch) && !j.Has(ABORTED, p.Epoch) {
		return false
	}
	for _, f := range []Fact{STOPPING, SEALED, COMMITTING, BACK, DONE} {
		if j.Has(f, p.Epoch) {
			return false // it was the source in this one
		}
	}
	return true
}

// lives: the VM was given to this host and has not been given away since.
func (j Journal) lives() (here bool) {
	for _, p := range j {
		switch p.Fact {
		case GO:
			here = !j.Has(ABORTED, p.Epoch)
		case DONE:
			here = false
		}
	}
	return here
}
