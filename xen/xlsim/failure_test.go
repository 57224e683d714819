package xlsim

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowSave makes a save long enough to be hit in its middle.
func slowSave(s *HostSpec) { s.SaveRate = 4 * mib }

// startSave starts a slow save into a pipe and returns when pages flow.
func startSave(t *testing.T, dir, name string) (*exec.Cmd, *os.File, *bytes.Buffer) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := program(dir, "xl", "save", "-p", name, "/dev/stdout")
	cmd.Stdout, cmd.Stderr = w, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { r.Close() })
	if _, err := io.CopyN(io.Discard, r, mib); err != nil {
		t.Fatalf("the image's first MiB: %v", err)
	}
	if got := state(t, dir, name); got != "---ss-" {
		t.Fatalf("state %q while pages flow, want ---ss-", got)
	}
	return cmd, r, &said
}

func TestBrokenPipeResumes(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a", slowSave)
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 64}, 8*mib))
	written(t, dir, "d1", 64<<10)
	cmd, r, said := startSave(t, dir, "d1")
	r.Close()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit %v, want 1", err)
	}
	for _, line := range []string{"file/stream truncated reading ipc msg header from domain 1 save/restore helper stdout pipe", "died due to fatal signal Broken pipe", "Failed to save domain, resuming domain\n"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("%q is not in:\n%s", line, said)
		}
	}
	if got := state(t, dir, "d1"); got == "" || strings.ContainsAny(got, "ps") {
		t.Errorf("state %q, it must run on", got)
	}
	at := writtenBytes(t, dir, "d1")
	written(t, dir, "d1", at+64<<10)
	verified(t, dir, "d1")
}

// TestKilledSaveLeavesSuspended: and `save -c` to nowhere brings it back.
func TestKilledSaveLeavesSuspended(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a", slowSave)
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 16}, 8*mib))
	written(t, dir, "d1", 64<<10)
	cmd, _, _ := startSave(t, dir, "d1")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the killed xl ended well")
	}
	if got := state(t, dir, "d1"); got != "---ss-" {
		t.Fatalf("state %q, want ---ss-", got)
	}
	if r := must(t, dir, "xl", "list", "-v", "d1"); !strings.Contains(r.stdout, "---ss-") || !strings.Contains(r.stdout, "        2                -\n") {
		t.Errorf("list -v:\n%s", r.stdout)
	}
	if r := must(t, dir, "xl", "unpause", "d1"); !strings.Contains(r.stderr, "Unpausing domain: Invalid argument") {
		t.Errorf("unpause of a suspended domain said %q", r.stderr)
	}
	if got := state(t, dir, "d1"); got != "---ss-" {
		t.Fatalf("state %q after unpause, want ---ss-", got)
	}
	if err := ChangeHost(dir, func(s *HostSpec) { s.SaveRate = 0 }); err != nil {
		t.Fatal(err)
	}
	r := must(t, dir, "xl", "save", "-c", "1", "/dev/null")
	if !strings.Contains(r.stderr, "guest didn't acknowledge suspend, cancelling request") {
		t.Errorf("save -c said:\n%s", r.stderr)
	}
	at := writtenBytes(t, dir, "d1")
	written(t, dir, "d1", at+64<<10)
	verified(t, dir, "d1")
}

// TestSaveOfPausedDomain fails after the timeout and changes nothing.
func TestSaveOfPausedDomain(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	must(t, dir, "xl", "create", "-p", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8}))
	r := run(t, dir, "xl", "save", "d1", "/dev/null")
	if r.exit != 1 || !strings.Contains(r.stderr, "did not respond to suspend request") {
		t.Errorf("exit %d:\n%s", r.exit, r.stderr)
	}
	if got := state(t, dir, "d1"); got != "--p---" {
		t.Errorf("state %q, want --p---", got)
	}
}

// TestDestroyDuringSave: the image must not look whole.
func TestDestroyDuringSave(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a", slowSave)
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8}, mib))
	length := savedLength(t, dir, "d1")
	cmd, r, _ := startSave(t, dir, "d1")
	must(t, dir, "xl", "destroy", "d1")
	tail, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("save of a destroyed domain ended well")
	}
	whole := savedHead + length + len(imageStart("pv", 4, 17)) + 2*(len(pageRecord(numbers(0, batchPages)))+batchPages*pageSize) + len(imageEnd("pv"))
	if got := mib + len(tail); got >= whole {
		t.Errorf("the image has %d bytes, a whole one %d", got, whole)
	}
}

