package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var errSilent = fmt.Errorf("hv2: %w", ErrAway)

// silence has D not answer from now on, for n calls.
func (b *bench) silence(n int) func() {
	return func() { b.meets(once(inPart("D.")).times(n).says(errSilent)) }
}

// order tells whether the first call of one verb came before that of another.
func (b *bench) order(first, then string) bool {
	i, k := slices.Index(b.calls, first), slices.Index(b.calls, then)
	return i >= 0 && k >= 0 && i < k
}

// TestSilentDestinationBeforeTheSwap: the worker dies between COMMITTING and
// the swap, and then D does not answer. The source does not give the VM to a
// dead host: the abort's swap bars the way, and the guest runs on (R5b).
func TestSilentDestinationBeforeTheSwap(t *testing.T) {
	for name, n := range map[string]int{"for some time": 10, "for good": -1} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Suspend)
			var key Owner
			var held time.Time
			aborted := false
			b.meets(once(onVerb("S.Commit")).later().says(errDead).does(func() { b.silence(n)(); b.kill() }))
			b.meets(once(onVerb("S.Back")).later().does(func() { key, held, aborted = b.key, b.now, b.d.journal.Has(ABORTED, 5) }))
			rec := b.drive(t)
			b.check(t, rec)
			if !key.Is(Owner{VM: testVM, Node: sNode, Epoch: 6, Attempt: "abort-of-5"}) || aborted {
				t.Errorf("went back with the key at %+v, D had aborted: %v", key, aborted)
			}
			if waited := held.Sub(rec.Report.Steps[6].Begin); waited > 20*time.Second {
				t.Errorf("the guest was held for %s", waited)
			}
			if want := map[bool]State{true: RolledBack, false: Succeeded}[n < 0]; rec.State != want {
				t.Errorf("%s, want %s\n%s", rec.State, want, b.story())
			}
		})
	}
}

// TestSilentDestinationBehindTheSwap: the key is D's. However long D is silent,
// the source never goes back on its own.
func TestSilentDestinationBehindTheSwap(t *testing.T) {
	for name, after := range map[string]bool{"the swap's answer is lost": false, "it is known": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Suspend)
			swaps := 0
			b.meets(once(func(c string, _ int) bool {
				if c == "bus.Swap" {
					swaps++
				}
				return c == "bus.Swap" && swaps == 2 // the first is the attempt's own
			}).later().does(b.silence(-1)).says(map[bool]error{false: fmt.Errorf("lost: %w", ErrAway)}[after]))
			b.live()
			if b.s.journal.Has(BACK, 5) || b.s.journal.Has(RELEASED, 5) || b.s.guest != VMPaused || b.key.Node != dNode || b.record.State != Running {
				t.Fatalf("S %s %v, key %s, %s", b.s.guest, b.s.journal, b.key.Node, b.record.State)
			}
			b.faults = nil // D is back
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded {
				t.Errorf("%s", rec.State)
			}
		})
	}
}

// TestNobodyAnswersAtTheLine: bus and D are away. The source gives no RELEASED
// that nobody hears, and goes on when one of them is back.
func TestNobodyAnswersAtTheLine(t *testing.T) {
	for name, back := range map[string]string{"D is back first": "D", "the bus is back first": "bus"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Suspend)
			b.meets(once(onVerb("S.Commit")).later().does(func() {
				b.away = b.now.Add(time.Hour)
				b.silence(-1)()
			}))
			b.live()
			if b.s.journal.Has(RELEASED, 5) || b.s.journal.Has(BACK, 5) || b.s.guest != VMPaused {
				t.Fatalf("S %s %v", b.s.guest, b.s.journal)
			}
			if b.away, b.faults = b.now, nil; back == "D" {
				b.away = b.now.Add(time.Minute)
			}
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded || b.s.journal.Has(RELEASED, 5) != (back == "D") {
				t.Errorf("%s, S %v", rec.State, b.s.journal)
			}
		})
	}
}

