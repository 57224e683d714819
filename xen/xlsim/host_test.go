package xlsim

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// simulation is a network of hosts for one test.
type simulation struct {
	t   *testing.T
	net string
	dir string
}

func newSimulation(t *testing.T) *simulation {
	t.Helper()
	dir := t.TempDir()
	return &simulation{t: t, dir: dir, net: filepath.Join(dir, "net")}
}

// host makes a host that is stopped, and found without processes, at the end.
func (s *simulation) host(name string, change ...func(*HostSpec)) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	spec := HostSpec{Name: name, Net: s.net, MemoryMiB: 2048, SuspendTimeout: 50 * time.Millisecond}
	for _, c := range change {
		c(&spec)
	}
	if err := CreateHost(dir, spec); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.stop(dir) })
	return dir
}

func (s *simulation) stop(dir string) {
	s.t.Helper()
	domains, err := Domains(dir)
	if err != nil {
		s.t.Error(err)
	}
	if err := StopHost(dir); err != nil {
		s.t.Error(err)
	}
	for _, d := range domains {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(d.PID), "stat")); d.PID != 0 && err == nil {
			if _, err := startTime(d.PID); err == nil {
				s.t.Errorf("guest %s, process %d, is still there", d.Name, d.PID)
			}
		}
	}
	if s.t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(dir, "log", "*"))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			s.t.Logf("%s:\n%s", log, text)
		}
	}
}

// result is what a command did.
type result struct {
	exit           int
	stdout, stderr string
}

// program is a command in a process of its own. A process with the race
// detector sleeps a second before it ends unless told otherwise.
func program(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"xlsim", "--host", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run runs a command in a process of its own.
func run(t *testing.T, dir string, args ...string) result {
	t.Helper()
	cmd := program(dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatalf("%v: %v", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must is run for what has to work.
func must(t *testing.T, dir string, args ...string) result {
	t.Helper()
	r := run(t, dir, args...)
	if r.exit != 0 {
		t.Fatalf("%v: exit %d\n%s%s", args, r.exit, r.stdout, r.stderr)
	}
	return r
}

// state is a domain's State column, "" when it is not there.
func state(t *testing.T, dir, name string) string {
	t.Helper()
	domains, err := Domains(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range domains {
		if d.Name == name {
			return d.State
		}
	}
	return ""
}

// guest makes disks and a config.
func (s *simulation) guest(dir string, spec GuestSpec, sizes ...int64) string {
	s.t.Helper()
	for i, size := range sizes {
		path := filepath.Join(dir, spec.Name+"-"+string(rune('a'+i))+".img")
		if err := MakeDisk(path, size, DefaultMix(uint64(i)+1)); err != nil {
			s.t.Fatal(err)
		}
		spec.Disks = append(spec.Disks, GuestDisk{Path: path, Vdev: "xvd" + string(rune('a'+i))})
	}
	cfg, err := WriteGuestConfig(filepath.Join(dir, "etc-xen"), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// until waits for something to become true; the test fails after 20 s.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s until %s", what)
		}
	}
}

// written waits until a running guest has written so many bytes.
func written(t *testing.T, dir, name string, bytes int64) {
	t.Helper()
	until(t, name+" has written enough", func() bool { return writtenBytes(t, dir, name) >= bytes })
}

func writtenBytes(t *testing.T, dir, name string) int64 {
	t.Helper()
	total := int64(0)
	err := withStill(t.Context(), dir, name, readOnly, func(d *domainView) error {
		for i := range d.ram.disks() {
			for w := range int(d.ram.head.Writers) {
				total += int64(d.ram.writerLine(i, w).get(lineBytes))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func verified(t *testing.T, dir, name string) Report {
	t.Helper()
	r, err := Verify(t.Context(), dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

func uuidOf(t *testing.T, dir, name string) string {
	t.Helper()
	domains, err := Domains(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range domains {
		if d.Name == name {
			return d.UUID
		}
	}
	t.Fatalf("no domain %s", name)
	return ""
}
