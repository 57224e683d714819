package xlsim

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// golden reads a recording of a real xl 4.17. Recordings of failures begin
// with the command and end with the exit code; both are taken off.
func golden(t *testing.T, name string) (text string, exit int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	text = string(data)
	if strings.HasPrefix(text, "$ ") {
		_, text, _ = strings.Cut(text, "\n")
		at := strings.LastIndex(text, "exit=")
		if exit, err = strconv.Atoi(strings.TrimSpace(text[at+5:])); err != nil {
			t.Fatal(err)
		}
		text = text[:at]
	}
	return text, exit
}

func sameText(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Errorf("%s: line %d\n got %q\nwant %q", what, i+1, a, b)
			return
		}
	}
}

// recorded is domain d1 as it was when the recordings were made.
func recorded(t *testing.T) *domain {
	t.Helper()
	data, err := os.ReadFile("testdata/d1.cfg")
	if err != nil {
		t.Fatal(err)
	}
	config, err := parseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	config.CInfo.UUID = "7ab295fe-717a-4a3b-9229-930d105db818"
	return &domain{
		ID: 1, Name: "d1", Config: config, Built: true,
		Disks: []attachment{{
			diskConfig: config.Disks[0], DevID: 51712, Sectors: 131072,
			Device: device{Block: true, Rdev: unix.Mkdev(0xfd, 0)},
		}},
	}
}

func TestGoldenConfig(t *testing.T) {
	d := recorded(t)
	want, _ := golden(t, "cfg-dryrun.json")
	dry := d.Config
	dry.CInfo.UUID = "921f09af-69ec-4976-81df-ae45cef77645"
	sameText(t, "create -n", toJSON(dry), want)

	want, _ = golden(t, "xl-list-l-d1.json")
	sameText(t, "list -l", toJSON([]listEntry{{1, d.Config.live()}})+"\n", want)
}

func TestGoldenTables(t *testing.T) {
	zero := row{name: "Domain-0", uuid: "00000000-0000-0000-0000-000000000000", memory: 1024, vcpus: 2, state: "r-----", reason: notShutDown}
	d1 := row{id: 1, name: "d1", uuid: "7ab295fe-717a-4a3b-9229-930d105db818", memory: 128, vcpus: 1, state: "-b----", reason: notShutDown}
	at := func(r row, state string, cpu, up float64) row {
		r.state, r.cpu, r.up = state, time.Duration(cpu*1e9), time.Duration(up*1e9)
		return r
	}
	want, _ := golden(t, "xl-list.txt")
	sameText(t, "list", listTable([]row{at(zero, "r-----", 516.1, 0), at(d1, "-b----", 42.3, 0)}, nil), want)
	want, _ = golden(t, "xl-list-v.txt")
	sameText(t, "list -v", listTable([]row{at(zero, "r-----", 524.9, 0), at(d1, "r-----", 46.1, 0)}, options{'v': ""}), want)
	want, _ = golden(t, "xl-uptime.txt")
	sameText(t, "uptime", uptimeTable([]row{at(zero, "", 0, 507), at(d1, "", 0, 126)}), want)

	// dom0's two CPUs have times of their own there; ours has one line for both.
	want, _ = golden(t, "xl-vcpu-list.txt")
	lines := strings.SplitAfter(want, "\n")
	sameText(t, "vcpu-list", vcpuTable([]row{at(d1, "r-----", 47.4, 0)}, 2), lines[0]+lines[3])

	d := recorded(t)
	want, _ = golden(t, "xl-block-list-d1.txt")
	sameText(t, "block-list", strings.SplitAfter(want, "\n")[0]+blockTable(d), want)
	want, _ = golden(t, "xl-network-list-d1.txt")
	sameText(t, "network-list", strings.SplitAfter(want, "\n")[0]+nicTable(d), want)
}

func TestGoldenInfo(t *testing.T) {
	want, _ := golden(t, "xl-info.txt")
	spec := HostSpec{Name: "xen1", MemoryMiB: 2047, Dom0MiB: 1024}
	spec.setDefaults()
	sameText(t, "info", infoText(spec, 872), want)
}

func TestGoldenXenstore(t *testing.T) {
	h := &host{Domains: []*domain{recorded(t)}}
	tree := h.tree()
	// The path of the device mapper cannot be resolved here.
	tree["/local/domain/0/backend/vbd/1/51712/physical-device-path"] = "/dev/dm-0"
	for _, x := range []struct{ file, path string }{
		{"xenstore-backend-vbd.txt", "/local/domain/0/backend/vbd/1"},
		{"xenstore-frontend-vbd.txt", "/local/domain/1/device/vbd"},
		{"xenstore-domain.txt", "/local/domain/1"},
	} {
		want, _ := golden(t, x.file)
		sameText(t, x.file, flatListing(tree, x.path), want)
	}
	want, _ := golden(t, "xenstore-domain-tree.txt")
	sameText(t, "xenstore-ls", treeListing(tree, "/local/domain/1", 0), want)
}

// bracketed are the process ids in recordings.
var bracketed = regexp.MustCompile(`\[\d+\]`)

