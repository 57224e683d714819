package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Witness is what the kernel says of a device or file that changes with every
// write to it: two equal ones prove that nothing was written in between. It is text, to
// be stored and compared.
//
// Of a block device it is its counters of writes and discards, with the device's
// identity, its number in the order of appearance and the boot they belong to (see idleTracker for
// what they prove). Of a file it is its inode, its size and the time of its last
// modification, which the file system sets to the nanosecond with every write, a direct one
// and a backend driver's included (but not with each one through a memory mapping, which no
// backend uses). The time of its last change would tell a rename and a tag from
// nothing, which are no writes; that somebody sets the older time back to the nanosecond
// after he wrote is not found.
type Witness string

// settle is twice the grain of a file system's clock, which is 10 ms at most: a
// write after a witness was taken must not get the same time as one before.
const settle = 20 * time.Millisecond

// TakeWitness returns the witness of what path leads to. Who means to compare
// it later holds off writers of its own meanwhile. It fails with ErrUnfit where the
// kernel does not tell, and while a write is under way.
func TakeWitness(ctx context.Context, path string) (Witness, error) {
	var st unix.Statx_t
	mask := unix.STATX_BASIC_STATS | unix.STATX_BTIME
	if err := unix.Statx(unix.AT_FDCWD, path, 0, mask, &st); err != nil {
		return "", fmt.Errorf("witness of %s: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return deviceWitness(path, unix.Mkdev(st.Rdev_major, st.Rdev_minor))
	case unix.S_IFREG:
		return fileWitness(ctx, path, &st)
	}
	return "", fmt.Errorf("witness of %s: neither a block device nor a file: %w", path, ErrUnfit)
}

func deviceWitness(path string, rdev uint64) (Witness, error) {
	id := deviceIdentity(rdev)
	sys := sysDevice(rdev)
	t := idleTracker{volume: Volume{Path: path, Device: rdev, ID: id}}
	counts, inFlight, err := t.counters()
	if err != nil {
		return "", err
	}
	if inFlight != 0 {
		return "", fmt.Errorf("witness of %s: %d writes are under way: %w", path, inFlight, ErrUnfit)
	}
	// A device that went away and came back begins to count anew.
	seq := sysText(filepath.Dir(queueOf(sys)), "diskseq")
	if seq == "" || id.Boot == "" {
		return "", fmt.Errorf("witness of %s: this kernel does not tell one appearance of a device from another (diskseq, since Linux 5.15): %w", path, ErrUnfit)
	}
	return Witness(fmt.Sprintf("device %d %s boot %s seq %s counts %s", rdev, id.Stable, id.Boot, seq, counts)), nil
}

func fileWitness(ctx context.Context, path string, st *unix.Statx_t) (Witness, error) {
	modified := time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	switch old := time.Since(modified); {
	case old < 0:
		return "", fmt.Errorf("witness of %s: it was modified in the future, at %s: %w", path, modified, ErrUnfit)
	case old < settle:
		// What is written from now on until the clock moves on would have the same time.
		select {
		case <-time.After(settle - old):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		var again unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &again); err != nil {
			return "", fmt.Errorf("witness of %s: %w", path, err)
		}
		if again.Mtime != st.Mtime || again.Ino != st.Ino {
			return "", fmt.Errorf("witness of %s: it is being written: %w", path, ErrUnfit)
		}
	}
	boot := bootID() // power loss may take content back to before its times
	if boot == "" {
		return "", fmt.Errorf("witness of %s: this boot has no identity: %w", path, ErrUnfit)
	}
	return Witness(fmt.Sprintf("file boot %s device %d:%d inode %d born %d.%09d size %d modified %d.%09d",
		boot, st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec, st.Size, st.Mtime.Sec, st.Mtime.Nsec)), nil
}
