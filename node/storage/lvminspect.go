package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stableLV is how long Identity.Stable of a logical volume is: prefix and two
// UUIDs of 32 letters. That of a layer below one has a suffix.
const stableLV = len("dm:LVM-") + 2*32

// lvOfDevice tells which logical volume the device at sys is, by what the kernel
// knows: no command runs. Without lvm2 it is none.
func lvOfDevice(sys string) (lvName, bool) {
	stable := stableName(sys)
	if !strings.HasPrefix(stable, "dm:LVM-") || len(stable) != stableLV || !hasLVM() {
		return lvName{}, false
	}
	n, ok := unmapped(sysText(sys, "dm/name"))
	return n, ok && n.check() == nil // else a hidden part of one
}

// lvOfPath is the logical volume that path means, whether or not it is there.
func lvOfPath(path, real string, rdev uint64) (lvName, bool) {
	if rdev != 0 {
		return lvOfDevice(sysDevice(rdev))
	}
	n, ok := lvNameAt(path, real)
	return n, ok && hasLVM()
}

// inspectIdle looks for a logical volume where there is no device.
func inspectIdle(ctx context.Context, v Volume) (Volume, error) {
	none := fmt.Errorf("%s: %w", named(v.Path, v.Real), ErrMissing)
	n, ok := lvOfPath(v.Path, v.Real, 0)
	if !ok {
		return Volume{}, none
	}
	l, err := lvm{}.logical(ctx, n)
	if errors.Is(err, ErrMissing) {
		return Volume{}, none
	}
	if err != nil {
		return Volume{}, fmt.Errorf("inspect %s: %w", v.Path, err)
	}
	if l.active() {
		return Volume{}, fmt.Errorf("%s: logical volume %s is active, but no device is under that name (udev is slow, or does not run)", v.Path, n.arg())
	}
	s, err := lvm{}.state(ctx, n.group)
	if err != nil {
		return Volume{}, fmt.Errorf("inspect %s: %w", v.Path, err)
	}
	v.Real, v.lv = n.path(), n
	v.Kind, v.Size, v.Allocated, v.SectorSize = KindLVM, l.size, l.size, s.sector
	v.ID = Identity{Stable: l.stable}
	return v, nil
}

// roomInGroup checks that lvm2 could make the volume n that q names.
func roomInGroup(ctx context.Context, n lvName, q Request) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("%s: %w", q.Path, err)
	}
	s, err := lvm{}.state(ctx, n.group)
	if _, taken := os.Stat("/dev/" + n.group); errors.Is(err, ErrMissing) && taken == nil {
		return noDevice(q) // no group can be called like /dev/md or /dev/shm
	}
	if err != nil {
		return fmt.Errorf("%s: %w", q.Path, err)
	}
	if s.unfit != "" {
		return fmt.Errorf("%s: volume group %s %s: mend that, or map the disk to another path: %w", q.Path, n.group, s.unfit, ErrUnfit)
	}
	return sameSector(Volume{Path: q.Path, SectorSize: s.sector}, q)
}

// sectorOf is the logical sector size of a device, 0 if it cannot be told.
func sectorOf(device string) int {
	var st unix.Stat_t
	if unix.Stat(device, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0
	}
	n, err := sectorAt(sysDevice(uint64(st.Rdev)))
	if err != nil {
		return 0
	}
	return n
}

// usesByOpen asks the device mapper's count of openers, which includes what no
// process shows: blkback of a guest. Where this process has the
// device open itself the count proves nothing about others.
func usesByOpen(ctx context.Context, v Volume) ([]Use, error) {
	if opened, err := opensItself(v); err != nil || opened {
		return nil, err
	}
	l, err := lvm{}.logical(ctx, v.lv)
	if errors.Is(err, ErrMissing) {
		return nil, nil // renamed or removed since v was looked at
	}
	if err != nil || l.stable != v.ID.Stable || !l.open() {
		return nil, err
	}
	return []Use{{UseOpen, "a guest's backend, or a reader"}}, nil
}