// sameFailure runs a command and compares with a recording in which some words
// stand for others.
func sameFailure(t *testing.T, dir, recording string, words []string, args ...string) {
	t.Helper()
	want, exit := golden(t, recording)
	want = strings.NewReplacer(words...).Replace(want)
	cmd := program(dir, args...)
	out, err := cmd.CombinedOutput() // one pipe: in the order of the writes
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != exit {
		t.Errorf("%s: exit %d, a real xl had %d\n%s", recording, got, exit, out)
	}
	sameText(t, recording, bracketed.ReplaceAllString(string(out), "[1]"), bracketed.ReplaceAllString(want, "[1]"))
}

// TestGoldenFailures: every failure of a real xl that was recorded, with its
// text and its exit code.
func TestGoldenFailures(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("xen1", func(spec *HostSpec) { spec.MemoryMiB = 700 })
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 96}, mib)
	image := filepath.Join(dir, "d1.save")

	must(t, dir, "xl", "create", cfg)
	sameFailure(t, dir, "err-domain-not-found.txt", nil, "xl", "list", "nosuch")
	sameFailure(t, dir, "err-domain-not-found-pause.txt", nil, "xl", "pause", "nosuch")
	sameFailure(t, dir, "err-domain-not-found-save.txt", nil, "xl", "save", "nosuch", "/tmp/x")
	sameFailure(t, dir, "err-domain-not-found-domid.txt", nil, "xl", "domid", "nosuch")
	sameFailure(t, dir, "err-domain-not-found-blocklist.txt", nil, "xl", "block-list", "nosuch")
	sameFailure(t, dir, "err-create-nofile.txt", nil, "xl", "create", "/root/none.cfg")
	sameFailure(t, dir, "err-unpause-notpaused.txt", nil, "xl", "unpause", "d1")
	sameFailure(t, dir, "err-name-in-use.txt", []string{"/root/domu/d1.cfg", cfg}, "xl", "create", cfg)
	sameFailure(t, dir, "err-restore-garbage.txt", nil, "xl", "restore", "/etc/passwd")

	big, err := WriteGuestConfig(dir, GuestSpec{Name: "big", MemoryMiB: 128})
	if err != nil {
		t.Fatal(err)
	}
	sameFailure(t, dir, "err-not-enough-memory.txt", []string{"/root/d2-mem.cfg", big}, "xl", "create", big)
	missing, err := WriteGuestConfig(dir, GuestSpec{Name: "missing", MemoryMiB: 8, Disks: []GuestDisk{{Path: "/dev/vg0/nosuch", Vdev: "xvda"}}})
	if err != nil {
		t.Fatal(err)
	}
	sameFailure(t, dir, "err-missing-disk.txt", []string{"/root/d3.cfg", missing}, "xl", "create", missing)
	thief, err := WriteGuestConfig(dir, GuestSpec{Name: "thief", MemoryMiB: 8, Disks: []GuestDisk{{Path: filepath.Join(dir, "d1-a.img"), Vdev: "xvda"}}})
	if err != nil {
		t.Fatal(err)
	}
	node := strings.TrimSpace(must(t, dir, "xenstore-read", "/local/domain/0/backend/vbd/1/51712/node").stdout)
	sameFailure(t, dir, "err-disk-in-use.txt", []string{"/root/d4.cfg", thief, "/dev/dm-0", node}, "xl", "create", thief)

	length := strconv.Itoa(savedLength(t, dir, "d1"))
	words := []string{"/root/d1.save", image, "1269", length, "domain 12,", "domain 1,", "Domain 14:", "Domain 6:"}
	sameFailure(t, dir, "save-ok.txt", words, "xl", "save", "-c", "d1", image)
	sameFailure(t, dir, "err-restore-name-in-use.txt", words, "xl", "restore", image)
	must(t, dir, "xl", "destroy", "d1")
	sameFailure(t, dir, "restore-ok.txt", words, "xl", "restore", image)
}

// savedLength is what `xl save` says about its config.
func savedLength(t *testing.T, dir, name string) int {
	t.Helper()
	h, err := lockHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.unlock()
	return len(savedHeader(toJSON(h.named(name).Config.live()))) - savedHead
}

// TestSaveToFullDisk: the guest runs on, a partial file stays.
func TestSaveToFullDisk(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("xen1")
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 96}, mib)
	must(t, dir, "xl", "create", cfg)
	full := t.TempDir()
	if err := unix.Mount("xlsim-test", full, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("SKIPPED: a full disk needs a mount, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(full, 0); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(full, "x")
	sameFailure(t, dir, "err-save-disk-full.txt",
		[]string{"/mnt/t/x", file, "1269", strconv.Itoa(savedLength(t, dir, "d1")), "domain 12,", "domain 1,", "Domain 12:", "Domain 1:"},
		"xl", "save", "d1", file)
	if st, err := os.Stat(file); err != nil || st.Size() == 0 {
		t.Errorf("no partial file: %v", err)
	}
	if got := state(t, dir, "d1"); strings.ContainsAny(got, "ps") || got == "" {
		t.Errorf("state %q, it must run on", got)
	}
	verified(t, dir, "d1")
}