// TestAbortSwapBySomebody: whoever wanted it, the abort's swap that came first
// sends the source back at once, without a word of D.
func TestAbortSwapBySomebody(t *testing.T) {
	b := newBench(Suspend)
	b.meets(once(onVerb("S.Commit")).later().does(func() {
		b.key.Epoch, b.key.Attempt = 6, AbortAttempt(5)
	}))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != RolledBack || !b.order("S.Back", "D.Abort") {
		t.Errorf("%s\n%s", rec.State, b.story())
	}
}

// TestForeignKey: a key that neither swap wrote permits nothing: D must end the
// attempt (R5a), and if it is silent both copies stay paused until it speaks.
func TestForeignKey(t *testing.T) {
	for name, silent := range map[string]int{"D answers": 0, "D is silent first": 30} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Suspend)
			b.meets(once(onVerb("S.Commit")).later().does(func() {
				b.key.Epoch, b.key.Attempt = 9, ""
				b.silence(silent)()
			}))
			rec := b.drive(t)
			if b.check(t, rec); rec.State != RolledBack || !b.order("D.Abort", "S.Back") || !b.d.journal.Has(ABORTED, 5) {
				t.Errorf("%s\n%s", rec.State, b.story())
			}
		})
	}
}

// TestCommittedAndCancelled: a cancel that a crash left behind at COMMITTING is
// honoured as long as the key was not swapped.
func TestCommittedAndCancelled(t *testing.T) {
	for name, silent := range map[string]int{"D answers": 0, "D is silent": 20} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Suspend)
			b.meets(once(onVerb("S.Commit")).later().says(errDead).does(func() {
				b.silence(silent)()
				rec := b.record
				rec.Cancel = &Flag{Reason: "cancelled by ann", Since: b.now}
				b.put(rec)
				b.kill()
			}))
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Cancelled || !b.s.journal.Has(COMMITTING, 5) {
				t.Errorf("%s\n%s", rec.State, b.story())
			}
		})
	}
}

// TestReleasedAndAborted: D lost its copy after the source released the VM:
// D's ABORTED sends it back all the same (H3).
func TestReleasedAndAborted(t *testing.T) {
	b := newBench(Suspend)
	b.meets(once(onVerb("S.Commit")).later().does(func() { b.away = b.now.Add(time.Minute) }))
	b.meets(once(onVerb("S.Release")).later().does(func() { b.d.guest = "" }))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Attempt != 2 || !b.s.journal.Has(RELEASED, 5) || !b.s.journal.Has(BACK, 5) {
		t.Errorf("%s\n%s", rec.State, b.story())
	}
}

// TestKeyComesHome: D loses its copy behind the swap, in every attempt. The
// guest ends at S, and so does the key, or nobody could move the VM again (H11).
func TestKeyComesHome(t *testing.T) {
	for _, away := range []bool{false, true} {
		b := newBench(Suspend)
		b.meets(always(onVerb("D.Go")).does(func() {
			if b.d.guest = ""; away {
				b.away = b.now.Add(time.Minute)
			}
		}))
		rec := b.drive(t)
		if b.check(t, rec); rec.State != RolledBack || rec.Attempt != 3 || b.lives != 1 || b.key.Attempt != "" {
			t.Errorf("%s, attempt %d, key %+v", rec.State, rec.Attempt, b.key)
		}
	}
}

// TestWentByReleasedAndRepaired: D went by RELEASED, and its key was repaired
// (R11) before the source's worker was back: D has the guest, so forward.
func TestWentByReleasedAndRepaired(t *testing.T) {
	b := newBench(Suspend).crash(onVerb("D.Go"), true)
	b.meets(once(onVerb("S.Commit")).later().does(func() { b.away = b.now.Add(time.Minute) }))
	b.live()
	b.away = b.now
	to, ok := Repair(b.key, sNode, dNode, b.s.journal, b.d.journal, false)
	if b.key = to; !ok || b.d.guest != VMRunning {
		t.Fatalf("%v\n%s", ok, b.story())
	}
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded {
		t.Errorf("%s\n%s", rec.State, b.story())
	}
}

