package bus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"xmig/jobs"
)

func guestVM(n, version int) jobs.VM {
	return jobs.VM{VMRef: jobs.VMRef{UUID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", n), Name: fmt.Sprintf("vm%d", n)}, State: jobs.VMRunning, Type: "pvh",
		Memory: int64(version) << 30, Disks: []jobs.Disk{{Name: "xvda", Path: fmt.Sprintf("/dev/vg0/vm%d", n), Size: 20 << 30}}, Bridges: []string{"xenbr0"}}
}

// TestDelta: whatever a host had and has, its delta brings one to the other
// exactly, order and twins included, also over the wire.
func TestDelta(t *testing.T) {
	list := rapid.Custom(func(t *rapid.T) []jobs.VM {
		var out []jobs.VM
		for range rapid.IntRange(0, 12).Draw(t, "vms") {
			out = append(out, guestVM(rapid.IntRange(0, 8).Draw(t, "vm"), rapid.IntRange(0, 2).Draw(t, "version")))
		}
		return out
	})
	host := rapid.Custom(func(t *rapid.T) jobs.Host {
		h := jobs.Host{Node: "hv1", Instance: "a", VMs: list.Draw(t, "list"), FreeMemory: rapid.Int64Range(0, 9).Draw(t, "free"),
			Problem: rapid.SampledFrom([]string{"", "xl hangs"}).Draw(t, "problem"), Seen: time.Unix(rapid.Int64Range(1, 9).Draw(t, "seen"), 0)}
		for i := range rapid.IntRange(0, 3).Draw(t, "shadows") {
			h.Shadows = append(h.Shadows, jobs.Shadow{VM: vm1, Disk: fmt.Sprint(i), Size: rapid.Int64Range(0, 2).Draw(t, "size")})
		}
		return h
	})
	rapid.Check(t, func(t *rapid.T) {
		base, now := host.Draw(t, "base"), host.Draw(t, "now")
		wire, err := Encode(deltaOf(base, now))
		if err != nil {
			t.Fatal(err)
		}
		var d hostDelta
		if err := Decode(wire, &d); err != nil {
			t.Fatal(err)
		}
		got, err := d.apply(base)
		if err != nil || !reflect.DeepEqual(got, now) {
			t.Fatalf("made %+v of a delta, want %+v: %v", got, now, err)
		}
	})
}

// TestDeltaOfNobody: a delta that does not fit is refused, wherever it comes from.
func TestDeltaOfNobody(t *testing.T) {
	base := []jobs.VM{guestVM(1, 1), guestVM(2, 1)}
	for _, r := range []run{{0, 3}, {2, 1}, {-2, 1}, {-1, 2}, {0, 0}, {1, -1}, {1 << 62, 1 << 62}} {
		e := edit[jobs.VM]{Runs: []run{r}, New: base[:1]}
		if got, err := e.apply(base); !errors.Is(err, errCodec) {
			t.Errorf("run %+v: %d elements, %v", r, len(got), err)
		}
	}
}

// teller is a node whose inventory a test changes, with what its bucket's keys cost.
type teller struct {
	t   *testing.T
	b   *Bus
	p   *Presence
	ctx context.Context

	mu    sync.Mutex
	host  jobs.Host
	bytes map[string][]int // by subject: the size of each message
}

func newTeller(t *testing.T, vms int, every time.Duration) *teller {
	w := &teller{t: t, b: testBus(t), bytes: map[string][]int{}, host: jobs.Host{Node: "hv1", Instance: "a", Home: "h", Hostname: "hv1.example.net"}}
	for i := range vms {
		w.host.VMs = append(w.host.VMs, guestVM(i, 1))
	}
	sub := value[*nats.Subscription](t)(w.b.nc.Subscribe("$KV.>", func(m *nats.Msg) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.bytes[m.Subject] = append(w.bytes[m.Subject], m.Size())
	}))
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	w.p = value[*Presence](t)(w.b.Announce(testContext(t), Announcement{Every: every, Snapshot: w.snapshot}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.p.Run(ctx) }()
	t.Cleanup(func() { stop(); must(t, <-done) })
	w.ctx = testContext(t)
	return w
}

func (w *teller) snapshot() jobs.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.host
	h.VMs = append([]jobs.VM(nil), h.VMs...)
	return h
}

// change changes the host and has it told.
func (w *teller) change(f func(*jobs.Host)) {
	w.mu.Lock()
	f(&w.host)
	w.mu.Unlock()
	w.p.Now(w.ctx)
}

func (w *teller) sizes(bucket string) []int {
	must(w.t, w.b.nc.Flush())
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int(nil), w.bytes["$KV.xmig_"+bucket+".hv1"]...)
}

// same holds what the bus tells of the host against what the host is.
func (w *teller) same(got jobs.Host) error {
	want := w.snapshot()
	got.Seen, got.Started = want.Seen, want.Started
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("told of %+v, want %+v", got, want)
	}
	return nil
}

func (w *teller) seen() {
	w.t.Helper()
	hosts := value[[]jobs.Host](w.t)(w.b.Hosts(w.ctx))
	if len(hosts) != 1 {
		w.t.Fatalf("%d hosts are seen", len(hosts))
	}
	must(w.t, w.same(hosts[0]))
}

