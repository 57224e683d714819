package jobs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// benches are the ways a VM moves; every fault is tried on each.
var benches = map[string]func() *bench{
	"live":    func() *bench { return newBench(Live) },
	"suspend": func() *bench { return newBench(Suspend) },
	"cold":    func() *bench { return newBench(Cold) },
	"halted":  halted,
}

// happyCalls is how many calls a move takes that nothing disturbs.
func happyCalls(t *testing.T, make func() *bench) int {
	t.Helper()
	b := make()
	rec := b.drive(t)
	b.check(t, rec)
	if rec.State != Succeeded || b.lives != 1 {
		t.Fatalf("%s in %d lives:\n%s", rec.State, b.lives, b.story())
	}
	return len(b.calls)
}

func TestHappyPath(t *testing.T) {
	for name, want := range map[string]string{
		"live": `bus.Save S.Promised
			Guard bus.Save S.Inspect D.Check bus.Save
			Guard bus.Save bus.Owner bus.Swap S.Begin D.Reserve bus.Save
			Guard bus.Save D.Prepare S.Connect bus.Save
			Guard bus.Save S.Pass.seed bus.Save
			Guard bus.Save S.Pass.delta bus.Save
			bus.Save D.Receive S.Stop bus.Save
			bus.Save S.Pass.final S.Drain S.Seal D.Ready bus.Save
			S.Commit bus.Swap bus.Save
			bus.Save S.Promised D.Go bus.Save
			bus.Save D.Settle S.Finish bus.Owner bus.Save
			bus.Save bus.Unclaim`,
		"suspend": `bus.Save S.Promised
			Guard bus.Save S.Inspect D.Check bus.Save
			Guard bus.Save bus.Owner bus.Swap S.Begin D.Reserve bus.Save
			Guard bus.Save D.Prepare S.Connect bus.Save
			Guard bus.Save S.Pass.seed bus.Save
			Guard bus.Save S.Pass.delta bus.Save
			bus.Save D.Receive S.Stop bus.Save
			bus.Save S.Pass.final S.Drain S.Seal D.Ready bus.Save
			S.Commit bus.Swap bus.Save
			bus.Save S.Promised D.Go bus.Save
			bus.Save D.Settle S.Finish bus.Owner bus.Save
			bus.Save bus.Unclaim`,
		"cold": `bus.Save S.Promised
			Guard bus.Save S.Inspect D.Check bus.Save
			Guard bus.Save bus.Owner bus.Swap S.Begin D.Reserve bus.Save
			Guard bus.Save D.Prepare S.Connect bus.Save
			Guard bus.Save S.Pass.seed bus.Save
			Guard bus.Save S.Pass.delta bus.Save
			bus.Save S.Stop bus.Save
			bus.Save S.Pass.final S.Drain S.Seal D.Ready bus.Save
			S.Commit bus.Swap bus.Save
			bus.Save S.Promised D.Go bus.Save
			bus.Save D.Settle S.Finish bus.Owner bus.Save
			bus.Save bus.Unclaim`,
		"halted": `bus.Save S.Promised
			Guard bus.Save S.Inspect D.Check bus.Save
			Guard bus.Save bus.Owner bus.Swap S.Begin D.Reserve bus.Save
			Guard bus.Save D.Prepare S.Connect bus.Save
			Guard bus.Save S.Pass.seed bus.Save
			Guard bus.Save bus.Save
			bus.Save S.Stop bus.Save
			bus.Save S.Pass.final S.Drain S.Seal D.Ready bus.Save
			S.Commit bus.Swap bus.Save
			bus.Save S.Promised D.Go bus.Save
			bus.Save D.Settle S.Finish bus.Owner bus.Save
			bus.Save bus.Unclaim`,
	} {
		t.Run(name, func(t *testing.T) {
			b := benches[name]()
			rec := b.drive(t)
			b.check(t, rec)
			if got, want := strings.Join(b.calls, " "), strings.Join(strings.Fields(want), " "); got != want {
				t.Errorf("calls\n%s\nwant\n%s", got, want)
			}
			checkReport(t, b, rec)
		})
	}
}

