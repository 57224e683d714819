package alert

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/jobs"
)

// site is a fleet that does what it is told, and notes it.
type site struct {
	hosts  []Host
	orders []string
	fails  error
	noRoom error
}

func (f *site) Hosts(context.Context) ([]Host, error)  { return slices.Clone(f.hosts), nil }
func (f *site) CanDrain(context.Context, string) error { return f.noRoom }
func (f *site) set(what, node, by string, s HostState) error {
	f.orders = append(f.orders, what+" "+node)
	if f.fails != nil {
		return f.fails
	}
	for i := range f.hosts {
		if f.hosts[i].Node == node {
			f.hosts[i].State, f.hosts[i].By = s, by
		}
	}
	return nil
}
func (f *site) Cordon(_ context.Context, node, by, _ string) error {
	return f.set("cordon", node, by, Cordoned)
}
func (f *site) Uncordon(_ context.Context, node, _, _ string) error {
	return f.set("uncordon", node, "", Active)
}
func (f *site) Drain(_ context.Context, node, by, _ string, _ How) error {
	return f.set("drain", node, by, Drained)
}

type keeping struct {
	*Keeper
	m   *memory
	f   *site
	now time.Time
	t   *testing.T
}

func newKeeping(t *testing.T) *keeping {
	k := &keeping{m: newMemory(), f: &site{hosts: hostsOf(4)}, now: noon, t: t}
	k.Keeper = &Keeper{Store: k.m, Fleet: k.f, Events: k.m, Rules: mustRules(t, drainRules), Name: "s1", Clock: func() time.Time { return k.now }, Log: zerolog.Nop()}
	k.begin()
	return k
}

// begin is what Run does first: another server takes over.
func (k *keeping) begin() {
	k.book = book{incidents: map[string]jobs.Incident{}, mutes: map[string]jobs.Mute{}}
	k.refused = map[string]refusal{}
	if err := k.catchUp(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keeping) fires(name, node string) {
	in := incidentOf(k.t, k.Rules, name, node, k.now)
	saved, err := k.m.SaveIncident(k.t.Context(), in)
	if err != nil {
		k.t.Fatal(err)
	}
	k.book.incident(saved.Alert.Fingerprint, &saved)
}

func (k *keeping) later(d time.Duration) {
	k.t.Helper()
	k.now = k.now.Add(d)
	for range 3 {
		if err := k.look(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *keeping) only() jobs.Incident {
	k.t.Helper()
	all, _ := k.m.Incidents(k.t.Context())
	if len(all) != 1 {
		k.t.Fatalf("%+v", all)
	}
	return all[0]
}

// TestKeeper: stored before it is ordered, ordered once, told once.
func TestKeeper(t *testing.T) {
	k := newKeeping(t)
	k.fires("DiskWillFail", "hv1")
	k.later(0)
	if in := k.only(); in.State != jobs.Waiting || len(k.f.orders) != 0 {
		t.Fatalf("%+v %v", in, k.f.orders)
	}
	k.later(2 * time.Minute)
	k.later(time.Minute)
	if in := k.only(); in.State != jobs.Acted || !slices.Equal(k.f.orders, []string{"drain hv1"}) || !in.ActedAt.Equal(noon.Add(2*time.Minute)) {
		t.Fatalf("%+v %v", in, k.f.orders)
	}
	var story []string
	for _, e := range k.m.events {
		if e.Text == "" || e.Alert == nil {
			t.Errorf("no reason: %+v", e)
		}
		story = append(story, e.What)
	}
	if got := strings.Join(story, " "); got != "waiting acting acted" {
		t.Error(got)
	}
}

// TestKeeperDies: whoever takes over gives the order that was written and not
// taken, and none that was taken.
func TestKeeperDies(t *testing.T) {
	k := newKeeping(t)
	k.fires("FanFailed", "hv1")
	k.f.fails = jobs.RetryLater(jobs.CodeAway, "the bus is away") // as if it died at the order
	k.later(time.Second)
	if in := k.only(); in.State != jobs.Acting {
		t.Fatalf("%+v", in)
	}
	k.f.fails, k.f.orders = nil, nil
	k.begin()
	k.later(time.Second)
	k.begin()
	k.later(time.Second)
	if in := k.only(); in.State != jobs.Acted || !slices.Equal(k.f.orders, []string{"drain hv1"}) {
		t.Fatalf("%+v %v", in, k.f.orders)
	}
}

// TestKeeperLosesTheRace: who is not first to write does not act.
func TestKeeperLosesTheRace(t *testing.T) {
	k := newKeeping(t)
	k.fires("FanFailed", "hv1")
	k.m.conflicts = 3
	k.later(time.Second)
	if len(k.f.orders) != 0 {
		t.Errorf("it acted on what it could not write: %v", k.f.orders)
	}
}

// TestNoRoom: a host whose VMs have no place is held, and does not keep
// another from being drained.
func TestNoRoom(t *testing.T) {
	k := newKeeping(t)
	k.f.noRoom = errors.New("vm web01 fits nowhere")
	k.fires("FanFailed", "hv1")
	k.later(time.Second)
	if in := k.only(); in.State != jobs.HeldBack || in.Obstacle != "capacity" || !strings.Contains(in.Reason, "fits nowhere") || len(k.f.orders) != 0 {
		t.Fatalf("%+v %v", in, k.f.orders)
	}
	saves := k.m.saves
	k.later(time.Second)
	k.later(2 * proveAgain) // asked again, and still no: no news
	if k.m.saves != saves {
		t.Errorf("%d writes that say nothing new", k.m.saves-saves)
	}
	k.f.noRoom = nil
	k.fires("FanFailed", "hv2")
	k.later(time.Second)
	if !slices.Contains(k.f.orders, "drain hv2") {
		t.Errorf("hv1, for which there is no room, keeps hv2 from being drained: %v", k.f.orders)
	}
}

// TestOrderRefused: an order that will never be taken is told, not repeated.
func TestOrderRefused(t *testing.T) {
	k := newKeeping(t)
	k.f.fails = jobs.Failed(jobs.CodeConflict, "a restore by ann is under way")
	k.fires("FanFailed", "hv1")
	k.later(time.Second)
	if in := k.only(); in.State != jobs.HeldBack || in.Obstacle != "refused" || !strings.Contains(in.Reason, "restore by ann") || len(k.f.orders) != 1 {
		t.Errorf("%+v %v", in, k.f.orders)
	}
	k.f.fails = nil
	k.later(orderAgain)
	if in := k.only(); in.State != jobs.Acted {
		t.Errorf("not tried again: %+v", in)
	}
}
