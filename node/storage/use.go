package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// InUse tells who uses the volume at path as far as this host's kernel shows it:
// mounts, swap, devices above it, loop devices, writers. An own open file is not
// a use. It does not see blkback, which opens without a claim and without a
// process: which guests use a device is in xenstore. Without root's rights other
// users' processes and exclusive claims stay unseen.
func (h *Host) InUse(ctx context.Context, path string) ([]Use, error) {
	v, err := inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	return uses(ctx, v)
}

// What is open for a moment is not in use: udev looks into each device that
// somebody has written to, and a guest's backend lets go soon after the guest.
const (
	openPatience = 2 * time.Second // under the host's lock; callers come again
	openPoll     = 100 * time.Millisecond
)

// notInUse fails with ErrBusy if v is in use.
func notInUse(ctx context.Context, v Volume) error {
	found, err := uses(ctx, v)
	for end := time.Now().Add(openPatience); err == nil && justOpen(found) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(openPoll):
		}
		found, err = uses(ctx, v)
	}
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	var by []string
	for _, u := range found {
		by = append(by, u.String())
	}
	return fmt.Errorf("%s: %s: %w", named(v.Path, v.Real), strings.Join(by, ", "), ErrBusy)
}

func justOpen(found []Use) bool { return len(found) == 1 && found[0].Kind == UseOpen }

func uses(ctx context.Context, v Volume) ([]Use, error) {
	if v.idle() {
		return nil, nil
	}
	looks := []func(Volume) ([]Use, error){usesBySwap, usesByLoop, usesByWriters}
	if v.Kind != KindFile {
		looks = []func(Volume) ([]Use, error){usesByMount, usesBySwap, usesByHolders, usesByLoop, usesByWriters}
	}
	var out []Use
	for _, look := range looks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, err := look(v)
		if err != nil {
			return nil, fmt.Errorf("who uses %s: %w", v.Path, err)
		}
		out = append(out, found...)
	}
	if v.Kind != KindFile && len(out) == 0 {
		claimed, err := usesByClaim(v)
		if err != nil || len(claimed) > 0 || v.Kind != KindLVM {
			return claimed, err
		}
		return usesByOpen(ctx, v)
	}
	return out, nil
}

// mount is one line of mountinfo.
type mount struct {
	device string // major:minor
	point  string
	kind   string
	source string
}

func mounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlay options can be long
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 2 {
			continue
		}
		out = append(out, mount{device: head[2], point: unescape(head[4]), kind: tail[0], source: unescape(tail[1])})
	}
	return out, lines.Err()
}

// unescape undoes the octal escapes that the kernel writes for blanks in names.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// fileSystemName names the file system that dir is on.
func fileSystemName(dir string) string {
	all, err := mounts()
	if err != nil {
		return "file system of " + dir
	}
	var best mount
	for _, m := range all {
		inside := m.point == "/" || dir == m.point || strings.HasPrefix(dir, m.point+"/")
		if inside && len(m.point) >= len(best.point) { // the later of two at one point lies above
			best = m
		}
	}
	if best.point == "" {
		return "file system of " + dir
	}
	return fmt.Sprintf("file system %s (%s)", best.point, best.kind)
}

// numbers returns the device of v and its partitions as major:minor.
func numbers(v Volume) []string {
	sys := sysDevice(v.Device)
	out := []string{filepath.Base(sys)}
	parts, err := filepath.Glob(filepath.Join(sys, "*", "partition"))
	if err != nil {
		return out
	}
	for _, p := range parts {
		if n := sysText(filepath.Dir(p), "dev"); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// numberOf returns the major:minor of the device node at path, "" if it is none.
func numberOf(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
}

func usesByMount(v Volume) ([]Use, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	own := numbers(v)
	var out []Use
	for _, m := range all {
		// The source too: btrfs reports a number that is not its device's.
		if slices.Contains(own, m.device) || (strings.HasPrefix(m.source, "/dev/") && slices.Contains(own, numberOf(m.source))) {
			out = append(out, Use{UseMount, m.point})
		}
	}
	return out, nil
}

func usesBySwap(v Volume) ([]Use, error) {
	b, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, err
	}
	var out []Use
	for i, l := range strings.Split(string(b), "\n") {
		fields := strings.Fields(l)
		if i == 0 || len(fields) == 0 {
			continue
		}
		path := unescape(fields[0])
		if v.Kind == KindFile && isFile(path, v.ID) || v.Kind != KindFile && slices.Contains(numbers(v), numberOf(path)) {
			out = append(out, Use{UseSwap, path})
		}
	}
	return out, nil
}

func isFile(path string, id Identity) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && uint64(st.Dev) == id.Dev && st.Ino == id.Ino
}

