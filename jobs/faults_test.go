package jobs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// forwardVerbs are those that an attempt calls which nothing disturbs.
func forwardVerbs(t *testing.T, mk func() *bench) (verbs []string) {
	t.Helper()
	b := mk()
	b.drive(t)
	for _, c := range b.calls {
		if !slices.Contains(verbs, c) && c != "Guard" && !strings.HasPrefix(c, "bus.") {
			verbs = append(verbs, c)
		}
	}
	return verbs
}

// TestErrorAtEveryVerb: an error of each class at every verb of both ends,
// once and always, instead of the effect and after it.
func TestErrorAtEveryVerb(t *testing.T) {
	classes := map[Class]error{Retry: RetryLater(CodeToolstack, "it hiccuped"), Final: Failed(CodeStorage, "it broke"), Lost: NotOurs("another worker has it")}
	for name, mk := range benches {
		for _, verb := range forwardVerbs(t, mk) {
			for class, err := range classes {
				for _, after := range []bool{false, true} {
					for _, times := range []int{1, -1} {
						t.Run(fmt.Sprintf("%s/%s/%s after %v times %d", name, verb, class, after, times), func(t *testing.T) {
							b := mk().meets(once(onVerb(verb)).times(times).when(after).says(err))
							errorAtVerb(t, b, verb, class, times)
						})
					}
				}
			}
		}
	}
}

func errorAtVerb(t *testing.T, b *bench, verb string, class Class, times int) {
	if class == Lost {
		touchesNothing(t, b)
		b.faults = nil // whoever has the job now
	}
	rec := b.drive(t)
	b.check(t, rec)
	// Behind the line nothing turns back any more, a COMMITTING that is in the
	// journal counts, whatever Commit answered, and a source that does not tell
	// its journal is asked for ever: nothing can be decided without.
	forward := slices.Contains([]string{"D.Go", "D.Settle", "S.Finish"}, verb) || verb == "S.Promised" && class == Retry || verb == "S.Commit" && b.s.journal.Has(COMMITTING, 5)
	moves := forward || class == Lost || class == Retry && times > 0
	if moves != (rec.State == Succeeded) {
		t.Errorf("%s: %+v\n%s", rec.State, rec.Failure, b.story())
	}
}

// touchesNothing has a worker find that the job is not its own: it stops, and
// calls nothing more.
func touchesNothing(t *testing.T, b *bench) {
	t.Helper()
	var at int
	for _, f := range b.faults {
		f.does(func() { at = len(b.calls) })
	}
	rev := uint64(0)
	b.meets(always(anyCall).does(func() {
		if at == 0 {
			rev = b.record.Revision
		}
	}))
	b.live()
	if at == 0 {
		t.Fatalf("the fault never struck\n%s", b.story())
	}
	if ClassOf(b.err) != Lost || b.err == nil {
		t.Errorf("the worker ended with %v\n%s", b.err, b.story())
	}
	if n := len(b.calls) - at; n > 0 || b.record.Revision > rev+1 {
		t.Errorf("%d calls after the job was lost: %v", n, b.calls[at:])
	}
}

// TestLostLease: a worker whose lease went starts no step and touches nothing.
func TestLostLease(t *testing.T) {
	for k := range 6 { // the guard is asked before check, reserve, prepare, seed, converge
		n := 0
		b := newBench(Suspend).meets(once(func(c string, _ int) bool {
			if c == "Guard" {
				n++
			}
			return c == "Guard" && n == k+1
		}).says(NotOurs("hv3 has the lease")))
		if k == 5 {
			b.live()
			if n != 5 || b.record.State != Succeeded {
				t.Fatalf("the guard was asked %d times, %s: is it asked while the guest is held?", n, b.record.State)
			}
			continue
		}
		touchesNothing(t, b)
		b.check(t, b.drive(t))
	}
}

// TestRecordTakenAway: somebody else changed the record: the worker stops,
// whatever it holds, and the one that has the job decides by the journals.
func TestRecordTakenAway(t *testing.T) {
	n := happyCalls(t, benches["suspend"])
	for k := 1; k <= n; k++ {
		b := newBench(Suspend)
		b.meets(once(atCall(k)).does(func() { b.put(b.record) }))
		b.live()
		if b.record.State.Final() {
			continue // the last save came first
		}
		if ClassOf(b.err) != Lost {
			t.Errorf("call %d (%s): the worker ended with %v", k, b.calls[k-1], b.err)
		}
		if last := b.calls[len(b.calls)-1]; last != "bus.Save" {
			t.Errorf("call %d: after the record was lost: %s", k, last)
		}
		rec := b.drive(t)
		if b.check(t, rec); t.Failed() {
			t.Fatalf("call %d (%s)", k, b.calls[k-1])
		}
	}
}

// TestAnswerLost: every save is written and not answered, as when a bus goes
// away in the middle. The worker knows its own writing again.
func TestAnswerLost(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			b := mk().meets(once(atCall(k)).later().says(fmt.Errorf("lost: %w", ErrAway)))
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded || b.lives != 1 {
				t.Fatalf("%s, call %d (%s): %s in %d lives, %v\n%s", name, k, b.calls[k-1], rec.State, b.lives, b.err, b.story())
			}
		}
	}
}

