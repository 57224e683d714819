package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"xmig/jobs"
)

// TestOffice: what is written under an office that another took is refused by
// the store, though the record is as it was read; and a write of both is one.
func TestOffice(t *testing.T) {
	b := testBus(t)
	ctx := testContext(t)
	rec := value[jobs.Record](t)(b.Records().Create(ctx, jobs.Record{ID: ulid.Make().String(), Source: "hv1", State: jobs.Queued}))
	first := value[*Office](t)(b.TakeOffice(ctx, "a"))
	for i := range 3 {
		rec.Held = &jobs.Flag{Reason: string(rune('a' + i))}
		rec = value[jobs.Record](t)(first.Save(ctx, rec))
	}
	if all := value[[]jobs.Record](t)(first.List(ctx)); len(all) != 1 || all[0].Held.Reason != "c" || all[0].Revision != rec.Revision {
		t.Errorf("listed: %+v, want it as saved last: %+v", all, rec)
	}
	stale := rec
	stale.Revision--
	if _, err := first.Save(ctx, stale); !errors.Is(err, jobs.ErrConflict) || jobs.ClassOf(err) == jobs.Lost {
		t.Errorf("a record that changed since: %v, want a conflict and no loss of the office", err)
	}
	rec = value[jobs.Record](t)(first.Save(ctx, rec)) // the office goes on

	second := value[*Office](t)(b.TakeOffice(ctx, "b"))
	rec.Held = &jobs.Flag{Reason: "late"}
	if _, err := first.Save(ctx, rec); jobs.ClassOf(err) != jobs.Lost {
		t.Errorf("a write of the one before: %v, want class lost", err)
	}
	if now := value[jobs.Record](t)(b.Records().Load(ctx, rec.ID)); now.Held.Reason != "c" {
		t.Errorf("it was written all the same: %+v", now.Held)
	}
	saved := value[jobs.Record](t)(second.Save(ctx, rec))
	if now := value[jobs.Record](t)(b.Records().Load(ctx, rec.ID)); now.Held.Reason != "late" || now.Revision != saved.Revision {
		t.Errorf("stored: %+v, saved: %+v", now, saved)
	}
	// Nobody else has to know of the office: workers write their records as ever.
	saved.State = jobs.Planned
	value[jobs.Record](t)(b.Records().Save(ctx, saved))
}

// TestOfficeWithoutBus: an unknown outcome is said to be unknown.
func TestOfficeWithoutBus(t *testing.T) {
	b := testBus(t)
	rec := value[jobs.Record](t)(b.Records().Create(testContext(t), jobs.Record{ID: ulid.Make().String(), Source: "hv1", State: jobs.Queued}))
	o := value[*Office](t)(b.TakeOffice(testContext(t), "a"))
	ctx, cancel := context.WithTimeout(testContext(t), time.Nanosecond)
	defer cancel()
	if _, err := o.Save(ctx, rec); !errors.Is(err, jobs.ErrAway) {
		t.Errorf("got %v", err)
	}
	value[jobs.Record](t)(o.Save(testContext(t), rec))
}