func usesByHolders(v Volume) ([]Use, error) {
	var out []Use
	for _, n := range numbers(v) {
		held, err := os.ReadDir(filepath.Join("/sys/dev/block", n, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range held {
			by := e.Name()
			if name := sysText(filepath.Join("/sys/block", by), "dm/name"); name != "" {
				by += ", " + name
			}
			out = append(out, Use{UseHolder, by})
		}
	}
	return out, nil
}

func usesByLoop(v Volume) ([]Use, error) {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []Use
	for _, n := range names {
		// The kernel renders the name anew at each read: it follows a rename.
		backing := sysText(filepath.Dir(n), filepath.Base(n))
		if backing == "" {
			continue // detached since
		}
		if v.Kind == KindFile && isFile(backing, v.ID) || v.Kind != KindFile && slices.Contains(numbers(v), numberOf(backing)) {
			out = append(out, Use{UseLoop, "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(n)))})
		}
	}
	return out, nil
}

// usesByWriters looks through the open files of all processes but ours.
// Readers are left out: a backup that reads an old disk is no reason to stop.
func usesByWriters(v Volume) ([]Use, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []Use
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", p.Name())
		if isWriter(dir, v) {
			out = append(out, Use{UseWriter, fmt.Sprintf("pid %d, %s", pid, sysText(dir, "comm"))})
		}
	}
	return out, nil
}

// isWriter tells whether a process has v open for writing, once it has begun its program.
func isWriter(proc string, v Volume) bool {
	for end := time.Now().Add(forkTime); writesTo(proc, v); time.Sleep(forkTime / 1000) {
		if begun := !unborn(proc); begun && writesTo(proc, v) || time.Now().After(end) {
			return true
		}
	}
	return false
}

func writesTo(proc string, v Volume) bool {
	open, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return false // ended, or not ours to see
	}
	return slices.ContainsFunc(open, func(fd fs.DirEntry) bool {
		return opens(filepath.Join(proc, "fd", fd.Name()), v) && writes(filepath.Join(proc, "fdinfo", fd.Name()))
	})
}

// forkTime is far more than a child takes to begin its program, on a host that swaps too.
const forkTime = 2 * time.Second

// unborn tells whether a process is a child of ours that may not have begun its
// program yet. Until then it has everything open that we have.
func unborn(proc string) bool {
	stat := sysText(proc, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
		return false
	}
	its, err := os.Readlink(filepath.Join(proc, "exe"))
	ours, oerr := os.Readlink("/proc/self/exe")
	return err == nil && oerr == nil && its == ours
}

func opens(fd string, v Volume) bool {
	var st unix.Stat_t
	if unix.Stat(fd, &st) != nil {
		return false
	}
	if v.Kind != KindFile {
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && uint64(st.Rdev) == v.Device
	}
	return uint64(st.Dev) == v.ID.Dev && st.Ino == v.ID.Ino
}

// opensItself tells whether this process has v open.
func opensItself(v Volume) (bool, error) {
	const dir = "/proc/self/fd"
	open, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(open, func(fd fs.DirEntry) bool { return opens(filepath.Join(dir, fd.Name()), v) }), nil
}

func writes(fdinfo string) bool {
	for _, l := range strings.Split(sysText(fdinfo, ""), "\n") {
		if rest, ok := strings.CutPrefix(l, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(rest), 8, 64)
			return err == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY
		}
	}
	return false
}

// usesByClaim tries what mount and LVM do: an exclusive open fails if the kernel
// holds the device for somebody.
func usesByClaim(v Volume) ([]Use, error) {
	f, err := os.OpenFile(v.Real, os.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK, 0)
	switch {
	case err == nil:
		return nil, f.Close()
	case errors.Is(err, unix.EBUSY):
		return []Use{{UseClaimed, "kernel"}}, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, nil
	}
	return nil, err
}
