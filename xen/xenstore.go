package xen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// GuestState is what a guest says of itself.
type GuestState struct {
	NoSuspend bool // it does not answer a request to suspend; one that says nothing mostly does
}

// Guest reads what a guest says of itself.
func (x XL) Guest(ctx context.Context, id int) (GuestState, error) {
	base := "/local/domain/" + strconv.Itoa(id)
	nodes, err := x.store(ctx, base)
	if err != nil {
		return GuestState{}, err
	}
	if nodes == nil {
		return GuestState{}, fmt.Errorf("domain %d: %w", id, ErrNoDomain)
	}
	return GuestState{NoSuspend: nodes[base+"/control/feature-suspend"] == "0"}, nil
}

// DiskUsers says which domains use which disks of a host.
type DiskUsers struct{ uses []diskUse }

// diskUse is one disk of one domain.
type diskUse struct {
	domid  int
	path   string
	things []string // what it is, see thingsAt
}

// Of lists the domains that use what lies behind a path, by whatever name they
// do: a device and its links, a file and the loop device it is behind, are one.
func (u DiskUsers) Of(path string) []int {
	things := thingsAt(path)
	var ids []int
	for _, use := range u.uses {
		same := use.path == filepath.Clean(path) || slices.ContainsFunc(things, func(t string) bool { return slices.Contains(use.things, t) })
		if same && !slices.Contains(ids, use.domid) {
			ids = append(ids, use.domid)
		}
	}
	slices.Sort(ids)
	return ids
}

// Besides names what a domain has open beside these paths: a disk that was
// attached by somebody meanwhile.
func (u DiskUsers) Besides(id int, paths []string) (more []string) {
	known := map[string]bool{}
	for _, p := range paths {
		known[filepath.Clean(p)] = true
		for _, t := range thingsAt(p) {
			known[t] = true
		}
	}
	for _, use := range u.uses {
		if use.domid == id && !known[use.path] && !slices.ContainsFunc(use.things, func(t string) bool { return known[t] }) {
			more = append(more, use.path)
		}
	}
	slices.Sort(more)
	return more
}

// Without leaves one domain out.
func (u DiskUsers) Without(id int) DiskUsers {
	return DiskUsers{slices.DeleteFunc(slices.Clone(u.uses), func(use diskUse) bool { return use.domid == id })}
}

// backends is where dom0 keeps its ends of all devices.
const backends = "/local/domain/0/backend"

// DisksInUse reads what the block backends in dom0 have open. Disks that
// another domain is the backend of are not this host's to copy, and not here.
func (x XL) DisksInUse(ctx context.Context) (DiskUsers, error) {
	nodes, err := x.store(ctx, backends)
	if err != nil {
		return DiskUsers{}, err
	}
	return diskUsers(nodes)
}

// diskNode is the path of a disk's node: kind, domain, device. A disk has
// params whatever its backend is.
var diskNode = regexp.MustCompile(`^` + backends + `/(?:vbd|vbd3|qdisk|tap|tap2|virtio_disk)/([0-9]+)/[0-9]+$`)

func diskUsers(nodes map[string]string) (DiskUsers, error) {
	var u DiskUsers
	for node := range nodes {
		m := diskNode.FindStringSubmatch(node)
		if m == nil {
			continue
		}
		id, err := strconv.Atoi(m[1])
		if err != nil {
			return DiskUsers{}, fmt.Errorf("xenstore %s: %w", node, err)
		}
		path := imagePath(nodes[node+"/params"])
		use := diskUse{domid: id, path: path, things: thingsAt(path)}
		device, err := deviceNumber(nodes[node+"/physical-device"])
		if err != nil {
			return DiskUsers{}, fmt.Errorf("xenstore %s/physical-device: %w", node, err)
		}
		if device != 0 {
			use.things = append(use.things, deviceThings(device)...)
		}
		if path != "" || len(use.things) > 0 {
			u.uses = append(u.uses, use)
		}
	}
	return u, nil
}

// imagePath takes what qemu and tapdisk put before a path away: "aio:/x".
func imagePath(params string) string {
	if i := strings.Index(params, ":/"); i >= 0 && !strings.HasPrefix(params, "/") {
		params = params[i+1:]
	}
	if params == "" {
		return ""
	}
	return filepath.Clean(params)
}

// thingsAt names what lies behind a path: a device by its number, a file by
// its place on its file system. Nothing there, no names.
func thingsAt(path string) []string {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return nil
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
		return deviceThings(st.Rdev)
	}
	return []string{fmt.Sprintf("file %d of %d:%d", st.Ino, unix.Major(st.Dev), unix.Minor(st.Dev))}
}

// loopMajor is the major number of loop devices.
const loopMajor = 7

// deviceThings names a device, and the file behind it if it is a loop device.
func deviceThings(device uint64) []string {
	major, minor := unix.Major(device), unix.Minor(device)
	things := []string{fmt.Sprintf("device %d:%d", major, minor)}
	if major == loopMajor {
		file, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/loop/backing_file", major, minor))
		if err == nil {
			things = append(things, thingsAt(strings.TrimSuffix(string(file), "\n"))...)
		}
	}
	return things
}

// store is a part of xenstore, path to value. It is nil where there is no such path.
func (x XL) store(ctx context.Context, path string) (map[string]string, error) {
	out, said, err := x.ask(ctx, slices.Concat(x.Xenstore, []string{"xenstore-ls", "-f", path}))
	var failed *CommandError
	if errors.As(err, &failed) && strings.Contains(said, "No such file or directory") && strings.Contains(said, "xs_directory") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseNodes(out)
}

// parseNodes reads `xenstore-ls -f`. A node that vanished while it was listed
// has a colon for its value.
func parseNodes(text string) (map[string]string, error) {
	nodes := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		path, quoted, ok := strings.Cut(line, ` = "`)
		value, closed := strings.CutSuffix(quoted, `"`)
		switch {
		case ok && closed:
			nodes[path] = unescape(value)
		case !strings.HasSuffix(line, ":"):
			return nil, fmt.Errorf("xenstore-ls -f: cannot read line %q", line)
		}
	}
	return nodes, nil
}

// escape is how xenstore-ls writes what is not printable ASCII.
var escape = regexp.MustCompile(`\\(?:x[0-9a-f]{2}|[0-7]{3}|.)`)

func unescape(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		switch e[1] {
		case 't':
			return "\t"
		case 'n':
			return "\n"
		case 'r':
			return "\r"
		case 'x':
			if len(e) == 4 {
				n, _ := strconv.ParseUint(e[2:], 16, 8)
				return string([]byte{byte(n)})
			}
		case '0', '1', '2', '3':
			if len(e) == 4 {
				n, _ := strconv.ParseUint(e[1:], 8, 8)
				return string([]byte{byte(n)})
			}
		}
		return e[1:]
	})
}
