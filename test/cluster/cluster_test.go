package cluster

import (
	"os"
	"strings"
	"testing"

	"xmig/jobs"
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
	if err := c.judge(vm, there, ""); err == nil {
		t.Error("the evidence is that the guest is on both hosts")
	}
	if err := os.WriteFile(vm.Disk(there, 0)+".xmig-x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.judge(vm, here, ""); err == nil || !strings.Contains(err.Error(), "left over") {
		t.Errorf("a half-made disk passes for nothing: %v", err)
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
