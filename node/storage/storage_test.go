package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		crashingChild()
	}
	goleak.VerifyTestMain(m)
}

// bench is a host with a directory for disks.
type bench struct {
	*Host
	state, disks string
}

func newBench(t testing.TB) bench {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := bench{state: filepath.Join(base, "state"), disks: filepath.Join(base, "disks")}
	if err := os.Mkdir(b.disks, 0o755); err != nil {
		t.Fatal(err)
	}
	if b.Host, err = New(Config{StateDir: b.state}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bench) request(job, vm, name string) Request {
	return Request{Path: filepath.Join(b.disks, name), Size: 8 * mib, SectorSize: 512, Job: job, VM: vm, Disk: "xvda", Host: "hv2"}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}

func ok[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t testing.TB, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("error %q does not say %q", err, p)
		}
	}
}

func TestInspectSaysWhatIsWrong(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	in := func(n string) string { return filepath.Join(b.disks, n) }
	put(t, in("file"), "x")
	for link, to := range map[string]string{"loop": "loop", "a": "b", "b": "a", "dangling": "nowhere", "good": "file"} {
		if err := os.Symlink(to, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(in("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
		says string
	}{
		{in("none"), ErrMissing, "none"},
		{in("no/such/dir"), ErrMissing, "dir"},
		{in("dangling"), ErrMissing, "nowhere"},
		{b.disks, ErrNotDisk, "is a directory"},
		{in("fifo"), ErrNotDisk, "fifo"},
		{in("loop"), ErrNotDisk, "circle"},
		{in("a"), ErrNotDisk, "circle"},
		{"relative", ErrNotDisk, "absolute"},
		{"", ErrNotDisk, "absolute"},
		{"/dev/null", ErrNotDisk, "/dev/null"},
		{in("file/below"), unix.ENOTDIR, "below"},
	} {
		_, err := b.Inspect(ctx, c.path)
		wantErr(t, err, c.want, c.says)
	}
	v := ok[Volume](t)(b.Inspect(ctx, in("good")))
	if v.Real != in("file") || v.Kind != KindFile || v.Size != 1 || v.SectorSize != 512 || v.Tag != nil || v.ReadsZero {
		t.Fatalf("%+v", v)
	}
}

func TestCreateRetire(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "sub/dir/disk.img")
	_, err := b.Create(ctx, q)
	wantErr(t, err, ErrMissing, filepath.Join(b.disks, "sub/dir"), "xvda")
	q.Parents, q.Size = MakeParents, 8*mib+1
	v := ok[Volume](t)(b.Create(ctx, q))
	if v.Size != 8*mib+512 || v.Allocated > 64<<10 || !v.ReadsZero || v.Tag == nil || v.Tag.Role != RoleMade || v.Tag.Job != "j1" {
		t.Fatalf("%+v, %+v", v, v.Tag)
	}
	put(t, v.Real, "written")
	if err := os.Truncate(v.Real, v.Size); err != nil {
		t.Fatal(err)
	}
	again := ok[Volume](t)(b.Create(ctx, q))
	if again.ID != v.ID || again.ReadsZero {
		t.Fatalf("created anew: %+v", again)
	}
	q.Size = 16 * mib
	if v = ok[Volume](t)(b.Create(ctx, q)); v.Size != 16*mib || v.ID != again.ID {
		t.Fatalf("not grown: %+v", v)
	}
	for _, other := range []Request{b.request("j2", "vm1", "sub/dir/disk.img"), b.request("j1", "vm2", "sub/dir/disk.img")} {
		_, err := b.Create(ctx, other)
		wantErr(t, err, ErrTaken, "made by job j1")
	}
	if out := ok[[]Outcome](t)(b.Retire(ctx, "j2")); len(out) != 0 {
		t.Fatalf("another job's: %v", out)
	}
	out := ok[[]Outcome](t)(b.Retire(ctx, "j1"))
	if len(out) != 1 || out[0].Did != DidRemove || len(names(t, b.disks)) != 0 {
		t.Fatalf("%v, left %v", out, names(t, b.disks))
	}
	if out := ok[[]Outcome](t)(b.Retire(ctx, "j1")); len(out) != 0 {
		t.Fatalf("again: %v", out)
	}
}

func TestCreateRefuses(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "there")
	put(t, q.Path, "foreign")
	_, err := b.Create(ctx, q)
	wantErr(t, err, ErrTaken, "was not made by job j1")
	q = b.request("j1", "vm1", "fourk")
	q.SectorSize = 4096
	_, err = b.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "512", "4096")
	q = b.request("j1", "vm1", "x")
	q.Path = "/dev/no-such-vg/lv"
	q.Parents = MakeParents
	_, err = b.Create(ctx, q)
	wantErr(t, err, ErrMissing, "block device")
	q = b.request("j1", "vm1", "x"+shadowSuffix)
	_, err = b.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "shadow")
	q = b.request("j1", "vm1", "x")
	q.Size = 0
	_, err = b.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "size 0")
	if _, err := b.Create(ctx, Request{Path: q.Path, Size: 1}); err == nil {
		t.Fatal("no job, VM, disk: accepted")
	}
	if got := names(t, b.disks); len(got) != 1 || content(t, filepath.Join(b.disks, "there")) != "foreign" {
		t.Fatalf("left %v", got)
	}
	if all := ok[[]Record](t)(b.Volumes(ctx)); len(all) != 0 {
		t.Fatalf("recorded %v", all)
	}
}