// checkReport: the record tells the story of a move that nothing disturbed.
func checkReport(t *testing.T, b *bench, rec Record) {
	t.Helper()
	if rec.State != Succeeded || rec.Attempt != 1 || rec.Epoch != 5 || rec.Failures != 0 || rec.Failure != nil || rec.Cancel != nil {
		t.Errorf("state %s, attempt %d, epoch %d, failures %d, failure %v", rec.State, rec.Attempt, rec.Epoch, rec.Failures, rec.Failure)
	}
	if !b.key.Is(Owner{VM: testVM, Node: dNode, Epoch: 6, Attempt: testJob + ".1"}) || b.key.Claim != "" {
		t.Errorf("key %+v", b.key)
	}
	var steps []StepName
	for _, s := range rec.Report.Steps {
		if s.Failed != "" || s.Attempt != 1 || s.Begin.IsZero() {
			t.Errorf("step %+v", s)
		}
		steps = append(steps, s.Step)
	}
	if !slices.Equal(steps, Steps()) {
		t.Errorf("steps %v", steps)
	}
	var kinds []PassKind
	for i, p := range rec.Report.Passes {
		if int(p.Number) != i+1 {
			t.Errorf("pass %d is numbered %d", i+1, p.Number)
		}
		kinds = append(kinds, p.Kind)
	}
	passes := []PassKind{SeedPass, DeltaPass, FinalPass}
	if b.off {
		passes = []PassKind{SeedPass, FinalPass}
	}
	if !slices.Equal(kinds, passes) {
		t.Errorf("passes %v", kinds)
	}
	if r := rec.Report; r.Wire != int64(len(passes))<<20 || r.DomID != 7 || r.Sealed.Run == b.off {
		t.Errorf("wire %d, domain %d, sealed %+v", r.Wire, r.DomID, r.Sealed)
	}
	r := rec.Report
	held := r.RanAt.Sub(r.StoppedAt)
	if !b.off && (r.Blackout != held || held <= 0 || held > 5*time.Second || r.Predicted <= 0) {
		t.Errorf("blackout %s, stopped to run %s, predicted %s", r.Blackout, held, r.Predicted)
	}
	if b.off && (r.Blackout != 0 || r.Predicted != 0 || !r.StoppedAt.IsZero()) {
		t.Errorf("a halted guest has a blackout of %s, predicted %s, stopped %s", r.Blackout, r.Predicted, r.StoppedAt)
	}
	if b.s.journal.Has(RELEASED, 5) {
		t.Error("released although the bus was there")
	}
}

// TestCrashAtEveryCall: a worker that dies at any call, before or after its
// effect, and one that takes the job up: the VM is moved all the same.
func TestCrashAtEveryCall(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for _, after := range []bool{false, true} {
				b := mk().crash(atCall(k), after)
				rec := b.drive(t)
				if rec.State != Succeeded {
					t.Errorf("%s, call %d (%s), after %v: %s: %+v", name, k, b.calls[k-1], after, rec.State, rec.Failure)
				}
				if b.check(t, rec); t.Failed() {
					t.Fatalf("%s, call %d (%s), after its effect: %v", name, k, b.calls[k-1], after)
				}
			}
		}
	}
}

// TestTwoCrashes: the worker that takes the job up dies as well, at any call.
// No failure but a guest that was held counts, so the job has attempts enough.
func TestTwoCrashes(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for next := 1 + k%2; next <= 40; next += 2 { // in all pairs of places, if not of calls
				after := next%4 < 2
				b := mk().crash(atCall(k), after).crash(atCall(k+next), !after)
				rec := b.drive(t)
				if rec.State != Succeeded {
					t.Errorf("%s, calls %d and %d: %s: %+v", name, k, k+next, rec.State, rec.Failure)
				}
				if b.check(t, rec); t.Failed() {
					t.Fatalf("%s, calls %d (%s) and %d (%s)", name, k, b.calls[k-1], k+next, b.calls[min(k+next, len(b.calls))-1])
				}
			}
		}
	}
}

// TestShutdownAtEveryCall: a worker that is stopped leaves no guest held that
// the rules let it resume, and the next one finishes the job.
func TestShutdownAtEveryCall(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			b := mk()
			b.meets(once(atCall(k)).does(func() { b.cancel(ErrShutdown) }))
			b.live()
			at := fmt.Sprintf("%s, call %d (%s)", name, k, b.calls[k-1])
			if mine := !b.s.journal.Has(COMMITTING, 5); mine && !b.off && b.s.guest != VMRunning {
				t.Errorf("%s: the guest is %q at S while no worker is there", at, b.s.guest)
			}
			rec := b.drive(t)
			if rec.State != Succeeded || rec.Failures > 0 {
				t.Errorf("%s: %s, %d failures: %+v", at, rec.State, rec.Failures, rec.Failure)
			}
			if b.check(t, rec); t.Failed() {
				t.Fatal(at)
			}
		}
	}
}

// TestCancelAtEveryCall: a cancel that comes before the line ends the job with
// the guest at S; behind it the job succeeds. Either way a crash changes nothing.
func TestCancelAtEveryCall(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for die := -1; die <= 16; die++ { // -1: not at all
				b := mk()
				crossed := false
				b.meets(once(atCall(k)).does(func() {
					crossed = b.key.Node == dNode
					b.cancel(fmt.Errorf("%w by ann", ErrCancelled))
				}))
				if die >= 0 {
					// The cancel is known for good once it is stored.
					b.meets(once(func(_ string, n int) bool { return n >= k+die && (b.record.Cancel != nil || crossed) }).says(errDead).does(b.kill))
				}
				rec := b.drive(t)
				at := fmt.Sprintf("%s, call %d (%s), died %d calls after", name, k, b.calls[k-1], die)
				// The swap under way when the cancel comes is not called back.
				late := crossed || b.calls[k-1] == "bus.Swap" && b.key.Node == dNode
				want := Cancelled
				if late {
					want = Succeeded
				}
				if rec.State != want {
					t.Errorf("%s: %s, want %s", at, rec.State, want)
				}
				if want == Cancelled && (rec.Cancel == nil || rec.Cancel.Reason == "" || rec.Failure == nil || rec.Failure.Code != CodeCancelled || !strings.Contains(rec.Failure.Text, "cancelled by ann")) {
					t.Errorf("%s: cancel %+v, failure %+v", at, rec.Cancel, rec.Failure)
				}
				if b.check(t, rec); t.Failed() {
					t.Fatal(at)
				}
			}
		}
	}
}
