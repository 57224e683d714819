package xlsim

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// blockFile is a disk as a guest uses it: O_DIRECT, so that nothing is read
// from or left in the host's page cache, and O_DSYNC, so that a write that
// returned is durable. File systems without O_DIRECT (old tmpfs) get the
// O_DSYNC alone: there the page cache is the disk.
type blockFile struct {
	f    *os.File
	size int64
}

// access says what a disk is opened for.
type access int

const (
	readOnly access = iota
	readWrite
)

func openBlockFile(path string, how access) (*blockFile, error) {
	flags := unix.O_RDONLY
	if how == readWrite {
		flags = unix.O_RDWR | unix.O_DSYNC
	}
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of %s: %w", path, err), f.Close())
	}
	return &blockFile{f: f, size: size}, nil
}

func (b *blockFile) readAt(p []byte, off int64) error {
	n, err := b.f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return err
}

func (b *blockFile) writeAt(p []byte, off int64) error {
	_, err := b.f.WriteAt(p, off)
	return err
}

func (b *blockFile) close() error { return b.f.Close() }

// alignedBuffer gives memory that O_DIRECT takes; it goes back with
// releaseBuffer.
func alignedBuffer(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%d bytes of aligned memory: %w", size, err)
	}
	return b, nil
}

func releaseBuffer(b []byte) { _ = unix.Munmap(b) } // fails only for what is not mapped
