package blocksync

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlSize asks a block device for its size in bytes.
func ioctlSize(fd int) (int64, error) {
	var size uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); e != 0 {
		return 0, e
	}
	if size > math.MaxInt64 {
		return 0, unix.EOVERFLOW
	}
	return int64(size), nil
}

// zeroByDevice zeroes a range without sending zeroes to it. All three ways
// guarantee that the range reads as zero afterwards.
func (d *Device) zeroByDevice(off, n int64) error {
	if d.block {
		span := [2]uint64{uint64(off), uint64(n)}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span))); e != 0 {
			return e
		}
		return nil
	}
	err := unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, errors.ErrUnsupported) {
		err = unix.Fallocate(d.fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	return err
}

func (d *Device) dropCache() error {
	if d.block {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.BLKFLSBUF, 0); e != 0 {
			return e
		}
		return nil
	}
	return unix.Fadvise(d.fd, 0, 0, unix.FADV_DONTNEED)
}

// holes finds the holes of a file, asking the kernel once per extent. It
// belongs to one goroutine, or a lock, and to one pass: a hole is remembered as
// it was when asked for, like any other read of that pass.
type holes struct {
	d        *Device
	off      bool  // no hole is known, or ever will be
	from, to int64 // the extent asked for last
	isHole   bool
}

func newHoles(d *Device) *holes { return &holes{d: d, off: d.block} }

// cover reports whether the n bytes at off lie in one hole.
func (h *holes) cover(off int64, n int) bool {
	if h.off {
		return false
	}
	if off < h.from || off >= h.to {
		h.ask(off)
	}
	return !h.off && h.isHole && off+int64(n) <= h.to
}

func (h *holes) ask(off int64) {
	data, err := unix.Seek(h.d.fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // no data up to the end, or the file has become shorter
		end, err := unix.Seek(h.d.fd, 0, unix.SEEK_END)
		h.off = err != nil || end < h.d.size // reading will tell
		h.from, h.to, h.isHole = off, math.MaxInt64, true
	case err != nil: // the file system does not know: read everything
		h.off = true
	case data > off:
		h.from, h.to, h.isHole = off, data, true
	default:
		end, err := unix.Seek(h.d.fd, off, unix.SEEK_HOLE)
		h.off = err != nil
		h.from, h.to, h.isHole = off, end, false
	}
}

// usedBy names who holds a block device, as far as the kernel tells.
func usedBy(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "another program"
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	var who []string
	if entries, err := os.ReadDir("/sys/dev/block/" + dev + "/holders"); err == nil {
		for _, e := range entries {
			who = append(who, "the device "+e.Name())
		}
	}
	if f, err := os.Open("/proc/self/mountinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if fields := strings.Fields(s.Text()); len(fields) > 4 && fields[2] == dev {
				who = append(who, "the mount on "+fields[4])
			}
		}
	}
	if len(who) == 0 {
		return "another program (see fuser -v, lsblk, swapon)"
	}
	return strings.Join(who, " and ")
}
