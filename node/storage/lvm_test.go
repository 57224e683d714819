package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// groupVar names a volume group that the tests may use: they make volumes called
// xmig-test-… in it, and remove these again. They need root.
const groupVar = "XMIG_TEST_VG"

// groupBench is a host whose disks are volumes of a real volume group. All of one
// test begin with its prefix.
type groupBench struct {
	*Host
	state, group, prefix string
}

func newGroupBench(t testing.TB) groupBench {
	t.Helper()
	group := os.Getenv(groupVar)
	if group == "" {
		t.Skipf("SKIPPED: %s names no volume group that may be used; logical volumes were not tested", groupVar)
	}
	g := groupBench{state: filepath.Join(t.TempDir(), "state"), group: group, prefix: "xmig-test-" + strings.ToLower(newID()[:8]) + "-"}
	var err error
	if g.Host, err = New(Config{StateDir: g.state}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		args := []string{"lvremove", "--yes"}
		for _, l := range g.volumesHere(t) {
			args = append(args, l.name.arg())
		}
		if len(args) > 2 {
			lvm2(t, args...)
		}
	})
	return g
}

// lvm2 runs a command as an administrator would.
func lvm2(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(lvmProgram, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// volumesHere returns the test's volumes, ours and foreign.
func (g groupBench) volumesHere(t testing.TB) []logical {
	t.Helper()
	all := ok[[]logical](t)(lvm{}.logicals(context.Background(), g.group))
	var out []logical
	for _, l := range all {
		if strings.HasPrefix(l.name.volume, g.prefix) {
			out = append(out, l)
		}
	}
	return out
}

// volume returns one of them by the name without the prefix.
func (g groupBench) volume(t testing.TB, name string) (logical, bool) {
	t.Helper()
	for _, l := range g.volumesHere(t) {
		if l.name.volume == g.prefix+name {
			return l, true
		}
	}
	return logical{}, false
}

func (g groupBench) path(name string) string { return lvName{g.group, g.prefix + name}.path() }

func (g groupBench) request(job, vm, name string) Request {
	return Request{Path: g.path(name), Size: 8 * mib, Job: job, VM: vm, Disk: "xvda", Host: "hv2"}
}

// foreign makes a volume as an administrator would, with text at its start.
func (g groupBench) foreign(t testing.TB, name, text string, options ...string) {
	t.Helper()
	lvm2(t, append([]string{"lvcreate", "--yes", "-Wn", "-Zn", "--size", "8m", "--name", g.prefix + name, g.group}, options...)...)
	write(t, g.path(name), text)
}

// block is how much of a volume the tests look at.
const block = 4096

func write(t testing.TB, device, text string) {
	t.Helper()
	f := ok[*os.File](t)(os.OpenFile(device, os.O_RDWR|unix.O_DSYNC, 0))
	b := make([]byte, block)
	copy(b, text)
	_, err := f.WriteAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, device string) string {
	t.Helper()
	f := ok[*os.File](t)(os.Open(device))
	b := make([]byte, block)
	_, err := f.ReadAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(b), "\x00")
}

func TestLVMCreateRetire(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	q := g.request("j1", "vm1", "d")
	q.Path = "/dev/mapper/" + lvName{g.group, g.prefix + "d"}.mapped()
	q.Size = 8*mib + 1
	extent := ok[groupState](t)(lvm{}.state(ctx, g.group)).extent
	want := roundUp(q.Size, extent)
	free, pool, err := g.Space(ctx, q.Path)
	if err != nil || pool != "volume group "+g.group || free <= 0 {
		t.Fatalf("%d free in %q, %v", free, pool, err)
	}
	if err := g.Hold(ctx, "j1", []Need{{"xvda", q.Path, q.Size}}); err != nil {
		t.Fatal(err)
	}
	if left, _, err := g.Space(ctx, q.Path); err != nil || left != free-want {
		t.Fatalf("held %d of %d bytes, left %d, %v", want, free, left, err)
	}
	if err := g.CanCreate(ctx, q); err != nil {
		t.Fatal(err)
	}
	v := ok[Volume](t)(g.Create(ctx, q))
	if v.Kind != KindLVM || v.Size != want || v.ReadsZero || v.Tag == nil || v.Tag.Role != RoleMade || v.SectorSize == 0 || v.Device == 0 {
		t.Fatalf("%+v, %+v", v, v.Tag)
	}
	if left, _, err := g.Space(ctx, q.Path); err != nil || left != free-want {
		t.Fatalf("counted twice: left %d of %d, %v", left, free, err)
	}
	l, _ := g.volume(t, "d")
	r := ok[[]Record](t)(g.Volumes(ctx))[0]
	if len(retagging(l.tags, lvTags(r))) != 0 || r.Place != g.path("d") || l.stable != r.Identity.Stable || v.ID.Stable != l.stable {
		t.Fatalf("%+v, %+v", l, r)
	}
	write(t, v.Real, "written")
	q.Size = 16 * mib
	if again := ok[Volume](t)(g.Create(ctx, q)); again.Size != 16*mib || again.ID.Stable != v.ID.Stable || read(t, q.Path) != "written" {
		t.Fatalf("not grown: %+v", again)
	}
	for _, other := range []Request{g.request("j2", "vm1", "d"), g.request("j1", "vm2", "d")} {
		_, err := g.Create(ctx, other)
		wantErr(t, err, ErrTaken, "made by job j1")
	}
	out := ok[[]Outcome](t)(g.Retire(ctx, "j1"))
	if len(out) != 1 || out[0].Did != DidRemove || len(g.volumesHere(t)) != 0 {
		t.Fatalf("%v, left %v", out, g.volumesHere(t))
	}
	if out := ok[[]Outcome](t)(g.Retire(ctx, "j1")); len(out) != 0 {
		t.Fatalf("again: %v", out)
	}
	if err := g.ReleaseHold(ctx, "j1"); err != nil {
		t.Fatal(err)
	}
}

func TestLVMCreateRefuses(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	q := g.request("j1", "vm1", "x")
	q.Path = "/dev/no-such-group/lv"
	for _, err := range []error{
		second(g.Create(ctx, q)),
		g.CanCreate(ctx, q),
		g.Hold(ctx, "j1", []Need{{"xvda", q.Path, mib}}),
	} {
		wantErr(t, err, ErrMissing, "no volume group no-such-group", g.group, "vgcreate no-such-group", "map the disk")
	}
	_, err := g.Create(ctx, q)
	wantErr(t, err, ErrMissing, "disk xvda")
	q = g.request("j1", "vm1", "x")
	q.SectorSize = 1 << 15
	_, err = g.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "sectors")
	q = g.request("j1", "vm1", "x")
	q.Size = 1 << 50
	_, err = g.Create(ctx, q)
	wantErr(t, err, ErrNoSpace, "volume group "+g.group)
	err = g.Hold(ctx, "j1", []Need{{"xvda", q.Path, q.Size}})
	wantErr(t, err, ErrNoSpace, "disk xvda", "volume group "+g.group)
	if out := ok[[]Outcome](t)(g.Retire(ctx, "j1")); len(out) != 1 || len(g.volumesHere(t)) != 0 {
		t.Fatal(out)
	}
	q = g.request("j1", "vm1", "snapshot1")
	q.Path = "/dev/" + g.group + "/snapshot1"
	_, err = g.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "keeps names", "snapshot1")
	if all := ok[[]Record](t)(g.Volumes(ctx)); len(all) != 0 || len(g.volumesHere(t)) != 0 {
		t.Fatalf("recorded %v, made %v", all, g.volumesHere(t))
	}
}

