package jobs

import (
	"fmt"
	"slices"
)

// A resolution ends a job that nobody drives on: one that is indeterminate, or
// one whose host is lost for good. Resolve looks at what both hosts promised
// and see, and names the one act that is safe now; whoever carries it out looks
// again before the next. The model decides by the same function.

// Word is what a person vouches for where no journal can tell.
type Word struct {
	By string `json:"by,omitempty"`
	// Lost is a host that is dead for good: nothing of the VM runs there, nor
	// ever will again. It stands in for that host's own ABORTED or BACK.
	Lost string `json:"lost,omitempty"`
	// Keep is the host whose copy counts where both ran; the other is destroyed.
	Keep string `json:"keep,omitempty"`
}

func (w *Word) loses(node string) bool { return w != nil && w.Lost != "" && w.Lost == node }
func (w *Word) keeps(node string) bool { return w != nil && w.Keep != "" && w.Keep == node }

// Case is all that a resolution is decided on.
type Case struct {
	Job         Job       // with the epoch and attempt to be settled, and the person's word
	State       State     // of its record
	Driven      bool      // its source's worker is there and drives it
	Key         *Owner    // as read; nil: the store was lost, and has none
	Source      *Evidence // nil: that host does not answer
	Destination *Evidence
}

// Act is one thing to do about a case.
type Act string

const (
	ActNothing  Act = "nothing"  // it is under way, or over
	ActAsk      Act = "ask"      // nothing is safe without a host's answer or a person's word
	ActGone     Act = "gone"     // the only whole copy was on the host that is lost
	ActBar      Act = "bar"      // the abort's swap of the key, {S,e} to {S,e+1}
	ActHandOver Act = "handover" // the line: {S,e} to {D,e+1,attempt}
	ActGo       Act = "go"       // D promises GO and has the guest run
	ActAbort    Act = "abort"    // D promises ABORTED and destroys its copy
	ActBack     Act = "back"     // S promises BACK and has the guest run
	ActFinish   Act = "finish"   // D settles, S gives its copy up
	ActDiscard  Act = "discard"  // a copy that a person does not want is destroyed
	ActKey      Act = "key"      // the key follows the hosts (R11)
	ActEnd      Act = "end"      // the record becomes final and the claim comes off
)

// Resolution is the one safe act, and why.
type Resolution struct {
	Act   Act    `json:"act"`
	At    string `json:"at,omitempty"` // the host that acts; empty: key or record
	Why   string `json:"why"`
	Next  string `json:"next,omitempty"`  // of ActAsk and ActGone: what a person can do
	Risk  string `json:"risk,omitempty"`  // what a person's word may cost
	State State  `json:"state,omitempty"` // of ActEnd: what the record becomes
}

// Stops reports whether nothing follows this act.
func (r Resolution) Stops() bool {
	return slices.Contains([]Act{ActNothing, ActAsk, ActGone, ActEnd}, r.Act)
}

// Resolve names the one safe act.
func Resolve(c Case) Resolution {
	v := c.look()
	switch w := c.Job.Word; {
	case c.State.Final():
		return Resolution{Act: ActNothing, Why: fmt.Sprintf("the job has ended: %s", c.State)}
	case c.Driven && w == nil:
		return Resolution{Act: ActNothing, Why: fmt.Sprintf("the worker of %s is there and drives the job by the same rules", v.S)}
	case w != nil && w.Lost != "" && w.Lost != v.S && w.Lost != v.D:
		return ask("move it elsewhere", "%s has no part in this job, which goes from %s to %s", w.Lost, v.S, v.D)
	case v.s != nil && w.loses(v.S), v.d != nil && w.loses(v.D):
		return ask("resolve without --lost", "%s answers: it is not lost", w.Lost)
	case v.s == nil && v.d == nil:
		return ask("start `xmig node` on one of them", "neither %s nor %s answers", v.S, v.D)
	case w != nil && w.Keep != "":
		return v.keep()
	case v.sRuns && v.dRuns:
		return ask(fmt.Sprintf("look at both guests, then resolve with --keep %s or --keep %s: the other copy is destroyed, and what it wrote is lost", v.S, v.D),
			"the VM runs on both %s and %s, and both have written", v.S, v.D)
	case v.d == nil:
		return v.withoutDestination()
	case v.s == nil:
		return v.withoutSource()
	}
	return v.both()
}

func ask(next, why string, args ...any) Resolution {
	return Resolution{Act: ActAsk, Why: fmt.Sprintf(why, args...), Next: next}
}

