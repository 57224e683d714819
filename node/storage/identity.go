package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity tells one file or device from another that later bears its name.
//
// A file is known by inode and tag. Inode numbers are given out again at once
// and device numbers change over a reboot, so the tag decides where there can be one;
// else all of device, inode and time of birth must agree.
// A device is known by what is stable about it (LVM's UUID, a disk's WWID, a loop
// device's file); where nothing is, by its number, within one boot of the host.
type Identity struct {
	Dev    uint64 `json:"dev,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
	Birth  int64  `json:"birth,omitempty"` // ns since 1970, 0 where the file system does not know
	Rdev   uint64 `json:"rdev,omitempty"`
	Stable string `json:"stable,omitempty"`
	Boot   string `json:"boot,omitempty"` // boot of the host in which Rdev was seen
}

// tagName is the extended attribute that carries the tag of a file.
const tagName = "user.xmig.tag"

// mark is the tag as it is written on a volume itself: it goes where the inode or the logical volume goes.
type mark struct {
	ID   string `json:"id"`
	Job  string `json:"job"`
	VM   string `json:"vm"`
	Disk string `json:"disk"`
	Role Role   `json:"role"`
}

func markOf(r Record) mark {
	return mark{ID: r.ID, Job: r.Job, VM: r.VM, Disk: r.Disk, Role: r.Role}
}

// errNoTags is returned where the file system keeps no extended attributes.
var errNoTags = errors.New("file system keeps no tags")

// readTag returns the tag of f, nil if it has none.
func readTag(f *os.File) (*mark, error) {
	b := make([]byte, 4096)
	n, err := unix.Fgetxattr(int(f.Fd()), tagName, b)
	switch {
	case errors.Is(err, unix.ENODATA):
		return nil, nil
	case errors.Is(err, unix.ENOTSUP):
		return nil, errNoTags
	case err != nil:
		return nil, fmt.Errorf("read tag of %s: %w", f.Name(), err)
	}
	var t mark
	if err := json.Unmarshal(b[:n], &t); err != nil {
		return &mark{}, nil // somebody else's: it has no ID of ours
	}
	return &t, nil
}

// writeTag puts t on f, durable with f's next sync. Without attributes the registry is all there is.
func writeTag(f *os.File, t mark) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := unix.Fsetxattr(int(f.Fd()), tagName, b, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("tag %s: %w", f.Name(), err)
	}
	return nil
}

func dropTag(f *os.File) error {
	err := unix.Fremovexattr(int(f.Fd()), tagName)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("remove tag of %s: %w", f.Name(), err)
	}
	return nil
}

// identify returns the identity of the open file f.
func identify(f *os.File) (Identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return Identity{}, fmt.Errorf("identify %s: %w", f.Name(), err)
	}
	id := Identity{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// openOwn opens the file at path if it is the volume of r, and returns nil if it
// is anything else or nothing. Symlinks are not followed: a volume of ours is a
// regular file under its very name.
func openOwn(r Record, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) ||
		errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	own, err := owns(r, f)
	if err != nil || !own {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// owns tells whether f is the volume of r.
func owns(r Record, f *os.File) (bool, error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return false, err
	}
	id, err := identify(f)
	if err != nil {
		return false, err
	}
	tag, err := readTag(f)
	if err != nil && !errors.Is(err, errNoTags) {
		return false, err
	}
	return isOwn(r, id, tag, err == nil), nil
}

// isOwn decides whether a file with this identity and tag is the volume of r;
// tags says whether the file could have a tag at all.
func isOwn(r Record, id Identity, tag *mark, tags bool) bool {
	same := r.Identity.Birth != 0 && id.Dev == r.Identity.Dev && id.Ino == r.Identity.Ino && id.Birth == r.Identity.Birth
	switch {
	case !tags:
		return same
	case tag != nil:
		return tag.ID == r.ID && id.Ino == r.Identity.Ino
	}
	// Untagged: ours only where the intent stands and the tag is its effect
	// (shadow, adopt), or the tag's removal is (settle).
	return same && (r.Pending == pendingShadow || r.Pending == pendingAdopt || r.Pending == pendingSettle)
}

// deviceIdentity describes the block device rdev.
func deviceIdentity(rdev uint64) Identity {
	return Identity{Rdev: rdev, Stable: stableName(sysDevice(rdev)), Boot: bootID()}
}

// sameDevice tells whether two identities are one device, as far as can be known.
func sameDevice(a, b Identity) bool {
	if a.Stable != "" || b.Stable != "" {
		return a.Stable == b.Stable
	}
	return a.Rdev == b.Rdev && a.Boot == b.Boot && a.Boot != ""
}

// sysDevice is the kernel's directory about a block device.
func sysDevice(rdev uint64) string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
}

// stableName returns a name of the device at sys that survives reboots, "" if the kernel knows none.
func stableName(sys string) string {
	if n := sysText(sys, "partition"); n != "" {
		real, err := filepath.EvalSymlinks(sys)
		if err != nil {
			return ""
		}
		if disk := stableName(filepath.Dir(real)); disk != "" {
			return disk + " part " + n
		}
		return ""
	}
	for _, attr := range []struct{ prefix, file string }{
		{"dm:", "dm/uuid"}, {"md:", "md/uuid"}, {"loop:", "loop/backing_file"},
		{"wwid:", "wwid"}, {"wwid:", "device/wwid"}, {"serial:", "serial"}, {"serial:", "device/serial"},
	} {
		if v := sysText(sys, attr.file); v != "" {
			return attr.prefix + v
		}
	}
	return ""
}

// sysText reads one attribute, "" if there is none.
func sysText(dir, file string) string {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func bootID() string { return sysText("/proc/sys/kernel/random", "boot_id") }