// savedImage is a guest's image in a file; the guest is gone.
func savedImage(t *testing.T, s *simulation, dir string) string {
	t.Helper()
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 16}, 8*mib))
	written(t, dir, "d1", 256<<10)
	image := filepath.Join(dir, "image")
	must(t, dir, "xl", "save", "d1", image)
	if got := state(t, dir, "d1"); got != "" {
		t.Fatalf("state %q after save, it must be gone", got)
	}
	return image
}

func TestRestoreTruncatedLeavesNothing(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	image := savedImage(t, s, dir)
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	lastRecord := len(whole) - len(imageEnd("pv"))
	for _, length := range []int{0, 20, 48, 100, 1200, 3 * mib, lastRecord, len(whole) - 8, len(whole) - 1} {
		cut := filepath.Join(dir, "cut")
		if err := os.WriteFile(cut, whole[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "xl", "restore", "-p", cut)
		if r.exit != 1 {
			t.Errorf("%d of %d bytes: exit %d\n%s", length, len(whole), r.exit, r.stderr)
		}
		if length == 3*mib && !strings.Contains(r.stderr, "xc: error: Failed to read 4202504 bytes of data for record (0x00000001, Page data) (0 = Success): Internal error\nxc: error: Restore failed (0 = Success): Internal error\n") {
			t.Errorf("truncated pages: not the recorded text:\n%s", r.stderr)
		}
		if got := state(t, dir, "d1"); got != "" {
			t.Errorf("%d of %d bytes: state %q, nothing may be left", length, len(whole), got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "dom", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	must(t, dir, "xl", "restore", "-p", image)
	verified(t, dir, "d1")
}

// TestDamagedImage: a flipped byte in a page passes, as on real Xen, and is found.
func TestDamagedImage(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	image := savedImage(t, s, dir)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 8*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, 8*mib); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "xl", "restore", "-p", image)
	if r, err := Verify(t.Context(), dir, "d1"); err != nil || r.Err() == nil {
		t.Errorf("the damage was not found: %v", err)
	}
}

// TestKilledRestoreLeavesHalf: paused, without CPUs; destroy clears it away.
func TestKilledRestoreLeavesHalf(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	image := savedImage(t, s, dir)
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(dir, "xl", "restore", "-p", "/dev/stdin")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(whole[:6*mib]); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	r := must(t, dir, "xl", "list", "d1")
	if fields := strings.Fields(strings.Split(r.stdout, "\n")[1]); fields[3] != "0" || fields[4] != "--p---" {
		t.Errorf("list shows %q, want 0 CPUs, paused", r.stdout)
	}
	must(t, dir, "xl", "unpause", "d1")
	if got := state(t, dir, "d1"); got != "--p---" {
		t.Errorf("state %q after unpause, there is nothing to run", got)
	}
	must(t, dir, "xl", "destroy", "d1")
	if got := state(t, dir, "d1"); got != "" {
		t.Errorf("state %q after destroy", got)
	}
}

func TestNegativeControls(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 16, Rate: 16 * mib}, 4*mib))
	written(t, dir, "d1", 8*mib)
	if err := StalePage(t.Context(), dir, "d1"); err == nil {
		t.Fatal("a running guest's page was changed")
	}
	must(t, dir, "xl", "pause", "d1")
	verified(t, dir, "d1")
	found := func(what string, words ...string) {
		t.Helper()
		r, err := Verify(t.Context(), dir, "d1")
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q is not in %v", what, word, err)
			}
		}
	}
	if err := StalePage(t.Context(), dir, "d1"); err != nil {
		t.Fatal(err)
	}
	found("stale page", "older: generation")
	if err := DropRecord(t.Context(), dir, "d1"); err != nil {
		t.Fatal(err)
	}
	found("dropped record", "older: generation", "older: sequence")
	must(t, dir, "xl", "unpause", "d1")
	// The guest reads back before some of its writes: one of many drops is seen.
	until(t, "the guest itself has found a record", func() bool {
		must(t, dir, "xl", "pause", "d1")
		if err := DropRecord(t.Context(), dir, "d1"); err != nil {
			t.Fatal(err)
		}
		must(t, dir, "xl", "unpause", "d1")
		v, err := Violations(s.net, uuidOf(t, dir, "d1"))
		return err == nil && strings.Contains(strings.Join(v, "\n"), "WL BAD")
	})
}

