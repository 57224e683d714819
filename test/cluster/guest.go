package cluster

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"xmig/xen/xlsim"
)

// GuestSpec says what a guest shall be. Zero fields get small defaults.
type GuestSpec struct {
	Name      string
	UUID      string     // (random)
	Type      string     // pv or pvh (pv); pvh can be moved live
	MemoryMiB int        // (32)
	Disks     []int64    // sizes in bytes (16 and 8 MiB)
	Rate      int64      // fsynced writes, bytes per second (1 MiB/s)
	State     GuestState // (running)
	Image     uint64     // what its first disk is made from, the same for clones (an image of its own)
	Extra     []string   // more lines for its config
}

// GuestState is how a guest is made.
type GuestState string

const (
	Running GuestState = "running"
	Paused  GuestState = "paused" // built and never run
	Halted  GuestState = "halted" // a config and disks
)

// Guest is a VM of the cluster.
type Guest struct {
	Name, UUID string
	Home       *Host // where it was made
	Disks      []int64
	State      GuestState
}

// Disk is the path of its i-th disk on a host.
func (g *Guest) Disk(h *Host, i int) string {
	return filepath.Join(h.disks(), fmt.Sprintf("%s-%d.img", g.Name, i))
}

// Config is the path of its config on a host.
func (g *Guest) Config(h *Host) string { return filepath.Join(h.configs(), g.Name+".cfg") }

// Autostart is the path of the link by which it starts with the host.
func (g *Guest) Autostart(h *Host) string { return filepath.Join(h.configs(), "auto", g.Name+".cfg") }

func (h *Host) disks() string   { return filepath.Join(h.Dir, "disks") }
func (h *Host) configs() string { return filepath.Join(h.Dir, "etc-xen") }

// seed makes the contents of all disks of a test run differ.
var seed atomic.Uint64

// Guest makes disks, config and autostart link of a guest, and starts it.
func (c *Cluster) Guest(h *Host, s GuestSpec) *Guest {
	c.t.Helper()
	if s.UUID == "" {
		s.UUID = newUUID()
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = 32
	}
	if s.Disks == nil {
		s.Disks = []int64{16 << 20, 8 << 20}
	}
	if s.State == "" {
		s.State = Running
	}
	g := &Guest{Name: s.Name, UUID: s.UUID, Home: h, Disks: s.Disks, State: s.State}
	spec := xlsim.GuestSpec{Name: s.Name, UUID: s.UUID, Type: s.Type, MemoryMiB: s.MemoryMiB, Rate: s.Rate, Bridge: "xenbr0", Extra: s.Extra}
	for i, size := range s.Disks {
		path, image := g.Disk(h, i), seed.Add(1)
		if i == 0 && s.Image != 0 {
			image = s.Image
		}
		if err := xlsim.MakeDisk(path, size, xlsim.DefaultMix(image)); err != nil {
			c.t.Fatal(err)
		}
		spec.Disks = append(spec.Disks, xlsim.GuestDisk{Path: path, Vdev: "xvd" + string(rune('a'+i))})
	}
	cfg, err := xlsim.WriteGuestConfig(h.configs(), spec)
	if err == nil {
		err = os.Symlink(cfg, g.Autostart(h))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	switch s.State {
	case Running:
		h.XL("create", cfg)
	case Paused:
		h.XL("create", "-p", cfg)
	}
	return g
}

// XL runs a command of the host's toolstack, as its administrator would.
func (h *Host) XL(args ...string) string {
	h.c.t.Helper()
	out, err := exec.Command(toolstack, append([]string{"--host", h.Dir, "xl"}, args...)...).CombinedOutput()
	if err != nil {
		h.c.t.Fatalf("xl %s on %s: %v: %s", strings.Join(args, " "), h.Name, err, out)
	}
	return string(out)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4 of RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
