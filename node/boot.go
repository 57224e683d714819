package node

import (
	"context"
	"fmt"
	"os"

	"xmig/jobs"
	"xmig/xen"
)

// boot creates the domain from a config, under its own UUID even where the
// file names none: the UUID is how both hosts know the VM again.
func (n *Node) boot(ctx context.Context, h *held, job jobs.Job, path string, as xen.CreateState) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("config of vm %s: %w", job.VM.Name, err)
	}
	cfg, err := xen.ParseConfig(text)
	if err != nil {
		return fmt.Errorf("config %s: %w", path, err)
	}
	if _, has := cfg.String("uuid"); !has {
		own := n.stagedPath(job) + ".boot"
		text = append(append([]byte{}, text...), fmt.Sprintf("\nuuid = \"%s\"\n", job.VM.UUID)...)
		if err := writeDurably(own, text, 0o600); err != nil {
			return err
		}
		defer os.Remove(own)
		path = own
	}
	_, err = h.xl.Create(ctx, path, as)
	return err
}

// bootPaused makes the copy of a cold move: built, and not started.
func (n *Node) bootPaused(ctx context.Context, h *held, job jobs.Job) (int, error) {
	copies, err := n.copies(ctx, job.VM)
	if err != nil {
		return 0, err
	}
	if len(copies) == 0 {
		if err := n.boot(ctx, h, job, n.stagedPath(job), xen.Paused); err != nil {
			return 0, jobs.RetryLater(jobs.CodeToolstack, "create vm %s on %s: %w", job.VM.Name, h.node, err)
		}
	}
	dom, err := n.domain(ctx, job.VM)
	return dom.ID, err
}

// bootedSince tells whether this host came up after it said f.
func (n *Node) bootedSince(h *held, f jobs.Fact, epoch uint64) bool {
	for _, e := range h.entries {
		if e.Fact == string(f) && e.Epoch == epoch {
			return n.booted.After(e.Time)
		}
	}
	return false
}
