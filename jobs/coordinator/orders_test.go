package coordinator_test

import (
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
)

// TestOrders: what is ordered about a host is written down, once, whoever asks.
func TestOrders(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 1, guest("web01", webUUID))
	w.announce(t, "hv2", 8)
	ctx := t.Context()
	refused := func(what string, err error, code jobs.Code, text string) {
		t.Helper()
		if jobs.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v (%s), want %s with %q", what, err, jobs.CodeOf(err), code, text)
		}
	}
	_, err := w.Cordon(ctx, "hv9", "me", "")
	refused("cordon of nobody", err, jobs.CodeNotFound, "host hv9 is not there")
	_, err = w.Drain(ctx, coordinator.DrainRequest{Host: "hv1", After: "hv1"})
	refused("drain after itself", err, jobs.CodeUsage, "cannot wait for itself")
	if m, err := w.Cordon(ctx, "hv2", "me", "noise"); err != nil || m.Bars() != "hv2 was cordoned by me: noise" {
		t.Errorf("cordon: %q, %v", m.Bars(), err)
	}
	if m, err := w.Uncordon(ctx, "hv2", "me"); err != nil || m.Bars() != "" {
		t.Errorf("uncordon: %q, %v", m.Bars(), err)
	}
	first, err := w.Drain(ctx, coordinator.DrainRequest{Host: "hv1", By: "me"})
	if err != nil || first.Attached {
		t.Fatalf("drain: %+v, %v", first, err)
	}
	again, err := w.Drain(ctx, coordinator.DrainRequest{Host: "hv1", By: "you"})
	if err != nil || !again.Attached || again.Mark.Drain.ID != first.Mark.Drain.ID {
		t.Errorf("asked twice: %+v, %v", again, err)
	}
	_, err = w.Drain(ctx, coordinator.DrainRequest{Host: "hv1", By: "you", Kind: coordinator.Homing})
	refused("restore of a host that is being drained", err, jobs.CodeConflict, "a drain by me is under way")
	_, err = w.Uncordon(ctx, "hv1", "you")
	refused("uncordon of it", err, jobs.CodeConflict, "is being drained by me")
	if m, err := w.CancelDrain(ctx, "hv1", coordinator.Emptying, "you"); err != nil || m.Drain.State != coordinator.DrainCancelled || m.Bars() != "" {
		t.Errorf("cancel: %+v, %v", m, err)
	}
	_, err = w.CancelDrain(ctx, "hv1", coordinator.Emptying, "you")
	refused("cancelled twice", err, jobs.CodeNotFound, "no drain is under way")
}

// TestDrainMakesItsJobsOnce: the drain's job has the id that was written down
// before it was made, and two coordinators that lead one after the other make one.
func TestDrainMakesItsJobsOnce(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 1, guest("web01", webUUID))
	w.announce(t, "hv2", 8)
	if _, err := w.Drain(t.Context(), coordinator.DrainRequest{Host: "hv1", By: "me"}); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	(&world{Coordinator: w.beside(), bus: w.bus, rung: map[string]int{}, refuse: w.refuse}).start(t) // takes the office from the first
	var made []jobs.Record
	for deadline := time.Now().Add(30 * time.Second); len(made) == 0 || made[0].State == jobs.Queued; time.Sleep(20 * time.Millisecond) {
		var err error
		if made, err = w.bus.Records().List(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", made, err)
		}
	}
	row, err := w.Marks.Load(t.Context(), "hv1")
	if err != nil || len(made) != 1 || made[0].Destination != "hv2" || len(row.Value.Drain.Moves) != 1 || row.Value.Drain.Moves[0].Job != made[0].ID || made[0].Spec.Priority != 100 {
		t.Errorf("jobs %+v\nmark %+v, %v", made, row.Value.Drain, err)
	}
}
