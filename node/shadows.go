package node

import (
	"context"
	"errors"
	"fmt"

	"xmig/jobs"
	"xmig/node/storage"
)

// PruneRequest asks a host to remove a shadow. Without Force only one goes that
// would go by itself.
type PruneRequest struct {
	Place string `json:"place"`
	Force bool   `json:"force"`
	By    string `json:"by"`
}

// shadows lists what is kept here of VMs that moved away, and why what is kept
// too long is kept.
func (n *Node) shadows(ctx context.Context) ([]jobs.KeptDisk, error) {
	kept, err := n.volumes.Shadows(ctx)
	if err != nil {
		return nil, fmt.Errorf("shadows on %s: %w", n.cfg.Name, err)
	}
	if len(kept) == 0 {
		return nil, nil
	}
	hosts, err := n.bus.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var out []jobs.KeptDisk
	for _, r := range kept {
		s := n.shadowOf(ctx, r, hosts)
		if s.Needs, err = n.needs(ctx, s, hosts); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (n *Node) shadowOf(_ context.Context, r storage.Record, hosts []jobs.Host) jobs.KeptDisk {
	s := jobs.KeptDisk{Host: n.cfg.Name, VM: jobs.VMRef{UUID: r.VM}, Disk: r.Disk, Place: r.Place, Path: r.Place, Kind: string(r.Kind), Size: r.Size,
		Went: r.Host, Job: r.Job, Since: r.Time, Until: r.KeepUntil}
	if r.Kind == storage.KindFile || r.Kind == storage.KindLVM {
		s.Path = storage.ShadowPath(r.Place)
	}
	for _, h := range hosts {
		if vm, ok := h.Find(r.VM); ok {
			s.VM.Name = vm.Name
		}
	}
	return s
}

// needs tells why a shadow must not go; "" if it may.
func (n *Node) needs(ctx context.Context, s jobs.KeptDisk, hosts []jobs.Host) (string, error) {
	_, entries, err := n.open(s.VM)
	if err != nil {
		return "", err
	}
	var key *jobs.Owner
	own, err := n.bus.Owners().Owner(ctx, s.VM.UUID)
	switch {
	case err == nil:
		key = &own
	case !errors.Is(err, jobs.ErrNotFound):
		return "", err
	}
	return s.MayPrune(n.now(), promises(entries), key, hosts), nil
}

// sweepShadows removes the shadows whose time is over, where nothing speaks
// against it. What cannot be told keeps them.
func (n *Node) sweepShadows(ctx context.Context) error {
	kept, err := n.volumes.Shadows(ctx)
	if err != nil {
		return err
	}
	over := false
	for _, r := range kept {
		over = over || !n.now().Before(r.KeepUntil)
	}
	if !over {
		return nil // nobody is asked
	}
	all, err := n.shadows(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		if s.Needs == "" {
			errs = append(errs, n.prune(ctx, s, PruneRequest{Place: s.Place, By: "its time was over"}))
		}
	}
	return errors.Join(errs...)
}

// prune removes one shadow, under its VM's lock: no move of it begins meanwhile.
func (n *Node) prune(ctx context.Context, s jobs.KeptDisk, why PruneRequest) error {
	return n.hold(ctx, s.VM, func(*held) error {
		arrivals, err := n.sessions()
		if err != nil {
			return err
		}
		for _, job := range arrivals {
			if job.VM.UUID == s.VM.UUID {
				return jobs.Failed(jobs.CodeConflict, "shadow %s on %s: job %s brings vm %s back onto it", s.Place, n.cfg.Name, job.ID, job.VM.Name)
			}
		}
		users, err := n.xl.DisksInUse(ctx)
		if err != nil {
			return jobs.RetryLater(jobs.CodeToolstack, "shadow %s on %s: %w", s.Place, n.cfg.Name, err)
		}
		for _, path := range []string{s.Place, s.Path} {
			if by := users.Of(path); len(by) > 0 {
				return jobs.Failed(jobs.CodeConflict, "shadow %s on %s: domain %d has %s attached", s.Place, n.cfg.Name, by[0], path)
			}
		}
		now := n.now()
		if why.Force && now.Before(s.Until) {
			now = s.Until
		}
		if err := n.volumes.PruneShadow(ctx, s.Place, now); err != nil {
			return jobs.Failed(jobs.CodeStorage, "on %s: %w", n.cfg.Name, err)
		}
		n.log.Info().Str("vm", s.VM.UUID).Str("shadow", s.Place).Str("by", why.By).Msg("pruned a shadow")
		return nil
	})
}

// pruneShadow is prune for somebody who asks.
func (n *Node) pruneShadow(ctx context.Context, r PruneRequest) (jobs.KeptDisk, error) {
	all, err := n.shadows(ctx)
	if err != nil {
		return jobs.KeptDisk{}, err
	}
	for _, s := range all {
		if s.Place != r.Place && s.Path != r.Place {
			continue
		}
		if s.Needs != "" && !r.Force {
			return s, jobs.Failed(jobs.CodeBlocked, "shadow %s on %s: %s; --force removes it all the same", s.Place, n.cfg.Name, s.Needs)
		}
		return s, n.prune(ctx, s, r)
	}
	return jobs.KeptDisk{}, jobs.Failed(jobs.CodeNotFound, "no shadow on %s is called %s", n.cfg.Name, r.Place)
}
