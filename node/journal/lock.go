package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is wrapped when somebody else has the lock. The error is a *HeldError.
var ErrHeld = errors.New("lock is held")

// pollEvery is how often Acquire tries again. A blocking flock could not be
// ended by a context; a try costs a system call, and locks change hands in seconds.
const pollEvery = 20 * time.Millisecond

// HeldError says who took a lock that could not be had.
type HeldError struct {
	Path  string
	PID   int    // process that took it, 0 if unknown
	Alive bool   // whether that process still runs; if not, one that it started holds the lock
	Note  string // what the taker said about itself, may be empty
}

func (e *HeldError) Error() string {
	who := "by an unknown process"
	if e.PID != 0 {
		who = fmt.Sprintf("by pid %d", e.PID)
		if e.Note != "" {
			who += " (" + e.Note + ")"
		}
		if !e.Alive {
			who += ", which has ended: a command that it started still runs and keeps the lock"
		}
	}
	return fmt.Sprintf("lock %s is held %s", e.Path, who)
}

func (e *HeldError) Unwrap() error { return ErrHeld }

// Lock is an exclusive lock that is held. It ends when the last descriptor of
// its file is closed, in whatever process.
type Lock struct {
	path string
	file *os.File
}

// Acquire takes the lock at path, created if missing, and waits for it until ctx
// ends; the error then names the holder and wraps both ErrHeld and ctx's cause.
// The file is never removed: a lock on a file without a name would exclude nobody.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("acquire %s: %w", path, context.Cause(ctx))
	}
	var tick *time.Ticker
	for {
		l, err := TryAcquire(path)
		if err == nil || !errors.Is(err, ErrHeld) {
			return l, err
		}
		if tick == nil {
			tick = time.NewTicker(pollEvery)
			defer tick.Stop()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// TryAcquire takes the lock at path or fails at once with a *HeldError.
func TryAcquire(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("acquire lock: %w", err)
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			held := heldBy(f, path)
			return nil, errors.Join(held, f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		same, err := names(path, f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if !same { // somebody removed the file under us
			if err := f.Close(); err != nil {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
			continue
		}
		l := &Lock{path: path, file: f}
		if err := l.Note(filepath.Base(os.Args[0])); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return l, nil
	}
}

// Inherited makes a Lock of a descriptor that another process handed over with
// File. It fails if the lock is not held through this very descriptor.
func Inherited(f *os.File, path string) (*Lock, error) {
	if same, err := names(path, f); err != nil || !same {
		return nil, errors.Join(fmt.Errorf("inherited descriptor %s is not the lock %s", f.Name(), path), err)
	}
	// On the same open file a second flock is granted, on any other it is refused.
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("inherited lock %s: %w: %w", path, heldBy(f, path), err)
	}
	unix.CloseOnExec(int(f.Fd()))
	return &Lock{path: path, file: f}, nil
}

// DirLock takes the lock of a whole state directory: one worker each. It waits
// for the worker before it until ctx ends.
func DirLock(ctx context.Context, dir string) (*Lock, error) {
	l, err := Acquire(ctx, filepath.Join(dir, "worker.lock"))
	if err != nil {
		return nil, fmt.Errorf("state directory %s serves one worker at a time: %w", dir, err)
	}
	return l, nil
}

// File returns the descriptor that a process must inherit to keep the lock.
func (l *Lock) File() *os.File { return l.file }

// Note leaves text, with our pid, for the error that others get while the lock
// is held. It is a hint: nothing is decided by it.
func (l *Lock) Note(text string) error {
	text = fmt.Sprintf("%d %s\n", os.Getpid(), strings.ReplaceAll(text, "\n", " "))
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("note in lock %s: %w", l.path, err)
	}
	// A full disk must not cost the lock: then the holder stays unknown.
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("note in lock %s: %w", l.path, err)
	}
	return nil
}

// Release closes our descriptor. The lock is free then, unless a process that
// inherited it still runs. A second call does nothing.
func (l *Lock) Release() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("release lock %s: %w", l.path, err)
	}
	return nil
}

// heldBy reads the note of the holder of f.
func heldBy(f *os.File, path string) *HeldError {
	held := &HeldError{Path: path}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil {
		return held
	}
	pid, note, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if _, err := fmt.Sscanf(pid, "%d", &held.PID); err != nil || held.PID <= 0 {
		return &HeldError{Path: path}
	}
	held.Note = note
	held.Alive = !errors.Is(unix.Kill(held.PID, 0), unix.ESRCH)
	return held
}

// flock repeats the call when a signal of the Go runtime interrupts it.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
