package node

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/xen"
)

// announce makes this host known on the bus, if no other worker has its name.
func (n *Node) announce(ctx context.Context) (*bus.Presence, error) {
	home, err := n.home()
	if err != nil {
		return nil, err
	}
	n.host.Home = home
	n.refresh(ctx)
	return n.bus.Announce(ctx, bus.Announcement{Every: n.cfg.Heartbeat, Snapshot: n.snapshot})
}

// look takes the inventory again and again, so that what the bus is told is never
// much older than a heartbeat, and out of turn for who asks. Nobody else takes
// one meanwhile: of two at once the older could be told last.
func (n *Node) look(ctx context.Context) error {
	for {
		asked, err := n.awaitLook(ctx)
		if err != nil {
			return nil
		}
		n.refresh(ctx)
		if len(asked) == 0 {
			continue
		}
		tell, cancel := context.WithTimeout(ctx, n.cfg.Heartbeat/2)
		n.known.Now(tell)
		cancel()
		for _, done := range asked {
			close(done)
		}
	}
}

// awaitLook waits until an inventory is due and no guest stands still, or until
// somebody asks for one. All who have asked by then share it.
func (n *Node) awaitLook(ctx context.Context) (asked []chan struct{}, err error) {
	due := time.NewTimer(n.cfg.Heartbeat / 2)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-n.asked:
			n.mu.Lock()
			defer n.mu.Unlock()
			asked, n.asking = n.asking, nil
			return asked, nil
		case <-due.C:
			if n.now().UnixNano() >= n.hushed.Load() {
				return nil, nil
			}
			due.Reset(n.cfg.Heartbeat / 20)
		}
	}
}

// hushTime bounds how long one guest keeps the bus waiting for an inventory: as
// long as the blackouts last that anybody would call short.
const hushTime = time.Minute

// hush has no inventory taken for a while: a guest is about to stand still here,
// or to be let go, and each command of a slow toolstack lengthens its blackout.
func (n *Node) hush(from time.Time) {
	until := from.Add(hushTime).UnixNano()
	for old := n.hushed.Load(); old < until && !n.hushed.CompareAndSwap(old, until); old = n.hushed.Load() {
	}
}

// news tells the bus at once that a VM came or went, so that who reads that a
// job is done finds the VM where it says. The job waits for it no longer than
// NewsWait; the bus is told as soon as the host has been looked at, all the same.
func (n *Node) news(ctx context.Context) {
	if n.known == nil {
		return
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.asking = append(n.asking, done)
	n.mu.Unlock()
	select {
	case n.asked <- struct{}{}:
	default: // it is known that somebody asks
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.NewsWait)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	case <-n.life.Done(): // nobody looks any more
	}
}

// home is the random id of this state directory.
func (n *Node) home() (string, error) {
	path := filepath.Join(n.cfg.StateDir, "home")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := rand.Text()
		return id, writeDurably(path, []byte(id), 0o600)
	}
	return string(raw), err
}

// snapshot is the last inventory; it never waits for xl.
func (n *Node) snapshot() jobs.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host
	h.Seen = n.now()
	return h
}

