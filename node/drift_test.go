package node

import (
	"os"
	"slices"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// has tells whether the host has a domain of that name.
func (h *host) has(name string) bool {
	all, err := xlsim.Domains(h.sim)
	must(h.w.t, err)
	return slices.ContainsFunc(all, func(d xlsim.Domain) bool { return d.Name == name })
}

// TestAttachedMeanwhile: a disk that somebody attaches to a guest on its way
// is not left behind: the attempt is undone, and the next one takes it along.
func TestAttachedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		mode jobs.Mode
		step jobs.StepName
	}{
		{jobs.Suspend, jobs.Seed}, {jobs.Cold, jobs.Seed}, {jobs.Live, jobs.Seed}, {jobs.Live, jobs.Stream},
	} {
		t.Run(string(c.mode)+" in "+string(c.step), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a"), w.host("b")
			vm := a.guest(xlsim.GuestSpec{Name: "web01", Type: guestType(c.mode)}, 16*mib) // the seed takes seconds
			more := a.disks("more")
			must(t, xlsim.MakeDisk(more, mib, xlsim.DefaultMix(9)))
			a.run()
			b.run()
			job := newJob(a, b, vm, c.mode, 1)
			switch {
			case c.mode == jobs.Cold: // nobody looks once it shuts down: its config has no such disk
				job.Spec.BWLimit = mib / 2
			case c.step == jobs.Seed:
				job.Spec.BWLimit = 2 * mib
			default:
				must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.SaveRate = 4 * mib }))
			}
			w.submit(job)
			eventually(t, "the step", func() bool { return w.record(job1).Step == c.step })
			if c.step == jobs.Stream { // behind the check before it
				eventually(t, "the memory flows", func() bool { return b.has("web01--incoming") })
			}
			a.xl("block-attach", "web01", more+",raw,xvdb,rw")
			rec := w.final(job1)
			if rec.State != jobs.Succeeded {
				t.Fatalf("%s: %+v", rec.State, rec.Failure)
			}
			equal(t, "attempts", rec.Attempt, 2)
			equal(t, "disks there", names(t, b.disks("")), "more web01-xvda")
			equal(t, "disks here", names(t, a.disks("")), "more.xmig-shadow web01-xvda.xmig-shadow")
		})
	}
}

// TestResizedMeanwhile: a disk that is grown under way arrives as large as it is.
func TestResizedMeanwhile(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 16*mib)
	a.run()
	b.run()
	job := newJob(a, b, vm, jobs.Suspend, 1)
	job.Spec.BWLimit = 2 * mib
	w.submit(job)
	eventually(t, "the step", func() bool { return w.record(job1).Step == jobs.Seed })
	must(t, os.Truncate(a.disks("web01-xvda"), 18*mib))
	rec := w.final(job1)
	if rec.State != jobs.Succeeded {
		t.Fatalf("%s: %+v", rec.State, rec.Failure)
	}
	equal(t, "attempts", rec.Attempt, 2)
	info, err := os.Stat(b.disks("web01-xvda"))
	must(t, err)
	equal(t, "size there", info.Size(), 18*mib)
}
