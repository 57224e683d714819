package xlsim

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

// TestMoveThroughAPipe is the whole way of a guest: it boots, works, is saved
// on one host and restored on the other through a pipe, works on, and every
// record is there.
func TestMoveThroughAPipe(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	cfg := s.guest(a, GuestSpec{Name: "web one", MemoryMiB: 64, Rate: 8 * mib, Writers: 4}, 64*mib, 32*mib)
	must(t, a, "xl", "create", cfg)
	uuid := uuidOf(t, a, "web one")
	written(t, a, "web one", 2*mib)
	before := verified(t, a, "web one")
	if before.Records == 0 || before.Pages != 64*mib/pageSize {
		t.Fatalf("nothing was checked: %+v", before)
	}

	pipe(t, program(a, "xl", "save", "-p", "web one", "/dev/stdout"), program(b, "xl", "restore", "-p", "/dev/stdin"))
	if got := state(t, a, "web one") + " " + state(t, b, "web one"); got != "--p--- --p---" {
		t.Fatalf("states %q, both must be paused", got)
	}
	verified(t, b, "web one")
	must(t, b, "xl", "unpause", "web one")
	must(t, a, "xl", "destroy", "web one")
	at := writtenBytes(t, b, "web one")
	written(t, b, "web one", at+2*mib)
	verified(t, b, "web one")
	gaps, err := Blackouts(s.net, uuid)
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	for _, g := range gaps {
		if g.HostChanged() {
			changes++
			if g.FromHost != "a" || g.ToHost != "b" || g.Length() <= 0 || g.Length() > 20*time.Second {
				t.Errorf("blackout %+v", g)
			}
		}
	}
	if changes != 1 {
		t.Errorf("%d changes of host in %+v, one is right", changes, gaps)
	}
}

// pipe joins two commands and lets both end well.
func pipe(t *testing.T, from, to *exec.Cmd) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said [2]bytes.Buffer
	from.Stdout, from.Stderr = w, &said[0]
	to.Stdin, to.Stderr = r, &said[1]
	for _, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	r.Close()
	for i, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, said[i].String())
		}
	}
}

// TestCommands walks through the small ones.
func TestCommands(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	must(t, dir, "xl", "create", "-q", s.guest(dir, GuestSpec{Name: "-odd name", MemoryMiB: 8, VCPUs: 2, Bridge: "xenbr0"}, mib))
	if got := must(t, dir, "xl", "domid", "--", "-odd name").stdout; got != "1\n" {
		t.Errorf("domid %q", got)
	}
	if got := must(t, dir, "xl", "domname", "1").stdout; got != "-odd name\n" {
		t.Errorf("domname %q", got)
	}
	must(t, dir, "xl", "pause", "1")
	if got := state(t, dir, "-odd name"); got != "--p---" {
		t.Errorf("state %q after pause", got)
	}
	must(t, dir, "xl", "rename", "1", "even")
	must(t, dir, "xl", "unpause", "even")
	if got := must(t, dir, "xl", "list", "-l", "even").stdout; !strings.Contains(got, `"name": "even"`) || !strings.Contains(got, `"readwrite": 1`) {
		t.Errorf("list -l:\n%s", got)
	}
	var all []listEntry
	if err := json.Unmarshal([]byte(must(t, dir, "xl", "list", "-l").stdout), &all); err != nil || len(all) != 2 || all[0].Config.CInfo.Name != "Domain-0" || all[1].DomID != 1 {
		t.Errorf("list -l: %+v, %v; want dom0 and the guest", all, err)
	}
	if got := must(t, dir, "xl", "info").stdout; !strings.Contains(got, "free_memory            : 1528\n") { // 2048 - 512 - 8
		t.Errorf("info:\n%s", got)
	}
	if got := must(t, dir, "xenstore-read", "/local/domain/1/control/feature-suspend").stdout; got != "1\n" {
		t.Errorf("feature-suspend %q", got)
	}
	if got := must(t, dir, "xenstore-list", "/local/domain/0/backend/vbd/1").stdout; got != "51712\n" {
		t.Errorf("xenstore-list %q", got)
	}
	if r := run(t, dir, "xenstore-read", "/local/domain/99/name"); r.exit != 1 || r.stdout != "" {
		t.Errorf("xenstore-read of nothing: %+v", r)
	}
	must(t, dir, "xl", "destroy", "even")
	if r := run(t, dir, "xl", "destroy", "even"); r.exit != 1 || r.stderr != "even is an invalid domain identifier (rc=-6)\n" {
		t.Errorf("second destroy: %+v", r)
	}
	must(t, dir, "xl", "create", filepath.Join(dir, "etc-xen", "-odd name.cfg"))
	if got := must(t, dir, "xl", "domid", "--", "-odd name").stdout; got != "2\n" {
		t.Errorf("domid %q, ids are never reused", got)
	}
}

