package xen_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xmig/xen"
)

// holder is the argv prefix of the holder process.
func holder() []string { return []string{os.Args[0], "hold", "--"} }

// take takes a lock the way a worker does, or fails at once.
func take(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func mustTake(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := take(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func taken(t *testing.T, path string) bool {
	t.Helper()
	f, err := take(path)
	if err == nil {
		f.Close()
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err != nil
}

// until waits for something to become true; the test fails after 20 s.
const patience = 5 * time.Minute

// until waits; a real guest on an emulated host takes a minute to boot.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s", patience, what)
		}
	}
}

// gate is an xl that says its process id and goes on when it is let.
type gate struct {
	say, wait, mark string
}

func newGate(t *testing.T) gate {
	t.Helper()
	dir := t.TempDir()
	g := gate{filepath.Join(dir, "say"), filepath.Join(dir, "wait"), filepath.Join(dir, "mark")}
	for _, path := range []string{g.say, g.wait} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g gate) command() []string {
	return []string{"/bin/sh", "-c", fmt.Sprintf("[ $1 = destroy ] || exit 1; echo $$ $PPID > %s; read x < %s; echo carried out > %s", g.say, g.wait, g.mark), "xl"}
}

// met returns when xl runs, with its process id and its parent's.
func (g gate) met(t *testing.T) (xl, parent int) {
	t.Helper()
	f, err := os.Open(g.say)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if _, err2 := fmt.Sscan(line, &xl, &parent); err != nil || err2 != nil {
		t.Fatalf("xl said %q: %v", line, err)
	}
	return xl, parent
}

// open lets xl go on, which must be there for it.
func (g gate) open(t *testing.T, xl int) {
	t.Helper()
	until(t, "xl waits at the gate", func() bool {
		f, err := os.OpenFile(g.wait, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			_, err = f.WriteString("go\n")
			f.Close()
		}
		if err != nil && gone(xl) {
			t.Fatal("xl was ended")
		}
		return err == nil
	})
}

func (g gate) carriedOut() bool { _, err := os.Stat(g.mark); return err == nil }

// gone: a process has ended; who waits to be reaped has.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[0] == "Z" || fields[0] == "X"
}

// TestLockOutlivesWorker: however the worker dies, what it began goes on to its
// end, and the lock is taken until then and free after.
func TestLockOutlivesWorker(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		whom   func(worker int) int
	}{
		{"killed", syscall.SIGKILL, func(w int) int { return w }},
		{"killed with its group", syscall.SIGKILL, func(w int) int { return -w }},
		{"interrupted at a terminal", syscall.SIGINT, func(w int) int { return -w }},
		{"terminal lost", syscall.SIGHUP, func(w int) int { return -w }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lock, g := filepath.Join(t.TempDir(), "lock"), newGate(t)
			w := worker(t, lock, "destroy", "1", g.command())
			start(t, w)
			xl, holder := g.met(t)
			if err := syscall.Kill(tt.whom(w.Process.Pid), tt.signal); err != nil {
				t.Fatal(err)
			}
			_ = w.Wait() // it was killed
			if gone(holder) || !taken(t, lock) || g.carriedOut() {
				t.Fatal("the lock did not outlive the worker, or xl is over already")
			}
			g.open(t, xl)
			until(t, "the lock is free", func() bool { return !taken(t, lock) })
			if !g.carriedOut() {
				t.Error("the lock was free before xl had ended")
			}
		})
	}
}

// TestHolderIsDeaf: no signal ends it before its xl, but SIGKILL.
func TestHolderIsDeaf(t *testing.T) {
	g := newGate(t)
	held := xen.XL{Command: g.command()}.Held(mustTake(t, filepath.Join(t.TempDir(), "lock")), holder())
	got := make(chan error, 1)
	go func() { got <- held.Destroy(t.Context(), 1) }()
	xl, pid := g.met(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGALRM} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	g.open(t, xl)
	if err := <-got; err != nil || !g.carriedOut() {
		t.Errorf("carried out %v, %v", g.carriedOut(), err)
	}
}

