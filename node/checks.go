package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// Check tells all that stands against the plan at the destination.
func (d *destination) Check(ctx context.Context, job jobs.Job) (a jobs.Answer, err error) {
	n := d.n
	b := &blockers{host: n.cfg.Name}
	a.LinkRate = n.cfg.LinkRate
	if job.Kind == jobs.KindMigrate {
		n.checkOwner(job.VM, b)
		if err := n.checkName(ctx, job, b); err != nil {
			return a, err
		}
		if a.NoLive, err = n.checkHost(ctx, job, b); err != nil {
			return a, err
		}
		a.Config = n.checkConfig(job, b)
		a.Lacks = n.checkBootFiles(job, b)
	}
	if a.Shared, err = n.checkDisks(ctx, job, b); err != nil {
		return a, err
	}
	a.Blockers = b.all
	return a, nil
}

// checkName wants name and UUID free, but for what earlier attempts left here.
func (n *Node) checkName(ctx context.Context, job jobs.Job, b *blockers) error {
	all, err := n.domains(ctx)
	if err != nil {
		return err
	}
	_, entries, err := n.open(job.VM)
	if err != nil {
		return err
	}
	copies := slices.DeleteFunc(slices.Clone(all), func(d xen.Domain) bool { return d.UUID != job.VM.UUID })
	ours := jobs.Leftover(promises(entries), states(copies))
	for _, dom := range all {
		switch {
		case dom.UUID == job.VM.UUID && !ours:
			b.add("", "uuid_taken", "look at both hosts: it must run on one only", "domain %d (%s) has the VM's UUID %s", dom.ID, dom.Name, dom.UUID)
		case dom.Name == job.VM.Name && dom.UUID != job.VM.UUID:
			b.add("", "name_taken", "rename or end it", "domain %d is called %s too", dom.ID, dom.Name)
		case xen.Migrating(dom.Name) && strings.HasPrefix(dom.Name, job.VM.Name+"--") && !ours:
			b.add("", "name_taken", "destroy it if no migration runs", "%s is left from an earlier migration (domain %d)", dom.Name, dom.ID)
		}
	}
	return nil
}

// checkHost wants memory, bridges and a Xen that is not older. It tells why no
// guest can be taken in live, "" if one can.
func (n *Node) checkHost(ctx context.Context, job jobs.Job, b *blockers) (noLive string, err error) {
	info, err := n.xl.Info(ctx)
	if err != nil {
		return "", jobs.RetryLater(jobs.CodeToolstack, "xl info on %s: %w", n.cfg.Name, err)
	}
	lack, err := n.memoryLack(ctx, job, info.FreeMemory)
	if err != nil {
		return "", err
	}
	if lack != "" {
		b.add("", "memory", "free memory there, or name another host", "%s", lack)
	}
	g := job.Plan.Guest
	if job.Plan.Mode != jobs.Cold { // what is booted anew takes what it finds
		if from, err := xen.ParseVersion(g.Xen); err == nil && !info.Version.AtLeast(from) {
			b.add("", "xen_version", "upgrade it, or submit with --mode cold", "Xen %s is older than the source's %s and cannot restore what that saves", info.Version, g.Xen)
		}
		if lacks := jobs.MissingFeatures(g.HWCaps, info.HWCaps); lacks != "" {
			b.add("", "cpu", "submit with --mode cold", "its CPU lacks features that the guest was booted with (hw_caps: %s)", lacks)
		}
	}
	have := n.bridges()
	for _, br := range g.Bridges {
		if to := job.Spec.Map.Bridge(br); to != "" && !hasBridge(have, to) {
			b.add("", "bridge", "make it, or map another: --map bridge="+br+":NAME", "there is no bridge %s", to)
		}
	}
	if !info.Version.AtLeast(xen.MigrateSince) {
		noLive = "xl of Xen " + info.Version.String() + " there is older than " + xen.MigrateSince.String()
	}
	return noLive, nil
}

// checkConfig says where the config will lie, and wants that place free and no
// other config of the VM here.
func (n *Node) checkConfig(job jobs.Job, b *blockers) string {
	g := job.Plan.Guest
	if g.Config == "" {
		return ""
	}
	if _, err := mapConfig(g.ConfigText, job); err != nil {
		b.add("", "config", "write it in a simpler way at the source", "config %s cannot be written for this host: %v", g.Config, err)
	}
	path := filepath.Join(n.cfg.ConfigDir, filepath.Base(g.Config))
	files, err := n.configs()
	if err != nil {
		b.add("", "config", "mend the config directory", "%v", err)
	}
	_, err = os.Lstat(path)
	free := err != nil
	for _, f := range files {
		switch {
		case f.UUID == job.VM.UUID, f.Name == job.VM.Name && f.UUID == "":
			b.add("", "config_taken", "move it away if it is an old copy", "config %s describes the VM here already", f.Path)
		case f.Path == path, f.Name == job.VM.Name:
			b.add("", "config_taken", "move it away", "config %s describes vm %s here", f.Path, f.Name)
		default:
			continue
		}
		free = free || f.Path == path
	}
	if !free {
		b.add("", "config_taken", "move it away", "%s is there already", path)
	}
	if g.AutostartLink != "" {
		n.checkLink(job, path, b)
	}
	return path
}

// checkLink wants the autostart link's name free.
func (n *Node) checkLink(job jobs.Job, config string, b *blockers) {
	path := filepath.Join(n.cfg.AutostartDir, filepath.Base(job.Plan.Guest.AutostartLink))
	text, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && n.leadsTo(text) == config {
		return
	}
	b.add("", "autostart_taken", "remove it or give it another name", "autostart link %s is there already", path)
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
