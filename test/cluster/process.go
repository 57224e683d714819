package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is one run after another of one daemon. Its runs share a log.
type Process struct {
	Name string
	Log  string // path
	t    testing.TB
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

func (c *Cluster) process(name string, args ...string) *Process {
	p := &Process{Name: name, Log: filepath.Join(c.Dir, name+".log"), t: c.t, args: args}
	c.t.Cleanup(p.end)
	return p
}

// Start starts the daemon, as if after a crash: nothing is waited for.
func (p *Process) Start() {
	p.t.Helper()
	if p.Alive() {
		p.t.Fatalf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A test run that is killed leaves no daemons behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fmt.Fprintf(log, "==== %s: xmig %s\n", time.Now().Format(time.RFC3339Nano), strings.Join(p.cmd.Args[1:], " "))
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%s: %v", p.Name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait() // how it ended is told by Alive and in its log
	}(p.cmd, p.done)
}

// Alive tells whether the daemon runs.
func (p *Process) Alive() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Memory is what the daemon has of the machine's memory, in bytes: now, and at most so far.
func (p *Process) Memory() (now, most int64) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatalf("%s: %v; see %s", p.Name, err, p.Log)
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			most = kib << 10
		}
	}
	return now, most
}

// Kill ends the daemon at once, by SIGKILL, and returns when it is gone. The
// commands that it runs go on.
func (p *Process) Kill() {
	p.t.Helper()
	if !p.Alive() {
		p.t.Fatalf("%s does not run; see %s", p.Name, p.Log)
	}
	p.signal(syscall.SIGKILL)
}

// Stop ends the daemon softly, by SIGTERM.
func (p *Process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
}

// stopTime is how long a daemon may take to end softly.
const stopTime = 20 * time.Second

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v", p.Name, err)
	}
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.t.Errorf("%s does not end within %s of %v; see %s", p.Name, stopTime, sig, p.Log)
	}
}

// end is for the test's end.
func (p *Process) end() {
	if p.Alive() {
		p.signal(syscall.SIGKILL)
	}
}

// Kill ends such processes (Signal) by SIGKILL. None is well too: it may have ended.
func (h *Host) Kill(begin string, words ...string) {
	h.c.t.Helper()
	h.Signal(syscall.SIGKILL, begin, words...)
}

// running lists the processes that run a binary of ours and have word among their
// arguments, with their command lines as if xmig were all programs: the path of
// a host's directory finds its xl commands and guests.
func running(word string) (map[int]string, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	found := map[int]string{}
	for _, exe := range stats {
		path, err := os.Readlink(exe)
		if err != nil || path != binary && path != toolstack {
			continue // ended meanwhile, or somebody else's
		}
		dir := filepath.Dir(exe)
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		pid, perr := strconv.Atoi(filepath.Base(dir))
		if err == nil && perr == nil && strings.Contains(strings.Join(args, "\n"), word) {
			if args = args[1:]; path == toolstack {
				args = slices.Insert(args, 0, "xlsim")
			}
			found[pid] = strings.Join(args, " ")
		}
	}
	return found, nil
}
