package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHolds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a small tmpfs needs root; holds against a known size were not tested")
	}
	b, ctx := newBench(t), context.Background()
	if err := unix.Mount("tmpfs", b.disks, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("SKIPPED: no tmpfs can be mounted here (%v)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(b.disks, 0); err != nil {
			t.Error(err)
		}
	})
	b.config.Reserve = 2 * mib
	need := func(name string, bytes int64) Need {
		return Need{Disk: "xvda", Path: filepath.Join(b.disks, name), Bytes: bytes}
	}
	free := func(want int64) {
		t.Helper()
		got, pool, err := b.Space(ctx, filepath.Join(b.disks, "new"))
		if err != nil || got != want || pool != "file system "+b.disks+" (tmpfs)" {
			t.Fatalf("free %d in %q (%v), want %d", got, pool, err, want)
		}
	}
	free(30 * mib)
	for range 2 { // idempotent
		if err := b.Hold(ctx, "j1", []Need{need("a", 12*mib), need("b", 8*mib)}); err != nil {
			t.Fatal(err)
		}
		free(10 * mib)
	}
	if jobs := ok[[]string](t)(b.Holders(ctx)); len(jobs) != 1 || jobs[0] != "j1" {
		t.Fatalf("holders %v", jobs)
	}
	err := b.Hold(ctx, "j2", []Need{need("c", 6*mib), need("d", 6*mib)})
	wantErr(t, err, ErrNoSpace, "job j2", "disk xvda", filepath.Join(b.disks, "d"), "has 4194304 bytes free, needs 6291456 bytes", "tmpfs")
	var space *SpaceError
	if !errors.As(err, &space) || space.Free != 4*mib || space.Need != 6*mib {
		t.Fatalf("%+v", space)
	}
	free(10 * mib) // all or none
	reopened := ok[*Host](t)(New(b.config))
	b.Host = reopened
	free(10 * mib)

	q := b.request("j1", "vm1", "a")
	q.Size = 12 * mib
	v := ok[Volume](t)(b.Create(ctx, q))
	free(10 * mib)
	f := ok[*os.File](t)(os.OpenFile(v.Real, os.O_WRONLY, 0))
	ok[int](t)(f.WriteAt(make([]byte, 4*mib), 0))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	free(10 * mib) // written bytes of a held volume are not counted twice
	if err := errors.Join(b.ReleaseHold(ctx, "j1"), b.ReleaseHold(ctx, "j1")); err != nil {
		t.Fatal(err)
	}
	free(26 * mib)
}

func TestTwoJobsCannotBothHaveTheLastBytes(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	free, _, err := b.Space(ctx, filepath.Join(b.disks, "x"))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for _, job := range []string{"j1", "j2"} {
		go func() {
			h, err := New(Config{StateDir: b.state}) // as two processes would
			if err == nil {
				err = h.Hold(ctx, job, []Need{{Disk: "xvda", Path: filepath.Join(b.disks, job), Bytes: free/2 + free/4}})
			}
			errs <- err
		}()
	}
	first, second := <-errs, <-errs
	if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), ErrNoSpace) {
		t.Fatalf("one must win: %v; %v", first, second)
	}
}