// TestColdMove: shut down here, booted there on the copied disk. The final
// mark proves the disk, and a lost write is found.
func TestColdMove(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	cfg := s.guest(a, GuestSpec{Name: "d1", MemoryMiB: 8, Rate: 8 * mib}, 4*mib)
	must(t, a, "xl", "create", cfg)
	uuid := uuidOf(t, a, "d1")
	written(t, a, "d1", 2*mib)
	early, err := Snapshot(t.Context(), a, "d1")
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(a, "d1-a.img")
	must(t, a, "xl", "pause", "d1")
	older, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	must(t, a, "xl", "unpause", "d1")
	written(t, a, "d1", writtenBytes(t, a, "d1")+mib)
	must(t, a, "xl", "shutdown", "-w", "d1")
	if got := state(t, a, "d1"); got != "" {
		t.Fatalf("state %q after shutdown", got)
	}
	final, err := Final(s.net, uuid)
	if err != nil || !final.Exact {
		t.Fatalf("final mark: %v, exact %v", err, final.Exact)
	}
	check := func(e Expected) error {
		r, err := VerifyDisks(t.Context(), e, map[string]string{"xvda": disk})
		if err != nil || r.Records == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		return r.Err()
	}
	if err := check(final); err != nil {
		t.Error(err)
	}
	if err := check(early); err != nil {
		t.Errorf("the lower bound: %v", err)
	}
	must(t, b, "xl", "create", cfg)
	written(t, b, "d1", 2*mib)
	verified(t, b, "d1")
	must(t, b, "xl", "shutdown", "-w", "d1")

	if err := os.WriteFile(disk, older, 0o600); err != nil {
		t.Fatal(err)
	}
	if final, err = Final(s.net, uuid); err != nil {
		t.Fatal(err)
	}
	if err := check(final); err == nil || !strings.Contains(err.Error(), "older: sequence") {
		t.Errorf("the older disk was not found: %v", err)
	}
	must(t, a, "xl", "create", "-p", cfg)
	if r, err := Verify(t.Context(), a, "d1"); err != nil || r.Err() == nil {
		t.Errorf("the boot from an older disk was not found: %v", err)
	}
}

// TestReboot: the same guest with a new id; and a guest whose monitor went
// with a save stays, shut down, as on Xen up to 4.19.
func TestReboot(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	must(t, dir, "xl", "create", s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8}, mib))
	written(t, dir, "d1", 16<<10)
	must(t, dir, "xl", "reboot", "d1")
	until(t, "the guest is back", func() bool {
		domains, err := Domains(dir)
		return err == nil && len(domains) == 1 && domains[0].ID == 2 && !strings.ContainsAny(domains[0].State, "ps")
	})
	written(t, dir, "d1", 16<<10)
	verified(t, dir, "d1")
	must(t, dir, "xl", "save", "-c", "d1", "/dev/null")
	must(t, dir, "xl", "shutdown", "-w", "d1")
	if got := state(t, dir, "d1"); got != "---s--" {
		t.Errorf("state %q without a monitor, want ---s--", got)
	}
	if err := HaltHost(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if got := state(t, dir, "d1"); got != "" {
		t.Errorf("state %q after the host was halted", got)
	}
}

