package xlsim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstLoop is the first made-up loop minor: beyond any that exists, so that
// nobody takes 7:N for a device of this machine.
const firstLoop = 100000

// xlError is a failure with the text a real xl prints for it.
type xlError struct{ text string }

func (e xlError) Error() string { return strings.TrimSuffix(e.text, "\n") }

// plan says how a domain comes to be.
type plan struct {
	config domainConfig
	start  string // startBoot or startResume
	// fill makes the memory file's content; its error is the end of the build.
	fill func(id int, ram *os.File) error
	// noMemory is the text for a host that is full.
	noMemory string
	monitor  monitoring
}

// monitoring says whether somebody waits for a domain's end, as the daemon
// does that `xl create` and `xl restore` leave behind.
type monitoring int

const (
	unmonitored monitoring = iota
	monitored
)

func monitorOf(o options) monitoring {
	if o.has('e') {
		return unmonitored
	}
	return monitored
}

// build makes a domain, in the order of libxl: name, disks are there, memory,
// its content, disks are nobody else's, devices. The domain is paused then.
func (c *call) build(p plan) (id int, err error) {
	id, err = c.reserve(p)
	if err != nil {
		return id, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.discard(id))
		}
	}()
	ram, err := os.OpenFile(filepath.Join(runtimeDir(c.dir, id), "ram"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return id, err
	}
	err = ram.Truncate(p.config.BInfo.MaxKB << 10)
	if err == nil {
		err = p.fill(id, ram)
	}
	if err := errors.Join(err, ram.Close()); err != nil {
		return id, err
	}
	if err := c.connect(id); err != nil {
		return id, err
	}
	return id, c.spawn(id, p)
}

// reserve takes the next domain id and a place among the domains.
func (c *call) reserve(p plan) (int, error) {
	h, err := lockHost(c.dir)
	if err != nil {
		return 0, err
	}
	defer h.unlock()
	id := h.NextID
	h.NextID++
	if err := h.save(); err != nil {
		return id, err
	}
	name := p.config.CInfo.Name
	if h.named(name) != nil {
		return id, xlError{fmt.Sprintf("libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain %d:Domain with name \"%s\" already exists.\n", id, name) +
			fmt.Sprintf("libxl: error: libxl_create.c:1296:initiate_domain_create: Domain %d:cannot make domain: -6\n", id) + destroyed(id)}
	}
	for i, d := range p.config.Disks {
		if _, err := os.Stat(d.Path); d.Format != "empty" && err != nil {
			return id, xlError{fmt.Sprintf("libxl: error: libxl_device.c:455:libxl__device_disk_set_backend: Disk vdev=%s failed to stat: %s: %s\n", d.Vdev, d.Path, errnoText(err)) +
				fmt.Sprintf("libxl: error: libxl_create.c:1318:initiate_domain_create: Domain %d:Unable to set disk defaults for disk %d\n", id, i) + destroyed(id)}
		}
	}
	if h.freeMiB(c.spec) < p.config.memoryMiB() {
		return id, xlError{fmt.Sprintf(strings.ReplaceAll(p.noMemory, "Domain N:", "Domain %[1]d:"), id) + destroyed(id)}
	}
	if err := os.MkdirAll(h.runtime(id), 0o755); err != nil {
		return id, err
	}
	h.Domains = append(h.Domains, &domain{
		ID: id, Name: name, Config: p.config, Created: time.Now(), Monitor: p.monitor == monitored, Worker: thisProcess(),
	})
	return id, h.save()
}

// destroyed is how libxl ends every failed creation.
func destroyed(id int) string {
	return fmt.Sprintf("libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain %[1]d:Non-existant domain\n"+
		"libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain %[1]d:Unable to destroy guest\n"+
		"libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain %[1]d:Destruction of domain failed\n", id)
}

