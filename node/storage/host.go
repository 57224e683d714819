package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultReserve is what a file system should keep free beside all volumes: room
// for logs and journals in the dom0 that would otherwise fail with the guests.
const DefaultReserve = 256 << 20

// lockPoll is how often a call tries again for the registry's lock, which other
// processes (a command line beside the worker) hold for one change each.
const lockPoll = 10 * time.Millisecond

// Config says how a Host works.
type Config struct {
	StateDir string           // for registry and holds; created if missing, durable, local
	Reserve  int64            // bytes that each file system keeps free; see DefaultReserve
	Now      func() time.Time // nil: time.Now
}

// Validate reports all faults of c.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.StateDir) {
		errs = append(errs, fmt.Errorf("storage: state directory %q must be an absolute path", c.StateDir))
	}
	if c.Reserve < 0 {
		errs = append(errs, fmt.Errorf("storage: reserve of %d bytes is negative", c.Reserve))
	}
	return errors.Join(errs...)
}

// Host is the volumes of this machine and the registry of those that xmig has to
// do with. It may be used by several goroutines, its directory by several processes.
type Host struct {
	config  Config
	volumes directory[Record]
	holds   directory[hold]

	mu     sync.Mutex // one change at a time in this process; the flock does it among processes
	locked *os.File   // what the flock is on, while mu is held

	// at is called at the points where tests end the process.
	at func(point string)
}

// New opens the registry, creating its directories.
func New(c Config) (*Host, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Host{
		config:  c,
		volumes: directory[Record]{path: filepath.Join(c.StateDir, "volumes")},
		holds:   directory[hold]{path: filepath.Join(c.StateDir, "holds")},
		at:      func(string) {},
	}
	for _, dir := range []string{h.volumes.path, h.holds.path} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("storage: state directory: %w", err)
		}
	}
	for _, dir := range []string{filepath.Dir(c.StateDir), c.StateDir} {
		if err := syncDir(dir); err != nil {
			return nil, fmt.Errorf("storage: state directory: %w", err)
		}
	}
	return h, nil
}

// lock keeps every other change out until the function it returns is called.
func (h *Host) lock(ctx context.Context) (unlock func(), err error) {
	h.mu.Lock()
	path := filepath.Join(h.config.StateDir, "storage.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		h.mu.Unlock()
		return nil, fmt.Errorf("storage: %w", err)
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			h.locked = f
			return func() {
				// Closing ends the flock; the file was never written to.
				h.locked = nil
				_ = f.Close()
				h.mu.Unlock()
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			h.mu.Unlock()
			return nil, errors.Join(fmt.Errorf("storage: lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			h.mu.Unlock()
			return nil, errors.Join(fmt.Errorf("storage: another process is changing volumes (%s): %w", path, context.Cause(ctx)), f.Close())
		case <-tick.C:
		}
	}
}