// TestShutdownWhileWriting: what a shutdown promises is what is on the disks,
// also of the writes that were under way when it was asked for.
func TestShutdownWhileWriting(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8, Rate: 256 * mib, Writers: 8}, 8*mib, 8*mib)
	for range 4 {
		must(t, dir, "xl", "create", cfg)
		written(t, dir, "d1", 4*mib)
		uuid := uuidOf(t, dir, "d1")
		must(t, dir, "xl", "shutdown", "-w", "d1")
		e, err := Final(s.net, uuid)
		if err != nil || !e.Exact {
			t.Fatalf("exact: %t, %v", e.Exact, err)
		}
		r, err := VerifyDisks(t.Context(), e, map[string]string{"xvda": filepath.Join(dir, "d1-a.img"), "xvdb": filepath.Join(dir, "d1-b.img")})
		if err != nil || r.Err() != nil || r.Records == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

// TestCrashedHost: no domain is left, the disks are as they were, and a boot
// goes on from them.
func TestCrashedHost(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	cfg := s.guest(dir, GuestSpec{Name: "d1", MemoryMiB: 8, Rate: 8 * mib}, 4*mib)
	must(t, dir, "xl", "create", cfg)
	written(t, dir, "d1", mib)
	early, err := Snapshot(t.Context(), dir, "d1")
	if err != nil {
		t.Fatal(err)
	}
	if err := StopHost(dir); err != nil {
		t.Fatal(err)
	}
	if domains, err := Domains(dir); err != nil || len(domains) != 0 {
		t.Fatalf("%v, %v", domains, err)
	}
	r, err := VerifyDisks(t.Context(), early, map[string]string{"xvda": filepath.Join(dir, "d1-a.img")})
	if err != nil || r.Err() != nil || r.Records == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, dir, "xl", "create", cfg)
	written(t, dir, "d1", mib)
	verified(t, dir, "d1")
}

// TestRestoreWithConfig: a config given to restore counts, also with another
// name, path and no UUID; the guest stays who it was.
func TestRestoreWithConfig(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "d1", MemoryMiB: 8}, mib))
	written(t, a, "d1", 64<<10)
	image := filepath.Join(a, "image")
	must(t, a, "xl", "save", "d1", image)
	moved := filepath.Join(b, "moved.img")
	if err := os.Rename(filepath.Join(a, "d1-a.img"), moved); err != nil {
		t.Fatal(err)
	}
	if r := run(t, b, "xl", "restore", image); r.exit != 1 || !strings.Contains(r.stderr, "Disk vdev=xvda failed to stat: ") {
		t.Errorf("restore without the disk: exit %d\n%s", r.exit, r.stderr)
	}
	cfg := filepath.Join(b, "other.cfg")
	if err := os.WriteFile(cfg, []byte("name = 'd2'\nmemory = 8\ndisk = [ 'phy:"+moved+",xvda,w' ]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, b, "xl", "restore", cfg, image)
	written(t, b, "d2", writtenBytes(t, b, "d2")+64<<10)
	verified(t, b, "d2")
}

// TestNoMemoryForRestore: the disks are looked at before, nothing is left.
func TestNoMemoryForRestore(t *testing.T) {
	s := newSimulation(t)
	a := s.host("a")
	small := s.host("small", func(s *HostSpec) { s.MemoryMiB = 520 })
	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "d1", MemoryMiB: 16}, mib))
	image := filepath.Join(a, "image")
	must(t, a, "xl", "save", "-p", "d1", image)
	if r := run(t, small, "xl", "restore", image); r.exit != 1 || !strings.Contains(r.stderr, "restoring domain: Cannot allocate memory") {
		t.Errorf("exit %d\n%s", r.exit, r.stderr)
	}
	if domains, err := Domains(small); err != nil || len(domains) != 0 {
		t.Errorf("left: %v, %v", domains, err)
	}
}
