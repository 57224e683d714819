package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a coordinator on a real bus, with hosts that are only told of.
type world struct {
	*coordinator.Coordinator
	bus  *bus.Bus
	mu   sync.Mutex
	rung map[string]int
	// refuse names hosts that say no when they are asked.
	refuse map[string]bool
}

const (
	webUUID = "5eed0000-0000-4000-8000-000000000001"
	dbUUID  = "5eed0000-0000-4000-8000-000000000002"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := bus.StartServer(ctx, bus.ServerConfig{StoreDir: t.TempDir(), Sync: bus.SyncLazy, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err := bus.Connect(ctx, bus.Config{InProcess: s, Name: "test", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.Setup(ctx, bus.Layout{Replicas: 1, Memory: bus.InMemory}); err != nil {
		t.Fatal(err)
	}
	w := &world{bus: b, rung: map[string]int{}, refuse: map[string]bool{}}
	w.Coordinator = w.beside()
	return w
}

// beside is one more coordinator on the same bus.
func (w *world) beside() *coordinator.Coordinator {
	b := w.bus
	return &coordinator.Coordinator{
		Records: b.Records(), Claims: b.Owners(), Hosts: w, Nodes: workers{w}, Events: b, Name: "test",
		Marks: bus.NewTable[coordinator.Mark](b, "host"), Policies: bus.NewTable[coordinator.Policy](b, "vm"), Wishes: bus.NewTable[jobs.Wish](b, "job"),
		Limits: coordinator.DefaultLimits(), Clock: time.Now, Log: zerolog.Nop(),
		NewID:  func() string { return ulid.Make().String() },
		IDTime: func(id string) (time.Time, error) { p, err := ulid.Parse(id); return p.Timestamp(), err },
	}
}

func (w *world) Hosts(ctx context.Context) ([]jobs.Host, error) { return w.bus.Hosts(ctx) }

func (w *world) WatchHosts(ctx context.Context, tell func(string, *jobs.Host)) error {
	return w.bus.WatchHosts(ctx, func(c bus.HostChange) {
		if c.Gone {
			tell(c.Node, nil)
			return
		}
		tell(c.Node, &c.Host)
	})
}

// workers are what the coordinator asks of hosts.
type workers struct{ *world }

func (w workers) Ring(_ context.Context, r jobs.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rung[r.ID]++
	return nil
}

// Cancel is what a worker does when it is asked: it takes the job back.
func (w workers) Cancel(ctx context.Context, r jobs.Record, by string) error {
	rec, err := w.bus.Records().Load(ctx, r.ID)
	if err != nil {
		return err
	}
	rec.State, rec.Failure = jobs.Cancelled, &jobs.Failure{Text: "cancelled by " + by}
	if _, err = w.bus.Records().Save(ctx, rec); err != nil {
		return err
	}
	return w.bus.Owners().Unclaim(ctx, rec.VM.UUID, rec.ID)
}

func (w workers) Examine(_ context.Context, job jobs.Job) ([]jobs.Blocker, error) {
	if w.refuse[job.Destination] {
		return []jobs.Blocker{{Host: job.Destination, Code: "space", Text: "no space"}}, nil
	}
	return nil, nil
}

// announce makes a host known until the returned function is called.
func (w *world) announce(t *testing.T, node string, freeGiB int64, vms ...jobs.VM) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := jobs.Host{Node: node, Instance: node, Home: node, Xen: "4.17.7", FreeMemory: freeGiB << 30, VMs: vms, Started: time.Now()}
	p, err := w.bus.Announce(ctx, bus.Announcement{Every: time.Second, Snapshot: func() jobs.Host { return h }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	var once sync.Once
	leave = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(leave)
	return leave
}

func (w *world) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var run errgroup.Group
	run.Go(func() error { _ = w.Follow(ctx); return nil })
	run.Go(func() error { return w.lead(ctx) })
	t.Cleanup(func() { cancel(); _ = run.Wait() })
}

// lead takes the office and decides.
func (w *world) lead(ctx context.Context) error {
	o, err := w.bus.TakeOffice(ctx, "test")
	if err == nil {
		err = w.Lead(ctx, o)
	}
	return err
}

// await polls the record until it is as wanted.
func (w *world) await(t *testing.T, id, what string, ok func(jobs.Record) bool) jobs.Record {
	t.Helper()
	var last jobs.Record
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		rec, err := w.bus.Records().Load(t.Context(), id)
		if err == nil && ok(rec) {
			return rec
		}
		last = rec
	}
	t.Fatalf("job %s did not become %s: %+v", id, what, last)
	return last
}

func guest(name, uuid string) jobs.VM {
	return jobs.VM{VMRef: jobs.VMRef{Name: name, UUID: uuid}, State: jobs.VMRunning, Memory: 1 << 30, VCPUs: 1}
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 8, guest("web01", webUUID), guest("twin", dbUUID))
	w.announce(t, "hv2", 8, guest("twin", "5eed0000-0000-4000-8000-000000000003"))
	for _, tt := range []struct {
		spec jobs.Spec
		code jobs.Code
		want string
	}{
		{jobs.Spec{VM: "nobody", To: "hv2"}, jobs.CodeNotFound, "vm nobody: no host that is there has it"},
		{jobs.Spec{VM: "web01", From: "hv2"}, jobs.CodeNotFound, "vm web01: host hv2 does not have it"},
		{jobs.Spec{VM: "web01", To: "hv9"}, jobs.CodeNotFound, "host hv9 is not there"},
		{jobs.Spec{VM: "web01", To: "hv1"}, jobs.CodeUsage, "vm web01 is on hv1 already"},
		{jobs.Spec{VM: "web01", From: "hv1", To: "hv1"}, jobs.CodeUsage, "source and destination are the same host"},
		{jobs.Spec{VM: "twin"}, jobs.CodeConflict, "vm twin is on several hosts: hv1, hv2"},
		{jobs.Spec{}, jobs.CodeUsage, "no vm named"},
		{jobs.Spec{VM: "web01", To: "hv2", Mode: "teleport"}, jobs.CodeUsage, "teleport"},
	} {
		_, err := w.Submit(t.Context(), tt.spec)
		if jobs.CodeOf(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%+v: %v (%s), want %s with %q", tt.spec, err, jobs.CodeOf(err), tt.code, tt.want)
		}
	}
	if all, err := w.bus.Records().List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("what was refused left records: %v, %v", all, err)
	}
	if own, err := w.bus.Owners().Owner(t.Context(), webUUID); err == nil && own.Claim != "" {
		t.Errorf("what was refused left a claim: %+v", own)
	}
}

func TestOneMoverPerVM(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 8, guest("web01", webUUID))
	w.announce(t, "hv2", 8)
	rec, err := w.Submit(t.Context(), jobs.Spec{VM: "web01", To: "hv2"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Submit(t.Context(), jobs.Spec{VM: webUUID, To: "hv2", Mode: jobs.Suspend})
	if jobs.CodeOf(err) != jobs.CodeConflict || !strings.Contains(err.Error(), rec.ID) {
		t.Errorf("a second submission of another kind got %v, want a conflict that names job %s", err, rec.ID)
	}
	again, err := w.Submit(t.Context(), jobs.Spec{VM: webUUID, From: "hv1", To: "hv2", By: "another", Reason: "the answer was lost"})
	if err != nil || again.ID != rec.ID {
		t.Errorf("the same again got job %s, %v, want %s", again.ID, err, rec.ID)
	}
	ended, err := w.Cancel(t.Context(), rec.ID, "me")
	if err != nil || ended.State != jobs.Cancelled || ended.Failure.Text != "cancelled by me" {
		t.Fatalf("cancel: %+v, %v", ended, err)
	}
	if _, err := w.Cancel(t.Context(), rec.ID, "me"); jobs.CodeOf(err) != jobs.CodeConflict {
		t.Errorf("cancelled twice: %v", err)
	}
	if next, err := w.Submit(t.Context(), jobs.Spec{VM: "web01", To: "hv2"}); err != nil || next.ID == rec.ID {
		t.Errorf("after the cancel: job %s, %v", next.ID, err)
	}
}

// TestSubmittedManyTimesAtOnce: clients that ask for the same at the same moment,
// or again because an answer was late, make one job, and no answer names another.
func TestSubmittedManyTimesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 8, guest("web01", webUUID))
	w.announce(t, "hv2", 8)
	const clients = 12
	answers := make([]jobs.Record, clients)
	var g errgroup.Group
	for i := range clients {
		g.Go(func() error {
			for {
				rec, err := w.Submit(t.Context(), jobs.Spec{VM: "web01", To: "hv2", By: fmt.Sprint("client", i)})
				if err == nil {
					answers[i] = rec
					return nil
				}
				// The other's record comes behind its claim.
				if jobs.CodeOf(err) != jobs.CodeConflict || !strings.Contains(err.Error(), "is being submitted") {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, rec := range answers {
		if rec.ID != answers[0].ID {
			t.Errorf("client %d got job %s, client 0 %s", i, rec.ID, answers[0].ID)
		}
	}
	if all, err := w.bus.Records().List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d records, %v", len(all), err)
	}
}

// TestClaimsLeftBehind: a submission that died between claim and record, and a
// job that ended without taking its claim off, hold no VM for ever.
func TestClaimsLeftBehind(t *testing.T) {
	old := ulid.MustNew(ulid.Timestamp(time.Now().Add(-2*time.Minute)), ulid.DefaultEntropy()).String()
	for name, tt := range map[string]struct {
		holder string
		make   func(*testing.T, *world, string)
		want   jobs.Code // "": the new submission gets the VM
	}{
		"died long ago":  {old, func(*testing.T, *world, string) {}, ""},
		"may still come": {ulid.Make().String(), func(*testing.T, *world, string) {}, jobs.CodeConflict},
		"ended": {ulid.Make().String(), func(t *testing.T, w *world, id string) {
			if _, err := w.bus.Records().Create(t.Context(), jobs.Record{ID: id, Source: "hv1", State: jobs.Succeeded}); err != nil {
				t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.announce(t, "hv1", 8, guest("web01", webUUID))
			w.announce(t, "hv2", 8)
			if _, err := w.bus.Owners().Claim(t.Context(), jobs.VMRef{UUID: webUUID, Name: "web01"}, "hv1", tt.holder); err != nil {
				t.Fatal(err)
			}
			tt.make(t, w, tt.holder)
			rec, err := w.Submit(t.Context(), jobs.Spec{VM: "web01", To: "hv2"})
			if tt.want != "" {
				if jobs.CodeOf(err) != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			own, oerr := w.bus.Owners().Owner(t.Context(), webUUID)
			if err != nil || oerr != nil || own.Claim != rec.ID {
				t.Errorf("submit: %v; the claim is %q (%v), want %s", err, own.Claim, oerr, rec.ID)
			}
		})
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	w.Limits = coordinator.Limits{Out: 1, In: 1}
	w.announce(t, "hv1", 1, guest("web01", webUUID), guest("db01", dbUUID))
	w.announce(t, "hv2", 8)
	leave := w.announce(t, "hv3", 16)
	w.refuse["hv3"] = true
	w.start(t)

	// Placed: hv3 has more memory and refuses when asked.
	first, err := w.Submit(t.Context(), jobs.Spec{VM: "web01"})
	if err != nil {
		t.Fatal(err)
	}
	first = w.await(t, first.ID, "planned onto hv2", func(r jobs.Record) bool { return r.State == jobs.Planned && r.Destination == "hv2" })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		n := w.rung[first.ID]
		w.mu.Unlock()
		if n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody rang for a job that was handed over")
		}
	}

	// Held, with the reason, while the limit is reached; then started.
	second, err := w.Submit(t.Context(), jobs.Spec{VM: "db01", To: "hv3"})
	if err != nil {
		t.Fatal(err)
	}
	w.await(t, second.ID, "held by the limit", func(r jobs.Record) bool {
		return r.State == jobs.Queued && r.Held != nil && r.Held.Reason == "1 of 1 moves away from hv1 are under way"
	})
	leave()
	first.State = jobs.Running
	first, err = w.bus.Records().Save(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Cancel(t.Context(), first.ID, "me"); jobs.CodeOf(err) != jobs.CodeConflict {
		t.Errorf("a running job was cancelled here: %v", err)
	}
	first.State = jobs.Succeeded
	if _, err = w.bus.Records().Save(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.await(t, second.ID, "held by a lost host", func(r jobs.Record) bool { return r.Held != nil && r.Held.Reason == "host hv3 is not there" })
	w.announce(t, "hv3", 16)
	w.await(t, second.ID, "planned", func(r jobs.Record) bool { return r.State == jobs.Planned && r.Held == nil })

	lost := false
	for e, err := range w.bus.Events(t.Context(), bus.EventFilter{Host: "hv3"}) {
		if err != nil {
			t.Fatal(err)
		}
		lost = lost || e.What == "lost"
	}
	if !lost {
		t.Error("no event tells that hv3 was lost")
	}
}

// TestNowhereToGo: a VM that no host can take ends at once, with a reason for each.
func TestNowhereToGo(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 1, guest("web01", webUUID))
	w.announce(t, "hv2", 0)
	w.announce(t, "hv3", 16)
	w.refuse["hv3"] = true
	w.start(t)
	rec, err := w.Submit(t.Context(), jobs.Spec{VM: "web01"})
	if err != nil {
		t.Fatal(err)
	}
	rec = w.await(t, rec.ID, "failed", func(r jobs.Record) bool { return r.State == jobs.FailedState })
	if rec.Failure.Code != jobs.CodeBlocked || len(rec.Failure.Blockers) != 2 {
		t.Errorf("got %+v", rec.Failure)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if own, err := w.bus.Owners().Owner(t.Context(), webUUID); err == nil && own.Claim == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a job that failed keeps its claim")
		}
	}
}

// TestClaimTakenMeanwhile: a record that was written after its claim was taken
// for an orphan's never starts.
func TestClaimTakenMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 1, guest("web01", webUUID))
	w.announce(t, "hv2", 8)
	ref := jobs.VMRef{UUID: webUUID, Name: "web01"}
	if _, err := w.bus.Owners().Claim(t.Context(), ref, "hv1", ulid.Make().String()); err != nil {
		t.Fatal(err)
	}
	late, err := w.bus.Records().Create(t.Context(), jobs.Record{ID: ulid.Make().String(), Source: "hv1", Destination: "hv2", VM: ref,
		State: jobs.Queued, Spec: jobs.Spec{VM: "web01", To: "hv2"}.WithDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	w.start(t)
	rec := w.await(t, late.ID, "failed", func(r jobs.Record) bool { return r.State.Final() })
	if rec.State != jobs.FailedState || rec.Failure.Code != jobs.CodeConflict {
		t.Errorf("got %s, %+v", rec.State, rec.Failure)
	}
}

// TestSubmitWithoutBus: a bus that is away is said, and nothing hangs.
func TestSubmitWithoutBus(t *testing.T) {
	w := newWorld(t)
	w.announce(t, "hv1", 1, guest("web01", webUUID))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Submit(ctx, jobs.Spec{VM: "web01"}); !errors.Is(err, context.Canceled) && !errors.Is(err, jobs.ErrAway) {
		t.Errorf("got %v", err)
	}
}
