package xlsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// HostSpec says what a simulated host is. Zero fields get defaults.
type HostSpec struct {
	Name       string   // host name; also marks heartbeats
	MemoryMiB  int      // total memory (8192)
	Dom0MiB    int      // of it dom0's (512)
	HeldMiB    int      // of it the hypervisor's own
	CPUs       int      // (2)
	XenVersion string   // ("4.17.7")
	Bridges    []string // (xenbr0)
	VirtCaps   string   // as `xl info` has it ("pv hvm gnttab-v1 gnttab-v2": PV without shadow paging)
	Net        string   // directory shared by all hosts of one simulation; required

	// SaveRate limits `xl save`, in bytes per second; 0: as quick as it goes.
	SaveRate int64
	// ReadyDelay is what attaching its disks takes of a guest that arrives live:
	// between the end of its image and READY.
	ReadyDelay time.Duration
	// SuspendTimeout is how long `xl save` waits for a guest that does not
	// answer a suspend request (60 s, as the real one).
	SuspendTimeout time.Duration
	// Delays makes single commands slow: command ("list", "save", ...) to time.
	Delays map[string]time.Duration
	// Faults are answered by the next command of that name, each once.
	Faults []Fault
}

// Fault is the scripted failure of one command: the next `xl COMMAND` writes
// Text to stderr and exits with Exit. It does nothing else (also with Exit 0:
// an xl that lies), or with AllDone everything (an xl whose end goes wrong).
type Fault struct {
	AllDone bool
	Command string // "save", "restore", ..., or "xenstore-ls"
	Exit    int
	Text    string
}

