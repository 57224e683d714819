package jobs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAttempts: attempts that held the guest and failed are followed by others,
// each in an epoch of its own, until there were enough. What the job made at D
// stays for the next one, and goes with the last.
func TestAttempts(t *testing.T) {
	for fails := 1; fails <= 4; fails++ {
		b := newBench(Suspend).meets(once(onVerb("S.Stop")).times(fails).later().says(RetryLater(CodeToolstack, "xl save: broken pipe")))
		kept := 0
		b.meets(always(onVerb("D.Check")).does(func() {
			if b.d.volumes {
				kept++
			}
		}))
		rec := b.drive(t)
		b.check(t, rec)
		tries := min(fails+1, 3)
		state, failures := Succeeded, fails
		if fails >= 3 {
			state, failures = RolledBack, 3
		}
		if rec.State != state || rec.Attempt != tries || rec.Failures != failures || b.lives != 1 {
			t.Errorf("%d fail: %s, attempt %d, %d failures, %d lives", fails, rec.State, rec.Attempt, rec.Failures, b.lives)
		}
		if kept != tries-1 {
			t.Errorf("%d fail: the volumes stayed for %d of %d attempts", fails, kept, tries-1)
		}
		if f := rec.Failure; f.Step != Stream || f.Class != Retry || f.Code != CodeToolstack || f.Text != "stream: xl save: broken pipe" || f.Attempt != failures || f.At.IsZero() {
			t.Errorf("%d fail: %+v", fails, f)
		}
		if n := len(slices.DeleteFunc(slices.Clone(b.s.journal), func(p Promise) bool { return p.Fact != BEGIN })); n != tries {
			t.Errorf("%d fail: %d epochs begun for %d attempts", fails, n, tries)
		}
	}
}

// TestFinalNeedsNoSecondAttempt: what will not get better is not tried again,
// and the record tells why with all that the ends said.
func TestFinalNeedsNoSecondAttempt(t *testing.T) {
	b := newBench(Suspend)
	b.s.blocked = []Blocker{{Host: sNode, Code: "mode", Text: "no"}}
	b.d.answer.Blockers = []Blocker{{Host: dNode, Disk: "xvda", Code: "space", Text: "vg0 is full", Next: "free 1 GiB"}}
	rec := b.drive(t)
	b.check(t, rec)
	f := rec.Failure
	if rec.State != FailedState || rec.Attempt != 1 || f.Code != CodeBlocked || f.Step != Check || len(f.Blockers) != 2 ||
		f.Text != "check: vm web01 cannot move: hv1: no; hv2: disk xvda: vg0 is full (free 1 GiB)" {
		t.Errorf("%s: %+v", rec.State, f)
	}
}

// TestPatience: errors that may get better are tried again while the guest
// runs, but not for ever, whichever step they come from.
func TestPatience(t *testing.T) {
	for _, verb := range []string{"S.Inspect", "D.Check", "S.Begin", "D.Reserve", "D.Prepare", "S.Connect", "S.Pass.seed", "S.Pass.delta"} {
		b := newBench(Suspend).meets(always(onVerb(verb)).says(RetryLater(CodeLane, "lane: reset")))
		begin := b.now
		rec := b.drive(t)
		b.check(t, rec)
		if rec.State != FailedState || rec.Failure.Code != CodeLane || !strings.HasSuffix(rec.Failure.Text, "gave up after 2m0s: "+string(rec.Failure.Step)+": lane: reset") {
			t.Errorf("%s: %s: %+v", verb, rec.State, rec.Failure)
		}
		if took := rec.Ended.Sub(begin); took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("%s: gave up after %s", verb, took)
		}
	}
}

// TestPatienceIsForStandingStill: a pass that takes hours is not held against
// the next error, nor is one that breaks now and then but comes on.
func TestPatienceIsForStandingStill(t *testing.T) {
	b := newBench(Suspend)
	b.meets(once(onVerb("S.Pass.seed")).times(10).does(func() { b.now = b.now.Add(3 * time.Hour) }).says(RetryLater(CodeLane, "lane: reset")))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Attempt != 1 {
		t.Errorf("a seed that breaks every three hours: %s: %+v", rec.State, rec.Failure)
	}

	b = newBench(Suspend)
	b.limits.Patience = 20 * time.Second
	b.s.guests.Memory = 1 << 40 // never fits: converge goes on as long as passes shrink
	b.s.guests.Disks[0].Size = 0
	rec = b.stored()
	rec.Spec.OnTimeout, rec.Spec.MaxDowntime = TimeoutHold, 10*time.Hour
	b.put(rec)
	good := true
	b.meets(once(onVerb("S.Pass.delta")).times(60).does(func() {
		if good = !good; good {
			b.faults[1].left = 1
		}
	}), once(onVerb("S.Pass.delta")).times(0).says(RetryLater(CodeLane, "lane: reset")))
	b.meets(once(onVerb("S.Stop")).does(func() { b.faults = nil }))
	rec = b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Attempt != 1 {
		t.Errorf("deltas of which every other breaks: %s: %+v", rec.State, rec.Failure)
	}
}