// TestTwoCopies: the same guest running on two hosts is proven.
func TestTwoCopies(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "d1", MemoryMiB: 8}, mib))
	uuid := uuidOf(t, a, "d1")
	pipe(t, program(a, "xl", "save", "-c", "d1", "/dev/stdout"), program(b, "xl", "restore", "/dev/stdin"))
	until(t, "the second copy is seen", func() bool {
		v, err := Violations(s.net, uuid)
		return err == nil && strings.Contains(strings.Join(v, "\n"), "SPLIT BRAIN")
	})
	if r, err := Verify(t.Context(), b, "d1"); err != nil || r.Err() == nil {
		t.Errorf("verify of a split guest: %v, %v", r.Err(), err)
	}
}

// TestStaleDisk: an image restored onto disks that were written since, and one
// onto disks that lack the last writes.
func TestStaleDisk(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8, Rate: 8 * mib}, 4*mib))
	disk := filepath.Join(dir, "d1-a.img")
	written(t, dir, "d1", mib)
	must(t, dir, "xl", "pause", "d1")
	older, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	must(t, dir, "xl", "unpause", "d1")
	at := writtenBytes(t, dir, "d1")
	written(t, dir, "d1", at+mib)
	image := filepath.Join(dir, "image")
	must(t, dir, "xl", "save", "-p", "d1", image)
	must(t, dir, "xl", "destroy", "d1")
	newer, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, older, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "xl", "restore", "-p", image)
	if r, err := Verify(t.Context(), dir, "d1"); err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), "older: sequence") {
		t.Errorf("older disk: %v, %v", r.Err(), err)
	}
	if err := os.WriteFile(disk, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	verified(t, dir, "d1")
	must(t, dir, "xl", "unpause", "d1")
	written(t, dir, "d1", writtenBytes(t, dir, "d1")+mib)
	must(t, dir, "xl", "destroy", "d1")
	must(t, dir, "xl", "restore", "-p", image)
	if r, err := Verify(t.Context(), dir, "d1"); err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), "newer: sequence") {
		t.Errorf("newer disk: %v, %v", r.Err(), err)
	}
}

// TestInheritedLock: like the monitor of a real domain the guest keeps what xl
// inherited, and with -e it does not.
func TestInheritedLock(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8})
	for _, x := range []struct {
		option string
		held   bool
	}{{"-p", true}, {"-pe", false}} {
		path := filepath.Join(dir, "lock"+x.option)
		lock, err := flock(path)
		if err != nil {
			t.Fatal(err)
		}
		cmd := program(dir, "xl", "create", x.option, cfg)
		cmd.ExtraFiles = []*os.File{lock}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lock.Close()
		again, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		again.Close()
		if (err == syscall.EWOULDBLOCK) != x.held {
			t.Errorf("create %s: lock says %v, want held=%v", x.option, err, x.held)
		}
		must(t, dir, "xl", "destroy", "d1")
	}
}

// TestScriptedFaults: a fault comes once, a delay always.
func TestScriptedFaults(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a", func(s *HostSpec) {
		s.Faults = []Fault{{Command: "list", Exit: 1, Text: "xenstore does not answer\n"}}
		s.Delays = map[string]time.Duration{"info": 50 * time.Millisecond}
	})
	if r := run(t, dir, "xl", "list"); r.exit != 1 || r.stderr != "xenstore does not answer\n" || r.stdout != "" {
		t.Errorf("fault: %+v", r)
	}
	must(t, dir, "xl", "list")
	err := ChangeHost(dir, func(s *HostSpec) {
		s.Faults = []Fault{{Command: "create", Exit: 0}, {Command: "create", Exit: 3, AllDone: true}}
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8})
	if r := run(t, dir, "xl", "create", cfg); r.exit != 0 || state(t, dir, "d1") != "" {
		t.Errorf("an xl that lies: %+v, state %q", r, state(t, dir, "d1"))
	}
	if r := run(t, dir, "xl", "create", cfg); r.exit != 3 || state(t, dir, "d1") == "" {
		t.Errorf("an xl whose end goes wrong: %+v, state %q", r, state(t, dir, "d1"))
	}
	began := time.Now()
	must(t, dir, "xl", "info")
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("the delayed command took %v", took)
	}
}