// TestRetireNeverTouchesForeign puts another file in the place of what was made,
// with the same inode number where the file system gives it out again.
func TestRetireNeverTouchesForeign(t *testing.T) {
	for _, how := range []string{"replaced", "copied with its tag", "renamed over", "tag taken off", "symlink"} {
		t.Run(how, func(t *testing.T) {
			b, ctx := newBench(t), context.Background()
			q := b.request("j1", "vm1", "disk")
			ok[Volume](t)(b.Create(ctx, q))
			foreign := filepath.Join(b.disks, "foreign")
			switch how {
			case "replaced":
				if err := os.Remove(q.Path); err != nil {
					t.Fatal(err)
				}
				put(t, q.Path, "foreign")
			case "copied with its tag":
				if out, err := exec.Command("cp", "-a", q.Path, foreign).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if err := os.Rename(foreign, q.Path); err != nil {
					t.Fatal(err)
				}
			case "renamed over":
				put(t, foreign, "foreign")
				if err := os.Rename(foreign, q.Path); err != nil {
					t.Fatal(err)
				}
			case "tag taken off":
				if err := unix.Removexattr(q.Path, tagName); err != nil {
					t.Skipf("SKIPPED: no tags on this file system (%v)", err)
				}
			case "symlink":
				put(t, foreign, "foreign")
				if err := errors.Join(os.Remove(q.Path), os.Symlink(foreign, q.Path)); err != nil {
					t.Fatal(err)
				}
			}
			before := names(t, b.disks)
			out, err := b.Retire(ctx, "j1")
			if err != nil || len(out) != 1 || out[0].Did != DidLeave {
				t.Fatalf("%v, %v", out, err)
			}
			if after := names(t, b.disks); strings.Join(before, " ") != strings.Join(after, " ") {
				t.Fatalf("before %v, after %v", before, after)
			}
			if all := ok[[]Record](t)(b.Volumes(ctx)); len(all) != 0 {
				t.Fatalf("still recorded: %v", all)
			}
		})
	}
}

func TestSettleEndsTheClaim(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "disk")
	ok[Volume](t)(b.Create(ctx, q))
	out := ok[[]Outcome](t)(b.Settle(ctx, "j1"))
	if len(out) != 1 || out[0].Did != DidRelease {
		t.Fatal(out)
	}
	if out := ok[[]Outcome](t)(b.Retire(ctx, "j1")); len(out) != 0 || missing(q.Path) {
		t.Fatalf("retired after settle: %v", out)
	}
	if n, err := unix.Getxattr(q.Path, tagName, nil); err == nil {
		t.Fatalf("a tag of %d bytes is left", n)
	}
	_, err := b.Create(ctx, b.request("j2", "vm1", "disk"))
	wantErr(t, err, ErrTaken)
}

