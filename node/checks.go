package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"xmig/jobs"
	"xmig/xen"
)

// blockers gathers what stands against a move on this host.
type blockers struct {
	host string
	all  []jobs.Blocker
}

func (b *blockers) add(disk, code, next, format string, args ...any) {
	b.all = append(b.all, jobs.Blocker{Host: b.host, Disk: disk, Code: code, Text: fmt.Sprintf(format, args...), Next: next})
}

// Inspect tells what is to be moved and what stands against it at the source.
func (s *source) Inspect(ctx context.Context, job jobs.Job) (jobs.Guest, []jobs.Blocker, error) {
	b := &blockers{host: s.n.cfg.Name}
	if job.Kind == jobs.KindSync {
		return s.n.inspectDevice(ctx, job, b), b.all, nil
	}
	vms, err := s.n.vms(ctx)
	if vms == nil && err != nil {
		return jobs.Guest{}, nil, jobs.RetryLater(jobs.CodeToolstack, "inventory of %s: %w", s.n.cfg.Name, err)
	}
	for _, vm := range vms {
		if vm.UUID == job.VM.UUID {
			g := jobs.Guest{VM: vm}
			s.n.inspect(ctx, &g, b)
			return g, b.all, nil
		}
	}
	return jobs.Guest{}, nil, jobs.Failed(jobs.CodeNotFound, "vm %s is not on %s any more", job.VM.Name, s.n.cfg.Name)
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
func (n *Node) inspect(ctx context.Context, g *jobs.Guest, b *blockers) {
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
	n.readConfig(g, b)
	n.inspectDisks(ctx, g, b)
	if g.State != jobs.VMHalted {
		n.inspectDomain(ctx, g, b)
	}
	if images, _ := filepath.Glob(filepath.Join(n.cfg.SaveDir, g.Name+"*")); len(images) > 0 {
		b.add("", "saved_image", "remove it, or a later boot of this host restores it against newer disks", "a saved image of vm %s lies at %s", g.Name, images[0])
	}
}

// readConfig takes the config file along, with the autostart link and what the
// next boot reads.
func (n *Node) readConfig(g *jobs.Guest, b *blockers) {
	if g.Config == "" {
		return // a running guest moves all the same; it just has nothing to boot from, as before
	}
	files, err := n.configs()
	if err != nil {
		b.add("", "config", "mend the config directory", "%v", err)
	}
	for _, f := range files {
		if f.Path != g.Config {
			continue
		}
		g.AutostartLink, g.AutostartText = f.Autostart, f.AutostartText
	}
	if g.ConfigText, err = os.ReadFile(g.Config); err != nil {
		b.add("", "config", "make it readable", "%v", err)
		return
	}
	cfg, err := xen.ParseConfig(g.ConfigText)
	if err != nil {
		b.add("", "config", "mend it", "config %s: %v", g.Config, err)
		return
	}
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

// inspectDisks makes sure that every writable disk is one that can be copied.
func (n *Node) inspectDisks(ctx context.Context, g *jobs.Guest, b *blockers) {
	for i := range g.Disks {
		d := &g.Disks[i]
		v, err := n.volumes.Inspect(ctx, d.Path)
		if err != nil {
			b.add(d.Name, "disk", "detach it, or bring it back", "%v", err)
			continue
		}
		d.Size, d.Allocated, d.Kind = v.Size, v.Allocated, string(v.Kind)
		if d.ReadOnly {
			continue
		}
		uses, err := n.volumes.InUse(ctx, d.Path)
		if err != nil {
			b.add(d.Name, "disk", "", "%v", err)
		}
		for _, u := range uses {
			if foreign(u, g.State) {
				b.add(d.Name, "disk_in_use", "end that use first: two writers would spoil the disk", "%s: %s", d.Path, u)
			}
		}
	}
}

// inspectDomain asks xl for what the inventory does not tell.
func (n *Node) inspectDomain(ctx context.Context, g *jobs.Guest, b *blockers) {
	doms, err := n.copies(ctx, g.VMRef)
	if err != nil || len(doms) != 1 {
		b.add("", "domain", "end all but one", "vm %s: %d domains with its UUID (%v)", g.Name, len(doms), err)
		return
	}
	g.DomID = doms[0].ID
	info, err := n.xl.Info(ctx)
	if err != nil {
		b.add("", "toolstack", "", "%v", err)
		return
	}
	g.Xen, g.HWCaps = info.Version.String(), info.HWCaps
	if cfg, err := n.xl.Config(ctx, g.DomID); err != nil {
		b.add("", "toolstack", "", "%v", err)
	} else {
		for _, d := range cfg.Disks {
			if d.Format != "" && d.Format != "raw" && d.Path != "" && !d.ReadOnly {
				b.add(d.Vdev, "format", "convert it to a raw file or a volume", "%s is %s; only raw disks can be copied under a running guest", d.Path, d.Format)
			}
		}
		if cfg.PCI > 0 {
			b.add("", "passthrough", "detach it (`xl pci-detach`)", "vm %s has %d PCI devices of this host", g.Name, cfg.PCI)
		}
	}
	users, err := n.xl.DisksInUse(ctx)
	if err != nil {
		b.add("", "toolstack", "", "%v", err)
		return
	}
	for _, d := range g.Disks {
		for _, other := range users.Of(d.Path) {
			if other != g.DomID && !d.ReadOnly {
				b.add(d.Name, "disk_shared", "detach it there", "%s is attached to domain %d too", d.Path, other)
			}
		}
	}
	if state, err := n.xl.Guest(ctx, g.DomID); err == nil && state.NoSuspend {
		b.add("", "suspend", "submit with --mode cold", "the guest says that it does not suspend (control/feature-suspend is 0)")
	}
}

// Check tells all that stands against the plan at the destination.
func (d *destination) Check(ctx context.Context, job jobs.Job) (jobs.Answer, error) {
	n := d.n
	b := &blockers{host: n.cfg.Name}
	a := jobs.Answer{LinkRate: n.cfg.LinkRate}
	if job.Kind == jobs.KindMigrate {
		if err := n.checkName(ctx, job, b); err != nil {
			return a, err
		}
		if err := n.checkHost(ctx, job, b); err != nil {
			return a, err
		}
		a.Config = n.checkConfig(job, b)
		a.Lacks = n.checkBootFiles(job, b)
	}
	if err := n.checkDisks(ctx, job, b); err != nil {
		return a, err
	}
	a.Blockers = b.all
	return a, nil
}

// checkName wants name and UUID free, but for what this job's own earlier
// attempts left here.
func (n *Node) checkName(ctx context.Context, job jobs.Job, b *blockers) error {
	all, err := n.xl.List(ctx)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "list domains on %s: %w", n.cfg.Name, err)
	}
	mine, err := n.leftByUs(job)
	if err != nil {
		return err
	}
	for _, dom := range all {
		switch {
		case dom.UUID == job.VM.UUID && dom.ID != 0 && !mine:
			b.add("", "uuid_taken", "look at both hosts: it must run on one only", "domain %d (%s) has the VM's UUID %s", dom.ID, dom.Name, dom.UUID)
		case dom.Name == job.VM.Name && dom.UUID != job.VM.UUID:
			b.add("", "name_taken", "rename or end it", "domain %d is called %s too", dom.ID, dom.Name)
		case dom.Name == job.VM.Name+"--incoming" && !mine:
			b.add("", "name_taken", "destroy it if no migration runs", "%s is left from an earlier migration (domain %d)", dom.Name, dom.ID)
		}
	}
	return nil
}