// TestCheckFailsAfterReserve: a later try starts at check again; what an
// earlier one reserved and made goes all the same.
func TestCheckFailsAfterReserve(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("S.Pass.seed")).says(RetryLater(CodeLane, "lane: reset")))
	b.meets(once(onVerb("S.Pass.seed")).does(func() { b.d.answer.Blockers = []Blocker{{Host: dNode, Code: "space", Text: "full now"}} }))
	b.faults[0], b.faults[1] = b.faults[1], b.faults[0]
	rec := b.drive(t)
	if b.check(t, rec); rec.State != FailedState || rec.Attempt != 1 || !b.d.journal.Has(ABORTED, 5) || !b.s.journal.Has(BACK, 5) || len(rec.Leftover) > 0 {
		t.Errorf("%s, attempt %d, leftover %v\n%s", rec.State, rec.Attempt, rec.Leftover, b.story())
	}
}

// TestNextAttemptIsBlocked: the second attempt ends before it has an epoch;
// what the first one kept at D for it goes all the same.
func TestNextAttemptIsBlocked(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("S.Stop")).later().says(RetryLater(CodeToolstack, "broken pipe")))
	b.meets(once(onVerb("S.Back")).does(func() { b.d.answer.Blockers = []Blocker{{Host: dNode, Code: "space", Text: "full now"}} }))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != RolledBack || rec.Attempt != 2 || len(rec.Leftover) > 0 || b.d.volumes {
		t.Errorf("%s, attempt %d, leftover %v, volumes %v", rec.State, rec.Attempt, rec.Leftover, b.d.volumes)
	}
}

// TestGoneIsNotRolledBack: a guest that was held once and then is not on its
// host any more runs nowhere again, and the record does not say so. That
// something else is not found says nothing about the guest.
func TestGoneIsNotRolledBack(t *testing.T) {
	for code, want := range map[Code]State{CodeGone: FailedState, CodeNotFound: RolledBack} {
		b := newBench(Suspend).meets(once(onVerb("S.Stop")).later().says(RetryLater(CodeToolstack, "broken pipe")))
		b.meets(once(onVerb("S.Back")).does(func() { b.meets(once(onVerb("S.Inspect")).says(Failed(code, "away"))) }))
		rec := b.drive(t)
		if rec.State != want || rec.Attempt != 2 || rec.Failure.Code != code {
			t.Errorf("%s: %s, attempt %d, %+v", code, rec.State, rec.Attempt, rec.Failure)
		}
	}
}

// TestBackIsTriedUntilItSucceeds: a held guest must run again, however long it takes.
func TestBackIsTriedUntilItSucceeds(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).says(Failed(CodeStorage, "it broke")), once(onVerb("S.Back")).times(100).says(RetryLater(CodeToolstack, "xl unpause: busy")))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != RolledBack || b.lives != 1 || len(rec.Leftover) > 0 {
		t.Errorf("%s in %d lives, leftover %v", rec.State, b.lives, rec.Leftover)
	}
}

// TestLeftover: a destination that does not let go is named, the claim comes
// off, and its own worker cleans up (check sweeps).
func TestLeftover(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).says(Failed(CodeStorage, "it broke")), always(onVerb("D.Abort")).says(errSilent))
	rec := b.drive(t)
	if rec.State != RolledBack || b.key.Claim != "" || !slices.Equal(rec.Leftover, []string{"reserve on hv2: hv2: no answer"}) || b.d.guest != VMPaused {
		t.Errorf("%s, claim %q, leftover %q, D %q", rec.State, b.key.Claim, rec.Leftover, b.d.guest)
	}
	b.check(t, rec)
}

// TestLeftoverIsTakenOver: what one attempt could not clean, the next one did.
func TestLeftoverIsTakenOver(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).says(RetryLater(CodeStorage, "it broke")), once(onVerb("D.Abort")).times(undoTries).says(errSilent))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Attempt != 2 || len(rec.Leftover) != 0 || !b.d.journal.Has(ABORTED, 5) {
		t.Errorf("%s, attempt %d, leftover %q", rec.State, rec.Attempt, rec.Leftover)
	}
}

