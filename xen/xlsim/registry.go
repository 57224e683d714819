package xlsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// host is domains.json while its lock is held. What a command changes becomes
// true with save; without it the file stays as it was.
type host struct {
	dir  string
	lock *os.File

	NextID   int
	NextLoop int
	Domains  []*domain
}

// domain is a line of domains.json. The run state is not here: the guest's
// status file has it.
type domain struct {
	ID      int
	Name    string
	Config  domainConfig
	Created time.Time
	// Built is set when the domain's memory is whole and its guest answers.
	// Before, it is what an interrupted build leaves: paused, without CPUs.
	Built bool
	// Monitor: somebody clears the domain away when it has shut down. Xen up to
	// 4.19 loses it with the first suspend.
	Monitor bool
	Guest   process      // the guest, once it is there
	Worker  process      // the `xl` that builds or saves it at the moment
	Disks   []attachment // connected to their backends
}

func (d *domain) UUID() string { return d.Config.CInfo.UUID }

// attachment is a disk of a domain, connected to its backend.
type attachment struct {
	diskConfig
	DevID   int
	Device  device
	Sectors int64
}

// device is what is behind a path, whatever the path is.
type device struct {
	Block    bool
	Dev, Ino uint64 // of a regular file
	Rdev     uint64 // of a block device
	Minor    int    // of the made-up loop device a regular file is behind
}

func (d device) same(e device) bool {
	if d.Block != e.Block {
		return false
	}
	return d.Block && d.Rdev == e.Rdev || !d.Block && d.Dev == e.Dev && d.Ino == e.Ino
}

// lockHost locks the host and reads its domains. A domain whose process is
// gone is dropped, with everything it left.
func lockHost(dir string) (*host, error) {
	lock, err := flock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("xlsim host %s: %w", dir, err)
	}
	h := &host{dir: dir, lock: lock, NextID: 1, NextLoop: firstLoop}
	data, err := os.ReadFile(h.path("domains.json"))
	if err == nil {
		err = json.Unmarshal(data, h)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("xlsim host %s: %w", dir, err), lock.Close())
	}
	if err := h.prune(); err != nil {
		return nil, errors.Join(fmt.Errorf("xlsim host %s: %w", dir, err), lock.Close())
	}
	return h, nil
}

// prune drops the domains whose guest has died.
func (h *host) prune() error {
	alive := slices.DeleteFunc(slices.Clone(h.Domains), func(d *domain) bool {
		return d.Guest.PID != 0 && !d.Guest.alive()
	})
	if len(alive) == len(h.Domains) {
		return nil
	}
	for _, d := range h.Domains {
		if !slices.Contains(alive, d) {
			if err := os.RemoveAll(h.runtime(d.ID)); err != nil {
				return err
			}
		}
	}
	h.Domains = alive
	return h.save()
}

func (h *host) unlock() { h.lock.Close() }

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// runtime is the directory of a domain as long as it exists.
func (h *host) runtime(id int) string { return runtimeDir(h.dir, id) }

func runtimeDir(dir string, id int) string { return filepath.Join(dir, "dom", strconv.Itoa(id)) }

func (h *host) ramPath(id int) string { return filepath.Join(h.runtime(id), "ram") }

func (h *host) save() error { return writeJSON(h.path("domains.json"), h) }

// find looks a domain up by name or, as xl does, by its number.
func (h *host) find(who string) *domain {
	id, err := strconv.Atoi(who)
	for _, d := range h.Domains {
		if err == nil && d.ID == id || err != nil && d.Name == who {
			return d
		}
	}
	return nil
}

func (h *host) byID(id int) *domain {
	for _, d := range h.Domains {
		if d.ID == id {
			return d
		}
	}
	return nil
}

func (h *host) named(name string) *domain {
	for _, d := range h.Domains {
		if d.Name == name {
			return d
		}
	}
	return nil
}

func (h *host) remove(id int) {
	h.Domains = slices.DeleteFunc(h.Domains, func(d *domain) bool { return d.ID == id })
}

// freeMiB is the memory no domain has.
func (h *host) freeMiB(spec HostSpec) int {
	free := spec.MemoryMiB - spec.Dom0MiB - spec.HeldMiB
	for _, d := range h.Domains {
		free -= d.Config.memoryMiB()
	}
	return free
}

// change locks the host, finds domain id and saves what f did to it.
func changeDomain(dir string, id int, f func(h *host, d *domain) error) error {
	h, err := lockHost(dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	d := h.byID(id)
	if d == nil {
		return fmt.Errorf("domain %d: %w", id, errNoDomain)
	}
	if err := f(h, d); err != nil {
		return err
	}
	return h.save()
}

var errNoDomain = errors.New("no such domain")

// writeJSON replaces a file so that a reader, or a crash, sees the old or the
// new one, whole.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