// leftByUs tells whether a copy here can only be this job's own.
func (n *Node) leftByUs(job jobs.Job) (bool, error) {
	_, entries, err := n.open(job.VM)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if jobs.Fact(e.Fact) == jobs.BEGIN && strings.HasPrefix(e.Attempt, job.ID+".") {
			return true, nil
		}
	}
	return false, nil
}

// checkHost wants memory, bridges and a Xen that is not older.
func (n *Node) checkHost(ctx context.Context, job jobs.Job, b *blockers) error {
	info, err := n.xl.Info(ctx)
	if err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "xl info on %s: %w", n.cfg.Name, err)
	}
	g := job.Plan.Guest
	if g.State != jobs.VMHalted {
		reserved, err := n.heldMemory(ctx, job.ID)
		if err != nil {
			return jobs.RetryLater(jobs.CodeInternal, "%s: %w", n.cfg.Name, err)
		}
		mine, err := n.copies(ctx, job.VM)
		if err != nil {
			return err
		}
		free := info.FreeMemory - n.cfg.ReserveMemory - reserved
		if need := memoryNeed(g); free < need && len(mine) == 0 {
			b.add("", "memory", "free memory there, or name another host", "%d MiB are free (%d MiB held for other moves), vm %s needs %d MiB",
				max(0, free)>>20, reserved>>20, job.VM.Name, need>>20)
		}
		if from, err := xen.ParseVersion(g.Xen); err == nil && !info.Version.AtLeast(from) {
			b.add("", "xen_version", "upgrade it, or submit with --mode cold", "Xen %s is older than the source's %s and cannot restore what that saves", info.Version, g.Xen)
		}
	}
	have := n.bridges()
	for _, br := range g.Bridges {
		if to := job.Spec.Map.Bridge(br); to != "" && !hasBridge(have, to) {
			b.add("", "bridge", "make it, or map another: --map bridge="+br+":NAME", "there is no bridge %s", to)
		}
	}
	return nil
}

// memoryNeed is the guest's memory and what Xen keeps for its page tables:
// 1 MiB per vCPU and 8 bytes per page, as xl reckons.
func memoryNeed(g jobs.Guest) int64 {
	return g.Memory + int64(g.VCPUs)<<20 + g.Memory/4096*8
}

// checkConfig says where the config will lie, and wants that place free.
func (n *Node) checkConfig(job jobs.Job, b *blockers) string {
	if job.Plan.Guest.Config == "" {
		return ""
	}
	path := filepath.Join(n.cfg.ConfigDir, filepath.Base(job.Plan.Guest.Config))
	files, err := n.configs()
	if err != nil {
		b.add("", "config", "mend the config directory", "%v", err)
	}
	for _, f := range files {
		if (f.Path == path || f.Name == job.VM.Name) && f.UUID != job.VM.UUID {
			b.add("", "config_taken", "move it away", "config %s describes vm %s here", f.Path, f.Name)
		} else if f.Path == path {
			b.add("", "config_taken", "move it away if it is an old copy", "config %s is here already", f.Path)
		}
	}
	return path
}

// checkBootFiles compares what the next boot reads, and lists what is to be sent.
func (n *Node) checkBootFiles(job jobs.Job, b *blockers) (lacks []string) {
	for _, want := range job.Plan.Guest.BootFiles {
		have, err := digestFile(want.Key, want.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Stat(filepath.Dir(want.Path)); err != nil {
				b.add("", "boot_file", "make the directory, or copy the file", "%s %s: %v", want.Key, want.Path, err)
				continue
			}
			lacks = append(lacks, want.Path)
		case err != nil:
			b.add("", "boot_file", "make it readable", "%s %s: %v", want.Key, want.Path, err)
		case have.Digest != want.Digest:
			b.add("", "boot_file", "copy the source's, or give this VM a path of its own", "%s %s is another file than on %s; the next boot would use it", want.Key, want.Path, job.Source)
		}
	}
	return lacks
}
