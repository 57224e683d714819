package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

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
		if err := cfg.SetString("uuid", job.VM.UUID); err != nil {
			return fmt.Errorf("config %s: %w", path, err)
		}
		path = n.stagedPath(job) + ".boot"
		if err := writeDurably(path, cfg.Bytes(), 0o600); err != nil {
			return err
		}
		defer os.Remove(path)
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
	if len(copies) == 1 && unfinished(copies[0]) { // by a boot that was killed
		if err := n.destroyCopies(ctx, h, copies); err != nil {
			return 0, err
		}
		copies = nil
	}
	if len(copies) == 0 {
		if err := n.boot(ctx, h, job, n.stagedPath(job), xen.Paused); err != nil {
			return 0, jobs.RetryLater(jobs.CodeToolstack, "create vm %s on %s: %w", job.VM.Name, h.node, err)
		}
	}
	dom, err := n.domain(ctx, job.VM)
	return dom.ID, err
}

// inBoot goes with facts whose effect a reboot of the host undoes.
type inBoot struct {
	Boot string `json:"boot"` // the kernel's id of the boot in which it was said
}

// bootedSince tells whether this host came up after it said f. Times could not
// tell: a clock that is set after the boot makes any entry look older or younger.
func (n *Node) bootedSince(h *held, f jobs.Fact, epoch uint64) (bool, error) {
	var was inBoot
	said, err := h.told(f, epoch, &was)
	return said && was.Boot != n.bootID, err
}

// bootIdentity is the kernel's id of this boot, and when it began: now less
// the time since, whose clock nobody sets.
func bootIdentity() (id string, at time.Time, err error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", time.Time{}, err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", time.Time{}, err
	}
	since, err := time.ParseDuration(strings.Fields(string(up))[0] + "s")
	if err != nil {
		return "", time.Time{}, fmt.Errorf("/proc/uptime: %w", err)
	}
	return strings.TrimSpace(string(raw)), time.Now().Add(-since), nil
}
