package xlsim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// GuestDisk is a disk of a guest.
type GuestDisk struct {
	Path     string
	Vdev     string
	ReadOnly bool
}

// GuestSpec says what a guest shall be. Zero fields get defaults.
type GuestSpec struct {
	Name      string
	UUID      string // (random)
	MemoryMiB int    // (64; 8 at least)
	VCPUs     int    // (1)
	Type      string // "pv" or "pvh" ("pv")
	Disks     []GuestDisk
	Bridge    string   // ("" : no network card)
	Rate      int64    // bytes per second, written to all disks together (1 MiB/s; negative: none)
	Writers   int      // per disk (2)
	DirtyRate int64    // bytes of RAM per second (1 MiB/s; negative: none)
	Extra     []string // more lines for the config
}

// WriteGuestConfig writes NAME.cfg into dir, a host's etc-xen for example, and
// returns its path.
func WriteGuestConfig(dir string, s GuestSpec) (string, error) {
	setDefault(&s.UUID, newUUID())
	setDefault(&s.MemoryMiB, 64)
	setDefault(&s.VCPUs, 1)
	setDefault(&s.Type, "pv")
	setDefault(&s.Rate, defaultRate)
	setDefault(&s.Writers, defaultWriters)
	setDefault(&s.DirtyRate, defaultDirty)
	if err := s.validate(); err != nil {
		return "", fmt.Errorf("guest %q: %w", s.Name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# a guest of the simulated Xen host (xlsim)\n")
	fmt.Fprintf(&b, "name    = %s\nuuid    = %q\ntype    = %q\n", quoted(s.Name), s.UUID, s.Type)
	fmt.Fprintf(&b, "extra   = \"console=hvc0 xlsim.rate=%d xlsim.writers=%d xlsim.dirty=%d\"\n", max(s.Rate, 0), s.Writers, max(s.DirtyRate, 0))
	fmt.Fprintf(&b, "memory  = %d\nvcpus   = %d\n", s.MemoryMiB, s.VCPUs)
	b.WriteString("disk    = [\n")
	for _, d := range s.Disks {
		mode := "rw"
		if d.ReadOnly {
			mode = "ro"
		}
		fmt.Fprintf(&b, "  %s,\n", quoted(fmt.Sprintf("format=raw, vdev=%s, access=%s, target=%s", d.Vdev, mode, d.Path)))
	}
	b.WriteString("]\n")
	if s.Bridge != "" {
		fmt.Fprintf(&b, "vif     = [ %s ]\n", quoted("bridge="+s.Bridge+",mac="+newMAC()))
	}
	for _, line := range s.Extra {
		b.WriteString(line + "\n")
	}
	path := filepath.Join(dir, s.Name+".cfg")
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

func (s GuestSpec) validate() error {
	var errs []error
	if s.Name == "" || strings.ContainsAny(s.Name, "/\n") {
		errs = append(errs, errors.New("name: missing, or cannot be a file's name"))
	}
	if _, err := parseUUID(s.UUID); err != nil {
		errs = append(errs, err)
	}
	if s.MemoryMiB < minRAM>>20 {
		errs = append(errs, fmt.Errorf("memory: %d MiB, %d at least", s.MemoryMiB, minRAM>>20))
	}
	if s.Type != "pv" && s.Type != "pvh" {
		errs = append(errs, errors.New("type "+strconv.Quote(s.Type)+": pv or pvh"))
	}
	if s.Writers > maxWriters || len(s.Disks) > maxDisks {
		errs = append(errs, fmt.Errorf("%d writers, %d disks: at most %d and %d", s.Writers, len(s.Disks), maxWriters, maxDisks))
	}
	for _, d := range s.Disks {
		if _, err := vdevNumber(d.Vdev); err != nil {
			errs = append(errs, err)
		}
		if !filepath.IsAbs(d.Path) {
			errs = append(errs, fmt.Errorf("disk %s: path %q is not absolute", d.Vdev, d.Path))
		}
	}
	return errors.Join(errs...)
}

// quoted is a string of xl's grammar.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