func second[T any](_ T, err error) error { return err }

// TestLVMLastExtents: two jobs cannot both have the last extents of a group.
func TestLVMLastExtents(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	free, _, err := g.Space(ctx, g.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Hold(ctx, "j1", []Need{{"xvda", g.path("a"), free/2 + free/4}}); err != nil {
		t.Fatal(err)
	}
	err = g.Hold(ctx, "j2", []Need{{"xvda", g.path("b"), mib}, {"xvdb", "/dev/mapper/" + lvName{g.group, g.prefix + "c"}.mapped(), free / 2}})
	wantErr(t, err, ErrNoSpace, "disk xvdb", "volume group "+g.group)
	var space *SpaceError
	if !errors.As(err, &space) || space.Need <= space.Free {
		t.Fatalf("%+v", space)
	}
}

func TestLVMShadowAdoptRetirePrune(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	g.foreign(t, "d", "the guest's data", "--addtag", "backup")
	q := g.request("j1", "vm1", "d")
	q.KeepUntil = time.Now().Add(time.Hour).UTC()
	v := ok[Volume](t)(g.Shadow(ctx, q))
	l, there := g.volume(t, "d"+shadowSuffix)
	if v.Real != ShadowPath(q.Path) || v.Path != q.Path || v.Tag.Role != RoleShadow || !there || l.active() || !l.skipped() || !strings.Contains(strings.Join(l.tags, ","), "backup") {
		t.Fatalf("%+v %+v, %+v", v, v.Tag, l)
	}
	lvm2(t, "vgchange", "--activate", "ay", g.group) // as a reboot does
	if l, _ := g.volume(t, "d"+shadowSuffix); l.active() || !missing(q.Path) {
		t.Fatalf("a reboot brings it back: %+v", l)
	}
	if again := ok[Volume](t)(g.Shadow(ctx, q)); again.ID.Stable != v.ID.Stable {
		t.Fatalf("again: %+v", again)
	}
	_, err := g.Inspect(ctx, q.Path)
	wantErr(t, err, ErrMissing, "kept as "+v.Real, "hv2")
	_, err = g.Create(ctx, g.request("j9", "vm9", "d"))
	wantErr(t, err, ErrTaken, "shadow of disk xvda of vm vm1")
	_, err = g.Adopt(ctx, g.request("j9", "vm9", "other"))
	wantErr(t, err, ErrNoShadow)

	back := g.request("j2", "vm1", "d")
	back.Size = 16 * mib
	if err := g.Hold(ctx, "j2", []Need{{"xvda", back.Path, back.Size}}); err != nil {
		t.Fatal(err)
	}
	a := ok[Volume](t)(g.Adopt(ctx, back))
	if a.ID.Stable != v.ID.Stable || a.Size != 16*mib || a.Tag.Role != RoleAdopted || read(t, back.Path) != "the guest's data" {
		t.Fatalf("%+v %+v", a, a.Tag)
	}
	wantErr(t, g.PruneShadow(ctx, q.Path, time.Now().Add(2*time.Hour)), ErrTaken)
	out := ok[[]Outcome](t)(g.Retire(ctx, "j2"))
	if len(out) != 1 || out[0].Did != DidReturn || !missing(q.Path) {
		t.Fatal(out)
	}
	kept := ok[[]Record](t)(g.Shadows(ctx))
	if len(kept) != 1 || kept[0].Job != "j1" || kept[0].Host != "hv2" || !kept[0].KeepUntil.Equal(q.KeepUntil) {
		t.Fatalf("%+v", kept)
	}
	ok[Volume](t)(g.Create(ctx, g.request("j3", "vm1", "d"))) // Create adopts as well
	ok[[]Outcome](t)(g.Settle(ctx, "j3"))
	if l, _ := g.volume(t, "d"); strings.Join(l.tags, ",") != "backup" || l.skipped() || read(t, q.Path) != "the guest's data" {
		t.Fatalf("after settle: %+v", l)
	}
	ok[Volume](t)(g.Shadow(ctx, q))
	wantErr(t, g.PruneShadow(ctx, q.Path, time.Now()), ErrBusy, "to be kept until")
	if err := errors.Join(g.PruneShadow(ctx, q.Path, time.Now().Add(2*time.Hour)), g.PruneShadow(ctx, q.Path, time.Now())); err != nil {
		t.Fatal(err)
	}
	if got := g.volumesHere(t); len(got) != 0 {
		t.Fatalf("left %v", got)
	}
}

// TestLVMExistingIsTakenAndGivenBack: a free volume that somebody made, active or
// not, is used as it is, never grown, never removed.
func TestLVMExistingIsTakenAndGivenBack(t *testing.T) {
	for _, activate := range []string{"y", "n"} {
		t.Run("active "+activate, func(t *testing.T) {
			g, ctx := newGroupBench(t), context.Background()
			g.foreign(t, "d", "older")
			lvm2(t, "lvchange", "--activate", activate, g.group+"/"+g.prefix+"d")
			q := g.request("j1", "vm1", "d")
			big := q
			big.Size = 8*mib + 1
			_, err := g.Create(ctx, big)
			wantErr(t, err, ErrUnfit, "never smaller")
			free, _, err := g.Space(ctx, g.path("other"))
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Hold(ctx, "j1", []Need{{"xvda", q.Path, q.Size}}); err != nil {
				t.Fatal(err)
			}
			if left, _, err := g.Space(ctx, g.path("other")); err != nil || left != free {
				t.Fatalf("a volume that is there takes space: %d of %d, %v", left, free, err)
			}
			for range 2 {
				v := ok[Volume](t)(g.Create(ctx, q))
				if v.Tag == nil || v.Tag.Role != RoleAdopted || v.Device == 0 || v.ReadsZero || read(t, q.Path) != "older" {
					t.Fatalf("%+v %+v", v, v.Tag)
				}
				lvm2(t, "lvchange", "--activate", "n", g.group+"/"+g.prefix+"d") // as a reboot may
			}
			_, err = g.Create(ctx, big)
			wantErr(t, err, ErrUnfit, "never smaller")
			_, err = g.Create(ctx, g.request("j2", "vm2", "d"))
			wantErr(t, err, ErrTaken, "job j1")
			out := ok[[]Outcome](t)(g.Retire(ctx, "j1"))
			l, there := g.volume(t, "d")
			if len(out) != 1 || out[0].Did != DidUntag || !there || len(l.tags) != 0 || l.size != 8*mib {
				t.Fatalf("%v %+v", out, l)
			}
		})
	}
}

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

func mustVolume(t testing.TB, g groupBench, name string) logical {
	t.Helper()
	l, there := g.volume(t, name)
	if !there {
		t.Fatalf("no volume %s", name)
	}
	return l
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

func shell(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
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

// TestLVMNames: a record's volume is found by all its names.
func TestLVMNames(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	name := "with-dashes--and.dots"
	g.foreign(t, name, "data")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(g.path(name), link); err != nil {
		t.Fatal(err)
	}
	paths := []string{g.path(name), "/dev/mapper/" + lvName{g.group, g.prefix + name}.mapped(), link}
	var first Volume
	for _, p := range paths {
		v := ok[Volume](t)(g.Inspect(ctx, p))
		first = cmp.Or(first, v)
		if v.Kind != KindLVM || v.Real != first.Real || v.lv != first.lv || v.ID != first.ID || v.place() != g.path(name) {
			t.Fatalf("%s: %+v", p, v)
		}
	}
	q := g.request("j1", "vm1", name)
	ok[Volume](t)(g.Shadow(ctx, q))
	for _, p := range append(paths, ShadowPath(g.path(name))) {
		q.Path, q.Job = p, "j2"
		if p == ShadowPath(g.path(name)) {
			wantErr(t, second(g.Create(ctx, q)), ErrUnfit, "name of a shadow")
			continue
		}
		if v := ok[Volume](t)(g.Create(ctx, q)); v.Tag.Role != RoleAdopted || v.ID.Stable != first.ID.Stable {
			t.Fatalf("%s: %+v", p, v)
		}
		ok[[]Outcome](t)(g.Retire(ctx, "j2"))
	}
	room := min(maxLVName-len(g.group+g.prefix), maxMappedName-len(lvName{g.group, g.prefix}.mapped()))
	long := g.request("j1", "vm1", strings.Repeat("n", room))
	ok[Volume](t)(g.Create(ctx, long))
	ok[[]Outcome](t)(g.Settle(ctx, "j1"))
	v := ok[Volume](t)(g.Shadow(ctx, long))
	if back := ok[Volume](t)(g.Adopt(ctx, long)); back.ID.Stable != v.ID.Stable || v.Real == long.Path {
		t.Fatalf("%+v, %+v", v, back)
	}
}