func (s *HostSpec) setDefaults() {
	setDefault(&s.MemoryMiB, 8192)
	setDefault(&s.Dom0MiB, 512)
	setDefault(&s.CPUs, 2)
	setDefault(&s.XenVersion, "4.17.7")
	setDefault(&s.VirtCaps, "pv hvm gnttab-v1 gnttab-v2")
	setDefault(&s.SuspendTimeout, 60*time.Second)
	if s.Bridges == nil {
		s.Bridges = []string{"xenbr0"}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports all faults at once.
func (s *HostSpec) validate() error {
	var errs []error
	if s.Name == "" || strings.ContainsAny(s.Name, " \t\n/") {
		errs = append(errs, fmt.Errorf("name %q: needs one word", s.Name))
	}
	if s.Net == "" {
		errs = append(errs, errors.New("net: no directory named that all hosts share"))
	}
	if s.MemoryMiB < s.Dom0MiB+s.HeldMiB {
		errs = append(errs, fmt.Errorf("memory %d MiB: less than dom0's %d and the hypervisor's %d", s.MemoryMiB, s.Dom0MiB, s.HeldMiB))
	}
	if v := strings.SplitN(s.XenVersion, ".", 3); len(v) < 2 {
		errs = append(errs, fmt.Errorf("xen version %q: not like 4.17.7", s.XenVersion))
	}
	return errors.Join(errs...)
}

// since: the host's Xen is that version or a later one.
func (s *HostSpec) since(major, minor int) bool {
	var a, b int
	_, err := fmt.Sscanf(s.XenVersion, "%d.%d", &a, &b)
	return err == nil && (a > major || a == major && b >= minor)
}

// CreateHost makes the directory of a simulated host, or takes over one that
// is there: its domains stay, its description becomes spec.
func CreateHost(dir string, spec HostSpec) error {
	spec.setDefaults()
	if err := spec.validate(); err != nil {
		return fmt.Errorf("xlsim host %s: %w", dir, err)
	}
	net, err := filepath.Abs(spec.Net)
	if err != nil {
		return fmt.Errorf("xlsim host %s: net: %w", dir, err)
	}
	spec.Net = net
	for _, d := range []string{dir, filepath.Join(dir, "etc-xen", "auto"), filepath.Join(dir, "log"), filepath.Join(dir, "dom"), net} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("xlsim host %s: %w", dir, err)
		}
	}
	h, err := lockHost(dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	return writeJSON(h.path("host.json"), spec)
}

// LoadHost reads the description of a host.
func LoadHost(dir string) (HostSpec, error) {
	var spec HostSpec
	data, err := os.ReadFile(filepath.Join(dir, "host.json"))
	if err != nil {
		return spec, fmt.Errorf("xlsim host: %w (xlsim works on a directory made by CreateHost)", err)
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return spec, fmt.Errorf("xlsim host %s: host.json: %w", dir, err)
	}
	return spec, nil
}

// ChangeHost changes the description of a host, faults and delays included,
// while domains run on it.
func ChangeHost(dir string, change func(*HostSpec)) error {
	h, err := lockHost(dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	spec, err := LoadHost(dir)
	if err != nil {
		return err
	}
	change(&spec)
	if err := spec.validate(); err != nil {
		return fmt.Errorf("xlsim host %s: %w", dir, err)
	}
	return writeJSON(h.path("host.json"), spec)
}

// takeFault takes the next fault for a command off the list.
func takeFault(dir, command string) (Fault, bool, error) {
	spec, err := LoadHost(dir)
	if err != nil || !slices.ContainsFunc(spec.Faults, func(f Fault) bool { return f.Command == command }) {
		return Fault{}, false, err
	}
	var found Fault
	ok := false
	err = ChangeHost(dir, func(s *HostSpec) {
		i := slices.IndexFunc(s.Faults, func(f Fault) bool { return f.Command == command })
		if i >= 0 {
			found, ok = s.Faults[i], true
			s.Faults = slices.Delete(s.Faults, i, i+1)
		}
	})
	return found, ok, err
}

// StopHost is the crash of a dom0: every guest, and every `xl` that builds or
// saves one, is killed at once; no domain is left. Disks stay as they are, the
// NET directory too.
func StopHost(dir string) error {
	h, err := lockHost(dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	var errs []error
	for _, d := range h.Domains { // all at once, then wait
		errs = append(errs, d.Worker.kill(), d.Guest.kill())
	}
	for _, d := range h.Domains {
		errs = append(errs, d.Worker.end(), d.Guest.end())
		errs = append(errs, os.RemoveAll(h.runtime(d.ID)))
	}
	h.Domains = nil
	return errors.Join(append(errs, h.save())...)
}

// HaltHost shuts every guest down in order and returns when all are gone.
func HaltHost(ctx context.Context, dir string) error {
	domains, err := Domains(dir)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if err := haltDomain(ctx, dir, d.ID); err != nil {
			return fmt.Errorf("halt domain %s: %w", d.Name, err)
		}
	}
	return nil
}

// Suspend has the guest of domain id suspend though nobody waits for it, as one
// does that answers a request which xl has given up.
func Suspend(dir string, id int) error { return do(dir, id, opSuspend) }

// Domain is what a host knows of one domain.
type Domain struct {
	ID    int
	Name  string
	UUID  string
	State string // the six letters of `xl list`
	PID   int    // of the guest's process, 0 while it is being built
	RAM   string // the memory file
}

// Domains lists the domains of a host by id.
func Domains(dir string) ([]Domain, error) {
	h, err := lockHost(dir)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	var list []Domain
	for _, d := range h.Domains {
		list = append(list, Domain{
			ID: d.ID, Name: d.Name, UUID: d.UUID(), PID: d.Guest.PID,
			State: h.status(d).letters(), RAM: h.ramPath(d.ID),
		})
	}
	return list, nil
}

// Names of the files that all hosts share, per guest.
func runningPath(net, uuid string) string    { return filepath.Join(net, uuid+".running") }
func heartbeatPath(net, uuid string) string  { return filepath.Join(net, uuid+".heartbeat") }
func violationsPath(net, uuid string) string { return filepath.Join(net, uuid+".violations") }
func finalPath(net, uuid string) string      { return filepath.Join(net, uuid+".final") }

// flock waits for an exclusive lock on path; closing the file gives it back.
func flock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
	}
}
