package fleet

import (
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestCutoverWaitsForAWord: the copy is made and kept, the guest runs on where
// it is, until a person says so; a paused job does not obey that either.
func TestCutoverWaitsForAWord(t *testing.T) {
	c := cluster.New(t, cluster.Settings{})
	here, there := c.Hosts[0], c.Hosts[1]
	vm := c.Guest(here, cluster.GuestSpec{Name: "web01", MemoryMiB: 8, Disks: []int64{4 << 20}})
	c.AwaitSeen(vm, here)
	job := c.Submit(vm, here, there, "--mode", "suspend", "--cutover", "manual")
	held := func(why string) func(jobs.Record) bool {
		return func(r jobs.Record) bool { return r.Held != nil && strings.Contains(r.Held.Reason, why) }
	}
	rec := c.AwaitRecord(job, held("waits for a word: `xmig job cutover "+job))
	if rec.Step != jobs.Converge || rec.HandedOver {
		t.Fatalf("it waits at step %s", rec.Step)
	}
	run := func(args ...string) {
		t.Helper()
		if r := c.Command(args...); r.Code != 0 {
			t.Fatalf("xmig %s: exit code %d: %s", strings.Join(args, " "), r.Code, r.Stderr)
		}
	}
	run("job", "pause", job, "--reason", "backup")
	c.AwaitRecord(job, held("backup"))
	run("job", "cutover", job)
	run("job", "resume", job)
	if rec := c.AwaitEnd(job); rec.State != jobs.Succeeded {
		t.Fatalf("it ended %s: %+v", rec.State, rec.Failure)
	}
	c.Proven(vm, there, job)
}