// TestShutdownDoesNotCount: a job that was interrupted again and again has
// failed never.
func TestShutdownDoesNotCount(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).times(6).does(func() { b := 0; _ = b }))
	b.faults[0].then = func() { b.cancel(ErrShutdown) }
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Failures != 0 || rec.Attempt != 7 {
		t.Errorf("%s, attempt %d, %d failures", rec.State, rec.Attempt, rec.Failures)
	}
}

// TestShutdownWhileNothingWorks: a worker that is stopped ends, even where it
// would try for ever.
func TestShutdownWhileNothingWorks(t *testing.T) {
	for _, verb := range []string{"S.Back", "D.Go", "D.Settle", "S.Finish", "S.Promised", "bus.Save"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(Suspend).meets(always(onVerb(verb)).says(RetryLater(CodeToolstack, "no")))
			if verb == "S.Back" {
				b.meets(once(onVerb("D.Ready")).says(RetryLater(CodeLane, "lost")))
			}
			b.meets(once(func(call string, _ int) bool { return call == verb && b.sleeps > 20 }).does(func() {
				b.cancel(ErrShutdown)
				synctest.Wait() // the news has reached whoever waits for it
			}))
			b.faults[0], b.faults[len(b.faults)-1] = b.faults[len(b.faults)-1], b.faults[0]
			b.live()
			if b.sleeps < 20 || b.sleeps > 25 || b.err == nil || b.record.State.Final() {
				t.Errorf("%s: %d sleeps, ended with %v, %s", verb, b.sleeps, b.err, b.record.State)
			}
			b.faults = nil
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded {
				t.Errorf("%s: %s", verb, rec.State)
			}
		})
	}
}

// TestHoldDeadline: whatever a guest is held for, before COMMITTING it is not
// held longer than the budget; then the attempt goes back, and the next succeeds.
func TestHoldDeadline(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		verb string
	}{{Suspend, "D.Receive"}, {Suspend, "S.Stop"}, {Suspend, "S.Pass.final"}, {Suspend, "S.Seal"}, {Suspend, "D.Ready"}, {Cold, "S.Stop"}, {Cold, "D.Ready"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(c.mode).meets(once(onVerb(c.verb)).hanging())
			begin := time.Now()
			rec := b.drive(t)
			b.check(t, rec)
			const limit = 70 * time.Second // twice the budget of 5 s, and the margin of a minute
			if took := time.Since(begin); took < limit-2*time.Second || took > limit {
				t.Errorf("%s hangs: let go after %s", c.verb, took)
			}
			if f := rec.Failure; rec.State != Succeeded || rec.Attempt != 2 || f.Code != CodeDowntime || !strings.Contains(f.Text, "the guest was held longer than 1m10s") {
				t.Errorf("%s hangs: %s, attempt %d: %+v", c.verb, rec.State, rec.Attempt, f)
			}
		})
	}
}

// TestBusHangs: a bus that takes calls and does not answer holds no guest
// longer than a save in haste, or the swap's patience.
func TestBusHangs(t *testing.T) {
	for name, mk := range benches {
		u := mk()
		u.drive(t)
		stop, runs := slices.Index(u.calls, "S.Stop"), slices.Index(u.calls, "D.Go")
		hung := 0
		for i, call := range u.calls {
			if i < stop || i > runs || !strings.HasPrefix(call, "bus.") {
				continue
			}
			hung++
			synctest.Test(t, func(t *testing.T) {
				b := mk().meets(once(atCall(i + 1)).hanging())
				b.limits.SaveWait = 500 * time.Millisecond
				begin := time.Now()
				rec := b.drive(t)
				took, most := time.Since(begin), b.limits.SaveWait
				if call == "bus.Swap" {
					most = b.limits.BusPatience
				}
				if b.check(t, rec); rec.State != Succeeded || b.lives != 1 || took > most {
					t.Errorf("%s, call %d (%s): %s in %d lives after %s", name, i+1, call, rec.State, b.lives, took)
				}
			})
		}
		if hung < 4 {
			t.Errorf("%s: only %d calls to the bus while the guest is held", name, hung)
		}
	}
}

