package moves_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/test/cluster"
	"xmig/test/moves"
	"xmig/xen/xlsim"
)

func TestMain(m *testing.M) { cluster.Main(m) }

const guest = "web01"

func TestThereAndBack(t *testing.T) {
	for _, mode := range []jobs.Mode{jobs.Suspend, jobs.Cold} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			moves.ThereAndBack(t, open, guest, mode, 1)
		})
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	moves.Preflight(t, open, guest)
}

func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: a worker killed in every step of one move; it takes a minute, and test/faults kills workers in some steps in the short run too")
	}
	for _, end := range []moves.End{moves.SourceEnd, moves.DestinationEnd} {
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			moves.Killed(t, slowly, guest, end, jobs.Suspend)
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	moves.Cancelled(t, slowly, guest, jobs.Suspend)
}

// simulation is a cluster of two SIMULATED hosts.
type simulation struct {
	t  *testing.T
	c  *cluster.Cluster
	vm *cluster.Guest
}

func open(t *testing.T) moves.Installation {
	c := cluster.New(t, cluster.Settings{})
	vm := c.Guest(c.Hosts[0], cluster.GuestSpec{Name: guest})
	c.AwaitSeen(vm, c.Hosts[0])
	return &simulation{t: t, c: c, vm: vm}
}

// slowly has xl take its time, as the real one does: a step must last until a
// kill arrives.
func slowly(t *testing.T) moves.Installation {
	s := open(t).(*simulation)
	for _, h := range s.c.Hosts {
		for _, command := range []string{"list", "info", "xenstore-ls", "unpause", "destroy"} {
			h.Slow(command, 200*time.Millisecond)
		}
	}
	return s
}

func (s *simulation) Bus() *bus.Bus           { return s.c.Bus() }
func (s *simulation) Hosts() [2]string        { return [2]string{s.c.Hosts[0].Name, s.c.Hosts[1].Name} }
func (s *simulation) Patience() time.Duration { return 3 * time.Minute }
func (s *simulation) Aim(string)              {} // a kill takes no time here
func (s *simulation) Kill(host string)        { s.host(host).Node.Kill() }
func (s *simulation) Revive(host string)      { s.host(host).Node.Start() }
func (s *simulation) Now(string) time.Time    { return time.Now() }

func (s *simulation) host(name string) *cluster.Host {
	s.t.Helper()
	for _, h := range s.c.Hosts {
		if h.Name == name {
			return h
		}
	}
	s.t.Fatalf("no host %s", name)
	return nil
}

func (s *simulation) Xmig(args ...string) moves.Said {
	s.t.Helper()
	r := s.c.Command(args...)
	return moves.Said{Code: r.Code, Stdout: r.Stdout, Stderr: r.Stderr}
}

// MoveArgs limits the seed's rate, so that a kill arrives in it.
func (s *simulation) MoveArgs(_, to string, flags ...string) []string {
	from := s.c.Hosts[0]
	if from.Name == to {
		from = s.c.Hosts[1]
	}
	return s.c.MoveArgs(s.vm, from, s.host(to), append([]string{"--bwlimit", "16MiB/s"}, flags...)...)
}

func (s *simulation) Proven(_, at, job string) {
	s.t.Helper()
	s.c.Proven(s.vm, s.host(at), job)
	s.c.AwaitSeen(s.vm, s.host(at))
}

// Still lists the files of both hosts, but for those that grow by themselves.
func (s *simulation) Still() string {
	s.t.Helper()
	var b strings.Builder
	for _, h := range s.c.Hosts {
		for _, dir := range []string{filepath.Join(h.Dir, "disks"), filepath.Join(h.Dir, "etc-xen"), filepath.Join(h.State, "arrivals"), filepath.Join(h.State, "staged")} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil {
					fmt.Fprintln(&b, h.Name, path, d.Type())
				}
				return nil // what was there when it was listed and is gone now shows in the other list
			})
			if err != nil {
				s.t.Fatal(err)
			}
		}
		domains, err := xlsim.Domains(h.Dir)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, d := range domains {
			fmt.Fprintln(&b, h.Name, d.Name, d.UUID)
		}
	}
	return b.String()
}

func (s *simulation) Obstacles(_, _ string) []moves.Obstacle {
	here, there := s.c.Hosts[0], s.c.Hosts[1]
	var other *cluster.Guest
	away := func() {
		there.XL("destroy", other.Name)
		for _, path := range []string{other.Config(there), other.Autostart(there), other.Disk(there, 0), other.Disk(there, 1)} {
			if err := os.Remove(path); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return []moves.Obstacle{
		{
			Name: "not enough memory", Named: []string{"memory", there.Name},
			Place: func() { there.Change(func(h *xlsim.HostSpec) { h.MemoryMiB = h.Dom0MiB + 16 }) },
			Clear: func() { there.Change(func(h *xlsim.HostSpec) { h.MemoryMiB = 8192 }) },
		},
		{
			Name: "no space", Named: []string{"space", there.Name},
			Place: func() { s.truncate(s.vm.Disk(here, 0), 1<<42) },
			Clear: func() { s.truncate(s.vm.Disk(here, 0), s.vm.Disks[0]) },
		},
		{
			Name: "name taken", Named: []string{guest, there.Name},
			Move: []string{"--from", here.Name},
			Place: func() {
				other = s.c.Guest(there, cluster.GuestSpec{Name: guest})
				s.c.AwaitGuests(guest, here.Name+" "+guest+" running", there.Name+" "+guest+" running")
			},
			Clear: func() { away(); s.c.AwaitGuests(guest, here.Name+" "+guest+" running") },
		},
		{
			Name: "disk used by another guest", Named: []string{"attached to domain", there.Name},
			Move:  []string{"--map", "disk=" + s.vm.Disk(here, 0) + ":" + filepath.Join(there.Dir, "disks", "db01-0.img")},
			Place: func() { other = s.c.Guest(there, cluster.GuestSpec{Name: "db01"}) },
			Clear: func() { s.c.Proven(other, there, ""); away() },
		},
	}
}

func (s *simulation) truncate(path string, size int64) {
	s.t.Helper()
	if err := os.Truncate(path, size); err != nil {
		s.t.Fatal(err)
	}
}
