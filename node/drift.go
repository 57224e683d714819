package node

import (
	"context"
	"strings"

	"xmig/jobs"
)

// What a person may do to a guest while it moves: looked at right before it is
// stopped, and again once it stands still. The attempt is undone then, and the
// next one begins with a new check.

// noneResized makes sure that every disk is as large as its copy.
func (n *Node) noneResized(ctx context.Context, job jobs.Job) error {
	for _, d := range job.Plan.Disks {
		if !d.Copied() {
			continue
		}
		v, err := n.volumes.Inspect(ctx, d.From)
		if err != nil {
			return jobs.RetryLater(jobs.CodeStorage, "disk %s of vm %s on %s: %w", d.Name, job.VM.Name, n.cfg.Name, err)
		}
		if v.Size != d.Size {
			return jobs.RetryLater(jobs.CodeConflict, "disk %s of vm %s on %s: resized from %d to %d bytes since it was checked", d.Name, job.VM.Name, n.cfg.Name, d.Size, v.Size)
		}
	}
	return nil
}

// noneAttached makes sure that the guest has no disk that the plan leaves out: it
// would stay behind, or the copy would open what bears its name over there.
func (n *Node) noneAttached(ctx context.Context, job jobs.Job, domid int) error {
	users, err := n.xl.DisksInUse(ctx)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "disks of vm %s on %s: %w", job.VM.Name, n.cfg.Name, err)
	}
	var planned []string
	for _, d := range job.Plan.Disks {
		planned = append(planned, d.From)
	}
	if more := users.Besides(domid, planned); len(more) > 0 {
		return jobs.RetryLater(jobs.CodeConflict, "vm %s on %s: attached since it was checked, and not copied: %s", job.VM.Name, n.cfg.Name, strings.Join(more, ", "))
	}
	return nil
}
