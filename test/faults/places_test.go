package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"xmig/test/cluster"
	"xmig/xen/xlsim"
)

// places are disks, names and memory that are missing, too small or taken.
func places() []fault {
	return []fault{
		{name: "destination without memory", short: true, do: func(s *scene) {
			s.there.Change(func(h *xlsim.HostSpec) { h.MemoryMiB = h.Dom0MiB + 16 })
			s.refused(s.move()...)
		}},
		{name: "destination without space", short: true, do: func(s *scene) {
			s.resized(1<<42, func() { s.refused(s.move()...) })
		}},
		{name: "destination device too small", do: deviceTooSmall},
		{name: "disk path missing at the source", guest: cluster.GuestSpec{State: cluster.Halted}, do: func(s *scene) {
			path := s.vm.Disk(s.here, 1)
			s.rename(path, path+".away")
			s.refused(s.move()...)
			s.rename(path+".away", path)
		}},
		{name: "directory missing at the destination", do: func(s *scene) {
			s.refused(s.mapped(filepath.Dir(s.vm.Disk(s.here, 0)), filepath.Join(s.c.Dir, "nowhere"))...)
		}},
		{name: "disk there already", do: func(s *scene) {
			path := s.vm.Disk(s.there, 0)
			s.write(path, "somebody's")
			s.refused(s.move()...)
			if got := s.read(path); got != "somebody's" {
				s.Errorf("%s is %q now", path, got)
			}
			if err := os.Remove(path); err != nil {
				s.Fatal(err)
			}
		}},
		{name: "disk used by another domain at the destination", short: true, do: func(s *scene) {
			other := s.c.Guest(s.there, cluster.GuestSpec{Name: "db01"})
			s.refused(s.mapped(s.vm.Disk(s.here, 0), other.Disk(s.there, 0))...)
			s.c.Proven(other, s.there, "")
		}},
		{name: "disk used by another domain at the source", guest: cluster.GuestSpec{State: cluster.Halted}, do: func(s *scene) {
			cfg, err := xlsim.WriteGuestConfig(s.c.Dir, xlsim.GuestSpec{Name: "rescue", MemoryMiB: 16,
				Disks: []xlsim.GuestDisk{{Path: s.vm.Disk(s.here, 0), Vdev: "xvdb"}}})
			if err != nil {
				s.Fatal(err)
			}
			s.here.XL("create", cfg)
			s.refused(s.move()...)
			s.here.XL("destroy", "rescue")
		}},
		{name: "name taken at the destination", do: func(s *scene) {
			other := s.c.Guest(s.there, cluster.GuestSpec{Name: "web01"})
			s.c.AwaitGuests("web01", "hv1 web01 running", "hv2 web01 running")
			s.refused("submit", "web01", "--to", "hv2")
			s.refused(s.move("--from", "hv1")...)
			s.gone(other)
		}},
		{name: "uuid taken at the destination", short: true, do: func(s *scene) {
			other := s.c.Guest(s.there, cluster.GuestSpec{Name: "clone", UUID: s.vm.UUID, State: cluster.Paused})
			s.refused(s.move("--from", "hv1")...)
			s.gone(other)
		}},
		{name: "config taken at the destination", do: func(s *scene) {
			s.write(s.vm.Config(s.there), "name = \"db01\"\nuuid = \"11111111-2222-4333-8444-555555555555\"\n")
			s.refused(s.move()...)
			if err := os.Remove(s.vm.Config(s.there)); err != nil {
				s.Fatal(err)
			}
		}},
	}
}

// mapped is the command line of a move whose one mapping is given.
func (s *scene) mapped(from, to string) []string {
	return []string{"submit", "--to", s.there.Name, "--map", "disk=" + from + ":" + to, "--max-downtime", "60s", "--", s.vm.Name}
}

func (s *scene) rename(from, to string) {
	s.Helper()
	if err := os.Rename(from, to); err != nil {
		s.Fatal(err)
	}
}

// resized lets the guest's first disk be larger for a while, by a hole.
func (s *scene) resized(size int64, during func()) {
	s.Helper()
	path := s.vm.Disk(s.here, 0)
	if err := os.Truncate(path, size); err != nil {
		s.Fatal(err)
	}
	during()
	if err := os.Truncate(path, s.vm.Disks[0]); err != nil {
		s.Fatal(err)
	}
}

func deviceTooSmall(s *scene) {
	backing := filepath.Join(s.c.Dir, "small.img")
	s.write(backing, "")
	if err := os.Truncate(backing, 4<<20); err != nil {
		s.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", backing).CombinedOutput()
	if err != nil {
		s.Skipf("SKIPPED: no loop device to be had (needs root: %v: %s); block devices were not tested", err, out)
	}
	dev := strings.TrimSpace(string(out))
	s.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			s.Errorf("detach %s: %v: %s", dev, err, out)
		}
	})
	s.refused(s.mapped(s.vm.Disk(s.here, 0), dev)...)
}
