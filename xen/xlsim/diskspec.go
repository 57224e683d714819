package xlsim

import (
	"fmt"

	"xmig/xen"
)

// parseDisk reads a disk as libxl would store it. What libxl's JSON does not
// show is of no use here.
func parseDisk(spec string) (diskConfig, error) {
	d, err := xen.ParseDisk(spec)
	if err != nil {
		return diskConfig{}, err
	}
	c := diskConfig{Path: d.Target, Vdev: d.Vdev, Format: d.Format, Backend: d.Backend, Script: d.Script}
	if !d.ReadOnly {
		c.ReadWrite = 1
	}
	if d.CDROM {
		c.CDROM, c.Removable = 1, 1
	}
	if _, err = vdevNumber(c.Vdev); err != nil {
		return c, fmt.Errorf("disk %q: %w", spec, err)
	}
	return c, nil
}
