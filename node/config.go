package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"xmig/jobs"
)

// Config is all a worker must be told.
type Config struct {
	Name     string // node id: [a-z0-9-]{1,32}
	StateDir string // journals, sessions, registry of volumes; must survive a reboot

	XL        []string // argv prefix of xl
	Xenstore  []string // argv prefix in front of xenstore-ls and xenstore-read; empty: on PATH
	Holder    []string // argv prefix of the holder process: the binary and its hidden subcommand
	Stub      []string // argv prefix of a live migration's stub, the same way
	Simulated bool     // XL is the simulated one; shown wherever the host is
	BootID    string   // of this boot of the host; empty: the kernel's. A simulated host reboots alone

	ConfigDir    string   // where domain configs lie: /etc/xen
	AutostartDir string   // links to those started at boot: /etc/xen/auto
	SaveDir      string   // images that xendomains would restore at boot: /var/lib/xen/save
	XAPIMark     string   // a file that is there where XAPI manages the host: /etc/xensource-inventory
	LibvirtDirs  []string // where libvirt keeps a file per VM of its own
	Bridges      []string // overrides what /sys says; for hosts without bridges of their own
	Tags         []string // words that rules of the coordinator look for
	Pools        []Pool   // where volumes lie; shown, and mapped by role between hosts

	ReserveMemory int64         // bytes of host memory never given to arriving guests
	ShutdownWait  time.Duration // how long a cold move waits for the guest's shutdown
	ProveWait     time.Duration // how long a guest may take to show that it runs
	MonitorWait   time.Duration // how long a guest that has ended must stay behind until its monitor is taken for gone
	NewsWait      time.Duration // how long a job that is done waits until the bus knows where its VM is
	Heartbeat     time.Duration // presence and queue heartbeats
	LinkRate      int64         // expected rate of a lane to this host, bytes per second; 0: 1 Gbit/s
	Bandwidth     jobs.Bandwidth
	Readers       int    // reads in flight per disk, 0: default
	ContentIndex  int64  // bytes of memory that know what content lies on disks here; 0: none do
	Compress      string // auto, on, off
	Moves         int    // migrations driven at once
	Blackouts     int    // guests that may stand still at once at a host, each way
	Limits        jobs.Limits
}

// Pool is a directory or volume group that disks lie in: /srv/xen, /dev/vg0.
// Pools of one role stand for each other, whatever each host calls its own.
type Pool struct{ Role, Dir string }

// Defaults fills in what was left out.
func (c Config) Defaults() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	dur := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.StateDir, "/var/lib/xmig")
	def(&c.ConfigDir, "/etc/xen")
	def(&c.AutostartDir, filepath.Join(c.ConfigDir, "auto"))
	def(&c.SaveDir, "/var/lib/xen/save")
	def(&c.XAPIMark, "/etc/xensource-inventory")
	if len(c.LibvirtDirs) == 0 {
		c.LibvirtDirs = []string{"/run/libvirt/libxl", "/etc/libvirt/libxl"}
	}
	def(&c.Compress, "auto")
	if len(c.XL) == 0 {
		c.XL = []string{"xl"}
	}
	dur(&c.ShutdownWait, 5*time.Minute) // as long as a Linux guest's own stop timeouts add up to
	dur(&c.ProveWait, 20*time.Second)
	dur(&c.Heartbeat, 10*time.Second)
	dur(&c.MonitorWait, 10*time.Second)
	dur(&c.NewsWait, 2*time.Second)
	if c.Moves == 0 {
		c.Moves = 8 // the coordinator's limits are the real ones; this only bounds a worker
	}
	if c.Blackouts == 0 {
		c.Blackouts = 1 // all of the wire for one guest makes each of them stand still for the shortest
	}
	if c.Limits == (jobs.Limits{}) {
		c.Limits = jobs.DefaultLimits()
	}
	dur(&c.Limits.ShutdownWait, c.ShutdownWait)
	return c
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	if !jobs.ValidNode(c.Name) {
		errs = append(errs, fmt.Errorf("node name %q: want 1 to 32 of a-z, 0-9 and -", c.Name))
	}
	if len(c.Holder) == 0 {
		errs = append(errs, errors.New("no holder command"))
	}
	if len(c.Stub) == 0 {
		errs = append(errs, errors.New("no stub command"))
	}
	for what, dir := range map[string]string{"state directory": c.StateDir, "config directory": c.ConfigDir} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("%s %q: want an absolute path", what, dir))
		}
	}
	if _, err := os.Stat(c.ConfigDir); err != nil {
		errs = append(errs, fmt.Errorf("config directory: %w", err))
	}
	errs = append(errs, c.Bandwidth.Validate())
	return errors.Join(errs...)
}
