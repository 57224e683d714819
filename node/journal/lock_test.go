package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// A test that needs another process starts this very program with roleVar set.
const (
	roleVar = "XMIG_JOURNAL_TEST_ROLE"
	pathVar = "XMIG_JOURNAL_TEST_PATH"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		goleak.VerifyTestMain(m)
	case "take":
		other(func(path string) error { _, err := Acquire(context.Background(), path); return err })
	case "take-and-start":
		other(takeAndStart)
	case "inherit":
		other(func(path string) error { _, err := Inherited(os.NewFile(3, path), path); return err })
	default:
		panic(role)
	}
}

// other does act, says so on stdout and then lives until stdin ends.
func other(act func(path string) error) {
	if err := act(os.Getenv(pathVar)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready", os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// takeAndStart takes the lock and hands it to a child of its own, which has our stdin.
func takeAndStart(path string) error {
	l, err := Acquire(context.Background(), path)
	if err != nil {
		return err
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleVar+"=inherit")
	child.Stdin, child.ExtraFiles = os.Stdin, []*os.File{l.File()}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		return fmt.Errorf("child said %q: %w", line, err)
	}
	return nil
}

// process is a started other; end ends its stdin, and with it the process and
// any child that shares that stdin.
type process struct {
	cmd *exec.Cmd
	end io.Closer
}

func start(t *testing.T, role, path string) process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, pathVar+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // closed already where the test ended it
		_ = cmd.Wait() // reports the kill that the test sent
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("%s said %q: %v", role, line, err)
	}
	return process{cmd, in}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestKillOfHolderFreesLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.lock")
	p := start(t, "take", path)
	_, err := TryAcquire(path)
	var held *HeldError
	if !errors.As(err, &held) || !errors.Is(err, ErrHeld) || held.PID != p.cmd.Process.Pid || !held.Alive {
		t.Fatalf("while it is held: %v", err)
	}
	if _, err := Acquire(within(t, 60*time.Millisecond), path); !errors.Is(err, ErrHeld) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), fmt.Sprintf("pid %d", held.PID)) {
		t.Fatalf("Acquire until a deadline: %v", err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(within(t, 10*time.Second), path)
	if err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	if err := errors.Join(l.Release(), l.Release()); err != nil {
		t.Fatal(err)
	}
}

func TestInheritedDescriptorKeepsLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.lock")
	p := start(t, "take-and-start", path)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	_, err := TryAcquire(path)
	var held *HeldError
	if !errors.As(err, &held) || held.Alive || !strings.Contains(err.Error(), "which has ended") {
		t.Fatalf("the child should keep the lock: %v", err)
	}
	if err := p.end.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(within(t, 10*time.Second), path)
	if err != nil {
		t.Fatalf("after the child's end: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestReleaseLeavesTheLockToTheHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.lock")
	l, err := TryAcquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Note("job 01J, step seal"); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{l.File()}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := TryAcquire(path); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "job 01J, step seal") {
		t.Fatalf("released by us, kept by the child: %v", err)
	}
	if err := errors.Join(in.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	l, err = TryAcquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestInheritedRefusesForeignDescriptors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "vm.lock")
	l, err := DirLock(within(t, time.Second), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := DirLock(within(t, 30*time.Millisecond), dir); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "one worker") {
		t.Fatalf("second worker: %v", err)
	}
	if _, err := Inherited(l.File(), path); err == nil {
		t.Fatal("took a descriptor of another file")
	}
	held, err := TryAcquire(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Inherited(f, path); !errors.Is(err, ErrHeld) {
		t.Fatalf("a descriptor without the lock: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := Acquire(ctx, path); !errors.Is(err, gone) {
		t.Fatalf("cancelled before: %v", err)
	}
}
