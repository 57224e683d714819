package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"xmig/jobs"
)

// TestDeadBell: a doorbell that nobody ever answered is given up and seen; it
// rings again when it is revived, and only then.
func TestDeadBell(t *testing.T) {
	b, ctx := testBus(t), testContext(t)
	rec := jobs.Record{ID: job, Source: "hv1", VM: jobs.VMRef{UUID: vm1}, Attempt: 1}
	q := value[*Queue](t)(b.Queue(ctx, "hv1", QueueConfig{AckWait: 50 * time.Millisecond}))
	must(t, b.Ring(ctx, rec))
	must(t, b.Ring(ctx, jobs.Record{ID: jo2, Source: "hv1", VM: jobs.VMRef{UUID: vm2}, Attempt: 1}))
	if dead := value[map[string]DeadBell](t)(b.DeadBells(ctx)); len(dead) != 0 {
		t.Fatalf("dead before it rang: %+v", dead)
	}
	if err := b.Revive(ctx, rec); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("reviving what lives: %v", err)
	}
	for rang := 0; rang < maxDeliver; {
		d := value[*Delivery](t)(q.Next(ctx))
		if d.Job != job {
			must(t, d.Done(ctx))
			continue
		}
		rang++
		must(t, d.Later(ctx, time.Millisecond))
	}
	silent := func() {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if d, err := q.Next(short); err == nil {
			t.Fatalf("job %s rings", d.Job)
		}
	}
	silent()
	eventually(t, "it is seen", func() bool { return len(value[map[string]DeadBell](t)(b.DeadBells(ctx))) == 1 })
	if d := value[map[string]DeadBell](t)(b.DeadBells(ctx))[job]; d.Tries != maxDeliver || d.At.IsZero() {
		t.Errorf("seen as %+v", d)
	}
	must(t, b.Ring(ctx, rec)) // what the coordinator does: its place is taken by itself
	silent()
	must(t, b.Revive(ctx, rec))
	if d := value[*Delivery](t)(q.Next(ctx)); d.Job != job || d.Tries != 1 {
		t.Errorf("%+v rings", d)
	} else {
		must(t, d.Done(ctx))
	}
	if dead := value[map[string]DeadBell](t)(b.DeadBells(ctx)); len(dead) != 0 {
		t.Errorf("dead after its revival: %+v", dead)
	}
}
