package xen_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"xmig/xen"
)

// runWorker is a worker in a process of its own, there to be killed: it takes a
// lock and does one thing under it. Args: lock, what, with what, xl's command.
// In the middle of a stream it says so and stands still.
func runWorker(args []string) int {
	// A worker dies of a lost terminal, also in a test run that nohup began:
	// what is ignored at the start of a program stays so unless it is asked for.
	lost := make(chan os.Signal, 1)
	signal.Notify(lost, syscall.SIGHUP)
	go func() {
		<-lost
		os.Exit(1)
	}()
	lock, err := take(args[0])
	if err == nil {
		err = workUnder(xen.XL{Command: args[3:]}.Held(lock, holder()), args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// half is some of an image: more than pipes hold, less than all.
const half = 4 << 20

func workUnder(x xen.XL, what, with string) error {
	ctx := context.Background()
	id, _ := strconv.Atoi(with) // of restore it is a file
	switch what {
	case "destroy":
		return x.Destroy(ctx, id)
	case "save":
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		go func() {
			_, err := io.CopyN(io.Discard, r, half)
			fmt.Println("half way:", err)
		}()
		return x.Save(ctx, id, w)
	case "restore":
		image, err := os.Open(with)
		if err != nil {
			return err
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		go func() {
			_, err := io.CopyN(w, image, half)
			fmt.Println("half way:", err)
		}()
		_, err = x.Restore(ctx, r)
		return err
	}
	return fmt.Errorf("%s: unknown", what)
}

// worker starts a worker in a process group of its own.
func worker(t *testing.T, lock, what, with string, xl []string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"worker", lock, what, with}, xl...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// killHalfWay kills a worker and its group in the middle of a stream.
func killHalfWay(t *testing.T, w *exec.Cmd) {
	t.Helper()
	said, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, w)
	var line string
	if _, err := fmt.Fscanln(said, &line, &line, &line); err != nil || line != "<nil>" {
		t.Fatalf("the worker said %q: %v", line, err)
	}
	if err := syscall.Kill(-w.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = w.Wait() // it was killed
}

// TestSaveOfAKilledWorker: when the lock is free again, the guest runs on.
func TestSaveOfAKilledWorker(t *testing.T) {
	t.Parallel()
	s := newSuite(t, simulated(t))
	d, err := s.src.Create(t.Context(), s.cfg, xen.Running)
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(t.TempDir(), "lock")
	killHalfWay(t, worker(t, lock, "save", strconv.Itoa(d.ID), s.src.Command))
	until(t, "the lock is free", func() bool { return !taken(t, lock) })
	if d := s.guest(t); !d.State.Alive() || d.State.Paused() {
		t.Fatalf("the lock is free, and xl has not brought the guest back: %+v", d)
	}
	s.runs(t)
}

// TestRestoreOfAKilledWorker: when the lock is free again, nothing is left.
func TestRestoreOfAKilledWorker(t *testing.T) {
	t.Parallel()
	s := newSuite(t, simulated(t))
	d, err := s.src.Create(t.Context(), s.cfg, xen.Running)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := s.src.Save(t.Context(), d.ID, image); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(t.TempDir(), "lock")
	killHalfWay(t, worker(t, lock, "restore", image.Name(), s.dst.Command))
	until(t, "the lock is free", func() bool { return !taken(t, lock) })
	if d, ok := s.find(t, s.dst); ok {
		t.Errorf("the lock is free, and half a domain is left: %+v", d)
	}
	again, err := os.Open(image.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if d, err = s.dst.Restore(t.Context(), again); err != nil || !d.State.Paused() {
		t.Errorf("the next try, from a file: %+v, %v", d, err)
	}
}
