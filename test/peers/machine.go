package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xmig/cmd/xmig/bench"
)

// machine is where tools run: a namespace with nothing but a loopback, and a
// cgroup for each end.
type machine struct {
	groups map[bench.Role]*group
	parent string
	apart  bool // each end has one processor, its own, as two hosts of one have
}

// group is one end's cgroup.
type group struct {
	path string
	dir  *os.File
}

// newMachine must be called in a namespace of its own.
func newMachine(apart bool) (*machine, error) {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("loopback: %w: %s", err, out)
	}
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	m := &machine{parent: filepath.Join(root, fmt.Sprintf("xmig-peers-%d", os.Getpid())), groups: map[bench.Role]*group{}, apart: apart}
	if apart && runtime.NumCPU() < len(ownProcessor) {
		return nil, fmt.Errorf("--apart needs %d processors, here are %d", len(ownProcessor), runtime.NumCPU())
	}
	for _, r := range []bench.Role{bench.Source, bench.Destination} {
		g := &group{path: filepath.Join(m.parent, string(r))}
		m.groups[r] = g
		err := os.MkdirAll(g.path, 0o755)
		if err == nil {
			g.dir, err = os.Open(g.path)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cgroup of the %s: %w", r, err), m.close())
		}
	}
	return m, nil
}

// close ends whatever is left in the cgroups and removes them.
func (m *machine) close() error {
	var errs []error
	for _, g := range m.groups {
		if g.dir != nil {
			errs = append(errs, os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0), g.settle(0), g.dir.Close())
		}
		errs = append(errs, os.Remove(g.path))
	}
	return errors.Join(append(errs, os.Remove(m.parent))...)
}

// cgroupRoot finds where cgroups of version 2 are.
func cgroupRoot() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(text), "\n") {
		mount, fs, _ := strings.Cut(line, " - ")
		if f := strings.Fields(mount); strings.HasPrefix(fs, "cgroup2 ") && len(f) > 4 {
			return f[4], nil
		}
	}
	return "", errors.New("no cgroup2 is mounted: mount one, as in `mount -t cgroup2 none /mnt`")
}

// ownProcessor is where an end runs apart from the other.
var ownProcessor = map[bench.Role]string{bench.Source: "0", bench.Destination: "1"}

// in makes a command run at one end.
func (m *machine) in(r bench.Role, cmd *exec.Cmd) *exec.Cmd {
	if m.apart && cmd.Err == nil {
		cmd.Args = append([]string{"taskset", "-c", ownProcessor[r], cmd.Path}, cmd.Args[1:]...)
		cmd.Path, cmd.Err = exec.LookPath("taskset")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(m.groups[r].dir.Fd()), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// cpu is what all processes that ever were in the group have used.
func (g *group) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(g.path, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	return parseUsage(string(text))
}

func parseUsage(text string) (time.Duration, error) {
	for _, line := range strings.Split(text, "\n") {
		if n, ok := strings.CutPrefix(line, "usage_usec "); ok {
			usec, err := strconv.ParseInt(n, 10, 64)
			return time.Duration(usec) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("cpu.stat without usage_usec: %q", text)
}

// processes is how many are in the group now.
func (g *group) processes() (int, error) {
	text, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	return len(strings.Fields(string(text))), err
}

// settle waits until no more than n processes are left: what a daemon forked
// for a client outlives it by a moment, and its CPU time is part of the run.
func (g *group) settle(n int) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		left, err := g.processes()
		if err != nil || left <= n {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %d processes are left, want %d", g.path, left, n)
		}
	}
}

// wire is what the namespace's loopback has sent so far.
func wire() (int64, error) {
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	return parseSent(string(text))
}

func parseSent(text string) (int64, error) {
	for _, line := range strings.Split(text, "\n") {
		name, counters, _ := strings.Cut(line, ":")
		if f := strings.Fields(counters); strings.TrimSpace(name) == "lo" && len(f) == 16 {
			return strconv.ParseInt(f[8], 10, 64)
		}
	}
	return 0, fmt.Errorf("no loopback among the network's counters: %q", text)
}

// tick is the unit of /proc/stat, on all architectures that Go knows.
const tick = 10 * time.Millisecond

// busy is the CPU time of all processors that was not idle, and their number.
func busy() (time.Duration, int, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseBusy(string(text))
}

func parseBusy(text string) (sum time.Duration, processors int, err error) {
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			processors++
			continue
		}
		for i, n := range f[1:9] { // user nice system idle iowait irq softirq steal
			ticks, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/stat: %w", err)
			}
			if i != 3 && i != 4 {
				sum += time.Duration(ticks) * tick
			}
		}
	}
	if processors == 0 {
		return 0, 0, fmt.Errorf("no processors in /proc/stat: %q", text)
	}
	return sum, processors, nil
}

// cost is what one run took.
type cost struct {
	Wall        time.Duration `json:"wall_ns"`
	Source      time.Duration `json:"source_cpu_ns"`
	Destination time.Duration `json:"destination_cpu_ns"`
	Wire        int64         `json:"wire_bytes"`
	Others      float64       `json:"others"` // share of the machine that others had meanwhile: wall time of a run with much of it says little
}

// CPU is that of both ends.
func (c cost) CPU() time.Duration { return c.Source + c.Destination }

// measure runs what must be measured. Whatever stands ready, stands already.
func (m *machine) measure(ctx context.Context, run func(context.Context) error) (c cost, err error) {
	src, dst := m.groups[bench.Source], m.groups[bench.Destination]
	standing, err := dst.processes()
	if err != nil {
		return c, err
	}
	standingHere, err := src.processes()
	if err != nil {
		return c, err
	}
	srcBefore, err1 := src.cpu()
	dstBefore, err2 := dst.cpu()
	wireBefore, err3 := wire()
	busyBefore, _, err4 := busy()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return c, err
	}
	begin := time.Now()
	if err := run(ctx); err != nil {
		return c, err
	}
	c.Wall = time.Since(begin)
	busyAfter, processors, err := busy()
	if err != nil {
		return c, err
	}
	if err := errors.Join(src.settle(standingHere), dst.settle(standing)); err != nil {
		return c, err
	}
	srcAfter, err1 := src.cpu()
	dstAfter, err2 := dst.cpu()
	wireAfter, err3 := wire()
	c.Source, c.Destination, c.Wire = srcAfter-srcBefore, dstAfter-dstBefore, wireAfter-wireBefore
	c.Others = max(0, (busyAfter-busyBefore-c.CPU()).Seconds()/c.Wall.Seconds()/float64(processors))
	return c, errors.Join(err1, err2, err3)
}
