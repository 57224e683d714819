package node

import (
	"context"
	"errors"

	"xmig/jobs"
	"xmig/xen"
)

// What attempts that came to nothing left at a destination. Only what the
// journal says that such an attempt made is taken away.

// clearEarlier aborts what an earlier attempt left here.
func (n *Node) clearEarlier(ctx context.Context, h *held, job jobs.Job) error {
	copies, err := n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	if len(copies) > 0 && !jobs.Leftover(h.said, states(copies)) {
		return jobs.Failed(jobs.CodeConflict, "vm %s is on %s already as domain %d (%s)", job.VM.Name, h.node, copies[0].ID, copies[0].State)
	}
	if err := jobs.MayReplace(h.said); err != nil {
		return h.of(err)
	}
	for _, p := range h.said.Unended() {
		old := job
		old.Epoch, old.Attempt = p.Epoch, p.Attempt
		if err := h.say(old, jobs.ABORTED, nil); err != nil {
			return err
		}
	}
	return n.destroyCopies(ctx, h, copies)
}

// clearOthers lets go of what other jobs of this VM left here. The VM has one
// mover at a time, so those are over.
func (n *Node) clearOthers(ctx context.Context, h *held, job jobs.Job) error {
	all, err := n.sessions()
	if err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "sessions of %s: %w", n.cfg.Name, err)
	}
	var errs []error
	for _, old := range all {
		if old.VM.UUID != job.VM.UUID || old.ID == job.ID || old.Epoch >= job.Epoch {
			continue
		}
		end := n.volumes.Retire
		if h.said.Has(jobs.RUNNING, old.Epoch) {
			end = n.volumes.Settle
		}
		errs = append(errs, n.letGo(ctx, old, end))
	}
	return errors.Join(errs...)
}

// states are those of the copies here.
func states(copies []xen.Domain) (all []jobs.VMState) {
	for _, c := range copies {
		all = append(all, stateOf(c))
	}
	return all
}

// alive: the domain runs, or a resume lets it run on.
func alive(d xen.Domain) bool {
	return stateOf(d) == jobs.VMRunning || stateOf(d) == jobs.VMSuspended
}

// destroyCopies removes paused copies that never ran; ABORTED is journalled before.
func (n *Node) destroyCopies(ctx context.Context, h *held, copies []xen.Domain) error {
	for _, c := range copies {
		if err := h.xl.Destroy(ctx, c.ID); err != nil && !errors.Is(err, xen.ErrNoDomain) {
			return jobs.RetryLater(jobs.CodeToolstack, "destroy the unused copy of vm %s on %s: %w", h.vm.Name, h.node, err)
		}
	}
	return nil
}
