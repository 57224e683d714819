package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopDevice attaches a file of size bytes to a loop device.
func loopDevice(t *testing.T, size int64, options ...string) (dev, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loop devices need root; block devices were not tested")
	}
	file = filepath.Join(t.TempDir(), "backing")
	put(t, file, "")
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", append(append([]string{"--find", "--show"}, options...), file)...).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: no loop device to be had (%v: %s); block devices were not tested", err, out)
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", dev, err, out)
		}
	})
	return dev, file
}

func TestBlockDeviceIsTakenAndGivenBack(t *testing.T) {
	dev, file := loopDevice(t, 8*mib)
	b, ctx := newBench(t), context.Background()
	link := filepath.Join(b.disks, "lv")
	if err := os.Symlink(dev, link); err != nil {
		t.Fatal(err)
	}
	q := b.request("j1", "vm1", "lv")
	v := ok[Volume](t)(b.Inspect(ctx, link))
	if v.Kind != KindBlock || v.Size != 8*mib || v.SectorSize != 512 || v.Real != dev || v.ID.Stable != "loop:"+file || v.Tag != nil {
		t.Fatalf("%+v", v)
	}
	big, fourK := q, q
	big.Size, fourK.SectorSize = 8*mib+1, 4096
	_, err := b.Create(ctx, big)
	wantErr(t, err, ErrUnfit, "never smaller")
	_, err = b.Create(ctx, fourK)
	wantErr(t, err, ErrUnfit, "512", "4096")

	for range 2 {
		v = ok[Volume](t)(b.Create(ctx, q))
		if v.Tag == nil || v.Tag.Role != RoleAdopted || v.Tag.Job != "j1" || v.ReadsZero {
			t.Fatalf("%+v %+v", v, v.Tag)
		}
	}
	other := b.request("j2", "vm2", "lv")
	other.Path = dev // the same device by another name
	_, err = b.Create(ctx, other)
	wantErr(t, err, ErrTaken, "job j1")
	out := ok[[]Outcome](t)(b.Retire(ctx, "j1"))
	if len(out) != 1 || out[0].Did != DidUntag || numberOf(dev) == "" {
		t.Fatal(out)
	}
	ok[Volume](t)(b.Create(ctx, other))
	ok[[]Outcome](t)(b.Settle(ctx, "j2"))

	v = ok[Volume](t)(b.Shadow(ctx, q))
	if v.Tag.Role != RoleShadow || v.Real != dev {
		t.Fatalf("%+v", v)
	}
	ok[Volume](t)(b.Shadow(ctx, q))
	_, err = b.Create(ctx, other)
	wantErr(t, err, ErrTaken, "shadow of disk")
	q.Job = "j3"
	if v = ok[Volume](t)(b.Adopt(ctx, q)); v.Tag.Role != RoleAdopted {
		t.Fatalf("%+v", v.Tag)
	}
	if out := ok[[]Outcome](t)(b.Retire(ctx, "j3")); len(out) != 1 || out[0].Did != DidReturn {
		t.Fatal(out)
	}
	if err := b.PruneShadow(ctx, link, time.Now()); err != nil || numberOf(dev) == "" || missing(link) {
		t.Fatalf("prune: %v", err)
	}
}

func TestBlockDeviceHoldsOneJob(t *testing.T) {
	dev, _ := loopDevice(t, 8*mib)
	b, ctx := newBench(t), context.Background()
	if err := b.Hold(ctx, "j1", []Need{{"xvda", dev, mib}}); err != nil {
		t.Fatal(err)
	}
	err := b.Hold(ctx, "j2", []Need{{"xvdb", dev, mib}})
	wantErr(t, err, ErrNoSpace, "xvdb", "block device "+dev, "0 bytes free")
	free, _, err := b.Space(ctx, dev)
	if err != nil || free != 0 {
		t.Fatalf("%d, %v", free, err)
	}
}

// TestAnotherDeviceUnderTheName: a name that leads to another device now is not
// the volume that was tagged.
func TestAnotherDeviceUnderTheName(t *testing.T) {
	one, _ := loopDevice(t, 8*mib)
	two, _ := loopDevice(t, 8*mib)
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "lv")
	if err := os.Symlink(one, q.Path); err != nil {
		t.Fatal(err)
	}
	ok[Volume](t)(b.Shadow(ctx, q))
	if err := errors.Join(os.Remove(q.Path), os.Symlink(two, q.Path)); err != nil {
		t.Fatal(err)
	}
	q.Job = "j2"
	_, err := b.Adopt(ctx, q)
	wantErr(t, err, ErrMissing, "recorded")
	if v := ok[Volume](t)(b.Inspect(ctx, q.Path)); v.Tag != nil {
		t.Fatalf("tagged: %+v", v.Tag)
	}
}

func TestSectorSizeOfDevice(t *testing.T) {
	dev, _ := loopDevice(t, 8*mib, "--sector-size", "4096")
	b, ctx := newBench(t), context.Background()
	q := b.request("j1", "vm1", "x")
	q.Path = dev
	_, err := b.Create(ctx, q)
	wantErr(t, err, ErrUnfit, "sectors of 4096 bytes", "512")
	q.SectorSize = 4096
	ok[Volume](t)(b.Create(ctx, q))
}

func has(found []Use, kind UseKind, by string) bool {
	for _, u := range found {
		if u.Kind == kind && strings.Contains(u.By, by) {
			return true
		}
	}
	return false
}