// TestBusAway: the bus is away for a minute from any call on, while the hosts
// reach each other. The job goes on by itself, and no guest waits for the bus.
func TestBusAway(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		released := 0
		for k := 1; k <= n; k++ {
			b := mk()
			b.meets(once(atCall(k)).does(func() { b.away = b.now.Add(time.Minute) }))
			rec := b.drive(t)
			at := fmt.Sprintf("%s, call %d (%s)", name, k, b.calls[k-1])
			if rec.State != Succeeded || b.lives != 1 || rec.Failures > 0 {
				t.Errorf("%s: %s in %d lives, %d failures: %+v", at, rec.State, b.lives, rec.Failures, rec.Failure)
			}
			if held := rec.Report.Blackout; held > 5*time.Second {
				t.Errorf("%s: the guest was held for %s", at, held)
			}
			if b.s.journal.Has(RELEASED, rec.Epoch) {
				released++
			}
			if b.check(t, rec); t.Failed() {
				t.Fatal(at)
			}
		}
		if released == 0 {
			t.Errorf("%s: no move went by RELEASED", name)
		}
	}
}

// TestBusAwayAndCrash: the worker dies while the bus is away.
func TestBusAwayAndCrash(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for die := 0; die < 12; die += 2 {
				b := mk().crash(atCall(k+die), k%2 == 0)
				b.meets(once(atCall(k)).does(func() { b.away = b.now.Add(time.Minute) }))
				rec := b.drive(t)
				if b.check(t, rec); rec.State != Succeeded || t.Failed() {
					t.Fatalf("%s, bus away from call %d, death %d calls after: %s", name, k, die, rec.State)
				}
			}
		}
	}
}

// TestDestinationRestarts: D's worker is killed and started at any call: lane,
// writers and a restore that waits are lost; a whole copy stays.
func TestDestinationRestarts(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			b := mk()
			b.meets(once(atCall(k)).does(b.d.closeSession))
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded || b.lives != 1 || t.Failed() {
				t.Fatalf("%s, call %d (%s): %s in %d lives: %+v", name, k, b.calls[k-1], rec.State, b.lives, rec.Failure)
			}
		}
	}
}

// TestDestinationLosesItsCopy: it is found before GO, D aborts, and the next
// attempt moves the VM. The key comes home in between (R11).
func TestDestinationLosesItsCopy(t *testing.T) {
	for _, name := range []string{"suspend", "cold"} {
		n := happyCalls(t, benches[name])
		for k := 1; k <= n; k++ {
			b := benches[name]()
			b.meets(once(atCall(k)).does(func() {
				if b.d.guest == VMPaused {
					b.d.guest = ""
				}
			}))
			rec := b.drive(t)
			if b.check(t, rec); rec.State != Succeeded || b.lives != 1 || t.Failed() {
				t.Fatalf("%s, call %d (%s): %s in %d lives: %+v\n%s", name, k, b.calls[k-1], rec.State, b.lives, rec.Failure, b.story())
			}
		}
	}
}

// TestAnythingAnywhere: several of all these at once, at random calls.
func TestAnythingAnywhere(t *testing.T) {
	names := []string{"suspend", "cold", "halted"}
	rapid.Check(t, func(t *rapid.T) {
		b := benches[rapid.SampledFrom(names).Draw(t, "bench")]()
		cancelled := false
		for range rapid.IntRange(1, 6).Draw(t, "faults") {
			f := once(atCall(rapid.IntRange(1, 120).Draw(t, "call"))).when(rapid.Bool().Draw(t, "after"))
			switch what := rapid.SampledFrom([]string{"crash", "away", "retry", "final", "D restarts", "D silent", "cancel", "shutdown", "lost answer"}).Draw(t, "what"); what {
			case "crash":
				f.says(errDead).does(b.kill)
			case "away":
				f.does(func() { b.away = b.now.Add(time.Minute) })
			case "retry":
				f.says(RetryLater(CodeToolstack, "it hiccuped"))
			case "final":
				from := rapid.SampledFrom([]string{"S.Inspect", "D.Check", "D.Reserve", "D.Prepare", "S.Pass", "S.Stop", "D.Ready"}).Draw(t, "at")
				b.meets(once(inPart(from)).says(Failed(CodeStorage, "it broke")))
				continue
			case "D restarts":
				f.does(b.d.closeSession)
			case "D silent":
				f.does(func() { b.meets(once(inPart("D.")).times(5).says(fmt.Errorf("hv2: %w", ErrAway))) })
			case "cancel":
				cancelled = true
				f.does(func() { b.cancel(fmt.Errorf("%w by ann", ErrCancelled)) })
			case "shutdown":
				f.does(func() { b.cancel(ErrShutdown) })
			case "lost answer":
				f.later().says(fmt.Errorf("lost: %w", ErrAway))
			}
			b.meets(f)
		}
		rec := b.drive(t)
		if wrong := b.wrong(rec); len(wrong) > 0 {
			t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), b.story())
		}
		if rec.State == Cancelled && !cancelled {
			t.Fatal("cancelled by nobody")
		}
	})
}
