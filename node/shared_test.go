package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestSharedDisk: a disk that both hosts see is not copied, nor kept as a
// shadow, nor written by anybody but the guest, in every mode.
func TestSharedDisk(t *testing.T) {
	for _, mode := range []jobs.Mode{jobs.Live, jobs.Suspend, jobs.Cold} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			lun := filepath.Join(w.dir, "nfs", "web01-data")
			must(t, os.Mkdir(filepath.Dir(lun), 0o755))
			must(t, xlsim.MakeDisk(lun, 8*mib, xlsim.DefaultMix(7)))
			vm := a.guest(xlsim.GuestSpec{Name: "web01", Type: guestType(mode), Disks: []xlsim.GuestDisk{{Path: lun, Vdev: "xvdz"}}}, 4*mib)
			a.run()
			b.run()
			job := newJob(a, b, vm, mode, 1)
			job.Spec.Map.Shared = []string{filepath.Dir(lun)}
			w.submit(job)
			rec := w.final(job1)
			if rec.State != jobs.Succeeded {
				t.Fatalf("%s: %+v", rec.State, rec.Failure)
			}
			var copied []string
			for _, d := range rec.Report.Passes[0].Disks {
				copied = append(copied, d.Name)
			}
			equal(t, "copied", strings.Join(copied, " "), "xvda")
			equal(t, "guest", b.state(vm), jobs.VMRunning)
			b.verify(vm)
			equal(t, "shared directory", names(t, filepath.Dir(lun)), "web01-data")
			equal(t, "source's disks", names(t, a.disks("")), "web01-xvda.xmig-shadow")
			equal(t, "destination's disks", names(t, b.disks("")), "web01-xvda")
			equal(t, "the config names the shared disk", strings.Contains(read(t, b.etc("web01.cfg")), lun), true)
		})
	}
}

// TestSharedOnly: a guest without a disk of its own moves too.
func TestSharedOnly(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	lun := filepath.Join(w.dir, "web01-root")
	must(t, xlsim.MakeDisk(lun, 8*mib, xlsim.DefaultMix(7)))
	vm := a.guest(xlsim.GuestSpec{Name: "web01", Type: "pvh", Disks: []xlsim.GuestDisk{{Path: lun, Vdev: "xvda"}}})
	a.run()
	b.run()
	job := newJob(a, b, vm, jobs.Live, 1)
	job.Spec.Map.Shared = []string{lun}
	w.submit(job)
	rec := w.final(job1)
	if rec.State != jobs.Succeeded {
		t.Fatalf("%s: %+v", rec.State, rec.Failure)
	}
	equal(t, "guest", b.state(vm), jobs.VMRunning)
	b.verify(vm)
}

// TestNotShared: what a person called shared and is not, is refused.
func TestNotShared(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.config(xlsim.GuestSpec{Name: "web01"}, mib)
	job := planned(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	check := func(shared bool, proof, alias string) string {
		t.Helper()
		d := &job.Plan.Disks[0]
		d.Shared, d.Proof, d.Alias = shared, proof, alias
		answer, err := b.dst.Check(w.ctx, job)
		must(t, err)
		return lines(b, answer.Blockers)
	}
	equal(t, "missing", check(true, "", ""),
		"shared: b: disk xvda: /disks/web01-xvda: volume does not exist (attach the storage here too, or do not call it shared)")
	must(t, xlsim.MakeDisk(b.disks("web01-xvda"), 2*mib, xlsim.Mix{}))
	equal(t, "other size", check(true, "", ""),
		"shared: b: disk xvda: /disks/web01-xvda has 2097152 bytes here and 1048576 at the source: another disk, or one that this host did not see grow (look at both hosts)")
	must(t, os.Truncate(b.disks("web01-xvda"), mib))
	equal(t, "shared", check(true, "", ""), "")
	// Nobody proves anything of a plain file here, whatever the source says.
	equal(t, "proof of one end", strings.Contains(check(false, "naa.1", "wwid:naa.1"), "disk_exists"), true)
}
