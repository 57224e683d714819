package node

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen"
)

// What stands against a move at the source. A toolstack that fails is an error
// that may be gone at the next try, and not a blocker.

// Inspect tells what is to be moved and what stands against it at the source.
func (s *source) Inspect(ctx context.Context, job jobs.Job) (jobs.Guest, []jobs.Blocker, error) {
	b := &blockers{host: s.n.cfg.Name}
	if job.Kind == jobs.KindSync {
		g := s.n.inspectDevice(ctx, job, b)
		return g, b.all, nil
	}
	vms, err := s.n.vms(ctx)
	if vms == nil && err != nil {
		return jobs.Guest{}, nil, jobs.RetryLater(jobs.CodeToolstack, "inventory of %s: %w", s.n.cfg.Name, err)
	}
	if err != nil { // without its config the VM would move all the same, and then have none
		b.add("", "config", "mend the config directory", "%v", err)
	}
	for _, vm := range vms {
		if vm.UUID == job.VM.UUID {
			g := jobs.Guest{VM: vm, SendLimit: s.n.bandwidth.sending().Now}
			err := s.n.inspect(ctx, job, &g, b)
			return g, b.all, err
		}
	}
	return jobs.Guest{}, nil, jobs.Failed(jobs.CodeGone, "vm %s is not on %s any more", job.VM.Name, s.n.cfg.Name)
}

// inspectDevice is Inspect for a job without a domain.
func (n *Node) inspectDevice(ctx context.Context, job jobs.Job, b *blockers) jobs.Guest {
	g := jobs.Guest{VM: jobs.VM{VMRef: job.VM, State: jobs.VMHalted}}
	v, err := n.volumes.Inspect(ctx, job.Spec.SyncFrom)
	if err != nil {
		b.add("", "disk", "name a raw file or a block device", "%v", err)
		return g
	}
	g.Disks = []jobs.Disk{{Name: "disk", Path: job.Spec.SyncFrom, Size: v.Size, Allocated: v.Allocated, Kind: string(v.Kind)}}
	return g
}

// inspect fills in what a guest needs to move and adds what forbids it.
func (n *Node) inspect(ctx context.Context, job jobs.Job, g *jobs.Guest, b *blockers) error {
	switch g.State {
	case jobs.VMRunning, jobs.VMHalted:
	case jobs.VMPaused, jobs.VMSuspended:
		b.add("", "state", "unpause it (`xl unpause "+g.Name+"`) or shut it down first", "vm %s is %s", g.Name, g.State)
	default:
		b.add("", "state", "look at `xl list` and end it first", "vm %s is in state %s", g.Name, g.State)
	}
	if g.Problem != "" {
		b.add("", "config", "mend it, or leave just one config that names the VM", "%s", g.Problem)
	}
	if g.Config == "" && job.Spec.Mode == jobs.Cold {
		b.add("", "config", "write one into "+n.cfg.ConfigDir+", or submit with --mode suspend", "vm %s has no config file to boot from after its shutdown", g.Name)
	}
	n.checkOwner(g.VMRef, b)
	n.readConfig(g, b)
	if g.State != jobs.VMHalted {
		if err := n.inspectDomain(ctx, job, g, b); err != nil {
			return err
		}
	}
	if err := n.inspectDisks(ctx, g, b); err != nil {
		return err
	}
	image := filepath.Join(n.cfg.SaveDir, g.Name) // xendomains names it so
	if _, err := os.Lstat(image); err == nil {
		b.add("", "saved_image", "remove it, or a later boot of this host restores it against newer disks", "a saved image of vm %s lies at %s", g.Name, image)
	}
	return nil
}

// readConfig takes the config file along, with the autostart link and what the
// next boot reads.
func (n *Node) readConfig(g *jobs.Guest, b *blockers) {
	if g.Config == "" || g.Problem != "" {
		return // a running guest without one moves all the same; it just has nothing to boot from, as before
	}
	files, _ := n.configs() // what is wrong with the directory was said already
	for _, f := range files {
		if f.Path == g.Config {
			g.AutostartLink, g.AutostartText = f.Autostart, f.AutostartText
		}
	}
	info, err := os.Stat(g.Config)
	if err == nil {
		g.ConfigMode = uint32(info.Mode().Perm())
		g.ConfigText, err = os.ReadFile(g.Config)
	}
	if err != nil {
		b.add("", "config", "make it readable", "%v", err)
		return
	}
	cfg, err := xen.ParseConfig(g.ConfigText)
	if err != nil {
		b.add("", "config", "mend it", "config %s: %v", g.Config, err)
		return
	}
	n.compareConfig(g, cfg, b)
	for _, need := range xen.BootNeeds(cfg) {
		if !filepath.IsAbs(need.Path) {
			continue // found on the search path of each host's own tools, as pygrub is
		}
		f, err := digestFile(need.Key, need.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is missing here too; the next boot fails here as it will there
		}
		if err != nil {
			b.add("", "boot_file", "make it readable", "%s %s: %v", need.Key, need.Path, err)
			continue
		}
		g.BootFiles = append(g.BootFiles, f)
	}
}