// TestHeartbeatIsSmall: 50 VMs are told once; then what changed, again until
// that costs as much as telling all.
func TestHeartbeatIsSmall(t *testing.T) {
	w := newTeller(t, 50, time.Hour)
	for range 10 {
		w.change(func(h *jobs.Host) { h.FreeMemory++ })
		w.seen()
	}
	beats, whole := w.sizes("nodes"), w.sizes("inventory")
	if len(whole) != 1 || whole[0] < 20*beats[1] {
		t.Fatalf("inventories of %v bytes, heartbeats of %v", whole, beats)
	}
	t.Logf("an inventory of 50 VMs is %d bytes, a heartbeat with nothing new %d", whole[0], beats[len(beats)-1])
	for i := range 40 {
		w.change(func(h *jobs.Host) { h.VMs[i].Memory++ })
		w.seen()
	}
	total := 0
	for _, n := range w.sizes("nodes")[len(beats):] {
		total += n
	}
	again := w.sizes("inventory")[1:]
	for _, n := range again {
		total += n
	}
	if len(again) == 0 || total > 20*whole[0] { // 40 times all is what it replaces
		t.Errorf("40 changes of one VM each cost %d bytes with %d inventories; all is %d", total, len(again), whole[0])
	}
	t.Logf("40 changes of one VM each cost %d bytes, %d inventories among them", total, len(again))
}

// TestHeartbeatIsLost: whoever misses any of them knows all by the next.
func TestHeartbeatIsLost(t *testing.T) {
	w := newTeller(t, 5, time.Hour)
	late := w.b.inventories() // a reader that knows of nothing
	for i := range 5 {
		w.change(func(h *jobs.Host) { h.VMs[i].State = jobs.VMHalted })
		if i%2 == 0 {
			continue // this one it never sees
		}
		e := value[entry](t)(w.p.k.latest(w.ctx, "hv1"))
		must(t, w.same(value[jobs.Host](t)(late.host(w.ctx, e))))
	}
	w.change(func(h *jobs.Host) { h.VMs = h.VMs[3:] })
	w.seen()
}

// TestInventoryIsLost: a heartbeat whose inventory is not in the store is never
// taken for a host without VMs; the host is asked, and writes it anew.
func TestInventoryIsLost(t *testing.T) {
	w := newTeller(t, 5, time.Hour)
	w.change(func(*jobs.Host) {})
	w.seen()
	must(t, w.b.js.DeleteKeyValue(w.ctx, w.b.names.bucket(bucketInventory)))
	must(t, w.b.Setup(w.ctx, Layout{Memory: InMemory}))
	eventually(t, "the inventory is written anew", func() bool {
		hosts, err := w.b.Hosts(w.ctx)
		if errors.Is(err, errNoInventory) && len(hosts) == 0 {
			return false
		}
		must(t, err)
		return len(hosts) == 1 && w.same(hosts[0]) == nil
	})
}

// TestInventoryOfAnother: what another worker of that name wrote is not applied.
func TestInventoryOfAnother(t *testing.T) {
	w := newTeller(t, 5, time.Hour)
	w.change(func(*jobs.Host) {})
	k := w.b.bucket(bucketInventory)
	e := value[entry](t)(k.latest(w.ctx, "hv1"))
	foreign := value[[]byte](t)(Encode(storedInventory{Write: "x", Host: jobs.Host{Node: "hv1", Instance: "b"}}))
	value[uint64](t)(k.swap(w.ctx, "hv1", foreign, e.revision))
	eventually(t, "the host tells its own again", func() bool {
		hosts, err := w.b.Hosts(w.ctx)
		if err != nil {
			if !errors.Is(err, errNoInventory) {
				t.Fatal(err)
			}
			return false
		}
		return len(hosts) == 1 && w.same(hosts[0]) == nil
	})
}

// TestWatchHostsByDelta: a watcher is told every host whole.
func TestWatchHostsByDelta(t *testing.T) {
	w := newTeller(t, 20, time.Hour)
	ctx, stop := context.WithCancel(w.ctx)
	told, done := make(chan HostChange, 100), make(chan error, 1)
	go func() { done <- w.b.WatchHosts(ctx, func(c HostChange) { told <- c }) }()
	for i := range 20 {
		w.change(func(h *jobs.Host) {
			h.VMs[i].Memory++
			h.Shadows = append(h.Shadows, jobs.Shadow{VM: vm1, Disk: fmt.Sprint(i)})
		})
		for {
			c := <-told
			if w.same(c.Host) == nil {
				break
			}
			if len(c.Host.VMs) != 20 {
				t.Fatalf("told of %d VMs", len(c.Host.VMs))
			}
		}
	}
	stop()
	<-done
}

// TestInventoryCannotBeWritten: then the heartbeats tell all, and go on.
func TestInventoryCannotBeWritten(t *testing.T) {
	w := newTeller(t, 5, 300*time.Millisecond)
	must(t, w.b.js.DeleteKeyValue(w.ctx, w.b.names.bucket(bucketInventory)))
	for i := range 3 {
		w.change(func(h *jobs.Host) { h.VMs[i].Memory++ })
		e := value[entry](t)(w.p.k.latest(w.ctx, "hv1"))
		must(t, w.same(value[jobs.Host](t)(w.b.inventories().host(w.ctx, e))))
	}
	must(t, w.b.Setup(w.ctx, Layout{Memory: InMemory}))
	for range putOff {
		w.change(func(*jobs.Host) {})
	}
	w.seen()
	if sizes := w.sizes("nodes"); sizes[len(sizes)-1] > 400 {
		t.Errorf("with an inventory again a heartbeat is %d bytes", sizes[len(sizes)-1])
	}
}
