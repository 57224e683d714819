package fleet

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestTwoNodesOfOneName: the second one ends at once and says whose the name
// is; the first goes on as if nothing had been, with the move that is under way.
func TestTwoNodesOfOneName(t *testing.T) {
	c := cluster.New(t, cluster.Settings{})
	first, second := c.Hosts[0], c.Hosts[1]
	g := c.Guest(first, cluster.GuestSpec{Name: "web01", MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10})
	c.AwaitSeen(g, first)
	job := c.Submit(g, first, second, c.SlowStep(jobs.Seed, 4*time.Second, first, second)...)
	c.AwaitStep(job, jobs.Seed)
	for _, h := range c.Hosts {
		other := h.Impostor()
		other.Node.Start()
		c.Eventually(func() error {
			if other.Node.Alive() {
				return fmt.Errorf("the other %s goes on; see %s", h.Name, other.Node.Log)
			}
			return nil
		})
		log, err := os.ReadFile(other.Node.Log)
		if err != nil || !strings.Contains(string(log), "node "+h.Name+" is run already") {
			t.Errorf("the other %s said: %s %v", h.Name, log, err)
		}
	}
	if rec := c.AwaitEnd(job); rec.State != jobs.Succeeded || rec.Attempt != 1 {
		t.Errorf("the move ended %s in attempt %d: %+v", rec.State, rec.Attempt, rec.Failure)
	}
	c.Proven(g, second, job)
}

// TestReinstalledHost: a host gets a new system and empty disks under its old
// name, while a VM is on its way to it and another leaves it. The first arrives
// at the new one all the same; the second is lost with the disks it lay on, and
// its job says so. What people decided about the host stands.
func TestReinstalledHost(t *testing.T) {
	c := cluster.New(t, cluster.Settings{Hosts: 3})
	first, renewed, third := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	spec := cluster.GuestSpec{MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10}
	guest := func(h *cluster.Host, name string) *cluster.Guest {
		spec.Name = name
		g := c.Guest(h, spec)
		c.AwaitSeen(g, h)
		return g
	}
	comes, leaves := guest(first, "comes"), guest(renewed, "leaves")
	coming := c.Submit(comes, first, renewed, c.SlowStep(jobs.Seed, 10*time.Second, first, renewed)...)
	leaving := c.Submit(leaves, renewed, third, c.SlowStep(jobs.Seed, 10*time.Second, renewed, third)...)
	c.AwaitStep(coming, jobs.Seed)
	c.AwaitStep(leaving, jobs.Seed)
	if r := c.Command("host", "cordon", renewed.Name, "--reason", "new disks"); r.Code != 0 {
		t.Fatalf("cordon: %+v", r)
	}
	renewed.Reinstall()
	c.AwaitPresence(first, third)
	renewed.Node.Start()
	c.AwaitHosts()

	if rec := c.AwaitEnd(coming); rec.State != jobs.Succeeded {
		t.Errorf("the move to it ended %s: %+v", rec.State, rec.Failure)
	} else {
		c.Proven(comes, renewed, coming)
	}
	if rec := c.AwaitEnd(leaving); rec.State != jobs.FailedState || rec.Failure == nil || rec.Failure.Code != jobs.CodeGone {
		t.Errorf("the move from it ended %s: %+v", rec.State, rec.Failure)
	} else if shown := c.Command("job", "show", leaving).Stdout; !strings.Contains(shown, "is not on hv2 any more") {
		t.Errorf("job show: %s", shown)
	}
	if m := markOf(t, c, renewed.Name); m.Cordon == nil || m.Cordon.Reason != "new disks" {
		t.Errorf("the cordon is gone with the disks: %+v", m)
	}
}
