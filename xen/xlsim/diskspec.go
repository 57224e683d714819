package xlsim

import (
	"fmt"
	"strings"
)

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
	for _, prefix := range []string{"phy:", "file:", "raw:"} {
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
		case !named && key == "cdrom":
			d.CDROM = 1
		case !named && len(positional) == 0:
			return d, fmt.Errorf("%q: unknown", key)
		case !named:
			positional[0](key)
			positional = positional[1:]
		case key == "vdev":
			d.Vdev = value
		case key == "format":
			setFormat(&d, value)
		case key == "access":
			setAccess(&d, value)
		case key == "backendtype":
			d.Backend = value
		case key == "script":
			d.Script = value
		case key == "devtype":
			if value == "cdrom" {
				d.CDROM = 1
			}
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
