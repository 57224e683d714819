package node

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestBootFiles: what the next boot reads is compared, what is missing is sent
// and has its name only after the guest runs.
func TestBootFiles(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	dir := filepath.Join(w.dir, "shared-boot") // the same path on both hosts
	must(t, os.Mkdir(dir, 0o755))
	kernel, ramdisk := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	vm := a.config(xlsim.GuestSpec{Name: "web01", Extra: []string{`kernel = "` + kernel + `"`, `ramdisk = "` + ramdisk + `"`}}, mib)
	write(t, kernel, "KERNEL")
	write(t, ramdisk, "RAMDISK")
	job := planned(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	equal(t, "boot files", len(job.Plan.Guest.BootFiles), 2)
	equal(t, "sent though it is there", job.Plan.Guest.BootFiles[0].Send, false)

	// The kernel is missing at the destination: one directory stands for two
	// hosts here, so it goes once the source has sent it.
	job.Plan.Guest.BootFiles[0].Send = true
	must(t, a.src.Begin(w.ctx, job))
	must(t, b.dst.Reserve(w.ctx, job))
	ticket, err := b.dst.Prepare(w.ctx, job)
	must(t, err)
	must(t, a.src.Connect(w.ctx, job, ticket))
	must(t, os.Remove(kernel))
	pass, err := a.src.Pass(w.ctx, job, 1, jobs.FinalPass)
	must(t, err)
	seal := jobs.Seal{Pass: 1, Roots: map[string]jobs.Digest{"xvda": pass.Disks[0].Root}}
	must(t, a.src.Seal(w.ctx, job, seal))
	there, err := b.dst.Ready(w.ctx, job, seal)
	must(t, err)
	equal(t, "before the guest is the destination's", names(t, dir), ".vmlinuz.xmig-"+job1+" initrd")
	must(t, a.src.Commit(w.ctx, job, there.Journal))
	_, _, err = b.dst.Go(w.ctx, job, permission(t, a, b, job))
	must(t, err)
	must(t, b.dst.Settle(w.ctx, job))
	equal(t, "after", names(t, dir), "initrd vmlinuz")
	equal(t, "kernel", read(t, kernel), "KERNEL")
}

// TestBootFilesThatFail: no half of a file ever gets a name, and the attempt
// learns of it before the guest is given away.
func TestBootFilesThatFail(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	kernel := filepath.Join(a.sim, "boot", "vmlinuz")
	vm := a.config(xlsim.GuestSpec{Name: "web01", Extra: []string{`kernel = "` + kernel + `"`}}, mib)
	write(t, kernel, "KERNEL")
	job := planned(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	job.Plan.Guest.BootFiles[0].Send = true
	must(t, a.src.Begin(w.ctx, job))
	must(t, b.dst.Reserve(w.ctx, job))
	ticket, err := b.dst.Prepare(w.ctx, job)
	must(t, err)
	write(t, kernel, "ANOTHER")
	refused(t, a.src.Connect(w.ctx, job, ticket), kernel+" of vm web01 was changed on a since it was checked")
	_, err = a.src.Pass(w.ctx, job, 1, jobs.FinalPass)
	must(t, err)
	_, err = b.dst.Ready(w.ctx, job, jobs.Seal{Pass: 1, Roots: map[string]jobs.Digest{"xvda": {}}})
	refused(t, err, kernel+": its content changed on the way")
	_, err = b.dst.Abort(w.ctx, job, jobs.JobOver)
	must(t, err)
	equal(t, "after the abort", names(t, filepath.Dir(kernel)), "vmlinuz")

	must(t, os.Remove(kernel))
	must(t, syscall.Mkfifo(kernel, 0o600))
	_, err = digestFile("kernel", kernel) // must not wait for somebody to write
	refused(t, err, kernel+" is no regular file")
	refused(t, a.src.sendBootFiles(w.ctx, planlessKernel(job, filepath.Join(w.dir, "none")), nil), "no such file")
}

func planlessKernel(job jobs.Job, path string) jobs.Job {
	job.Plan.Guest.BootFiles = []jobs.BootFile{{Key: "kernel", Path: path, Send: true}}
	return job
}
