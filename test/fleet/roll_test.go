package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs/coordinator"
	"xmig/test/cluster"
)

// hookScript notes that it ran and with what, waits while it is told to, and
// refuses a host that it is told to refuse.
const hookScript = `#!/bin/sh
echo "$XMIG_PHASE $XMIG_HOST" >> %[1]s/ran
cat > "%[1]s/$XMIG_PHASE-$XMIG_HOST.json"
while [ -e "%[1]s/hold-$XMIG_PHASE" ]; do sleep 0.05; done
[ ! -e "%[1]s/refuse-$XMIG_HOST" ] || { echo "change freeze"; exit 1; }
`

// hooked is a directory of hooks.
type hooked struct {
	*testing.T
	dir string
}

func newHooks(t *testing.T) hooked {
	h := hooked{t, t.TempDir()}
	for _, p := range []coordinator.Phase{coordinator.BeforeDrain, coordinator.AfterDrain, coordinator.BeforeRestore, coordinator.AfterRestore} {
		if err := os.WriteFile(filepath.Join(h.dir, string(p)), fmt.Appendf(nil, hookScript, h.dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h hooked) ran() []string {
	text, err := os.ReadFile(filepath.Join(h.dir, "ran"))
	if err != nil && !os.IsNotExist(err) {
		h.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (h hooked) note(name string) {
	if err := os.WriteFile(filepath.Join(h.dir, name), nil, 0o644); err != nil {
		h.Fatal(err)
	}
}

func (h hooked) unnote(name string) {
	if err := os.Remove(filepath.Join(h.dir, name)); err != nil {
		h.Fatal(err)
	}
}

func markOf(t *testing.T, c *cluster.Cluster, host string) coordinator.Mark {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	row, err := bus.NewTable[coordinator.Mark](c.Bus(), "host").Load(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	return row.Value
}

// TestRoll drains two hosts one after the other, with hooks around: the second
// begins when the first is empty, its hook after has ended, and the guests that
// left it are well. A hook that refuses keeps a host as it is.
func TestRoll(t *testing.T) {
	hooks := newHooks(t)
	c := cluster.New(t, cluster.Settings{Hosts: 3, Rules: "# nothing acts here", Server: []string{"--hooks", hooks.dir}})
	spec := cluster.GuestSpec{MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10}
	var guests []*cluster.Guest
	for i, name := range []string{"vm1", "vm2"} {
		spec.Name = name
		guests = append(guests, c.Guest(c.Hosts[i], spec))
		c.AwaitSeen(guests[i], c.Hosts[i])
	}
	first, second, last := c.Hosts[0], c.Hosts[1], c.Hosts[2]

	hooks.note("hold-after-drain")
	r := c.Command(append([]string{"host", "drain", first.Name, second.Name, "--reason", "upgrade", "--detach"}, drainFlags...)...)
	if r.Code != 0 {
		t.Fatalf("drain: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	c.Eventually(func() error { return hooks.last("after-drain " + first.Name) })
	if m := markOf(t, c, first.Name); m.Drain.State == coordinator.DrainDone {
		t.Error("the drain is done before its hook after has ended")
	}
	unwell := sickens(c, guests[0], last)
	hooks.unnote("hold-after-drain")
	c.Eventually(func() error { return waits(t, c, second, "waits for vm vm1, which left hv1, to be well") })
	if got := hooks.ran(); !slices.Equal(got, []string{"before-drain hv1", "after-drain hv1"}) {
		t.Errorf("while a guest of the first host is not well these hooks ran: %q", got)
	}
	unwell()
	c.Eventually(func() error {
		if m := markOf(t, c, second.Name); m.Drain.State != coordinator.DrainDone {
			return fmt.Errorf("the drain of %s is %s: %s", second.Name, m.Drain.State, m.Drain.Text)
		}
		return nil
	})
	if got := hooks.ran(); !slices.Equal(got, []string{"before-drain hv1", "after-drain hv1", "before-drain hv2", "after-drain hv2"}) {
		t.Errorf("hooks ran as %q", got)
	}
	var told coordinator.Mark
	text, err := os.ReadFile(filepath.Join(hooks.dir, "after-drain-hv2.json"))
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	if err != nil || told.Node != second.Name || len(told.Drain.Moves) != 1 || told.Drain.Moves[0].State != coordinator.MoveDone {
		t.Errorf("the hook after was told %s, %v", text, err)
	}
	ended := markOf(t, c, first.Name).Drain.Ended
	x := exercise{T: t, c: c, guests: map[*cluster.Guest]*cluster.Host{guests[0]: first, guests[1]: second}, first: first}
	for _, rec := range x.prove(false) {
		if rec.Source == second.Name && rec.Created.Before(ended) {
			t.Errorf("%s left %s at %s, before %s was done at %s", rec.VM.Name, second.Name, rec.Created, first.Name, ended)
		}
	}

	hooks.note("refuse-" + last.Name)
	r = c.Command(append([]string{"host", "drain", last.Name, "--wait-for", "45s"}, drainFlags...)...)
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "change freeze") {
		t.Errorf("a drain whose hook refuses: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if m := markOf(t, c, last.Name); m.Bars() != "" || len(m.Drain.Moves) > 0 && m.Drain.Moves[0].State == coordinator.MoveUnder {
		t.Errorf("after the refusal the host is %q, %+v", m.Bars(), m.Drain)
	}
}

func (h hooked) last(want string) error {
	if got := h.ran(); got[len(got)-1] != want {
		return fmt.Errorf("hooks ran: %q; want %q last", got, want)
	}
	return nil
}

// sickens takes a guest away as if it had crashed and been cleared away by
// hand, and gives what brings it back.
func sickens(c *cluster.Cluster, g *cluster.Guest, at *cluster.Host) (heal func()) {
	c.AwaitSeen(g, at)
	away := filepath.Join(at.Dir, "away") // where no config is looked for
	swap := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			panic(err) // a test's own file
		}
	}
	swap(g.Config(at), away)
	at.XL("destroy", g.Name)
	c.AwaitForgotten(g, at)
	return func() {
		swap(away, g.Config(at))
		at.XL("create", g.Config(at))
		c.AwaitSeen(g, at)
	}
}

// waits: the drain of a host does, and says so.
func waits(t *testing.T, c *cluster.Cluster, h *cluster.Host, why string) error {
	t.Helper()
	m := markOf(t, c, h.Name)
	if m.Drain == nil || m.Drain.State != coordinator.DrainWaiting || m.Drain.Text != why {
		return fmt.Errorf("the drain of %s: %+v; want it to wait: %s", h.Name, m.Drain, why)
	}
	return nil
}
