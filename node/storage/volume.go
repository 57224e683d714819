package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Errors that callers tell apart; all are wrapped with the path and what to do.
var (
	ErrMissing  = errors.New("volume does not exist")
	ErrNotDisk  = errors.New("not a regular file or block device")
	ErrTaken    = errors.New("volume belongs to somebody else") // another job, VM or disk; or nobody xmig knows
	ErrBusy     = errors.New("volume is in use")
	ErrUnfit    = errors.New("volume does not fit") // too small, other sector size, cannot be made here
	ErrNoSpace  = errors.New("not enough space")
	ErrNoShadow = errors.New("no shadow of this disk")
	ErrLost     = fmt.Errorf("it was kept and is gone: %w", ErrMissing)
)

// Kind is what a volume is made of.
type Kind string

// The kinds there are now; ZFS volumes will be a kind of their own.
const (
	KindFile  Kind = "file"  // raw regular file
	KindBlock Kind = "block" // block device that exists by somebody else's doing
	KindLVM   Kind = "lvm"   // logical volume: new ones are classic, existing ones may be thin
)

// Role says what xmig may do with a volume, see the package comment.
type Role string

// The roles. A volume without a tag is none of ours.
const (
	RoleMade    Role = "made"
	RoleAdopted Role = "adopted"
	RoleShadow  Role = "shadow"
)

// fileSector is the logical sector size that a guest sees on a raw file: what
// loop devices and qemu present unless told otherwise.
const fileSector = 512

// Volume is one disk of this host as it is now.
type Volume struct {
	Path       string // as asked for
	Real       string // symlinks resolved; of a shadow the name it has now
	Kind       Kind
	Size       int64  // bytes the guest sees
	Allocated  int64  // bytes that take space; Size for block devices
	SectorSize int    // logical, bytes
	Device     uint64 // rdev of a block device (0: idle), the file system's number for a file
	ID         Identity

	// ReadsZero says that every byte is zero for certain: a file of ours that
	// nobody has written to. Only then may zeros be left unwritten.
	ReadsZero bool

	Tag *Tag // nil if no record names the volume

	lv lvName // of a logical volume
}

// idle tells that v is a logical volume which is not active: no device leads to it.
func (v Volume) idle() bool { return v.Kind == KindLVM && v.Device == 0 }

// place is the name of v that its record is kept under.
func (v Volume) place() string {
	switch v.Kind {
	case KindFile:
		return v.Real
	case KindLVM:
		return v.lv.path()
	default: // as given: what it resolves to, /dev/sdb, is not the same after a reboot
		return filepath.Clean(v.Path)
	}
}

// Tag is what the registry says about a volume.
type Tag struct {
	Job       string    `json:"job"` // the job that made, adopted or shadowed it last
	VM        string    `json:"vm"`
	Disk      string    `json:"disk"`
	Role      Role      `json:"role"`
	Time      time.Time `json:"time"`
	Host      string    `json:"host,omitempty"`      // shadow: where the VM went
	KeepUntil time.Time `json:"keep_until,omitzero"` // shadow: not to be pruned before
	Pending   string    `json:"pending,omitempty"`   // change that a crash cut off
}

// Parents says what Create does about a missing directory.
type Parents uint8

const (
	ParentsMustExist Parents = iota
	MakeParents              // and Retire removes those made, if empty
)

// Existing says what Create does about a file that is there and not ours.
type Existing uint8

const (
	LeaveExisting Existing = iota // it is somebody's: ErrTaken
	TakeExisting                  // its owner named it: adopted, grown, given back by Retire
)

// Request names one disk of one VM and what a job needs it to be.
type Request struct {
	Path       string
	Size       int64 // bytes, at least
	SectorSize int   // of the disk at the other end; 0 if it does not matter
	Job        string
	VM         string // UUID
	Disk       string // as the guest knows it: xvda
	Parents    Parents
	Existing   Existing

	Host      string    // Shadow: where the VM went
	KeepUntil time.Time // Shadow: not to be pruned before
}

// Outcome is what Retire or Settle did about one volume.
type Outcome struct {
	Path string
	Did  Did
}

// Did says what became of a volume.
type Did string

// What Retire and Settle can do about a volume.
const (
	DidRemove  Did = "removed"
	DidReturn  Did = "shadow again"
	DidUntag   Did = "tag removed"
	DidLeave   Did = "left: what is there now is not the job's"
	DidVanish  Did = "was gone already"
	DidRelease Did = "handed to the guest"
)

// UseKind is how a volume is in use.
type UseKind string

// The ways in which a volume can be in use, as seen from the host.
const (
	UseMount   UseKind = "mounted"
	UseSwap    UseKind = "swap"
	UseHolder  UseKind = "held by a device"    // device mapper, md, bcache above it
	UseLoop    UseKind = "backs a loop device" // xl attaches raw files so
	UseClaimed UseKind = "claimed exclusively" // O_EXCL refused: somebody in the kernel
	UseWriter  UseKind = "opened for writing"  // a process other than ours
	UseOpen    UseKind = "open"                // the device mapper counts an opener that nothing else shows
)

// Use is one user of a volume.
type Use struct {
	Kind UseKind
	By   string // mount point, device or process
}

func (u Use) String() string { return string(u.Kind) + " (" + u.By + ")" }

// Need is the space that one disk of a job will take.
type Need struct {
	Disk  string // for messages
	Path  string
	Bytes int64
}

// SpaceError says which disk does not fit where.
type SpaceError struct {
	Disk string
	Path string
	Pool string
	Free int64 // bytes, less what others hold and the reserve
	Need int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("disk %s (%s): %s has %s free, needs %s", e.Disk, e.Path, e.Pool, bytesText(e.Free), bytesText(e.Need))
}

func (e *SpaceError) Unwrap() error { return ErrNoSpace }

// bytesText renders n for people, and exactly where rounding would hide a difference.
func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB (%d bytes)", float64(n)/(1<<30), n)
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB (%d bytes)", float64(n)/(1<<20), n)
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
