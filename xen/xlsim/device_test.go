package xlsim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopDevice makes a real block device of an image.
func loopDevice(t *testing.T, image string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a loop device needs root")
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("SKIPPED: no loop device can be made here: %v", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", device, err, out)
		}
	})
	return device
}

// TestBlockDevice: xenstore names the device itself, and a second guest is kept
// off it whatever path it uses.
func TestBlockDevice(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := MakeDisk(image, 8*mib, DefaultMix(1)); err != nil {
		t.Fatal(err)
	}
	device := loopDevice(t, image)
	s := newSimulation(t)
	dir := s.host("a")
	link := filepath.Join(dir, "vg0-d1")
	if err := os.Symlink(device, link); err != nil {
		t.Fatal(err)
	}
	guest := func(name, path string) string {
		cfg, err := WriteGuestConfig(dir, GuestSpec{Name: name, MemoryMiB: 8, Disks: []GuestDisk{{Path: path, Vdev: "xvda"}}})
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	must(t, dir, "xl", "create", guest("d1", link))
	written(t, dir, "d1", 64<<10)
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	base := "/local/domain/0/backend/vbd/1/51712/"
	for name, want := range map[string]string{
		"physical-device": fmt.Sprintf("%x:%x", unix.Major(st.Rdev), unix.Minor(st.Rdev)), "params": link,
		"physical-device-path": device, "sectors": "16384", "state": "4", "mode": "w",
	} {
		if got := must(t, dir, "xenstore-read", base+name).stdout; got != want+"\n" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r := run(t, dir, "xl", "create", guest("thief", device))
	if r.exit != 3 || !strings.Contains(r.stderr, "Device "+device+" is mounted in a guest domain,") {
		t.Errorf("exit %d\n%s", r.exit, r.stderr)
	}
	verified(t, dir, "d1")
}

// TestDeafGuests: one that does not suspend runs on, one that does not shut
// down has to be destroyed.
func TestDeafGuests(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8})
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("console=hvc0"), []byte("xlsim.suspend=never xlsim.shutdown=ignore"), 1)
	if err := os.WriteFile(cfg, text, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "xl", "create", cfg)
	if got := must(t, dir, "xenstore-read", "/local/domain/1/control/feature-suspend").stdout; got != "0\n" {
		t.Errorf("feature-suspend %q", got)
	}
	if r := run(t, dir, "xl", "save", "-p", "d1", "/dev/null"); r.exit != 1 || !strings.Contains(r.stderr, "guest didn't acknowledge suspend") {
		t.Errorf("save: exit %d\n%s", r.exit, r.stderr)
	}
	must(t, dir, "xl", "shutdown", "d1")
	before := beats(t, dir, "d1")
	until(t, "the guest runs on", func() bool { return beats(t, dir, "d1") > before+5 })
}

// beats is how often a guest's heart has beaten.
func beats(t *testing.T, dir, name string) (n uint64) {
	t.Helper()
	err := withStill(t.Context(), dir, name, readOnly, func(d *domainView) error {
		n = d.ram.line(lineHeart).get(lineDone)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSaveWithoutReader: stdout and stderr go away together, as when the
// program that called xl is killed. SIGPIPE ends xl before it resumes.
func TestSaveWithoutReader(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a", slowSave)
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 16}))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(dir, "xl", "save", "-p", "d1", "/dev/stdout")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	until(t, "the guest is suspended", func() bool { return state(t, dir, "d1") == "---ss-" })
	r.Close()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("xl ended with %v, want SIGPIPE", err)
	}
	if got := state(t, dir, "d1"); got != "---ss-" {
		t.Errorf("state %q, want ---ss-", got)
	}
}

// TestFleet: many small guests at once on one host, all of them whole.
func TestFleet(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	const guests = 8
	names := make([]string, guests)
	for i := range names {
		names[i] = fmt.Sprintf("g%d", i)
		must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: names[i], MemoryMiB: 8, Rate: 256 << 10}, mib))
	}
	began := time.Now()
	if lines := strings.Count(must(t, dir, "xl", "list").stdout, "\n"); lines != guests+2 {
		t.Errorf("%d lines in xl list, want %d", lines, guests+2)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("xl list of %d guests took %v", guests, took)
	}
	for _, name := range names {
		written(t, dir, name, 16<<10)
		verified(t, dir, name)
	}
}
