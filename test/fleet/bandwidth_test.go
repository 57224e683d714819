package fleet

import (
	"fmt"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestBandwidthOfAHost: hours that are set while a worker runs hold at once, also for the
// move under way, and so does their end. At 8 KiB a second the disk would take
// many times the patience of this test.
func TestBandwidthOfAHost(t *testing.T) {
	const crawl = 8 << 10
	c := cluster.New(t, cluster.Settings{Node: []string{"--bwlimit-hours", "00:00-24:00 1GiB/s"}})
	here, there := c.Hosts[0], c.Hosts[1]
	vm := c.Guest(here, cluster.GuestSpec{Name: "web01", MemoryMiB: 8, Disks: []int64{16 << 20}, Rate: 16 << 10})
	c.AwaitSeen(vm, here)
	set := func(want string, args ...string) {
		t.Helper()
		r := c.Command(append([]string{"host", "set", here.Name}, args...)...)
		if r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Fatalf("xmig %s: exit code %d: %s%s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
		}
	}
	shown := func(want string) {
		t.Helper()
		c.Eventually(func() error {
			if r := c.Command("host", "show", here.Name); !strings.Contains(r.Stdout, want) {
				return fmt.Errorf("%s shows no %q: %s%s", here.Name, want, r.Stdout, r.Stderr)
			}
			return nil
		})
	}
	shown("at most 1 GiB/s now, by the hours 00:00-24:00; at most 1 GiB/s 00:00-24:00, else without a limit (as configured)")
	set("at most 8 KiB/s 00:00-24:00", "--bwlimit-hours", "00:00-24:00 8KiB/s")
	shown("at most 8 KiB/s now, by the hours 00:00-24:00")

	refused := c.AwaitEnd(c.Submit(vm, here, there, "--mode", "suspend", "--max-downtime", "10s"))
	if refused.State != jobs.FailedState || refused.Failure == nil || len(refused.Failure.Blockers) != 1 || refused.Failure.Blockers[0].Code != "downtime" {
		t.Fatalf("8 MiB of memory at 8 KiB a second in 10s: %s, %+v", refused.State, refused.Failure)
	}
	set("without a limit", "--bwlimit", "0")
	shown("without a limit (wished by")
	set("at most 8 KiB/s", "--bwlimit", "8KiB/s")
	shown("at most 8 KiB/s (wished by")
	job := c.Submit(vm, here, there, "--mode", "suspend", "--max-downtime", "1h", "--cutover", "manual")
	c.AwaitStep(job, jobs.Seed)
	if r := c.Command("host", "set", here.Name); r.Code != 2 {
		t.Errorf("nothing to set: exit code %d: %s", r.Code, r.Stderr)
	}
	if rec := c.Record(job); rec.Step != jobs.Seed || rec.Plan.Guest.SendLimit != crawl {
		t.Errorf("it is at step %s, planned with a limit of %d", rec.Step, rec.Plan.Guest.SendLimit)
	}
	set("as its worker was started", "--as-configured")
	c.AwaitRecord(job, func(r jobs.Record) bool { return r.Held != nil })
	if r := c.Command("job", "cutover", job); r.Code != 0 {
		t.Fatalf("cutover: exit code %d: %s", r.Code, r.Stderr)
	}
	if rec := c.AwaitEnd(job); rec.State != jobs.Succeeded {
		t.Fatalf("it ended %s: %+v", rec.State, rec.Failure)
	}
	c.Proven(vm, there, job)
}
