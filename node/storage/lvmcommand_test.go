package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// standIn puts a script in the place of lvm2: reports are what was recorded, and
// change is what all else does.
func standIn(t *testing.T, pvs, lvs, change string) {
	t.Helper()
	recorded := ok[string](t)(filepath.Abs("testdata/lvm2"))
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncd %s\ncase $1 in\npvs) %s ;;\nlvs) %s ;;\n*) %s ;;\nesac\n", recorded, pvs, lvs, change)
	if err := os.WriteFile(filepath.Join(dir, lvmProgram), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestHostWithoutLVM(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	t.Setenv("PATH", t.TempDir())
	ok[Volume](t)(b.Create(ctx, b.request("j1", "vm1", "disk")))
	q := b.request("j1", "vm1", "x")
	for _, q.Path = range []string{"/dev/no-such-vg/lv", "/dev/mapper/no--such--vg-lv"} {
		wantErr(t, second(b.Create(ctx, q)), ErrMissing, "disk xvda", "block device", "lvm2", "not installed")
		wantErr(t, b.CanCreate(ctx, q), ErrMissing, "not installed")
		wantErr(t, second(b.Inspect(ctx, q.Path)), ErrMissing)
	}
	// A record from better days says so, and is not given up by mistake.
	r := Record{Version: recordVersion, ID: "a", Place: "/dev/vg0/d", Kind: KindLVM, Role: RoleMade, Job: "j7"}
	if err := b.volumes.put(r.Place, r); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Retire(ctx, "j7"); err == nil || !strings.Contains(err.Error(), "lvm2 is not installed") {
		t.Fatal(err)
	}
	if all := ok[[]Record](t)(b.Volumes(ctx)); len(all) != 2 {
		t.Fatalf("%v", all)
	}
}

// TestNoSuchGroup: the error that people meet most has its exact text here.
func TestNoSuchGroup(t *testing.T) {
	standIn(t, "cat pvs-plain.json", "cat lvs-none.json", "exit 5")
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "x")
	q.Path = "/dev/mapper/vg1-d1--disk"
	const text = "this host has no volume group vg1 (there are xr-plain): create it (vgcreate vg1 DEVICE), or map the disk to another path: volume does not exist"
	for _, err := range []error{second(b.Create(ctx, q)), b.Hold(ctx, "j1", []Need{{"xvda", q.Path, mib}})} {
		wantErr(t, err, ErrMissing, "disk xvda", q.Path, text)
	}
	q.Path = "/dev/shm/x"
	wantErr(t, b.CanCreate(ctx, q), ErrMissing, "no such block device")
	if _, err := stateOf("vg1", nil); !strings.Contains(err.Error(), "vg1 (none is there)") {
		t.Fatal(err)
	}
	if all := ok[[]Record](t)(b.Volumes(ctx)); len(all) != 0 {
		t.Fatalf("recorded %v", all)
	}
}

func TestGroupsThatCannotTakeVolumes(t *testing.T) {
	for _, c := range []struct{ report, group, says string }{
		{"pvs-exported.json", "xr-odd", "is exported"},
		{"pvs-partial.json", "xr-plain", "lacks devices"},
		{"pvs-twice.json", "xr-plain", "two volume groups on this host are called xr-plain"},
	} {
		t.Run(c.report, func(t *testing.T) {
			standIn(t, "cat "+c.report, "cat lvs-none.json", "exit 5")
			b, ctx := newBench(t), context.Background()
			q := b.request("j1", "vm1", "x")
			q.Path = "/dev/" + c.group + "/x"
			wantErr(t, second(b.Create(ctx, q)), ErrUnfit, c.says, c.group)
			wantErr(t, b.CanCreate(ctx, q), ErrUnfit, c.says)
		})
	}
}

func TestCommandThatFails(t *testing.T) {
	standIn(t, "cat pvs-plain.json", "cat lvs-none.json", `for i in 1 2 3 4 5; do echo "  WARNING: warning $i" >&2; done; echo "  cause" >&2; exit 5`)
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "x")
	q.Path, q.Size = "/dev/xr-plain/x", 4*mib
	_, err := b.Create(ctx, q)
	if err == nil || !strings.Contains(err.Error(), "lvcreate --yes") || !strings.Contains(err.Error(), "exit status 5") ||
		!strings.Contains(err.Error(), "WARNING: warning 5; cause") || strings.Contains(err.Error(), "warning 2") {
		t.Fatal(err)
	}
	if out := ok[[]Outcome](t)(b.Retire(ctx, "j1")); len(out) != 1 || out[0].Did != DidRemove {
		t.Fatal(out)
	}
}

// TestReportThatHangs: a question ends with its context.
func TestReportThatHangs(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	if err := unix.Mkfifo(begun, 0o600); err != nil {
		t.Fatal(err)
	}
	standIn(t, "exit 5", "echo >"+begun+"; exec sleep 1000", "exit 5")
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = os.ReadFile(begun) // until the script has begun
	}()
	_, err := b.Inspect(ctx, "/dev/vg0/x")
	wantErr(t, err, context.Canceled, "lvs")
}

// TestChangeIsNotBegunTooLate: what is over begins nothing, and ends nothing.
func TestChangeIsNotBegunTooLate(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "begun")
	standIn(t, "exit 5", "exit 5", ": >"+mark)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (lvm{}).change(ctx, "lvcreate"); !errors.Is(err, context.Canceled) || !missing(mark) {
		t.Fatalf("%v", err)
	}
}

// TestLockOutlivesKilledWorker: a worker dies while lvcreate runs. Nobody gets the
// lock on volumes before lvcreate has ended, so what it makes is seen.
func TestLockOutlivesKilledWorker(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	standIn(t, "cat pvs-plain.json", "cat lvs-none.json", "kill -9 $PPID; read line <"+gate)
	b := newBench(t)
	q := b.request("j1", "vm1", "x")
	q.Path, q.Size = "/dev/xr-plain/x", 4*mib
	kill(t, errand{State: b.state, Op: "create", Request: q})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if unlock, err := b.lock(ctx); err == nil {
		unlock()
		t.Fatal("the lock was free while lvcreate ran")
	} else if !strings.Contains(err.Error(), "another process is changing volumes") {
		t.Fatal(err)
	}
	f := ok[*os.File](t)(os.OpenFile(gate, os.O_WRONLY, 0))
	ok[int](t)(f.WriteString("go on\n"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	unlock, err := b.lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