// refresh takes the inventory.
func (n *Node) refresh(ctx context.Context) {
	h := n.inventory(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	h.Home = n.host.Home
	n.host = h
}

// inventory asks xl and the config directories what is here. What cannot be
// read is said in Problem; the rest is still told.
func (n *Node) inventory(ctx context.Context) jobs.Host {
	h := jobs.Host{Node: n.cfg.Name, Instance: n.instance, Simulated: n.cfg.Simulated, Started: n.started,
		Version: Version, Tags: n.cfg.Tags, Bridges: n.bridges(), Seen: n.now()}
	h.Hostname, _ = os.Hostname()
	sends := n.bandwidth.sending()
	h.Sends = &sends
	var problems []error
	if info, err := n.xl.Info(ctx); err != nil {
		problems = append(problems, err)
	} else {
		h.Xen, h.VirtCaps, h.HWCaps, h.CPUs = info.Version.String(), info.VirtCaps, info.HWCaps, info.CPUs
		h.Memory, h.FreeMemory = info.TotalMemory, info.FreeMemory-n.cfg.ReserveMemory
		if reserved, err := n.heldMemory(ctx, ""); err != nil {
			problems = append(problems, err)
		} else {
			h.FreeMemory = max(0, h.FreeMemory-reserved)
		}
	}
	vms, err := n.vms(ctx)
	if err != nil {
		problems = append(problems, err)
	}
	h.VMs = vms
	for _, p := range n.cfg.Pools {
		free, name, err := n.volumes.Space(ctx, filepath.Join(p.Dir, "volume"))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		h.Pools = append(h.Pools, jobs.Pool{Name: name, Dir: p.Dir, Role: p.Role, Free: free})
	}
	shadows, err := n.volumes.Shadows(ctx)
	if err != nil {
		problems = append(problems, err)
	}
	for _, s := range shadows {
		h.Shadows = append(h.Shadows, jobs.Shadow{VM: s.VM, Disk: s.Disk, Size: s.Size})
	}
	if err := errors.Join(problems...); err != nil {
		h.Problem = err.Error()
	}
	return h
}

// vms lists the guests that run here and those that are halted and have a config.
func (n *Node) vms(ctx context.Context) ([]jobs.VM, error) {
	domains, err := n.domains(ctx)
	if err != nil {
		return nil, err
	}
	lives, err := n.xl.Configs(ctx)
	if err != nil {
		return nil, fmt.Errorf("configs of domains: %w", err)
	}
	configs, problem := n.configs()
	var vms []jobs.VM
	known := map[string]bool{} // by the UUID and the name of what lives, and by config
	for _, d := range domains {
		if xen.Migrating(d.Name) {
			continue
		}
		cfg, ok := lives[d.ID]
		if !ok {
			continue // it ended between the two questions
		}
		vm := n.running(ctx, d, cfg, configs)
		known[vm.Config], known[d.UUID], known[d.Name] = true, true, true
		vms = append(vms, vm)
	}
	for _, c := range configs {
		// A second config of a guest that lives is that guest's problem, and no
		// halted VM of its own.
		if c.Name != "" && !known[c.Path] && !known[c.Name] && (c.UUID == "" || !known[c.UUID]) {
			vms = append(vms, n.halted(ctx, c, configs))
		}
	}
	return vms, problem
}

func (n *Node) configs() ([]xen.ConfigFile, error) {
	return xen.FindConfigs(n.cfg.ConfigDir, n.cfg.AutostartDir)
}

// running describes a domain from xl's own account of it.
func (n *Node) running(ctx context.Context, d xen.Domain, cfg xen.DomainConfig, configs []xen.ConfigFile) jobs.VM {
	vm := jobs.VM{VMRef: jobs.VMRef{UUID: d.UUID, Name: d.Name}, State: stateOf(d), Type: cfg.Type, Memory: d.Memory, VCPUs: d.VCPUs}
	c, err := xen.MatchConfig(configs, d.Name, d.UUID)
	switch {
	case err == nil:
		vm.Config, vm.Autostart = c.Path, c.Autostart != ""
		if c.Err != nil {
			vm.Problem = c.Err.Error()
		}
	case !errors.Is(err, xen.ErrNoConfig):
		vm.Problem = err.Error()
	}
	for _, disk := range cfg.Disks {
		if disk.Path == "" {
			continue
		}
		vm.Disks = append(vm.Disks, n.disk(ctx, disk.Vdev, disk.Path, disk.ReadOnly))
	}
	for _, nic := range cfg.NICs {
		vm.Bridges = append(vm.Bridges, nic.Bridge)
	}
	return vm
}

// halted describes a VM that only has a config file.
func (n *Node) halted(ctx context.Context, c xen.ConfigFile, configs []xen.ConfigFile) jobs.VM {
	vm := jobs.VM{VMRef: jobs.VMRef{UUID: c.UUID, Name: c.Name}, State: jobs.VMHalted, Config: c.Path, Autostart: c.Autostart != ""}
	if vm.UUID == "" {
		vm.UUID = derivedUUID(n.cfg.Name, c.Path)
	}
	err := c.Err
	if err == nil {
		_, err = xen.MatchConfig(configs, c.Name, c.UUID)
	}
	if err != nil {
		vm.Problem = err.Error()
		return vm
	}
	for _, disk := range c.Disks {
		if disk.Target == "" {
			continue
		}
		vm.Disks = append(vm.Disks, n.disk(ctx, disk.Vdev, disk.Target, disk.ReadOnly))
	}
	vm.Bridges, vm.Type = c.Bridges, c.Type
	vm.Memory, vm.VCPUs = c.MemoryMiB<<20, c.VCPUs
	return vm
}

func (n *Node) disk(ctx context.Context, vdev, path string, ro bool) jobs.Disk {
	d := jobs.Disk{Name: vdev, Path: path, ReadOnly: ro}
	if v, err := n.volumes.Inspect(ctx, path); err == nil {
		d.Size, d.Allocated, d.Kind = v.Size, v.Allocated, string(v.Kind)
	}
	return d
}

// derivedUUID names a halted VM whose config has no UUID: the same at each
// look, and unlike any that Xen makes (version 5 of RFC 9562).
func derivedUUID(node, path string) string {
	h := sha1.Sum([]byte("xmig halted vm " + node + " " + path))
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// bridges are the network bridges a vif can be plugged into.
func (n *Node) bridges() []string {
	if len(n.cfg.Bridges) > 0 {
		return n.cfg.Bridges
	}
	var names []string
	paths, _ := filepath.Glob("/sys/class/net/*/bridge")
	for _, p := range paths {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	return names
}

// Version is the program's, set by the command.
var Version = "dev"

// hasBridge knows that an Open vSwitch bridge has no place in /sys/class/net/*/bridge.
func hasBridge(have []string, want string) bool {
	for _, b := range have {
		if b == want || strings.HasPrefix(want, b+".") {
			return true
		}
	}
	_, err := os.Stat("/sys/class/net/" + want)
	return err == nil
}
