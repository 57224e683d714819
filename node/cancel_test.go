package node

import (
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestLiveCancelledInEachStep: by a person, wherever the job stands before the
// line: the guest runs on at the source and nothing is left at the destination.
func TestLiveCancelledInEachStep(t *testing.T) {
	for _, step := range []jobs.StepName{jobs.Seed, jobs.Converge, jobs.Stream, jobs.SealStep} {
		t.Run(string(step), func(t *testing.T) {
			w, a, b, vm := liveGuest(t)
			a.run()
			b.run()
			job := newJob(a, b, vm, jobs.Live, 1)
			switch step {
			case jobs.Seed:
				job.Spec.BWLimit = mib
			case jobs.Converge, jobs.Stream: // what an idle guest changes is soon sent: then it is cancelled in the next step
				must(t, xlsim.ChangeHost(a.sim, func(h *xlsim.HostSpec) { h.SaveRate = 2 * mib }))
			case jobs.SealStep: // READY waits for xl's list there
				must(t, xlsim.ChangeHost(b.sim, func(h *xlsim.HostSpec) { h.Delays = slowList() }))
			}
			w.submit(job)
			eventually(t, "the step", func() bool {
				at := w.record(job1).Step
				return at == step || step == jobs.Converge && at == jobs.Stream
			})
			_, err := bus.Call[CancelRequest, struct{}](w.ctx, w.bus.Node("a"), "cancel", CancelRequest{Job: job1, By: "me"})
			must(t, err)
			must(t, xlsim.ChangeHost(b.sim, func(h *xlsim.HostSpec) { h.Delays = nil }))
			rec := w.final(job1)
			equal(t, "state", rec.State, jobs.Cancelled)
			equal(t, "guest", a.state(vm), jobs.VMRunning)
			equal(t, "copy", b.state(vm), "none")
			equal(t, "disks there", names(t, b.disks("")), "")
			a.alone()
			b.alone()
			a.verify(vm)
		})
	}
}

// slowList is time for a person to cancel.
func slowList() map[string]time.Duration { return map[string]time.Duration{"list": 2 * time.Second} }