// TestCommandsBeginBesideOpenVolumes: the child that is to become a command has
// all that we have open for a moment. It is nobody else.
func TestCommandsBeginBesideOpenVolumes(t *testing.T) {
	b := newBench(t)
	b.data(t, "disk", "the guest's data")
	path := filepath.Join(b.disks, "disk")
	f := ok[*os.File](t)(os.OpenFile(path, os.O_WRONLY, 0))
	defer f.Close()
	ctx, stop := context.WithCancel(t.Context())
	var begun sync.WaitGroup
	defer begun.Wait()
	defer stop()
	for range 4 {
		begun.Go(func() {
			for ctx.Err() == nil {
				_ = exec.CommandContext(ctx, "true").Run() // some are ended by stop
			}
		})
	}
	for range 300 {
		if found := ok[[]Use](t)(b.InUse(ctx, path)); len(found) > 0 {
			t.Fatalf("%v", found)
		}
	}
}

func TestInUse(t *testing.T) {
	dev, file := loopDevice(t, 16*mib)
	b, ctx := newBench(t), context.Background()
	if found := ok[[]Use](t)(b.InUse(ctx, dev)); len(found) != 0 {
		t.Fatalf("a free device: %v", found)
	}
	if found := ok[[]Use](t)(b.InUse(ctx, file)); !has(found, UseLoop, dev) {
		t.Fatalf("backing file: %v", found)
	}
	q := b.request("j1", "vm1", "x")
	q.Path = file
	_, err := b.Shadow(ctx, q)
	wantErr(t, err, ErrBusy, dev)

	t.Run("claimed", func(t *testing.T) {
		f := ok[*os.File](t)(os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0))
		found := ok[[]Use](t)(b.InUse(ctx, dev))
		if err := f.Close(); err != nil || !has(found, UseClaimed, "") {
			t.Fatalf("%v %v", found, err)
		}
	})
	t.Run("writer", func(t *testing.T) {
		cmd := exec.Command("sh", "-c", `exec 3<>"$1"; echo open; read x`, "sh", dev)
		in := ok[io.WriteCloser](t)(cmd.StdinPipe())
		out := ok[io.ReadCloser](t)(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 5)
		if _, err := out.Read(line); err != nil {
			t.Fatal(err)
		}
		found := ok[[]Use](t)(b.InUse(ctx, dev))
		_ = in.Close()
		_ = cmd.Wait() // read fails at the end of stdin: exit 1
		if !has(found, UseWriter, "sh") {
			t.Fatalf("%v", found)
		}
	})
	t.Run("mounted", func(t *testing.T) {
		if out, err := exec.Command("mkfs.ext4", "-q", dev).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no mkfs.ext4 (%v: %s)", err, out)
		}
		at := filepath.Join(b.disks, "mounted here")
		if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount(dev, at, "ext4", 0, "")); err != nil {
			t.Skipf("SKIPPED: cannot mount (%v)", err)
		}
		found := ok[[]Use](t)(b.InUse(ctx, dev))
		q := b.request("j1", "vm1", "x")
		q.Path = dev
		_, err := b.Create(ctx, q)
		if uerr := unix.Unmount(at, 0); uerr != nil || !has(found, UseMount, at) {
			t.Fatalf("%v %v", found, uerr)
		}
		wantErr(t, err, ErrBusy, "mounted", at)
	})
	t.Run("swap", func(t *testing.T) {
		if out, err := exec.Command("mkswap", "-f", dev).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no mkswap (%v: %s)", err, out)
		}
		if out, err := exec.Command("swapon", dev).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: cannot swapon (%v: %s)", err, out)
		}
		found := ok[[]Use](t)(b.InUse(ctx, dev))
		if out, err := exec.Command("swapoff", dev).CombinedOutput(); err != nil {
			t.Fatalf("swapoff: %v: %s", err, out)
		}
		if !has(found, UseSwap, dev) {
			t.Fatalf("%v", found)
		}
	})
}

func TestIdleTracker(t *testing.T) {
	dev, file := loopDevice(t, 8*mib)
	b, ctx := newBench(t), context.Background()
	if _, err := NewIdle(ok[Volume](t)(b.Inspect(ctx, file))); !errors.Is(err, ErrUnfit) {
		t.Fatalf("file: %v", err)
	}
	track := ok[Tracker](t)(NewIdle(ok[Volume](t)(b.Inspect(ctx, dev))))
	if _, err := track.Changed(ctx); err == nil {
		t.Fatal("answered without Start")
	}
	if err := track.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f := ok[*os.File](t)(os.OpenFile(dev, os.O_RDWR|unix.O_DSYNC, 0))
	defer f.Close()
	changed := func(want int) {
		t.Helper()
		c := ok[Changes](t)(track.Changed(ctx))
		if len(c.Ranges) != want || c.Precision != Superset || (want == 1 && c.Ranges[0] != Range{0, 8 * mib}) {
			t.Fatalf("%+v, want %d ranges", c, want)
		}
	}
	changed(0)
	ok[int](t)(f.ReadAt(make([]byte, 4096), mib))
	changed(0) // reading is no change
	ok[int](t)(f.WriteAt(make([]byte, 4096), mib))
	changed(1)
	changed(0)
	if out, err := exec.Command("blkdiscard", "--force", "--offset", "4096", "--length", "4096", dev).CombinedOutput(); err == nil {
		changed(1)
	} else {
		t.Logf("discard not tested: %v: %s", err, out)
	}
	stats := filepath.Join(sysDevice(track.(*idleTracker).volume.Device), "queue/iostats")
	put(t, stats, "0")
	_, err := track.Changed(ctx)
	put(t, stats, "1")
	wantErr(t, err, ErrUnfit, "iostats")
	if _, err := track.Changed(ctx); err == nil {
		t.Fatal("went on after a gap in the counting")
	}
	if err := errors.Join(track.Start(ctx), track.Stop(ctx), track.Stop(ctx)); err != nil {
		t.Fatal(err)
	}
}
