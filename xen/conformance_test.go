package xen_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"xmig/xen"
	"xmig/xen/xlsim"
)

// The suite drives the whole driver against two hosts. It is the same for the
// simulated toolstack and a real one, and holds both to what the callers rely on.

// toolstack is what the suite runs on. For a real one XMIG_TOOLSTACK names a
// JSON file of this form; the test binary then runs in the source's dom0, where
// the source's xl is a plain one and the destination's is reached by ssh.
type toolstack struct {
	Source, Destination struct{ Command, Xenstore []string }
	// Config is a guest's. It boots and shuts down by itself when asked to; its
	// name is one word, it names a UUID, and its first disk is there by the same
	// path on both hosts. The guest runs on the source only.
	Config string
	// Ready is a command that ends with 0 once the guest is up; none: at once. A
	// PVH guest that is told to shut down before its init runs never does.
	Ready []string
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conform(t, simulated(t))
}

func TestConformanceOfRealXL(t *testing.T) {
	path := os.Getenv("XMIG_TOOLSTACK")
	if path == "" {
		t.Skip("NOT RUN on a real xl: XMIG_TOOLSTACK names no file that describes two hosts")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var real toolstack
	if err := json.Unmarshal(text, &real); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	conform(t, real)
}

// simulated is two simulated hosts and a guest's config.
func simulated(t *testing.T) toolstack {
	t.Helper()
	dir := t.TempDir()
	var sim toolstack
	sim.Source.Command, sim.Source.Xenstore = simulatedHost(t, dir, "source")
	sim.Destination.Command, sim.Destination.Xenstore = simulatedHost(t, dir, "destination")
	disk := filepath.Join(dir, "disk.img")
	if err := xlsim.MakeDisk(disk, 8<<20, xlsim.Mix{}); err != nil {
		t.Fatal(err)
	}
	var err error
	sim.Config, err = xlsim.WriteGuestConfig(dir, xlsim.GuestSpec{
		Name: "guest", MemoryMiB: 32, Bridge: "xenbr0", Rate: 1 << 20, Disks: []xlsim.GuestDisk{{Path: disk, Vdev: "xvda"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

func simulatedHost(t *testing.T, dir, name string) (xl, xenstore []string) {
	t.Helper()
	host := filepath.Join(dir, name)
	spec := xlsim.HostSpec{Name: name, Net: filepath.Join(dir, "net"), MemoryMiB: 1024, SuspendTimeout: 50 * time.Millisecond}
	if err := xlsim.CreateHost(host, spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := xlsim.StopHost(host); err != nil {
			t.Error(err)
		}
	})
	xenstore = []string{os.Args[0], "xlsim", "--host", host}
	return append(slices.Clone(xenstore), "xl"), xenstore
}

// suite is one run: two hosts, and one guest that the steps pass on.
type suite struct {
	src, dst   xen.XL
	cfg        string
	name, uuid string
	disk       string
	ready      []string
	id         int // of the guest at the source
}

func newSuite(t *testing.T, on toolstack) *suite {
	t.Helper()
	lock := mustTake(t, filepath.Join(t.TempDir(), "lock"))
	s := &suite{
		src: xen.XL{Command: on.Source.Command, Xenstore: on.Source.Xenstore}.Held(lock, holder()),
		dst: xen.XL{Command: on.Destination.Command, Xenstore: on.Destination.Xenstore}.Held(lock, holder()),
		cfg: on.Config, ready: on.Ready,
	}
	s.readConfig(t)
	return s
}

func conform(t *testing.T, on toolstack) {
	s := newSuite(t, on)
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"hosts", s.hosts},
		{"refused", s.refused},
		{"booted and shut down", s.shutDown}, // while its disks are as they were made: those of the hosts part ways
		{"created paused", s.created},
		{"what it consists of", s.consists},
		{"name and disk taken", s.taken},
		{"unpaused and paused", s.unpaused},
		{"renamed", s.renamed},
		{"saved and restored", s.moved},
		{"stream cut", s.cut},
		{"no image", s.noImage},
		{"left suspended", s.leftSuspended},
		{"destroyed", s.destroyed},
		{"gone", s.gone},
	} {
		if !t.Run(step.name, step.do) {
			break // what follows needs the guest as this step leaves it
		}
	}
	s.clear(t)
}

func (s *suite) readConfig(t *testing.T) *xen.Config {
	t.Helper()
	text, err := os.ReadFile(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := xen.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	s.name, _ = cfg.String("name")
	s.uuid, _ = cfg.String("uuid")
	disks, _ := cfg.List("disk")
	if s.uuid == "" || len(disks) == 0 {
		t.Fatalf("%s: want a uuid and a disk in it", s.cfg)
	}
	disk, err := xen.ParseDisk(disks[0])
	if err != nil {
		t.Fatal(err)
	}
	s.disk = disk.Target
	return cfg
}

// variant writes a config that differs in one thing.
func (s *suite) variant(t *testing.T, change func(*xen.Config) error) string {
	t.Helper()
	cfg := s.readConfig(t)
	if err := change(cfg); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "variant.cfg")
	if err := os.WriteFile(path, cfg.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clear ends what is left of the guest.
func (s *suite) clear(t *testing.T) {
	for _, x := range []xen.XL{s.src, s.dst} {
		if d, ok := s.find(t, x); ok {
			if err := x.Destroy(t.Context(), d.ID); err != nil {
				t.Error(err)
			}
		}
	}
}
