package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

func TestMain(m *testing.M) { Main(m) }

// TestMove: the plain case, there and back; what the evidence is made of can
// be seen, and a spoiled disk is.
func TestMove(t *testing.T) {
	t.Parallel()
	c := New(t, Settings{})
	here, there := c.Hosts[0], c.Hosts[1]
	vm := c.Guest(here, GuestSpec{Name: "web01"})
	for range 2 {
		c.AwaitSeen(vm, here)
		job := c.Submit(vm, here, there)
		if rec := c.AwaitEnd(job); rec.State != jobs.Succeeded {
			t.Fatalf("%s: %+v; see %s", rec.State, rec.Failure, c.logsOf(rec))
		}
		c.Proven(vm, there, job)
		here, there = there, here
	}
}

// TestEvidence: what must never pass for a good end does not.
func TestEvidence(t *testing.T) {
	t.Parallel()
	c := New(t, Settings{})
	here, there := c.Hosts[0], c.Hosts[1]
	vm := c.Guest(here, GuestSpec{Name: "web01"})
	c.AwaitSeen(vm, here)
	ctx := context.Background()
	make := func(path, text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, x := range []struct {
		name, word string
		spoil      func() error
		undo       func() error
	}{
		{"config at two places", "must not be", make(vm.Config(there), "name = 'web01'"), func() error { return os.Remove(vm.Config(there)) }},
		{"autostart link gone", "no such file", func() error { return os.Rename(vm.Autostart(here), vm.Autostart(here)+".x") },
			func() error { return os.Rename(vm.Autostart(here)+".x", vm.Autostart(here)) }},
		{"half-made disk", "left over", make(vm.Disk(there, 0)+".xmig-X", ""), func() error { return os.Remove(vm.Disk(there, 0) + ".xmig-X") }},
		{"disk at two places", "left over", make(vm.Disk(there, 1), ""), func() error { return os.Remove(vm.Disk(there, 1)) }},
		{"staged config", "left over", make(filepath.Join(there.State, "staged", "x.cfg"), "uuid = '"+vm.UUID+"'"), func() error { return os.Remove(filepath.Join(there.State, "staged", "x.cfg")) }},
		{"session", "left over", make(filepath.Join(there.State, "arrivals", "x.json"), vm.UUID), func() error { return os.Remove(filepath.Join(there.State, "arrivals", "x.json")) }},
		{"claim", "no claim", func() error {
			_, err := c.Bus().Owners().Claim(ctx, jobs.VMRef{UUID: vm.UUID, Name: vm.Name}, here.Name, "01J0000000000000000000000A")
			return err
		},
			func() error { return c.Bus().Owners().Unclaim(ctx, vm.UUID, "01J0000000000000000000000A") }},
		{"paused", "domains", func() error { here.XL("pause", vm.Name); return nil }, func() error { here.XL("unpause", vm.Name); return nil }},
	} {
		if err := x.spoil(); err != nil {
			t.Fatal(err)
		}
		if err := c.judge(vm, here, ""); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("%s: %v, want an error with %q", x.name, err, x.word)
		}
		if err := x.undo(); err != nil {
			t.Fatal(err)
		}
		if err := c.judge(vm, here, ""); err != nil {
			t.Errorf("after %s was undone: %v", x.name, err)
		}
	}
	if err := c.judge(vm, there, ""); err == nil {
		t.Error("the evidence is that the guest is on the other host")
	}
	here.XL("pause", vm.Name)
	if err := errors.Join(c.whole(vm, here), xlsim.DropRecord(ctx, here.Dir, vm.Name)); err != nil {
		t.Fatal(err)
	}
	if err := c.whole(vm, here); err == nil {
		t.Error("a record is lost, and the evidence is that all is well")
	}
}

// TestLink: a host whose link is cut does not reach the bus, whichever way it
// is cut, and is there again when it is healed.
func TestLink(t *testing.T) {
	t.Parallel()
	c := New(t, Settings{})
	for _, how := range []How{Refused, Silent} {
		c.Hosts[1].Link.Cut(how)
		c.AwaitPresence(c.Hosts[0])
		c.Hosts[1].Link.Heal()
		c.AwaitHosts()
	}
	c.Server.Kill()
	if r := c.Command("host", "ls", "--timeout", "1s"); r.Code == 0 {
		t.Errorf("a server that is dead answers: %s", r.Stdout)
	}
	c.Server.Start()
	c.AwaitHosts()
}
