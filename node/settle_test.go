package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestCleaningUpFails: whatever stands in the way of the source's clearing up,
// the guest runs at the destination, and the job says what to do; once that is
// out of the way the job ends by itself.
func TestCleaningUpFails(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	obstacle := a.disks("web01-xvda.xmig-shadow")
	must(t, os.MkdirAll(filepath.Join(obstacle, "full"), 0o755)) // where the disk is to be kept
	a.run()
	b.run()
	w.submit(newJob(a, b, vm, jobs.Suspend, 1))
	eventually(t, "the job says what is in the way", func() bool {
		return slices.ContainsFunc(w.record(job1).Report.Steps, func(s jobs.StepReport) bool {
			return s.Step == jobs.Settle && strings.Contains(s.Failed, obstacle)
		})
	})
	equal(t, "guest", b.state(vm), jobs.VMRunning)
	equal(t, "the old copy", a.state(vm), "none")
	b.verify(vm)
	must(t, os.RemoveAll(obstacle))
	rec := w.final(job1)
	equal(t, "state", rec.State, jobs.Succeeded)
	equal(t, "source's disks", names(t, a.disks("")), "web01-xvda.xmig-shadow")
}
