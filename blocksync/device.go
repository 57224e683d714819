package blocksync

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fileAlign is the alignment used for files: at least every file system's.
const fileAlign = 4096

// Device is a block device or a regular file, opened for one end of a sync.
// It may be used by several goroutines, and by one pass at a time.
type Device struct {
	path     string
	fd       int
	size     int64
	sector   int // logical sector size
	align    int // of offsets and lengths of direct reads and writes
	block    bool
	direct   bool
	writable bool

	noZero atomic.Bool // the device cannot make zeroes by itself: write them
	zeroes func() []byte
	tail   func() (*os.File, error) // buffered, for an end that is not aligned
}

// Path is the path the device was opened by.
func (d *Device) Path() string { return d.path }

// Size is the size in bytes when it was opened.
func (d *Device) Size() int64 { return d.size }

// Sector is the logical sector size in bytes; 512 for files.
func (d *Device) Sector() int { return d.sector }

// Direct reports whether the page cache is bypassed. Where it is not, the
// cache is dropped before each pass and after each flush instead.
func (d *Device) Direct() bool { return d.direct }

// OpenSource opens a block device or a regular file for reading.
func OpenSource(path string) (*Device, error) {
	return open(path, unix.O_RDONLY)
}

// OpenDestination opens a block device or a regular file for writing. A block
// device is opened exclusively, which keeps mounts and LVM away while it is open
// and fails if one of them, or another sync, already has it.
func OpenDestination(path string) (*Device, error) {
	return open(path, unix.O_RDWR)
}

func open(path string, access int) (*Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	}
	block := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !block && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open device: %s: is neither a block device nor a regular file", path)
	}
	flags := access | unix.O_CLOEXEC
	if block && access == unix.O_RDWR {
		flags |= unix.O_EXCL
	}
	d := &Device{path: path, block: block, writable: access == unix.O_RDWR}
	if err := d.openFile(flags, info); err != nil {
		return nil, err
	}
	if err := d.measure(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openFile opens with O_DIRECT where the file system allows it. Some accept
// the flag and refuse the first read, hence the probe.
func (d *Device) openFile(flags int, expect fs.FileInfo) error {
	fd, err := unix.Open(d.path, flags|unix.O_DIRECT, 0)
	if err == nil {
		probe := alignedBytes(fileAlign)
		if _, perr := unix.Pread(fd, probe, 0); perr == unix.EINVAL {
			_ = unix.Close(fd) // it was only read from
			err = unix.EINVAL
		}
	}
	d.direct = err == nil
	if err == unix.EINVAL {
		fd, err = unix.Open(d.path, flags, 0)
	}
	if err == unix.EBUSY && flags&unix.O_EXCL != 0 {
		return fmt.Errorf("open device: %s is in use by %s; release it there first: %w", d.path, usedBy(expect), err)
	}
	if err != nil {
		return &fs.PathError{Op: "open device", Path: d.path, Err: err}
	}
	d.fd = fd
	var st, want unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Stat(d.path, &want)); err != nil || st.Mode&unix.S_IFMT != want.Mode&unix.S_IFMT {
		return errors.Join(fmt.Errorf("open device: %s changed while it was opened", d.path), err, d.Close())
	}
	return nil
}

// measure finds size and sector size and prepares what is needed rarely.
func (d *Device) measure() error {
	d.sector, d.align = 512, fileAlign
	if d.block {
		size, err := ioctlSize(d.fd)
		if err != nil {
			return fmt.Errorf("%s: size: %w", d.path, err)
		}
		d.size = size
		if d.sector, err = unix.IoctlGetInt(d.fd, unix.BLKSSZGET); err != nil {
			return fmt.Errorf("%s: sector size: %w", d.path, err)
		}
		d.align = d.sector
	} else {
		var st unix.Stat_t
		if err := unix.Fstat(d.fd, &st); err != nil {
			return fmt.Errorf("%s: size: %w", d.path, err)
		}
		d.size = st.Size
	}
	if d.sector <= 0 || d.sector > finePage || finePage%d.sector != 0 {
		return fmt.Errorf("%s: logical sectors of %d bytes: at most %d are supported", d.path, d.sector, finePage)
	}
	d.zeroes = sync.OnceValue(func() []byte { return alignedBytes(MaxPayload) })
	d.tail = sync.OnceValues(func() (*os.File, error) {
		return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", d.fd), os.O_RDWR, 0)
	})
	return nil
}

