package fleet

import (
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestClonesTravelOnce: two guests made from one image, which never ran, go to
// a host that remembers what lies on its disks. Of the second nothing travels.
func TestClonesTravelOnce(t *testing.T) {
	c := cluster.New(t, cluster.Settings{Node: []string{"--content-index", "4MiB"}})
	from, to := c.Hosts[0], c.Hosts[1]
	seeds := map[string]jobs.DiskReport{}
	for _, name := range []string{"web01", "web02"} {
		g := c.Guest(from, cluster.GuestSpec{Name: name, MemoryMiB: 8, Disks: []int64{24 << 20}, Image: 7, State: cluster.Halted})
		c.AwaitSeen(g, from)
		job := c.Submit(g, from, to)
		rec := c.AwaitEnd(job)
		if rec.State != jobs.Succeeded {
			t.Fatalf("the move of %s ended %s: %+v", name, rec.State, rec.Failure)
		}
		c.Proven(g, to, job)
		seeds[name] = rec.Report.Passes[0].Disks[0]
		if shown := c.Command("job", "show", job).Stdout; (name == "web02") != strings.Contains(shown, "were on another disk of hv2 and did not travel") {
			t.Errorf("job show of %s:\n%s", name, shown)
		}
	}
	first, second := seeds["web01"], seeds["web02"]
	if first.Found != 0 || first.Sent == 0 || second.Sent != 0 || second.Wire > 64<<10 {
		t.Errorf("the second found %d of the %d bytes that the first sent, and took %d on the wire after %d", second.Found, first.Sent, second.Wire, first.Wire)
	}
}
