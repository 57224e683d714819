package fleet

import (
	"testing"
	"time"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestQuorumLost: two of three servers die while a VM is on its way. Nothing is
// decided any more, and whoever asks is told so; the move waits before the line
// that only the bus can draw, and its guest runs on; when one server is back
// the move goes on where it was, and orders are taken again.
func TestQuorumLost(t *testing.T) {
	large(t, "two servers of three die during a move. Set XMIG_FLEET=6 or more; a minute")
	c := cluster.New(t, cluster.Settings{Servers: cluster.ThreeServers})
	from, to := c.Hosts[0], c.Hosts[1]
	spec := cluster.GuestSpec{MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10}
	guest := func(name string) *cluster.Guest {
		spec.Name = name
		g := c.Guest(from, spec)
		c.AwaitSeen(g, from)
		return g
	}
	moves, waits := guest("moves"), guest("waits")
	c.AwaitCopies()
	job := c.Submit(moves, from, to, c.SlowStep(jobs.Seed, 6*time.Second, from, to)...)
	c.AwaitStep(job, jobs.Seed)
	dead := c.Coordinators[1:]
	for _, p := range dead {
		p.Kill()
	}
	if r := c.Command(c.MoveArgs(waits, from, to, "--detach")...); r.Code == 0 {
		t.Errorf("one server of three takes a job in: %s", r.Stdout)
	}
	if err := c.Runs(moves, from); err != nil { // the seed is over by now
		t.Error(err)
	}

	dead[0].Start()
	if rec := c.AwaitEnd(job); rec.State != jobs.Succeeded || rec.Attempt != 1 {
		t.Errorf("the move ended %s in attempt %d: %+v", rec.State, rec.Attempt, rec.Failure)
	}
	c.Proven(moves, to, job)
	// What was refused may have left its claim for a minute: nobody could be
	// asked whether the job that it names was written.
	var second string
	c.Eventually(func() (err error) {
		second, err = c.TrySubmit(waits, from, to)
		return err
	})
	if rec := c.AwaitEnd(second); rec.State != jobs.Succeeded {
		t.Errorf("what waited ended %s: %+v", rec.State, rec.Failure)
	}
	c.Proven(waits, to, second)
}