// compareConfig wants the next boot to be of the guest that moves.
func (n *Node) compareConfig(g *jobs.Guest, cfg *xen.Config, b *blockers) {
	disks, _ := cfg.List("disk")
	for _, spec := range disks {
		d, err := xen.ParseDisk(spec)
		if err != nil || d.Target == "" {
			continue // ParseDisk's error is a problem of the config, said already
		}
		if d.Script != "" || d.BackendDomain != "" {
			b.add(d.Vdev, "backend", "move the VM by other means: where the disk is, only that backend knows", "%s is served by %s", d.Target, cmp.Or(d.Script, "domain "+d.BackendDomain))
			continue
		}
		if d.ReadOnly {
			continue
		}
		if !slices.ContainsFunc(g.Disks, func(has jobs.Disk) bool { return has.Path == d.Target }) {
			b.add(d.Vdev, "disk_detached", "attach it, or take it out of the config", "config %s has %s, the guest has not: it would not move", g.Config, d.Target)
		}
	}
	if g.State == jobs.VMHalted {
		tiesOfConfig(g, cfg, b)
	}
}

// inspectDisks makes sure that every writable disk is one that can be copied,
// and nobody else's.
func (n *Node) inspectDisks(ctx context.Context, g *jobs.Guest, b *blockers) error {
	users, err := n.xl.DisksInUse(ctx)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "disks in use on %s: %w", n.cfg.Name, err)
	}
	for i := range g.Disks {
		d := &g.Disks[i]
		v, err := n.volumes.Inspect(ctx, d.Path)
		if err != nil {
			b.add(d.Name, "disk", "detach it, or bring it back", "%v", err)
			continue
		}
		d.Size, d.Allocated, d.Kind, d.Sector = v.Size, v.Allocated, string(v.Kind), v.SectorSize
		if d.ReadOnly {
			continue
		}
		alias, err := storage.AliasOf(v)
		if err != nil {
			return jobs.RetryLater(jobs.CodeStorage, "disk %s of vm %s on %s: %w", d.Name, g.Name, n.cfg.Name, err)
		}
		d.Proof, d.Alias = alias.Proof, alias.Name
		for _, other := range users.Of(d.Path) {
			if other != g.DomID {
				b.add(d.Name, "disk_shared", "detach it there", "%s is attached to domain %d too", d.Path, other)
			}
		}
		uses, err := n.volumes.InUse(ctx, d.Path)
		if err != nil {
			return jobs.RetryLater(jobs.CodeStorage, "disk %s of vm %s on %s: %w", d.Name, g.Name, n.cfg.Name, err)
		}
		for _, u := range uses {
			if foreign(u, g.State) {
				b.add(d.Name, "disk_in_use", "end that use first: two writers would spoil the disk", "%s: %s", d.Path, u)
			}
		}
	}
	return nil
}

// noLive is why this host's xl cannot send the guest while it runs, "" if it can.
func noLive(info xen.Info, cfg xen.DomainConfig) string {
	switch {
	case !info.Version.AtLeast(xen.MigrateSince):
		return "xl of Xen " + info.Version.String() + " is older than " + xen.MigrateSince.String()
	case cfg.Type == "pv" && !slices.Contains(info.VirtCaps, "shadow"):
		return "it is a PV guest, and this Xen has no shadow paging (xl info, virt_caps), without which nobody sees what a PV guest writes"
	}
	return ""
}

// inspectDomain asks xl for what the inventory does not tell.
func (n *Node) inspectDomain(ctx context.Context, job jobs.Job, g *jobs.Guest, b *blockers) error {
	doms, err := n.copies(ctx, g.VMRef)
	if err != nil {
		return err
	}
	if len(doms) != 1 {
		b.add("", "domain", "see `xl list -v`: one must be left", "vm %s: %d domains have its UUID", g.Name, len(doms))
		return nil
	}
	g.DomID = doms[0].ID
	info, err := n.xl.Info(ctx)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "xl info on %s: %w", n.cfg.Name, err)
	}
	g.Xen, g.HWCaps = info.Version.String(), info.HWCaps
	cfg, err := n.xl.Config(ctx, g.DomID)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: %w", g.Name, n.cfg.Name, err)
	}
	g.NoLive, g.EarlyOpen = noLive(info, cfg), cfg.Type == "hvm" || slices.ContainsFunc(cfg.Disks, xen.DomainDisk.EarlyOpen)
	for _, d := range cfg.Disks {
		if d.Format != "" && d.Format != "raw" && d.Path != "" && !d.ReadOnly {
			b.add(d.Vdev, "format", "convert it to a raw file or a volume", "%s is %s; only raw disks can be copied under a running guest", d.Path, d.Format)
		}
	}
	tiesOfDomain(g, cfg, job.Spec.Mode, b)
	state, err := n.xl.Guest(ctx, g.DomID)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: %w", g.Name, n.cfg.Name, err)
	}
	if state.NoSuspend && job.Spec.Mode != jobs.Cold {
		b.add("", "suspend", "submit with --mode cold", "the guest says that it does not suspend (control/feature-suspend is 0)")
	}
	return nil
}