// TestNothingGoesOnWithoutHolder: who kills it kills its xl.
func TestNothingGoesOnWithoutHolder(t *testing.T) {
	g := newGate(t)
	held := xen.XL{Command: g.command()}.Held(mustTake(t, filepath.Join(t.TempDir(), "lock")), holder())
	got := make(chan error, 1)
	go func() { got <- held.Destroy(t.Context(), 1) }()
	xl, pid := g.met(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var failed *xen.CommandError
	if err := <-got; !errors.As(err, &failed) || failed.Signal != syscall.SIGKILL {
		t.Errorf("after the holder was killed: %v", err)
	}
	until(t, "xl has ended with its holder", func() bool { return gone(xl) })
	if g.carriedOut() {
		t.Error("xl went on")
	}
}

// TestChildOfHolder: it has the pipes and signals that xl needs, and not the lock.
func TestChildOfHolder(t *testing.T) {
	dir := t.TempDir()
	lock, seen := filepath.Join(dir, "lock"), filepath.Join(dir, "seen")
	script := fmt.Sprintf(`ls -l /proc/self/fd > %[1]s; grep -E "^Sig(Ign|Blk)" /proc/self/status >> %[1]s`, seen)
	held := xen.XL{Command: []string{"/bin/sh", "-c", script, "xl"}}.Held(mustTake(t, lock), holder())
	if err := held.Destroy(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), lock) {
		t.Errorf("xl has the lock:\n%s", text)
	}
	if !strings.Contains(string(text), "SigBlk:\t0000000000000000") || !strings.Contains(string(text), "SigIgn:\t0000000000001000") {
		t.Errorf("want no signal blocked and SIGPIPE alone ignored:\n%s", text)
	}
}

// TestDaemonKeepsNoLock: the monitor that create leaves behind lives as long as
// its domain; the lock must not.
func TestDaemonKeepsNoLock(t *testing.T) {
	dir := t.TempDir()
	lock, pidfile := filepath.Join(dir, "lock"), filepath.Join(dir, "pid")
	f := mustTake(t, lock)
	held := xen.XL{Command: []string{"/bin/sh", "-c", "sleep 1000 & echo $! > " + pidfile, "xl"}}.Held(f, holder())
	if err := held.Destroy(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	free := !taken(t, lock)
	text, err := os.ReadFile(pidfile)
	pid, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("the daemon was gone before: %v", err)
	}
	if !free {
		t.Error("a daemon of xl keeps the lock")
	}
}

// TestHolderRefuses: without a lock that is taken through its own descriptor
// nothing is run.
func TestHolderRefuses(t *testing.T) {
	dir := t.TempDir()
	lock, mark := filepath.Join(dir, "lock"), filepath.Join(dir, "mark")
	others, err := os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	mustTake(t, lock)
	closed, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	touch := []string{"/bin/sh", "-c", "[ $1 = list ] || echo > " + mark, "xl"}
	for _, tt := range []struct {
		name string
		xl   xen.XL
		want string
	}{
		{"somebody else has it", xen.XL{Command: touch}.Held(others, holder()),
			"exit code 125: xmig hold: the lock on descriptor 3 is not ours: resource temporarily unavailable"},
		{"it was released", xen.XL{Command: touch}.Held(closed, holder()), "exit code 125: xmig hold: descriptor 3 is to be the lock: it was not inherited"},
		{"no such command", xen.XL{Command: []string{"/nowhere/xl"}}.Held(mustTake(t, lock+"2"), holder()),
			"exit code 125: xmig hold: fork/exec /nowhere/xl: no such file or directory"},
	} {
		err := tt.xl.Destroy(t.Context(), 1)
		if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Fatalf("%s: the command was run", tt.name)
		}
	}
}

// TestHolderTellsHowItEnded: exit codes and signals of xl pass through.
func TestHolderTellsHowItEnded(t *testing.T) {
	lock := mustTake(t, filepath.Join(t.TempDir(), "lock"))
	for _, tt := range []struct {
		script string
		exit   int
		signal syscall.Signal
	}{
		{"echo why >&2; exit 3", 3, 0},
		{"echo why >&2; kill -9 $$", -1, syscall.SIGKILL},
		{"echo why >&2; kill -15 $$", -1, syscall.SIGTERM},
	} {
		err := xen.XL{Command: []string{"/bin/sh", "-c", tt.script, "xl"}}.Held(lock, holder()).Destroy(t.Context(), 1)
		var failed *xen.CommandError
		if !errors.As(err, &failed) || failed.Exit != tt.exit || failed.Signal != tt.signal || failed.Stderr != "why\n" {
			t.Errorf("%s: got %+v (%v)", tt.script, failed, err)
		}
		if strings.Contains(err.Error(), "hold") {
			t.Errorf("%s: the error is about the holder: %v", tt.script, err)
		}
	}
}
