package node

import (
	"os"
	"path/filepath"

	"xmig/jobs"
	"xmig/xen"
)

// What ties a guest to its host, or to another program's books.

// tiesOfDomain looks at a guest that runs.
func tiesOfDomain(g *jobs.Guest, cfg xen.DomainConfig, mode jobs.Mode, b *blockers) {
	if cfg.PCI > 0 {
		b.add("", "passthrough", "detach it (`xl pci-detach`)", "vm %s has %d PCI devices of this host", g.Name, cfg.PCI)
	}
	if cfg.USB > 0 {
		b.add("", "passthrough", "detach it (`xl usbdev-detach`)", "vm %s has %d USB devices of this host", g.Name, cfg.USB)
	}
	if cfg.VTPM > 0 {
		b.add("", "vtpm", "shut the VM down, move its vTPM by hand, or take it out", "vm %s has a vTPM: its secrets lie in another domain of this host, and would stay here", g.Name)
	}
	if mode == jobs.Cold {
		return // what is booted anew takes what it finds
	}
	if cfg.NoMigrate {
		b.add("", "nomigrate", "submit with --mode cold", "vm %s may not be migrated: its config says nomigrate", g.Name)
	}
	if cfg.VNUMA {
		b.add("", "vnuma", "submit with --mode cold", "vm %s has NUMA nodes of its own: xl saves no such guest", g.Name)
	}
}

// tiesOfConfig looks at the config of a guest that is halted.
func tiesOfConfig(g *jobs.Guest, cfg *xen.Config, b *blockers) {
	for _, tie := range []struct{ key, code, what string }{
		{"pci", "passthrough", "PCI devices of this host"},
		{"usbdev", "passthrough", "USB devices of this host"},
		{"vtpm", "vtpm", "vTPMs, whose secrets lie in another domain of this host"},
	} {
		if list, _ := cfg.List(tie.key); len(list) > 0 {
			b.add("", tie.code, "take them out of the config", "config %s gives the VM %d %s", g.Config, len(list), tie.what)
		}
	}
}

// checkOwner wants no other program to keep books on the VM here: it would
// start the VM where it is no more, or end it where it has come to.
func (n *Node) checkOwner(vm jobs.VMRef, b *blockers) {
	if _, err := os.Stat(n.cfg.XAPIMark); err == nil {
		b.add("", "managed", "move it by XAPI (`xe vm-migrate`)", "this host belongs to XAPI (%s is there)", n.cfg.XAPIMark)
	}
	for _, dir := range n.cfg.LibvirtDirs {
		path := filepath.Join(dir, vm.Name+".xml")
		if _, err := os.Lstat(path); err == nil {
			b.add("", "managed", "move it by libvirt, or take it out of there (`virsh undefine`) and start it by xl", "vm %s belongs to libvirt (%s is there)", vm.Name, path)
		}
	}
}
