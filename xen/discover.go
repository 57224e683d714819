package xen

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ErrNoConfig says that no file describes the guest.
var ErrNoConfig = errors.New("no config file describes it")

// maxConfigSize: configs have some lines; a kernel in the same directory has more.
const maxConfigSize = 1 << 20

// FindConfigs lists the configs of domains in configDir, and those elsewhere
// that a link in autostartDir leads to, by path. A file that cannot be used is
// listed with its Err. The error is about a directory; what was found without
// it is still listed.
func FindConfigs(configDir, autostartDir string) ([]ConfigFile, error) {
	s := scan{places: map[string]int{}}
	entries, err := os.ReadDir(configDir)
	if err != nil {
		err = fmt.Errorf("configs of domains: %w", err)
	}
	// Files before links: a link to one of them is no other VM.
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
		return cmp.Compare(a.Type()&fs.ModeSymlink, b.Type()&fs.ModeSymlink)
	})
	for _, e := range entries {
		if !leftovers.MatchString(e.Name()) {
			s.add(filepath.Join(configDir, e.Name()))
		}
	}
	starts, autoErr := os.ReadDir(autostartDir)
	if autoErr != nil && !errors.Is(autoErr, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("autostart links: %w", autoErr))
	}
	for _, e := range starts {
		if !strings.HasPrefix(e.Name(), ".") { // all others are started, whatever they are called
			s.autostart(filepath.Join(autostartDir, e.Name()))
		}
	}
	slices.SortFunc(s.files, func(a, b ConfigFile) int { return strings.Compare(a.Path, b.Path) })
	return s.files, err
}

// scan gathers configs; places has the index of each by what its path resolves to.
type scan struct {
	files  []ConfigFile
	places map[string]int
}

// add takes one path in and tells its index. What describes no domain is
// passed over, and so is a link to nothing, which starts nothing.
func (s *scan) add(path string) (index int, added bool) {
	place, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, false
	}
	if i, there := s.places[place]; there {
		return i, true
	}
	f := ConfigFile{Path: path}
	data, err := readConfig(place)
	switch {
	case errors.Is(err, errNotRegular):
		return 0, false
	case err == nil:
		if !f.describe(data) {
			return 0, false
		}
	case filepath.Ext(path) != ".cfg":
		return 0, false // a kernel, for example
	default:
		f.fail(fmt.Errorf("%s: %w", path, err))
	}
	s.places[place] = len(s.files)
	s.files = append(s.files, f)
	return len(s.files) - 1, true
}

var errNotRegular = errors.New("not a regular file")

// readConfig opens nothing that could block or be endless.
func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errNotRegular
	case info.Size() > maxConfigSize:
		return nil, fmt.Errorf("%d bytes, too large for a config", info.Size())
	}
	return os.ReadFile(path)
}

// autostart takes one entry of the autostart directory.
func (s *scan) autostart(path string) {
	text, err := os.Readlink(path)
	if err != nil {
		s.autostartFile(path)
		return
	}
	place, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	if i, ok := s.add(place); ok {
		s.files[i].setAutostart(path, text)
	}
}

// autostartFile takes a file that lies in the autostart directory itself. A
// copy of a known config is as good as a link to it.
func (s *scan) autostartFile(path string) {
	data, err := readConfig(path)
	if err != nil {
		return
	}
	for i := range s.files {
		if same, err := readConfig(s.files[i].Path); err == nil && bytes.Equal(same, data) {
			s.files[i].setAutostart(path, s.files[i].Path)
			return
		}
	}
	if i, ok := s.add(path); ok {
		f := &s.files[i]
		f.Autostart = path
		f.fail(fmt.Errorf("%s: every file in this directory is started at boot, by any name: move it out and put a link in its place", path))
	}
}

// leftovers of editors, package managers and migrations, and files of the
// toolstack itself. The examples that come with it describe guests that never
// were.
var leftovers = regexp.MustCompile(`^\.|^#|~$|^x[lm]example|\.migrated-to-` +
	`|\.(conf|sxp|bak|old|orig|save|sw[a-p]|tmp|rej|disabled|dpkg-[a-z]+|ucf-[a-z]+|rpm(save|new|orig))$`)

// MatchConfig finds the file that describes a guest: by its UUID, or by its name
// where the file has none. Two such files are an error, as whichever is left
// behind could start the guest a second time. ErrNoConfig where there is none.
// The file that is found may have an Err.
func MatchConfig(files []ConfigFile, name, uuid string) (ConfigFile, error) {
	uuid = usualUUID(uuid)
	var matches, strange []ConfigFile
	for _, f := range files {
		named := f.Name != "" && f.Name == name
		switch {
		case f.UUID != "" && f.UUID == uuid, named && (f.UUID == "" || uuid == ""):
			matches = append(matches, f)
		case named:
			strange = append(strange, f)
		}
	}
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		return ConfigFile{}, fmt.Errorf("vm %s: %d configs describe it, leave one: %s", name, len(matches), paths(matches))
	case len(strange) > 0:
		return ConfigFile{}, fmt.Errorf("vm %s: has UUID %s, but another in the config of its name: %s", name, uuid, paths(strange))
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