// view is a case with what is asked of it again and again.
type view struct {
	Case
	S, D string
	e    uint64
	s, d *Evidence

	sRuns, sHeld    bool // S: a copy that runs; one that is paused or suspended
	dRuns, dPaused  bool
	dNone           bool
	committed, went bool // COMMITTING without BACK; GO without ABORTED
	aborted, whole  bool // whole: D's copy is ready to be let go
}

func (c Case) look() *view {
	v := &view{Case: c, S: c.Job.Source, D: c.Job.Destination, e: c.Job.Epoch, s: c.Source, d: c.Destination}
	if v.s != nil {
		v.sRuns, v.sHeld = v.s.has(VMRunning), v.s.has(VMPaused) || v.s.has(VMSuspended)
		v.committed = v.said(COMMITTING) && !v.said(BACK)
	}
	if v.d != nil {
		v.dRuns, v.dPaused, v.dNone = v.d.has(VMRunning) || v.d.has(VMSuspended), v.d.has(VMPaused), len(v.d.Domains) == 0
		v.aborted = v.heard(ABORTED)
		v.went = v.heard(GO) && !v.aborted
		v.whole = v.heard(READY) && !v.aborted && (v.dPaused && !v.dRuns || v.dNone && c.Job.Plan.Guest.State == VMHalted)
	}
	return v
}

func (e *Evidence) has(s VMState) bool {
	return slices.ContainsFunc(e.Domains, func(d Seen) bool { return d.State == s })
}

// said and heard are what S and D promised for this epoch.
func (v *view) said(f Fact) bool  { return v.s != nil && v.s.Journal.Has(f, v.e) }
func (v *view) heard(f Fact) bool { return v.d != nil && v.d.Journal.Has(f, v.e) }

// begun, handed and barred: what the key says of this attempt.
func (v *view) begun() bool  { return v.Key != nil && v.Key.Is(v.Job.begun()) }
func (v *view) handed() bool { return v.Key != nil && v.Key.Is(v.Job.handed()) }
func (v *view) barred() bool { return v.Key != nil && v.Key.Is(v.Job.aborted()) }

// both decides where both hosts answer.
func (v *view) both() Resolution {
	switch {
	case v.went && v.sRuns && v.dPaused && !v.heard(RUNNING):
		return v.at(ActAbort, "the guest runs on %s, and the copy that was given GO on %s never ran (R9)", v.S, v.D)
	case v.went && (v.sRuns || v.said(BACK)):
		return ask(v.choose(), "the guest was let go on %s, and %s went back: whichever ran last cannot be told", v.D, v.S)
	case v.went && !v.heard(RUNNING):
		return v.goes()
	case v.went:
		return v.forward()
	case v.dRuns:
		return ask(v.choose(), "a copy runs on %s although nobody let it go", v.D)
	case v.aborted, !v.committed, v.sRuns:
		return v.back()
	case v.whole && v.begun():
		return v.handOver()
	case v.whole && (v.handed() || v.said(RELEASED)):
		return v.goes()
	}
	return v.back()
}

func (v *view) choose() string {
	return fmt.Sprintf("look at both hosts, have the guest run on the one whose disks count, and resolve with --keep and that host's name (%s or %s)", v.S, v.D)
}

// withoutSource decides where S does not answer.
func (v *view) withoutSource() Resolution {
	lost := v.Job.Word.loses(v.S)
	switch {
	case v.went && !v.heard(RUNNING):
		return v.goes()
	case v.went && !lost && v.State == Running:
		return Resolution{Act: ActNothing, Why: fmt.Sprintf("the guest is %s's, and was seen running there; %s gives its copy up when its worker is back", v.D, v.S),
			Next: fmt.Sprintf("if %s is lost for good, resolve with --lost %s", v.S, v.S)}
	case v.went:
		return v.forward()
	case v.dRuns:
		return ask("find out what runs there", "a copy runs on %s although nobody let it go, and %s does not answer", v.D, v.S)
	case v.whole && v.handed():
		return v.goes() // the key was swapped behind COMMITTING only
	case lost && v.heard(READY) && !v.aborted && v.begun():
		return v.handOver()
	case lost && v.heard(READY) && !v.aborted:
		return v.goes()
	case lost:
		return v.gone("%s never had a whole copy that was kept", v.D)
	}
	return ask(fmt.Sprintf("start `xmig node` on %s; if that host is lost for good, resolve with --lost %s", v.S, v.S),
		"%s does not answer, and only it knows whether the guest runs there", v.S)
}

