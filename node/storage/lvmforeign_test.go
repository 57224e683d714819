package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLVMRetireNeverTouchesForeign exchanges what was made for another volume.
func TestLVMRetireNeverTouchesForeign(t *testing.T) {
	for how, exchange := range map[string]func(t *testing.T, g groupBench, arg string){
		"replaced": func(t *testing.T, g groupBench, arg string) {
			lvm2(t, "lvremove", "--yes", arg)
			g.foreign(t, "d", "foreign")
		},
		"renamed over": func(t *testing.T, g groupBench, arg string) {
			lvm2(t, "lvrename", arg, g.group+"/"+g.prefix+"away")
			g.foreign(t, "d", "foreign")
		},
		"tags taken off": func(t *testing.T, g groupBench, arg string) {
			for _, tag := range mustVolume(t, g, "d").tags {
				lvm2(t, "lvchange", "--deltag", tag, arg)
			}
		},
		"tags of another record": func(t *testing.T, g groupBench, arg string) {
			lvm2(t, "lvchange", "--deltag", lvTagID+lvTagged(mustVolume(t, g, "d").tags), "--addtag", lvTagID+"other", arg)
		},
		"tags copied": func(t *testing.T, g groupBench, arg string) {
			tags := mustVolume(t, g, "d").tags
			lvm2(t, "lvremove", "--yes", arg)
			var options []string
			for _, tag := range tags {
				options = append(options, "--addtag", tag)
			}
			g.foreign(t, "d", "foreign", options...)
		},
	} {
		t.Run(how, func(t *testing.T) {
			g, ctx := newGroupBench(t), context.Background()
			ok[Volume](t)(g.Create(ctx, g.request("j1", "vm1", "d")))
			exchange(t, g, g.group+"/"+g.prefix+"d")
			before := g.volumesHere(t)
			out, err := g.Retire(ctx, "j1")
			if err != nil || len(out) != 1 || out[0].Did != DidLeave {
				t.Fatalf("%v, %v", out, err)
			}
			if after := g.volumesHere(t); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Fatalf("before %v, after %v", before, after)
			}
			if all := ok[[]Record](t)(g.Volumes(ctx)); len(all) != 0 {
				t.Fatalf("still recorded: %v", all)
			}
		})
	}
}

// TestLVMTagsMustAgree: an ID alone is not enough to have a volume removed.
func TestLVMTagsMustAgree(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	ok[Volume](t)(g.Create(ctx, g.request("j1", "vm1", "d")))
	lvm2(t, "lvchange", "--deltag", lvTagJob+"j1", "--addtag", lvTagJob+"j7", g.group+"/"+g.prefix+"d")
	_, err := g.Retire(ctx, "j1")
	wantErr(t, err, ErrTaken, "xmig.job=j7", "not removed")
	mustVolume(t, g, "d")
	lvm2(t, "lvchange", "--deltag", lvTagJob+"j7", "--addtag", lvTagJob+"j1", g.group+"/"+g.prefix+"d")
	if out := ok[[]Outcome](t)(g.Retire(ctx, "j1")); len(out) != 1 || len(g.volumesHere(t)) != 0 {
		t.Fatal(out)
	}
}

// TestLVMUnknownTag: tags that no record here knows are somebody's claim.
func TestLVMUnknownTag(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	g.foreign(t, "d", "another host's", "--addtag", lvTagID+"LOST")
	_, err := g.Create(ctx, g.request("j1", "vm1", "d"))
	wantErr(t, err, ErrTaken, "xmig.id=LOST", "lvchange --deltag")
	v := ok[Volume](t)(g.Shadow(ctx, g.request("j1", "vm1", "d"))) // behind the hand-over it is the VM's disk all the same
	if r := ok[[]Record](t)(g.Volumes(ctx)); len(r) != 1 || r[0].ID != "LOST" || v.Tag == nil {
		t.Fatalf("%+v", r)
	}
}

