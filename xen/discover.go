package xen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// ErrNoConfig says that no file describes the guest.
var ErrNoConfig = errors.New("no config file describes it")

// maxConfigSize: configs have some lines; a kernel in the same directory has more.
const maxConfigSize = 1 << 20

// FindConfigs lists the configs of domains in configDir, and those elsewhere
// that a link in autostartDir leads to, by path. A file that cannot be used is
// listed with its Err; the error is about a directory, and the rest is still
// listed.
func FindConfigs(configDir, autostartDir string) ([]ConfigFile, error) {
	s := scan{places: map[string]int{}}
	entries, err := os.ReadDir(configDir)
	if err != nil {
		err = fmt.Errorf("configs of domains: %w", err)
	}
	for _, e := range entries {
		if !leftover(e.Name()) {
			s.add(filepath.Join(configDir, e.Name()), filepath.Ext(e.Name()) == ".cfg")
		}
	}
	links, autoErr := os.ReadDir(autostartDir)
	if autoErr != nil && !errors.Is(autoErr, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("autostart links: %w", autoErr))
	}
	for _, e := range links {
		s.autostart(filepath.Join(autostartDir, e.Name()))
	}
	slices.SortFunc(s.files, func(a, b ConfigFile) int { return strings.Compare(a.Path, b.Path) })
	return s.files, err
}

// scan gathers configs; places has the index of each by what its path resolves to.
type scan struct {
	files  []ConfigFile
	places map[string]int
}

// add reads one file; what is no config of a domain is passed over unless it
// claims to be one.
func (s *scan) add(path string, claims bool) (index int, added bool) {
	place, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, false // a link to nothing, or gone since
	}
	if i, twice := s.places[place]; twice {
		if s.files[i].Path != place && path == place {
			s.files[i].Path = path // the file itself rather than a link to it
		}
		return i, true
	}
	info, err := os.Stat(place)
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	f := ConfigFile{Path: path}
	data, err := readConfig(place, info.Size())
	if err != nil {
		f.Err = err
	} else {
		f.describe(data)
	}
	if !claims && (err != nil || !looksLikeDomain(data)) {
		return 0, false
	}
	s.places[place] = len(s.files)
	s.files = append(s.files, f)
	return len(s.files) - 1, true
}

func readConfig(path string, size int64) ([]byte, error) {
	if size > maxConfigSize {
		return nil, fmt.Errorf("%s: %d bytes, too large for a config", path, size)
	}
	return os.ReadFile(path)
}

// autostart takes one entry of the autostart directory: xendomains starts
// each of them, whatever it is called.
func (s *scan) autostart(path string) {
	if strings.HasPrefix(filepath.Base(path), ".") {
		return
	}
	text, err := os.Readlink(path)
	if err != nil {
		s.autostartFile(path)
		return
	}
	place, err := filepath.EvalSymlinks(path)
	if err != nil {
		return // leads to nothing, starts nothing
	}
	i, ok := s.add(place, true)
	if !ok {
		return
	}
	s.files[i].setAutostart(path, text)
}