func TestShadowAdoptRetirePrune(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	link := filepath.Join(b.disks, "link")
	q := b.request("j1", "vm1", "disk")
	put(t, q.Path, "the guest's data")
	if err := os.Symlink("disk", link); err != nil {
		t.Fatal(err)
	}
	real := q.Path
	q.Path, q.KeepUntil = link, time.Now().Add(time.Hour).UTC()
	v := ok[Volume](t)(b.Shadow(ctx, q))
	if v.Real != real+shadowSuffix || v.Path != real || v.Tag.Role != RoleShadow || v.Tag.Host != "hv2" || !missing(real) {
		t.Fatalf("%+v %+v", v, v.Tag)
	}
	if again := ok[Volume](t)(b.Shadow(ctx, q)); again.ID != v.ID {
		t.Fatalf("again: %+v", again)
	}
	_, err := b.Inspect(ctx, link)
	wantErr(t, err, ErrMissing, "kept as", "hv2")
	_, err = b.Create(ctx, b.request("j9", "vm9", "disk"))
	wantErr(t, err, ErrTaken, "shadow of disk xvda of vm vm1")
	wantErr(t, b.CanCreate(ctx, b.request("j9", "vm9", "disk")), ErrTaken, "shadow of disk xvda of vm vm1")
	_, err = b.Adopt(ctx, b.request("j9", "vm9", "other"))
	wantErr(t, err, ErrNoShadow)

	// Somebody moves it away: it is missed before anything is begun, and when it is back all is well.
	place := real + shadowSuffix
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, b.CanCreate(ctx, b.request("j2", "vm1", "disk")), ErrLost, "recorded", "pruning the shadow")
	_, err = b.Create(ctx, b.request("j2", "vm1", "disk"))
	wantErr(t, err, ErrLost, "recorded", "pruning the shadow")
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}

	back := b.request("j2", "vm1", "disk")
	a := ok[Volume](t)(b.Adopt(ctx, back))
	if a.ID != v.ID || a.Size != 8*mib || a.ReadsZero || a.Tag.Role != RoleAdopted || a.Tag.Job != "j2" || !missing(real+shadowSuffix) {
		t.Fatalf("%+v %+v", a, a.Tag)
	}
	wantErr(t, b.PruneShadow(ctx, real, time.Now().Add(2*time.Hour)), ErrTaken)
	out := ok[[]Outcome](t)(b.Retire(ctx, "j2"))
	if len(out) != 1 || out[0].Did != DidReturn || !missing(real) {
		t.Fatal(out)
	}
	kept := ok[[]Record](t)(b.Shadows(ctx))
	if len(kept) != 1 || kept[0].Job != "j1" || kept[0].Host != "hv2" || !kept[0].KeepUntil.Equal(q.KeepUntil) {
		t.Fatalf("%+v", kept)
	}
	if !strings.HasPrefix(content(t, real+shadowSuffix), "the guest's data") {
		t.Fatal("content is gone")
	}
	ok[Volume](t)(b.Create(ctx, b.request("j3", "vm1", "disk"))) // Create adopts as well
	ok[[]Outcome](t)(b.Settle(ctx, "j3"))
	if !strings.HasPrefix(content(t, real), "the guest's data") {
		t.Fatal("content is gone")
	}
	ok[Volume](t)(b.Shadow(ctx, q))
	wantErr(t, b.PruneShadow(ctx, link, time.Now()), ErrBusy, "to be kept until")
	if err := errors.Join(b.PruneShadow(ctx, link, time.Now().Add(2*time.Hour)), b.PruneShadow(ctx, link, time.Now())); err != nil {
		t.Fatal(err)
	}
	if got := names(t, b.disks); len(got) != 1 {
		t.Fatalf("left %v", got)
	}
}

func TestShadowNeverReplaces(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "disk")
	put(t, q.Path, "data")
	put(t, q.Path+shadowSuffix, "foreign")
	_, err := b.Shadow(ctx, q)
	wantErr(t, err, ErrTaken, shadowSuffix)
	if content(t, q.Path) != "data" || content(t, q.Path+shadowSuffix) != "foreign" {
		t.Fatal("touched")
	}
	if err := os.Remove(q.Path + shadowSuffix); err != nil {
		t.Fatal(err)
	}
	ok[Volume](t)(b.Shadow(ctx, q))
	put(t, q.Path, "another")
	_, err = b.Adopt(ctx, b.request("j2", "vm1", "disk"))
	wantErr(t, err, ErrTaken)
	_, err = b.Shadow(ctx, q)
	wantErr(t, err, ErrTaken)
	if content(t, q.Path) != "another" || content(t, q.Path+shadowSuffix) != "data" {
		t.Fatal("touched")
	}
}

func TestConfigAndDamagedRegistry(t *testing.T) {
	if _, err := New(Config{StateDir: "relative", Reserve: -1}); err == nil || !strings.Contains(err.Error(), "relative") || !strings.Contains(err.Error(), "-1") {
		t.Fatalf("both faults: %v", err)
	}
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "disk")
	ok[Volume](t)(b.Create(ctx, q))
	put(t, b.volumes.file(q.Path), "{half")
	if _, err := b.Retire(ctx, "j1"); err == nil || !strings.Contains(err.Error(), "is damaged") || missing(q.Path) {
		t.Fatalf("damaged registry: %v", err)
	}
}

// TestTakeExisting: a file that somebody named is taken as it is, grown, and
// given back; without that word it is somebody else's.
func TestTakeExisting(t *testing.T) {
	b := newBench(t)
	q := b.request("j1", "vm1", "disk")
	put(t, q.Path, "theirs")
	_, err := b.Create(context.Background(), q)
	wantErr(t, err, ErrTaken)
	q.Existing = TakeExisting
	for range 2 {
		v, err := b.Create(context.Background(), q)
		if err != nil || v.Size != q.Size || v.ReadsZero || v.Tag == nil || v.Tag.Role != RoleAdopted {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	other := q
	other.Job = "j2"
	_, err = b.Create(context.Background(), other)
	wantErr(t, err, ErrTaken)
	out, err := b.Retire(context.Background(), "j1")
	if err != nil || len(out) != 1 || out[0].Did != DidUntag {
		t.Fatalf("%+v, %v", out, err)
	}
	if got := content(t, q.Path); !strings.HasPrefix(got, "theirs") {
		t.Errorf("the file became %.20q", got)
	}
	if v, err := b.Inspect(context.Background(), q.Path); err != nil || v.Tag != nil {
		t.Errorf("given back: %+v, %v", v, err)
	}
}
