package node

import (
	"context"
	"fmt"

	"xmig/jobs"
)

// heldMemory is what arriving guests will need and xl does not know of yet.
func (n *Node) heldMemory(ctx context.Context, except string) (int64, error) {
	all, err := n.sessions()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	domains, err := n.domains(ctx)
	if err != nil {
		return 0, err
	}
	here := map[string]bool{}
	for _, d := range domains {
		here[d.UUID] = true
	}
	var sum int64
	for _, job := range all {
		if job.ID != except && takesMemory(job) && !here[job.VM.UUID] { // else its memory is taken already
			sum += job.Plan.Guest.MemoryNeed()
		}
	}
	return sum, nil
}

func takesMemory(job jobs.Job) bool {
	return job.Kind == jobs.KindMigrate && job.Plan.Guest.State != jobs.VMHalted
}

// memoryLack says how much memory is missing for a guest, "" if there is enough.
func (n *Node) memoryLack(ctx context.Context, job jobs.Job, free int64) (string, error) {
	if !takesMemory(job) {
		return "", nil
	}
	reserved, err := n.heldMemory(ctx, job.ID)
	if err != nil {
		return "", jobs.RetryLater(jobs.CodeInternal, "memory held on %s: %w", n.cfg.Name, err)
	}
	mine, err := n.copies(ctx, job.VM)
	if err != nil {
		return "", err
	}
	free -= n.cfg.ReserveMemory + reserved
	need := job.Plan.Guest.MemoryNeed()
	if free >= need || len(mine) > 0 {
		return "", nil
	}
	return fmt.Sprintf("%d MiB are free (%d MiB held for other moves), vm %s needs %d MiB",
		max(0, free)>>20, reserved>>20, job.VM.Name, need>>20), nil
}
