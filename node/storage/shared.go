package storage

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Shared storage: two hosts may see one and the same disk. What would copy such
// a disk onto itself under a running guest would spoil it, so both hosts say
// what they know of it, and compare.

// Alias is what a disk is called on every host that sees it.
type Alias struct {
	// Proof belongs to one disk in the world: who sees the same sees the same
	// disk. Empty where nothing of that kind is known.
	Proof string
	// Name is the same on two hosts if they see one disk, or if one is a clone of
	// the other: reason enough to touch neither until a person has said which.
	Name string
}

// AliasOf finds out what v is called elsewhere. A plain local file or device
// has no alias, or one that no other host knows.
func AliasOf(v Volume) (Alias, error) {
	if v.Kind == KindFile {
		return aliasOfFile(v, "/proc/self/mountinfo")
	}
	if v.Device == 0 { // idle: the kernel knows nothing of it
		return Alias{Name: aliasName(v.ID.Stable)}, nil
	}
	sys := sysDevice(v.Device)
	a := Alias{Proof: proofOf(sys), Name: aliasName(v.ID.Stable)}
	if name := drbdResource(v.Device, "/dev/drbd/by-res"); name != "" {
		a.Name = name // which peers it has, only DRBD knows
	}
	return a, nil
}

// aliasName drops what is the same on many hosts by chance: serial numbers of
// emulated disks, and the path of a loop device's file.
func aliasName(stable string) string {
	if strings.HasPrefix(stable, "serial:") || strings.HasPrefix(stable, "loop:") || strings.HasPrefix(stable, "wwid:t10.") {
		return ""
	}
	return stable
}

// worldWide are the identifiers that standards make unique: SCSI's and NVMe's.
var worldWide = regexp.MustCompile(`^(naa|eui|uuid)\.[0-9A-Za-z-]{16,}$`)

// proofOf builds the proof of the device at sys out of those it lies on.
func proofOf(sys string) string {
	if n := sysText(sys, "partition"); n != "" {
		real, err := filepath.EvalSymlinks(sys)
		if err != nil {
			return ""
		}
		return joined(proofOf(filepath.Dir(real)), "part "+n)
	}
	uuid := sysText(sys, "dm/uuid")
	if id, ok := strings.CutPrefix(uuid, "mpath-3"); ok && worldWide.MatchString("naa."+id) {
		return "naa." + id // one LUN, whether it is seen by several paths or by one
	}
	if uuid != "" {
		return joined(proofOfAll(filepath.Join(sys, "slaves")), uuid)
	}
	for _, file := range []string{"wwid", "device/wwid"} {
		if id := sysText(sys, file); worldWide.MatchString(id) {
			return id
		}
	}
	return ""
}

// proofOfAll is that of several devices together; one without a proof takes it from all.
func proofOfAll(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var all []string
	for _, e := range entries {
		p := proofOf(filepath.Join(dir, e.Name()))
		if p == "" {
			return ""
		}
		all = append(all, p)
	}
	slices.Sort(all)
	return strings.Join(all, "+")
}

func joined(base, more string) string {
	if base == "" {
		return ""
	}
	return base + " " + more
}

// drbdMajor is the kernel's number for DRBD devices.
const drbdMajor = 147

// drbdResource finds the resource and volume of a DRBD device by the links that
// udev keeps for it.
func drbdResource(rdev uint64, links string) string {
	if unix.Major(rdev) != drbdMajor {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(links, "*", "*")) // the pattern is right
	for _, link := range found {
		var st unix.Stat_t
		if unix.Stat(link, &st) == nil && uint64(st.Rdev) == rdev {
			rel, _ := filepath.Rel(links, link)
			return "drbd:" + rel
		}
	}
	return "drbd:" + strconv.FormatUint(uint64(unix.Minor(rdev)), 10)
}

// aliasOfFile: on a network's file system the server, the exported directory
// and the inode are one file for all clients.
func aliasOfFile(v Volume, mountinfo string) (Alias, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return Alias{}, fmt.Errorf("%s: which file system it lies on: %w", v.Path, err)
	}
	defer f.Close()
	at := fmt.Sprintf("%d:%d", unix.Major(v.ID.Dev), unix.Minor(v.ID.Dev))
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// See proc_pid_mountinfo(5): fields before " - " vary in number.
		mount, file, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(mount), strings.Fields(file)
		if !ok || len(left) < 4 || len(right) < 2 || left[2] != at {
			continue
		}
		if kind := right[0]; kind == "nfs" || kind == "nfs4" || kind == "ceph" {
			id := fmt.Sprintf("%s:%s#%d", strings.TrimSuffix(kind, "4"), right[1], v.ID.Ino)
			return Alias{Proof: id, Name: id}, nil
		}
		return Alias{}, nil
	}
	return Alias{}, lines.Err()
}

// Flush makes what was written to the disk through this host's page cache
// reach the storage: the other host reads it there.
func Flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}