// withoutDestination decides where D does not answer.
func (v *view) withoutDestination() Resolution {
	lost := v.Job.Word.loses(v.D)
	switch {
	case v.said(DONE) && lost:
		return v.gone("the VM had moved there, and %s gave its copy up", v.S)
	case v.said(DONE), v.committed && v.said(RELEASED) && !lost, v.committed && v.handed() && !lost:
		return ask(fmt.Sprintf("start `xmig node` on %s; if that host is lost for good, resolve with --lost %s", v.D, v.D),
			"%s owns the VM and does not answer: the guest may run there", v.D)
	case v.committed && v.begun() && !lost:
		return Resolution{Act: ActBar, Why: fmt.Sprintf("%s does not answer; the swap keeps it from taking the guest over (R5b)", v.D)}
	case v.committed && !v.barred() && !lost:
		return ask(fmt.Sprintf("start `xmig node` on %s; if that host is lost for good, resolve with --lost %s", v.D, v.D),
			"%s committed, %s does not answer, and the owner key does not say whose the guest is", v.S, v.D)
	}
	return v.back()
}

// keep ends it in favour of the copy that a person chose.
func (v *view) keep() Resolution {
	w := v.Job.Word
	switch {
	case w.Keep != v.S && w.Keep != v.D:
		return ask("name one of its hosts", "%s has no part in this job, which goes from %s to %s", w.Keep, v.S, v.D)
	case v.s == nil || v.d == nil:
		return ask("start `xmig node` on both hosts, or resolve with --lost", "of %s and %s only one answers", v.S, v.D)
	case w.keeps(v.S) && (!v.sRuns || v.said(DONE)), w.keeps(v.D) && !v.dRuns:
		return ask("have the guest run on the host whose disks count, then resolve", "the guest does not run on %s", w.Keep)
	case w.keeps(v.D) && v.aborted:
		return ask(fmt.Sprintf("shut it down there, or resolve with --keep %s", v.S), "%s aborted this attempt, and nothing of it may run there any more (R8)", v.D)
	case w.keeps(v.D) && (v.sRuns || v.sHeld) && !v.said(DISCARDED):
		return v.word(ActDiscard, v.S, "%s chose the copy on %s", w.By, v.D)
	case w.keeps(v.D) && !v.heard(RUNNING):
		return v.word(ActGo, v.D, "%s chose the copy on %s", w.By, v.D)
	case w.keeps(v.D):
		return v.forward()
	case !v.aborted:
		return v.word(ActDiscard, v.D, "%s chose the copy on %s", w.By, v.S)
	}
	return v.back()
}

// at is an act of the rules at one end.
func (v *view) at(a Act, why string, args ...any) Resolution {
	at := v.D
	if a == ActBack {
		at = v.S
	}
	return Resolution{Act: a, At: at, Why: fmt.Sprintf(why, args...)}
}

// word is an act that only a person's word allows.
func (v *view) word(a Act, at, why string, args ...any) Resolution {
	risk := "what the other copy wrote since the hand-over is lost"
	if a != ActDiscard && v.Job.Word.loses(v.D) {
		risk = fmt.Sprintf("what the guest wrote on %s, if it ran there, is lost; should that host come back, keep it off the network until `xmig doctor` has looked at it", v.D)
	}
	if a != ActDiscard && v.Job.Word.loses(v.S) {
		risk = fmt.Sprintf("what the guest wrote on %s after the copy was sealed, if it ran on there, is lost; should that host come back, keep it off the network until `xmig doctor` has looked at it", v.S)
	}
	return Resolution{Act: a, At: at, Why: fmt.Sprintf(why, args...), Risk: risk}
}

func (v *view) handOver() Resolution {
	r := Resolution{Act: ActHandOver, Why: fmt.Sprintf("%s committed, and %s holds a whole copy (R7)", v.S, v.D)}
	if v.s == nil {
		r.Why = fmt.Sprintf("%s is lost, and %s holds a whole copy", v.S, v.D)
		r.Risk = v.word(ActGo, v.D, "").Risk
	}
	return r
}

// goes has D run the guest. What may be lost is told only where no rule but a
// person's word lets it go.
func (v *view) goes() Resolution {
	switch {
	case v.heard(GO) && v.dNone:
		return v.at(ActGo, "%s promised GO and no domain is there: whether it ran cannot be told, and its disks are the newest; it is booted from them (R9)", v.D)
	case v.heard(GO):
		return v.at(ActGo, "%s promised GO: it is carried out, and proven", v.D)
	case v.s == nil && !v.handed(), v.s == nil && !v.whole:
		return v.word(ActGo, v.D, "%s is lost, and %s holds what it sealed", v.S, v.D)
	case v.s == nil:
		return v.at(ActGo, "the owner key was swapped, so %s had committed: %s may let its copy go (R7)", v.S, v.D)
	}
	return v.at(ActGo, "%s committed, and the VM is %s's (R7)", v.S, v.D)
}

