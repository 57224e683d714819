package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// shadowSuffix makes the name under which a file is kept after its VM moved
// away: no configuration names it, so nothing can start from it by mistake.
const shadowSuffix = ".xmig-shadow"

// maxLinks is how many symlinks a path may go through, as in the kernel.
const maxLinks = 40

// Inspect describes the volume at path.
func (h *Host) Inspect(ctx context.Context, path string) (Volume, error) {
	if err := ctx.Err(); err != nil {
		return Volume{}, err
	}
	v, err := inspect(ctx, path)
	if errors.Is(err, ErrMissing) {
		if r, ok, rerr := h.lookup(path); rerr == nil && ok && r.Role == RoleShadow && r.kept() != r.Place {
			return Volume{}, fmt.Errorf("%w; it is kept as %s, %s", err, r.kept(), r.holder())
		}
	}
	if err != nil {
		return Volume{}, err
	}
	r, ok, err := h.lookup(path)
	if err != nil || !ok {
		return v, err
	}
	return described(v, r)
}

// described adds to v what r says, if v is the volume of r.
func described(v Volume, r Record) (Volume, error) {
	if v.Kind == KindFile {
		f, err := openOwn(r, v.Real)
		if err != nil || f == nil {
			return v, err
		}
		// Not by Allocated: a tag that does not fit the inode takes a block too.
		_, serr := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
		v.ReadsZero = r.Role == RoleMade && errors.Is(serr, unix.ENXIO)
		if err := f.Close(); err != nil {
			return v, err
		}
	} else if !sameDevice(r.Identity, v.ID) {
		return v, nil
	}
	v.Tag = r.Tag()
	return v, nil
}

func inspect(ctx context.Context, path string) (Volume, error) {
	real, fi, err := resolve(path)
	if err != nil {
		return Volume{}, err
	}
	if fi == nil {
		return inspectIdle(ctx, Volume{Path: path, Real: real})
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Volume{}, fmt.Errorf("%s: no file status", path)
	}
	v := Volume{Path: path, Real: real}
	switch {
	case fi.Mode().IsRegular():
		return inspectFile(v, st)
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return inspectDevice(v, uint64(st.Rdev))
	case fi.IsDir():
		return Volume{}, fmt.Errorf("%s is a directory: %w", named(path, real), ErrNotDisk)
	default:
		return Volume{}, fmt.Errorf("%s is %s: %w", named(path, real), fi.Mode().Type(), ErrNotDisk)
	}
}

func inspectFile(v Volume, st *syscall.Stat_t) (Volume, error) {
	v.Kind, v.Size, v.SectorSize = KindFile, st.Size, fileSector
	v.Allocated = st.Blocks * 512 // unit of st_blocks, whatever the file system's block
	f, err := os.OpenFile(v.Real, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Volume{}, fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	if v.ID, err = identify(f); err != nil {
		return Volume{}, err
	}
	v.Device = v.ID.Dev
	return v, nil
}

// inspectDevice asks the kernel's attributes, for which no device needs to be opened.
func inspectDevice(v Volume, rdev uint64) (Volume, error) {
	sys := sysDevice(rdev)
	sectors, err := strconv.ParseInt(sysText(sys, "size"), 10, 64)
	if err != nil {
		return Volume{}, fmt.Errorf("%s: the kernel knows no block device %d:%d: %w", v.Path, unix.Major(rdev), unix.Minor(rdev), ErrMissing)
	}
	if sectors == 0 {
		return Volume{}, fmt.Errorf("%s: block device of size 0 (nothing attached to it, or no medium): %w", v.Path, ErrMissing)
	}
	v.Kind, v.Device = KindBlock, rdev
	if n, ok := lvOfDevice(sys); ok {
		v.Kind, v.lv = KindLVM, n
	}
	v.Size = sectors * 512 // unit of the attribute, whatever the device's sector
	v.Allocated = v.Size
	if v.SectorSize, err = sectorAt(sys); err != nil {
		return Volume{}, fmt.Errorf("%s: sector size: %w", v.Path, err)
	}
	v.ID = deviceIdentity(rdev)
	return v, nil
}

func sectorAt(sys string) (int, error) {
	return strconv.Atoi(sysText(queueOf(sys), "logical_block_size"))
}

// queueOf is the directory with a device's limits; a partition has its disk's.
func queueOf(sys string) string {
	if sysText(sys, "partition") == "" {
		return filepath.Join(sys, "queue")
	}
	real, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return filepath.Join(sys, "queue")
	}
	return filepath.Join(filepath.Dir(real), "queue")
}

// resolve follows path to its end. fi is nil if nothing is there; real is then
// the name that something would get, also below directories that are missing.
func resolve(path string) (real string, fi fs.FileInfo, err error) {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return "", nil, fmt.Errorf("%q is not an absolute path: %w", path, ErrNotDisk)
	}
	if strings.HasSuffix(path, "/") {
		return "", nil, fmt.Errorf("%s names a directory: %w", path, ErrNotDisk)
	}
	at := filepath.Clean(path)
	for range maxLinks {
		dir, err := resolveDir(filepath.Dir(at))
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		at = filepath.Join(dir, filepath.Base(at))
		fi, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return at, nil, nil
		}
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		if fi.Mode().Type() != fs.ModeSymlink {
			return at, fi, nil
		}
		target, err := os.Readlink(at)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		at = filepath.Clean(target)
	}
	return "", nil, fmt.Errorf("%s: more than %d symlinks, they lead in a circle: %w", path, maxLinks, ErrNotDisk)
}

// resolveDir resolves what exists of dir and leaves the rest as it is.
func resolveDir(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
		return "", err
	}
	if _, lerr := os.Lstat(dir); lerr == nil {
		return "", fmt.Errorf("directory %s is a symlink to nothing: %w", dir, ErrMissing)
	}
	parent, err := resolveDir(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// named is path, with where it leads to if that is elsewhere.
func named(path, real string) string {
	if path == real {
		return path
	}
	return path + " (" + real + ")"
}

// ShadowPath is the name of the shadow of the file or logical volume at place.
func ShadowPath(place string) string {
	kind := KindFile
	if _, ok := lvNameOf(place); ok {
		kind = KindLVM
	}
	return Record{Kind: kind, Place: place}.kept()
}

// lookup returns the record of the volume that path names, now or, for one that
// has another name as shadow, before. A shadow's own name leads to it as well.
func (h *Host) lookup(path string) (Record, bool, error) {
	real, fi, err := resolve(path)
	if err != nil {
		return Record{}, false, err
	}
	all, err := h.records()
	if err != nil {
		return Record{}, false, err
	}
	var rdev uint64
	if fi != nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			rdev = uint64(st.Rdev)
		}
	}
	for _, r := range all {
		switch {
		case r.Kind == KindFile && (r.Place == real || r.kept() == real):
			return r, true, nil
		case r.Kind != KindFile && rdev != 0 && sameDevice(r.Identity, deviceIdentity(rdev)):
			return r, true, nil
		}
	}
	// A device by name only after all by identity: its record may be about
	// another device that had the name, which callers then see by Find.
	n, logical := lvOfPath(path, real, rdev)
	for _, r := range all {
		switch {
		case r.Kind == KindBlock && r.Place == filepath.Clean(path):
			return r, true, nil
		case r.Kind == KindLVM && logical && (r.Place == n.path() || r.kept() == n.path()):
			return r, true, nil
		}
	}
	return Record{}, false, nil
}