// errnoText is strerror of the errno in err.
func errnoText(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	text := errno.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// discard takes a half-built domain away.
func (c *call) discard(id int) error {
	h, err := lockHost(c.dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	if d := h.byID(id); d != nil {
		if err := d.Guest.end(); err != nil {
			return err
		}
	}
	h.remove(id)
	return errors.Join(os.RemoveAll(h.runtime(id)), h.save())
}

// connect attaches the disks, as the block script does: a device that another
// guest uses is refused, unless both only read. The same UUID is let pass.
func (c *call) connect(id int) error {
	return changeDomain(c.dir, id, func(h *host, d *domain) error {
		for _, disk := range d.Config.Disks {
			a, err := h.attachment(disk)
			if err != nil {
				return err
			}
			if h.usedByOther(d, a) {
				return xlError{"libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/block add [" + strconv.Itoa(os.Getpid()) + "] exited with error status 1\n" +
					fmt.Sprintf("libxl: error: libxl_device.c:1337:device_hotplug_child_death_cb: script: Device %s is mounted in a guest domain,\nand so cannot be mounted now.\n", a.node()) +
					fmt.Sprintf("libxl: error: libxl_create.c:1672:domcreate_launch_dm: Domain %d:unable to add disk devices\n", id) + destroyed(id)}
			}
			d.Disks = append(d.Disks, a)
		}
		return nil
	})
}

func (h *host) usedByOther(d *domain, a attachment) bool {
	for _, other := range h.Domains {
		if other.ID == d.ID || other.UUID() == d.UUID() {
			continue
		}
		if slices.ContainsFunc(other.Disks, func(b attachment) bool {
			return a.Format != "empty" && b.Format != "empty" && a.Device.same(b.Device) && (a.ReadWrite != 0 || b.ReadWrite != 0)
		}) {
			return true
		}
	}
	return false
}

// attachment looks at what is behind a disk's path.
func (h *host) attachment(disk diskConfig) (attachment, error) {
	a := attachment{diskConfig: disk}
	var err error
	if a.DevID, err = vdevNumber(disk.Vdev); err != nil || disk.Format == "empty" {
		return a, err
	}
	info, err := os.Stat(disk.Path)
	if err != nil {
		return a, err
	}
	st := info.Sys().(*syscall.Stat_t)
	a.Device = device{Block: info.Mode().Type() == fs.ModeDevice, Dev: st.Dev, Ino: st.Ino, Rdev: st.Rdev}
	file, err := openBlockFile(disk.Path, readOnly)
	if err != nil {
		return a, err
	}
	a.Sectors = file.size / 512
	if !a.Device.Block {
		a.Device.Minor = h.loopFor(a.Device)
	}
	return a, file.close()
}

// loopFor gives the same file the same loop device.
func (h *host) loopFor(dev device) int {
	for _, d := range h.Domains {
		for _, a := range d.Disks {
			if a.Device.same(dev) {
				return a.Device.Minor
			}
		}
	}
	h.NextLoop++
	return h.NextLoop - 1
}

// node is the device the disk is behind.
func (a attachment) node() string {
	if !a.Device.Block {
		return "/dev/loop" + strconv.Itoa(a.Device.Minor)
	}
	if resolved, err := filepath.EvalSymlinks(a.Path); err == nil {
		return resolved
	}
	return a.Path
}

// number is physical-device: major and minor, in hex.
func (a attachment) number() string {
	if !a.Device.Block {
		return fmt.Sprintf("7:%x", a.Device.Minor)
	}
	return fmt.Sprintf("%x:%x", unix.Major(a.Device.Rdev), unix.Minor(a.Device.Rdev))
}

// spawn starts the guest's process and waits until it is ready. It gets a
// session of its own and outlives this `xl`. Like the monitor of a real domain
// it keeps the descriptors this `xl` inherited; with -e there is no monitor,
// and it gets none.
func (c *call) spawn(id int, p plan) error {
	if p.monitor == unmonitored {
		if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
			return fmt.Errorf("close inherited descriptors: %w", err)
		}
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log", "guest-"+strings.ReplaceAll(p.config.CInfo.Name, "/", "_")+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	answer, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answer.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = slices.Concat(c.self, []string{"--host", c.dir, "guest", strconv.Itoa(id), p.start})
	cmd.Dir = "/" // it shall pin no mount
	cmd.Stdout, cmd.Stderr = theirs, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	line, err := bufio.NewReader(answer).ReadString('\n')
	if line = strings.TrimSpace(line); line == "ready" {
		return cmd.Process.Release()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		line = err.Error()
	}
	return fmt.Errorf("guest of domain %d did not start: %s: %w", id, line, errors.Join(cmd.Wait()))
}