// TestShutdownWhileTheBusHangs: a worker that waits for the bus can be stopped.
func TestShutdownWhileTheBusHangs(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			synctest.Test(t, func(t *testing.T) {
				b := mk().meets(always(func(call string, n int) bool { return n >= k && strings.HasPrefix(call, "bus.") }).hanging())
				b.stop, b.limits.SaveWait = 20*time.Minute, time.Second // longer than everything that has an end
				begin := time.Now()
				b.live()
				if took := time.Since(begin); took > b.stop+5*time.Second {
					t.Errorf("%s, bus hangs from call %d on: stopped after %s", name, k, took)
				}
				b.faults = nil
				rec := b.drive(t)
				if b.check(t, rec); rec.State != Succeeded {
					t.Errorf("%s, bus hangs from call %d on: %s: %+v", name, k, rec.State, rec.Failure)
				}
			})
		}
	}
}

// TestSync: a device moves without any domain, through every crash and error.
func TestSync(t *testing.T) {
	b := syncBench()
	rec := b.drive(t)
	checkSync(t, b, rec, Succeeded)
	if got, want := strings.Join(b.calls, " "), "bus.Save Guard bus.Save S.Inspect D.Check bus.Save Guard bus.Save S.Begin D.Reserve bus.Save "+
		"Guard bus.Save D.Prepare S.Connect bus.Save Guard bus.Save S.Pass.final bus.Save Guard bus.Save D.Settle bus.Save bus.Save"; got != want {
		t.Errorf("calls\n%s\nwant\n%s", got, want)
	}
	if len(rec.Report.Passes) != 1 || rec.Report.Blackout != 0 || rec.HandedOver {
		t.Errorf("report %+v", rec.Report)
	}
	n := len(b.calls)
	for k := 1; k <= n; k++ {
		at := fmt.Sprintf("call %d (%s)", k, b.calls[k-1])
		for _, after := range []bool{false, true} {
			c := syncBench().crash(atCall(k), after)
			checkSync(t, c, c.drive(t), Succeeded)
			c = syncBench().meets(once(atCall(k)).when(after).says(RetryLater(CodeLane, "lost")))
			checkSync(t, c, c.drive(t), Succeeded)
			if t.Failed() {
				t.Fatal(at)
			}
		}
		c := syncBench()
		c.meets(once(atCall(k)).does(func() { c.cancel(fmt.Errorf("%w by ann", ErrCancelled)) }))
		rec := c.drive(t)
		want := Cancelled
		if rec.State == Succeeded && k > n-3 { // the device was settled already
			want = Succeeded
		}
		if checkSync(t, c, rec, want); t.Failed() {
			t.Fatal(at)
		}
		if strings.HasPrefix(b.calls[k-1], "D.") || strings.HasPrefix(b.calls[k-1], "S.") {
			c = syncBench().meets(once(atCall(k)).says(Failed(CodeStorage, "it broke")))
			if checkSync(t, c, c.drive(t), FailedState); t.Failed() {
				t.Fatal(at)
			}
		}
	}
}

func syncBench() *bench {
	b := newBench(Auto)
	b.s.guest, b.s.disk, b.key = "", 77, Owner{}
	b.s.guests = Guest{VM: VM{Disks: []Disk{{Name: "device", Path: "/dev/a", Size: 1 << 20}}}}
	rec := b.stored()
	rec.Spec = syncSpec(nil)
	b.put(rec)
	return b
}

func checkSync(t *testing.T, b *bench, rec Record, want State) {
	t.Helper()
	if rec.State != want || len(b.harms) > 0 || b.key != (Owner{}) || b.d.held || b.d.volumes || len(rec.Leftover) > 0 || want == Succeeded && b.d.disk != 77 {
		t.Errorf("%s, want %s; harms %v, held %v, volumes %v, leftover %v, disk %d\n%s", rec.State, want, b.harms, b.d.held, b.d.volumes, rec.Leftover, b.d.disk, b.story())
	}
}

// TestBackOnce: several steps of an attempt are taken back, each of which wants the
// guest to run on, and its host is asked for that once: it may have to wait for it.
func TestBackOnce(t *testing.T) {
	b := newBench(Suspend).meets(once(onVerb("D.Ready")).says(RetryLater(CodeStorage, "it broke")))
	rec := b.drive(t)
	if b.check(t, rec); rec.State != Succeeded || rec.Attempt != 2 {
		t.Fatalf("%s, attempt %d:\n%s", rec.State, rec.Attempt, b.story())
	}
	asked := 0
	for _, c := range b.calls {
		if strings.HasPrefix(fmt.Sprint(c), "S.Back") {
			asked++
		}
	}
	if told := strings.Count(strings.Join(b.events, "\n"), "is not held on"); asked != 1 || told != 1 {
		t.Errorf("the source was asked %d times to have its guest run on, and the story tells so %d times, want once each: %v %q", asked, told, b.calls, b.events)
	}
}