// TestGoneAfterGo: GO was given and no domain is there: nobody can tell whether
// it ran, so nobody runs, loudly. The claim stays until somebody resolves it.
func TestGoneAfterGo(t *testing.T) {
	b := newBench(Suspend)
	b.meets(once(onVerb("D.Go")).does(func() {
		b.d.say(b.record.Job(), GO)
		b.d.guest = ""
	}))
	rec := b.drive(t)
	if rec.State != Indeterminate || rec.Failure == nil || !strings.Contains(rec.Failure.Text, "no domain is there") || b.lives != 1 {
		t.Errorf("%s in %d lives: %+v", rec.State, b.lives, rec.Failure)
	}
	if b.s.guest != VMPaused || b.d.guest != "" || b.key.Claim != testJob || b.key.Node != dNode {
		t.Errorf("S %q, D %q, key %+v", b.s.guest, b.d.guest, b.key)
	}
}

// TestTwoCopies: somebody let the source's copy run after the hand-over. Neither
// is touched, and the job says at once that a person must look.
func TestTwoCopies(t *testing.T) {
	b := newBench(Suspend)
	b.meets(once(onVerb("S.Finish")).times(-1).does(func() { b.s.guest = VMRunning }).says(Failed(CodeTwoCopies, "vm web01 runs on hv1 although hv2 owns it")))
	rec := b.drive(t)
	if rec.State != Indeterminate || rec.Failure == nil || rec.Failure.Code != CodeTwoCopies || b.lives != 1 {
		t.Errorf("%s in %d lives: %+v", rec.State, b.lives, rec.Failure)
	}
	if b.s.guest != VMRunning || b.d.guest != VMRunning || b.key.Claim != testJob {
		t.Errorf("S %q, D %q, key %+v", b.s.guest, b.d.guest, b.key)
	}
}

// TestRanAfterGo: D's answer to Go was an error for good, but its journal says
// that the guest runs there.
func TestRanAfterGo(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Go")).later().says(Failed(CodeInternal, "the journal's disk is full")))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded {
		t.Errorf("%s: %+v", rec.State, rec.Failure)
	}
}

// TestUnreadableJournal: a source that cannot read its own promises decides
// nothing: before anything was promised the job fails, later nobody can tell.
func TestUnreadableJournal(t *testing.T) {
	broken := Failed(CodeInternal, "journal of vm web01 on hv1: damaged at line 3")
	b := newBench(Suspend).meets(always(onVerb("S.Promised")).says(broken))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != FailedState || b.lives != 1 {
		t.Errorf("%s: %+v", rec.State, rec.Failure)
	}
	b = newBench(Suspend).crash(onVerb("S.Seal"), true)
	b.live()
	b.meets(always(onVerb("S.Promised")).says(broken))
	rec = b.drive(t)
	if rec.State != Indeterminate || !strings.Contains(rec.Failure.Text, "damaged at line 3") || b.s.guest != VMPaused || b.d.guest != VMPaused {
		t.Errorf("%s: %+v", rec.State, rec.Failure)
	}
}

// TestCommittedAfterAll: a source whose journal forbids the way back makes
// nobody run: the record says that nobody can tell, and why.
func TestCommittedAfterAll(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).says(RetryLater(CodeLane, "lost")))
	b.meets(once(onVerb("S.Back")).does(func() { b.s.say(b.record.Job(), COMMITTING) })) // another worker's, say
	rec := b.drive(t)
	if rec.State != Indeterminate || !strings.Contains(rec.Failure.Text, "rule R5 forbids BACK") || b.s.guest != VMPaused {
		t.Errorf("%s: %+v", rec.State, rec.Failure)
	}
	if !errors.Is(rec.To(RolledBack), nil) {
		t.Error("resolve cannot end it")
	}
}