// TestLVMOpenIsLeftAlone opens a volume as blkback does: without a claim, and
// in another process only to read.
func TestLVMOpenIsLeftAlone(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	made := g.request("j1", "vm1", "made")
	ok[Volume](t)(g.Create(ctx, made))
	g.foreign(t, "foreign", "foreign")
	g.foreign(t, "guest", "data")
	for _, name := range []string{"made", "foreign", "guest"} {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdin = ok[*os.File](t)(os.Open(g.path(name)))
		if err := errors.Join(cmd.Start(), cmd.Stdin.(*os.File).Close()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		if found := ok[[]Use](t)(g.InUse(ctx, g.path(name))); !has(found, UseOpen, "") {
			t.Fatalf("%s: %v", name, found)
		}
	}
	before := g.volumesHere(t)
	wantErr(t, second(g.Retire(ctx, "j1")), ErrBusy, "open")
	wantErr(t, second(g.Create(ctx, g.request("j1", "vm1", "foreign"))), ErrBusy, "open")
	wantErr(t, second(g.Shadow(ctx, g.request("j1", "vm1", "guest"))), ErrBusy, "open")
	if after := g.volumesHere(t); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Fatalf("before %v, after %v", before, after)
	}
	// Behind the hand-over it is open for good, by the guest that it is handed to.
	out := ok[[]Outcome](t)(g.Settle(ctx, "j1"))
	if l := mustVolume(t, g, "made"); len(out) != 1 || out[0].Did != DidRelease || len(l.tags) != 0 || !l.open() {
		t.Fatalf("%v, %+v", out, l)
	}
	t.Run("by this process", func(t *testing.T) {
		g.foreign(t, "own", "data")
		f := ok[*os.File](t)(os.OpenFile(g.path("own"), os.O_RDWR, 0))
		found := ok[[]Use](t)(g.InUse(ctx, g.path("own")))
		if err := f.Close(); err != nil || len(found) != 0 {
			t.Fatalf("%v %v", found, err)
		}
	})
}

// TestLVMInUse: mounted, swap, and held by a device above it.
func TestLVMInUse(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	g.foreign(t, "d", "")
	dev := g.path("d")
	try := func(t *testing.T, kind UseKind, by string) {
		t.Helper()
		if found := ok[[]Use](t)(g.InUse(ctx, dev)); !has(found, kind, by) {
			t.Fatalf("%v", found)
		}
		before := g.volumesHere(t)
		wantErr(t, second(g.Create(ctx, g.request("j1", "vm1", "d"))), ErrBusy, string(kind), by)
		wantErr(t, second(g.Shadow(ctx, g.request("j1", "vm1", "d"))), ErrBusy, string(kind), by)
		if after := g.volumesHere(t); fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("before %v, after %v", before, after)
		}
	}
	t.Run("mounted", func(t *testing.T) {
		at := t.TempDir()
		shell(t, "mkfs.ext4", "-q", "-F", dev)
		if err := unix.Mount(dev, at, "ext4", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(at, 0); err != nil {
				t.Error(err)
			}
		}()
		try(t, UseMount, at)
	})
	t.Run("swap", func(t *testing.T) {
		shell(t, "mkswap", "-f", dev)
		shell(t, "swapon", dev)
		defer shell(t, "swapoff", dev)
		try(t, UseSwap, "dm-")
	})
	t.Run("held", func(t *testing.T) {
		name := g.prefix + "above"
		shell(t, "dmsetup", "create", name, "--table", "0 2048 linear "+dev+" 0")
		defer shell(t, "dmsetup", "remove", "--retry", name)
		try(t, UseHolder, name)
	})
}

// TestLVMSnapshotsStay: an origin is renamed and tagged, but neither taken down
// nor removed while it has snapshots, which are somebody's.
func TestLVMSnapshotsStay(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	g.foreign(t, "d", "data")
	lvm2(t, "lvcreate", "--yes", "--snapshot", "--size", "4m", "--name", g.prefix+"snap", g.group+"/"+g.prefix+"d")
	q := g.request("j1", "vm1", "d")
	ok[Volume](t)(g.Shadow(ctx, q))
	if l := mustVolume(t, g, "d"+shadowSuffix); !l.active() || !missing(q.Path) {
		t.Fatalf("%+v", l)
	}
	wantErr(t, g.PruneShadow(ctx, q.Path, time.Now()), ErrBusy, "has snapshots")
	if l := mustVolume(t, g, "snap"); !l.active() {
		t.Fatalf("%+v", l)
	}
	lvm2(t, "lvremove", "--yes", g.group+"/"+g.prefix+"snap")
	if err := g.PruneShadow(ctx, q.Path, time.Now()); err != nil || len(g.volumesHere(t)) != 0 {
		t.Fatalf("%v, left %v", err, g.volumesHere(t))
	}
}