// Close closes the device. It flushes nothing: a pass does that.
func (d *Device) Close() error {
	var errs []error
	if d.tail != nil && d.writable && !d.block && d.size%int64(d.align) != 0 {
		if f, err := d.tail(); err == nil {
			errs = append(errs, f.Close())
		}
	}
	if err := unix.Close(d.fd); err != nil {
		errs = append(errs, &fs.PathError{Op: "close device", Path: d.path, Err: err})
	}
	d.fd = -1
	return errors.Join(errs...)
}

// readAt fills buf[:n] from off. buf begins on a page and has room for n
// rounded up to the alignment.
func (d *Device) readAt(buf []byte, n int, off int64) error {
	want := (n + d.align - 1) / d.align * d.align
	for got := 0; got < n; {
		m, err := unix.Pread(d.fd, buf[got:want], off+int64(got))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return d.fault("read", off+int64(got), err)
		case m == 0 || (m%d.align != 0 && got+m < n):
			// A short direct read that does not end on a sector is the end of the file.
			return d.fault("read", off+int64(got+m), io.ErrUnexpectedEOF)
		}
		got += m
	}
	return nil
}

// writeAt writes b at off. b begins on a page, off is a multiple of a page; a
// length that is not aligned is the end of a file.
func (d *Device) writeAt(b []byte, off int64) error {
	whole := len(b) / d.align * d.align
	for done := 0; done < whole; {
		m, err := unix.Pwrite(d.fd, b[done:whole], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && m == 0:
			err = io.ErrShortWrite
		case err == nil && m%d.align != 0:
			m = m / d.align * d.align // write that sector again
			if m == 0 {
				err = io.ErrShortWrite
			}
		}
		if err != nil {
			return d.fault("write", off+int64(done), err)
		}
		done += m
	}
	if whole == len(b) {
		return nil
	}
	// The kernel flushes this page before any direct read of it, and the flush
	// of the device covers it.
	f, err := d.tail()
	if err == nil {
		_, err = f.WriteAt(b[whole:], off+int64(whole))
	}
	if err != nil {
		return d.fault("write", off+int64(whole), err)
	}
	return nil
}

// zero makes n bytes at off read as zero, by a hole or the device's own means
// where they guarantee that, by writing otherwise. Never by discard: a device
// may ignore that and keep the old data.
func (d *Device) zero(off int64, n int) error {
	if !d.noZero.Load() {
		err := d.zeroByDevice(off, int64(n))
		if err == nil {
			return nil
		}
		if !errors.Is(err, errors.ErrUnsupported) && err != unix.EINVAL && err != unix.ENOTTY {
			return d.fault("zero", off, err)
		}
		d.noZero.Store(true)
	}
	return d.writeAt(d.zeroes()[:n], off)
}

// flush puts everything written so far on stable storage.
func (d *Device) flush() error {
	for {
		err := unix.Fsync(d.fd)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("flush %s: %w", d.path, err)
		}
		return d.refresh()
	}
}

// refresh makes the next reads come from the device where they could come
// from the page cache: guests' backends write around it.
func (d *Device) refresh() error {
	if d.direct {
		return nil
	}
	if err := d.dropCache(); err != nil {
		return fmt.Errorf("drop the page cache of %s: %w", d.path, err)
	}
	return nil
}

func (d *Device) fault(op string, off int64, err error) error {
	return fmt.Errorf("%s %s at byte %d: %w", op, d.path, off, err)
}