// forward is what follows a guest that D has.
func (v *view) forward() Resolution {
	switch {
	case v.Key != nil && v.Key.Node != v.D:
		return Resolution{Act: ActKey, Why: fmt.Sprintf("the guest is %s's, the owner key says %s (R11)", v.D, v.Key.Node)}
	case v.s != nil && (!v.said(DONE) || v.sHeld):
		return Resolution{Act: ActFinish, At: v.S, Why: fmt.Sprintf("the guest was seen running on %s: %s gives its copy up and keeps the disks as shadow (R13)", v.D, v.S)}
	}
	return Resolution{Act: ActEnd, State: Succeeded, Why: fmt.Sprintf("the VM is on %s", v.D)}
}

// back has the guest run at S.
func (v *view) back() Resolution {
	switch {
	case v.said(DONE):
		return ask("look at both hosts", "%s gave its copy up, and %s does not have the guest", v.S, v.D)
	case v.committed && v.d == nil && v.Job.Word.loses(v.D):
		return v.word(ActBack, v.S, "%s is lost, and %s still has its copy", v.D, v.S)
	case v.committed && !v.aborted && !v.mayByKey():
		return v.at(ActAbort, "only its ABORTED lets %s, which committed, have the guest run again (R5a)", v.S)
	case !v.said(BACK) && v.said(BEGIN), v.sHeld && !v.sRuns:
		return v.at(ActBack, "%s", v.mayBack())
	case v.heard(BEGIN) && !v.aborted, v.dPaused: // of this attempt, or left by an earlier one
		return v.at(ActAbort, "the guest is %s's; the copy here is not needed (R9)", v.S)
	case v.Key != nil && v.Key.Node != v.S:
		return Resolution{Act: ActKey, Why: fmt.Sprintf("the guest is %s's, the owner key says %s (R11)", v.S, v.Key.Node)}
	}
	return Resolution{Act: ActEnd, State: RolledBack, Why: fmt.Sprintf("the VM is on %s", v.S)}
}

// mayByKey: R5b, exactly.
func (v *view) mayByKey() bool { return v.barred() && !v.said(RELEASED) }

func (v *view) mayBack() string {
	switch {
	case v.aborted:
		return fmt.Sprintf("%s promised ABORTED: the guest runs on at %s (R5a)", v.D, v.S)
	case !v.said(COMMITTING):
		return fmt.Sprintf("%s never committed: it may have the guest run on at any time (R3)", v.S)
	case v.said(BACK):
		return fmt.Sprintf("%s promised BACK, and the guest does not run yet", v.S)
	}
	return "the abort's swap won the owner key (R5b)"
}

func (v *view) gone(why string, args ...any) Resolution {
	return Resolution{Act: ActGone, Why: fmt.Sprintf("the VM was lost with %s: ", v.Job.Word.Lost) + fmt.Sprintf(why, args...),
		Next: fmt.Sprintf("bring %s back, or restore the VM from a backup; what is left of its disks elsewhere is kept: `xmig shadow ls`, `xmig doctor`", v.Job.Word.Lost)}
}

// MayAbortByWord is R9 where a person has said that D was lost, or that the
// source's copy counts: what D promised is void then, but a copy that runs is
// ended by Discard alone.
func MayAbortByWord(d Journal, e uint64, copy CopySeen, destination string, w *Word) error {
	if w.loses(destination) && copy != CopyRuns {
		return nil
	}
	return MayAbort(d, e, copy)
}

// MayFinishByWord is R13 where a person has said that D's copy counts, or that
// S was lost, even if S went back.
func MayFinishByWord(s, d Journal, e uint64, destination string, w *Word) error {
	chosen := w.keeps(destination) || w != nil && w.Lost != "" && w.Lost != destination
	if chosen && d.Has(RUNNING, e) && !d.Has(ABORTED, e) {
		return nil
	}
	return MayFinish(s, d, e)
}

// Unsettled is the job as it is to be settled: the record may be older than
// the journals, which know the job's last attempt.
func (r *Record) Unsettled(journals ...Journal) Job {
	job := r.Job()
	for _, j := range journals {
		for _, p := range j {
			if e := j.epochOfJob(r.ID); p.Epoch == e && e > job.Epoch {
				job.Epoch, job.Attempt = e, p.Attempt
			}
		}
	}
	return job
}