// autostartFile takes a file that lies in the autostart directory itself. A
// copy of a known config is as good as a link to it.
func (s *scan) autostartFile(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for i := range s.files {
		if same, err := os.ReadFile(s.files[i].Path); err == nil && bytes.Equal(same, data) {
			s.files[i].setAutostart(path, s.files[i].Path)
			return
		}
	}
	if i, ok := s.add(path, true); ok {
		f := &s.files[i]
		f.Autostart = path
		f.fail(fmt.Errorf("%s: lies where every file is started at boot, so that it cannot be parked there: move it out and put a link in its place", path))
	}
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

// describe fills in what the text says.
func (f *ConfigFile) describe(data []byte) {
	cfg, err := ParseConfig(data)
	if err != nil {
		f.Name, f.UUID = seems(data, nameLine), usualUUID(seems(data, uuidLine))
		f.fail(fmt.Errorf("%s: %w", f.Path, err))
		return
	}
	f.Name, _ = cfg.String("name")
	if f.Name == "" {
		f.fail(fmt.Errorf("%s: has no name", f.Path))
	}
	if uuid, ok := cfg.String("uuid"); ok {
		if f.UUID = usualUUID(uuid); f.UUID == "" {
			f.fail(fmt.Errorf("%s: uuid %q: not a UUID", f.Path, uuid))
		}
	}
	f.Type = guestType(cfg)
	f.MemoryMiB, _ = cfg.Int("memory")
	vcpus, _ := cfg.Int("vcpus")
	f.VCPUs = int(max(1, vcpus))
	disks, _ := cfg.List("disk")
	for i, spec := range disks {
		d, err := ParseDisk(spec)
		if err != nil {
			f.fail(fmt.Errorf("%s: disk %d: %w", f.Path, i+1, err))
			continue
		}
		f.Disks = append(f.Disks, d)
	}
	vifs, _ := cfg.List("vif")
	for i, spec := range vifs {
		v, err := ParseVIF(spec)
		if err != nil {
			f.fail(fmt.Errorf("%s: vif %d: %w", f.Path, i+1, err))
		} else if v.Bridge != "" {
			f.Bridges = append(f.Bridges, v.Bridge)
		}
	}
}

// leftovers of editors, package managers and migrations, and files of
// the toolstack itself. The examples describe guests that never were.
var leftovers = regexp.MustCompile(`^\.|^#|~$|^x[lm]example|\.migrated-to-` +
	`|\.(conf|sxp|bak|old|orig|save|sw[a-p]|tmp|rej|disabled|dpkg-[a-z]+|ucf-[a-z]+|rpm(save|new|orig))$`)

func leftover(name string) bool { return leftovers.MatchString(name) }

var (
	nameLine   = regexp.MustCompile(`(?m)^[ \t]*name[ \t]*=[ \t]*(?:"([^"\\\n]*)"|'([^'\\\n]*)')[ \t\r]*(?:[;#].*)?$`)
	uuidLine   = regexp.MustCompile(`(?m)^[ \t]*uuid[ \t]*=[ \t]*(?:"([^"\\\n]*)"|'([^'\\\n]*)')[ \t\r]*(?:[;#].*)?$`)
	domainLine = regexp.MustCompile(`(?m)^[ \t]*(memory|disk|kernel|bootloader|builder|type|vif)[ \t]*\+?=`)
)

// looksLikeDomain tells a domain's config from the others in the same place,
// those of CPU pools for example.
func looksLikeDomain(data []byte) bool {
	return seems(data, nameLine) != "" && domainLine.Match(data)
}

// seems is what a line says in a text that is no config.
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

// MatchConfig finds the file that describes a guest. The UUID proves it; a
// file without one is known by the guest's name. ErrNoConfig where there is
// none. The file that is found may have an Err.
func MatchConfig(files []ConfigFile, name, uuid string) (ConfigFile, error) {
	uuid = usualUUID(uuid)
	var proven, named, strange []ConfigFile
	for _, f := range files {
		switch {
		case f.UUID != "" && f.UUID == uuid:
			proven = append(proven, f)
		case f.Name == "" || f.Name != name:
		case f.UUID == "" || uuid == "":
			named = append(named, f)
		default:
			strange = append(strange, f)
		}
	}
	if len(proven) == 0 {
		proven = named
	}
	switch {
	case len(proven) == 1:
		return proven[0], nil
	case len(proven) > 1:
		return ConfigFile{}, fmt.Errorf("vm %s: %d configs describe it, leave one: %s", name, len(proven), paths(proven))
	case len(strange) > 0:
		return ConfigFile{}, fmt.Errorf("vm %s: has UUID %s, the config of its name has another: %s", name, uuid, paths(strange))
	}
	return ConfigFile{}, fmt.Errorf("vm %s: %w", name, ErrNoConfig)
}

func paths(files []ConfigFile) string {
	var list []string
	for _, f := range files {
		list = append(list, f.Path)
	}
	return strings.Join(list, ", ")
}
