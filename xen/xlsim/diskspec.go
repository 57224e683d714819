package xlsim

import (
	"fmt"
	"slices"
	"strings"
)

// diskFlags may stand anywhere in a disk spec and change nothing here.
var diskFlags = []string{"discard", "no-discard", "direct-io-safe", "untrusted", "trusted"}

// diskPrefixes are the old ways to say what a disk is; after one of them the
// format has no place of its own.
var diskPrefixes = []string{"phy:", "file:", "raw:", "aio:", "tap:aio:", "tap2:aio:"}

// parseDisk reads a disk as libxl would store it: positionals target, format,
// vdev, access, and KEY=VALUE; target= takes the rest.
func parseDisk(spec string) (diskConfig, error) {
	d := diskConfig{Format: "raw", ReadWrite: 1}
	positional := []func(string){
		func(s string) { d.Path = s },
		func(s string) { setFormat(&d, s) },
		func(s string) { d.Vdev = s },
		func(s string) { setAccess(&d, s) },
	}
	for _, prefix := range diskPrefixes {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(spec, " \t"), prefix); ok {
			spec, positional = rest, append(positional[:1:1], positional[2:]...)
			break
		}
	}
	for spec != "" {
		spec = strings.TrimLeft(spec, " \t")
		if rest, ok := strings.CutPrefix(spec, "target="); ok {
			d.Path = rest
			break
		}
		item, rest, _ := strings.Cut(spec, ",")
		spec = rest
		key, value, named := strings.Cut(strings.TrimSpace(item), "=")
		switch {
		case named:
			d.set(key, value)
		case key == "cdrom":
			d.CDROM = 1
		case slices.Contains(diskFlags, key):
		case len(positional) == 0:
			return d, fmt.Errorf("%q: unknown", key)
		default:
			positional[0](key)
			positional = positional[1:]
		}
	}
	if vdev, kind, ok := strings.Cut(d.Vdev, ":"); ok {
		d.Vdev = vdev
		if kind == "cdrom" {
			d.CDROM = 1
		}
	}
	if d.CDROM != 0 {
		d.ReadWrite, d.Removable = 0, 1
	}
	if d.Path == "" {
		d.Format = "empty"
	}
	_, err := vdevNumber(d.Vdev)
	return d, err
}

// set takes one KEY=VALUE; what libxl's JSON does not show is of no use here.
func (d *diskConfig) set(key, value string) {
	switch key {
	case "vdev":
		d.Vdev = value
	case "format":
		setFormat(d, value)
	case "access":
		setAccess(d, value)
	case "backendtype":
		d.Backend = value
	case "script":
		d.Script = value
	case "devtype":
		if value == "cdrom" {
			d.CDROM = 1
		}
	}
}

func setFormat(d *diskConfig, s string) {
	if s != "" {
		d.Format = s
	}
}

func setAccess(d *diskConfig, s string) {
	if s == "r" || s == "ro" {
		d.ReadWrite = 0
	}
}
