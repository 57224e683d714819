package storage

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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

// TestLVMThinIsKept: an existing thin volume is kept and adopted like any, and
// its pool and its snapshots stay when it is pruned.
func TestLVMThinIsKept(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	pool := g.group + "/" + g.prefix + "pool"
	if out, err := exec.Command(lvmProgram, "lvcreate", "--yes", "--size", "16m", "--thinpool", pool).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no thin pool can be made here (%v: %s); thin volumes were not tested", err, out)
	}
	t.Cleanup(func() { lvm2(t, "lvremove", "--yes", pool) })
	lvm2(t, "lvcreate", "--yes", "--virtualsize", "8m", "--thinpool", pool, "--name", g.prefix+"d")
	lvm2(t, "lvcreate", "--yes", "--snapshot", "--name", g.prefix+"snap", g.group+"/"+g.prefix+"d")
	write(t, g.path("d"), "the guest's data")
	q := g.request("j1", "vm1", "d")
	ok[Volume](t)(g.Shadow(ctx, q))
	if l := mustVolume(t, g, "d"+shadowSuffix); l.active() || !l.skipped() {
		t.Fatalf("%+v", l)
	}
	q.Size = 16 * mib
	if v := ok[Volume](t)(g.Adopt(ctx, q)); v.Size != q.Size || read(t, q.Path) != "the guest's data" {
		t.Fatalf("%+v", v)
	}
	ok[[]Outcome](t)(g.Retire(ctx, "j1"))
	if err := g.PruneShadow(ctx, q.Path, time.Now()); err != nil {
		t.Fatal(err)
	}
	mustVolume(t, g, "pool")
	mustVolume(t, g, "snap")
	if left := g.volumesHere(t); len(left) != 2 {
		t.Fatalf("left %v", left)
	}
}

// TestLVMActivationForbidden: lvm2 then says nothing and exits with 0.
func TestLVMActivationForbidden(t *testing.T) {
	g, ctx := newGroupBench(t), context.Background()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "lvm.conf"), `activation { volume_list = [ "no-such-group" ] }`)
	t.Setenv("LVM_SYSTEM_DIR", dir)
	_, err := g.Create(ctx, g.request("j1", "vm1", "d"))
	wantErr(t, err, ErrUnfit, "disk xvda", "volume_list")
	if out := ok[[]Outcome](t)(g.Retire(ctx, "j1")); len(out) != 1 || out[0].Did != DidRemove || len(g.volumesHere(t)) != 0 {
		t.Fatalf("%v, left %v", out, g.volumesHere(t))
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
