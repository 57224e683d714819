package blocksync

import "os"

// Device is a block device or a regular file opened for one end of a sync.
type Device struct {
	path   string
	file   *os.File
	size   int64
	sector int
	block  bool
	direct bool
}

// Path is the path the device was opened by.
func (d *Device) Path() string { return d.path }

// Size is the size in bytes when it was opened.
func (d *Device) Size() int64 { return d.size }

// Sector is the logical sector size in bytes.
func (d *Device) Sector() int { return d.sector }

// Direct reports whether the page cache is bypassed (O_DIRECT).
func (d *Device) Direct() bool { return d.direct }
