package xen

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ConfigFile is a domain's config on this host, with what its guest would be.
// xl remembers no path of it, so a guest is told by name and UUID.
type ConfigFile struct {
	Path      string
	Name      string
	UUID      string // as `xl list` writes it; "" where the file has none and each boot makes one up
	Type      string // pv, pvh or hvm
	MemoryMiB int64
	VCPUs     int
	Disks     []Disk
	Bridges   []string // those that are named

	Autostart     string // the path of the autostart link; "" for none
	AutostartText string // what the link says

	// Err says why the guest cannot be moved by this file. Name and UUID are
	// then what they seem to be.
	Err error
}

func (f *ConfigFile) setAutostart(path, text string) {
	if f.Autostart != "" {
		f.fail(fmt.Errorf("%s: two autostart links, %s and %s: remove one", f.Path, f.Autostart, path))
		return
	}
	f.Autostart, f.AutostartText = path, text
}

// fail keeps the first reason.
func (f *ConfigFile) fail(err error) {
	if f.Err == nil {
		f.Err = err
	}
}

// describe fills in what the text says, and tells whether it is of a domain.
func (f *ConfigFile) describe(data []byte) bool {
	cfg, err := ParseConfig(data)
	if err != nil {
		f.Name, f.UUID = seems(data, nameLine), usualUUID(seems(data, uuidLine))
		f.fail(fmt.Errorf("%s: %w", f.Path, err))
		return filepath.Ext(f.Path) == ".cfg" || f.Name != "" && domainLine.Match(data)
	}
	f.Name, _ = cfg.String("name")
	ofDomain := slices.ContainsFunc(cfg.Keys(), func(key string) bool { return slices.Contains(domainKeys, key) })
	if !ofDomain || f.Name == "" && filepath.Ext(f.Path) != ".cfg" {
		return false
	}
	if f.Name == "" {
		f.fail(fmt.Errorf("%s: has no name", f.Path))
	}
	if uuid, ok := cfg.String("uuid"); ok {
		if f.UUID = usualUUID(uuid); f.UUID == "" {
			f.fail(fmt.Errorf("%s: uuid %q: not a UUID", f.Path, uuid))
		}
	}
	f.Type = guestType(cfg)
	f.MemoryMiB, f.VCPUs = memory(cfg), int(max(1, number(cfg, "vcpus")))
	f.describeDevices(cfg)
	return true
}

func (f *ConfigFile) describeDevices(cfg *Config) {
	disks, _ := cfg.List("disk")
	for i, spec := range disks {
		d, err := ParseDisk(spec)
		if err != nil {
			f.fail(fmt.Errorf("%s: item %d of disk: %w", f.Path, i+1, err))
			continue
		}
		f.Disks = append(f.Disks, d)
	}
	vifs, _ := cfg.List("vif")
	for i, spec := range vifs {
		v, err := ParseVIF(spec)
		if err != nil {
			f.fail(fmt.Errorf("%s: item %d of vif: %w", f.Path, i+1, err))
		} else if v.Bridge != "" {
			f.Bridges = append(f.Bridges, v.Bridge)
		}
	}
}

func number(cfg *Config, key string) int64 {
	n, _ := cfg.Int(key)
	return n
}

// memory is what the guest boots with, in MiB.
func memory(cfg *Config) int64 {
	const libxlDefault = 32
	return cmp.Or(number(cfg, "memory"), number(cfg, "maxmem"), libxlDefault)
}

// domainKeys tell a domain's config from the others in the same place, those
// of CPU pools for example: no guest boots without one of them.
var domainKeys = []string{"memory", "maxmem", "disk", "vif", "kernel", "bootloader", "builder", "type", "firmware"}

// What a text says that does not parse.
var (
	domainLine = regexp.MustCompile(`(?m)^[ \t]*(` + strings.Join(domainKeys, "|") + `)[ \t]*\+?=`)
	nameLine   = stringLine("name")
	uuidLine   = stringLine("uuid")
)

func stringLine(key string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*` + key + `[ \t]*=[ \t]*(?:"([^"\\\n]*)"|'([^'\\\n]*)')[ \t\r]*(?:[;#].*)?$`)
}

// seems is the string of the last such line.
func seems(data []byte, line *regexp.Regexp) string {
	all := line.FindAllSubmatch(data, -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return string(last[1]) + string(last[2])
}

var uuidDigits = regexp.MustCompile(`^[0-9a-f]{32}$`)

// usualUUID is a UUID as xl writes it, "" for what is none.
func usualUUID(s string) string {
	h := strings.ReplaceAll(strings.ToLower(s), "-", "")
	if !uuidDigits.MatchString(h) {
		return ""
	}
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
