package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"xmig/jobs"
)

func newRecord(id, node string) jobs.Record {
	return jobs.Record{ID: id, Source: node, Destination: "hv2", State: jobs.Queued, Attempt: 1, VM: jobs.VMRef{UUID: vm1, Name: "web01"}}
}

func TestRecords(t *testing.T) {
	b, ctx := testBus(t), testContext(t)
	r := b.Records()
	first := value[jobs.Record](t)(r.Create(ctx, newRecord(job, "hv1")))
	if _, err := r.Create(ctx, newRecord(job, "hv1")); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("created twice: %v", err)
	}
	value[jobs.Record](t)(r.Create(ctx, newRecord(jo2, "hv3")))

	second := first
	second.State = jobs.Planned
	second = value[jobs.Record](t)(r.Save(ctx, second))
	if second.Revision <= first.Revision {
		t.Errorf("revision %d after %d", second.Revision, first.Revision)
	}
	if _, err := r.Save(ctx, first); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("saved over a newer one: %v", err)
	}
	if got := value[jobs.Record](t)(r.Load(ctx, job)); got.State != jobs.Planned || got.Revision != second.Revision {
		t.Errorf("loaded %+v", got)
	}
	if got := value[jobs.Record](t)(r.Load(ctx, "01j0000000000000000000000b")); got.ID != jo2 || got.Source != "hv3" {
		t.Errorf("loaded %+v", got)
	}
	if _, err := r.Load(ctx, "01J0"); err == nil || jobs.CodeOf(err) != jobs.CodeUsage {
		t.Errorf("a prefix of two: %v", err)
	}
	for _, id := range []string{"01J0000000000000000000000C", "01K"} {
		if _, err := r.Load(ctx, id); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := r.Load(ctx, "*"); err == nil {
		t.Error("a wildcard was loaded")
	}
	if list := value[[]jobs.Record](t)(r.List(ctx)); len(list) != 2 || list[0].ID != job {
		t.Errorf("listed %+v", list)
	}
	if err := r.Prune(ctx, second); err == nil {
		t.Error("pruned a job that is not final")
	}
	second.State = jobs.Cancelled
	second = value[jobs.Record](t)(r.Save(ctx, second))
	must(t, r.Prune(ctx, second))
	if _, err := r.Load(ctx, job); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("pruned, yet %v", err)
	}
	value[jobs.Record](t)(r.Create(ctx, newRecord(job, "hv1"))) // a mark is no key
}

func TestRecordsWatch(t *testing.T) {
	b, ctx := testBus(t), testContext(t)
	r := b.Records()
	rec := value[jobs.Record](t)(r.Create(ctx, newRecord(job, "hv1")))
	ctx, cancel := context.WithCancel(ctx)
	seen := make(chan jobs.Record, 10)
	ended := make(chan error, 1)
	go func() { ended <- r.WatchOne(ctx, job, func(r jobs.Record) { seen <- r }) }()
	if got := <-seen; got.Revision != rec.Revision {
		t.Errorf("first seen %+v", got)
	}
	rec.Step = jobs.Seed
	rec = value[jobs.Record](t)(r.Save(ctx, rec))
	if got := <-seen; got.Step != jobs.Seed || got.Revision != rec.Revision {
		t.Errorf("then seen %+v", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestSwapUnknownOutcome cuts the connection around a compare-and-swap: after
// the server has it and before the client has its answer, and before either.
// The writer must report what really happened.
func TestSwapUnknownOutcome(t *testing.T) {
	s := testServer(t, "127.0.0.1")
	direct := testConnect(t, Config{InProcess: s})
	must(t, direct.Setup(testContext(t), Layout{Memory: InMemory}))

	for name, c := range map[string]struct {
		other    bool // somebody else writes while the first writer is cut off
		conflict bool
	}{
		"applied":              {},
		"applied, then theirs": {other: true, conflict: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			p := newProxy(t, s.ClientURL())
			b := testConnect(t, Config{URL: "nats://" + p.address()})
			id := map[bool]string{false: job, true: jo2}[c.other]
			rec := value[jobs.Record](t)(b.Records().Create(ctx, newRecord(id, "hv1")))

			p.set(func(p *proxy) { p.dropBack = true }) // no answer comes back from now on
			result := make(chan error, 1)
			rec.Step = jobs.Reserve
			go func() {
				got, err := b.Records().Save(ctx, rec)
				if err == nil && got.Revision <= rec.Revision {
					err = fmt.Errorf("revision %d", got.Revision)
				}
				result <- err
			}()
			var mine jobs.Record
			eventually(t, "the write arrives", func() bool {
				var err error
				mine, err = direct.Records().Load(ctx, id)
				return err == nil && mine.Step == jobs.Reserve
			})
			if c.other {
				mine.Step = jobs.Prepare
				value[jobs.Record](t)(direct.Records().Save(ctx, mine))
			}
			p.set(func(p *proxy) { p.dropBack = false })
			p.cut()
			err := <-result
			if c.conflict && !errors.Is(err, jobs.ErrConflict) || !c.conflict && err != nil {
				t.Errorf("the writer was told %v", err)
			}
		})
	}

	t.Run("nobody answers", func(t *testing.T) {
		p := newProxy(t, s.ClientURL())
		b := testConnect(t, Config{URL: "nats://" + p.address()})
		rec := value[jobs.Record](t)(direct.Records().Load(testContext(t), job))
		p.set(func(p *proxy) { p.refuse = true })
		p.cut()
		ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
		defer cancel()
		if _, err := b.Records().Save(ctx, rec); !errors.Is(err, jobs.ErrAway) || jobs.ClassOf(err) != jobs.Retry {
			t.Errorf("told %v", err)
		}
	})
}
