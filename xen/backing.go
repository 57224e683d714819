package xen

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Backing is what dom0 has behind one disk of a domain.
type Backing struct {
	Vdev   string
	Params string // the path as configured
	// Device is the device number that blkback has open: the truth, where
	// Params is only a name. 0: there is none, as behind a qdisk.
	Device uint64
	Node   string // the device's name where xl made it: /dev/loop0 for a file
}

// Backings reads what the block backends of this host have for a domain.
func (x XL) Backings(ctx context.Context, id int) ([]Backing, error) {
	base := "/local/domain/0/backend/vbd/" + strconv.Itoa(id)
	store, err := x.store(ctx, base)
	if err != nil {
		return nil, err
	}
	var all []Backing
	for path, vdev := range store {
		disk, isVdev := strings.CutSuffix(path, "/dev")
		if !isVdev || strings.Count(disk, "/") != strings.Count(base, "/")+1 {
			continue
		}
		b := Backing{Vdev: vdev, Params: store[disk+"/params"], Node: store[disk+"/node"]}
		if b.Device, err = deviceNumber(store[disk+"/physical-device"]); err != nil {
			return nil, fmt.Errorf("xenstore %s/physical-device: %w", disk, err)
		}
		all = append(all, b)
	}
	return all, nil
}

// deviceNumber reads major:minor in hexadecimal; "" is 0.
func deviceNumber(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	major, minor, ok := strings.Cut(s, ":")
	ma, err1 := strconv.ParseUint(major, 16, 32)
	mi, err2 := strconv.ParseUint(minor, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no major:minor in hexadecimal", s)
	}
	return unix.Mkdev(uint32(ma), uint32(mi)), nil
}
