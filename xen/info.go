package xen

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Info is what `xl info` says of a host.
type Info struct {
	Version     Version
	TotalMemory int64 // bytes
	FreeMemory  int64 // bytes that domains can have at once; what others claimed is off
	CPUs        int
	VirtCaps    []string // such as pv, hvm, hap, shadow
	HWCaps      string   // CPU features, as xl writes them
}

// Version is a Xen version. Extra is what follows the two numbers that matter:
// ".7" of a release, "-rc" of one to come, a distribution's own.
type Version struct {
	Major, Minor int
	Extra        string
}

func (v Version) String() string { return fmt.Sprintf("%d.%d%s", v.Major, v.Minor, v.Extra) }

// AtLeast compares major and minor number: within a stable series images and
// commands do not change.
func (v Version) AtLeast(other Version) bool {
	return v.Major > other.Major || v.Major == other.Major && v.Minor >= other.Minor
}

var versionForm = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})((?:[^0-9\s]\S*)?)$`)

// ParseVersion reads what String writes.
func ParseVersion(s string) (Version, error) {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("xen version %q: want one like 4.17.7", s)
	}
	major, _ := strconv.Atoi(m[1]) // at most four digits
	minor, _ := strconv.Atoi(m[2])
	return Version{Major: major, Minor: minor, Extra: m[3]}, nil
}

// Info asks for the host's version, memory and CPUs.
func (x XL) Info(ctx context.Context) (Info, error) {
	out, _, err := x.ask(ctx, x.xl("info"))
	if err != nil {
		return Info{}, err
	}
	return parseInfo(out)
}

func parseInfo(text string) (Info, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	var info Info
	var err error
	if info.Version, err = ParseVersion(values["xen_major"] + "." + values["xen_minor"] + values["xen_extra"]); err != nil {
		return Info{}, fmt.Errorf("xl info: %w", err)
	}
	for key, field := range map[string]*int64{"total_memory": &info.TotalMemory, "free_memory": &info.FreeMemory} {
		mib, err := strconv.ParseInt(values[key], 10, 43)
		if err != nil {
			return Info{}, fmt.Errorf("xl info: %s: %q is no number of MiB", key, values[key])
		}
		*field = mib << 20
	}
	if info.CPUs, err = strconv.Atoi(values["nr_cpus"]); err != nil {
		return Info{}, fmt.Errorf("xl info: nr_cpus: %q is no number", values["nr_cpus"])
	}
	info.VirtCaps, info.HWCaps = strings.Fields(values["virt_caps"]), values["hw_caps"]
	return info, nil
}
