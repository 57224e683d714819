package xen_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"xmig/xen"
	"xmig/xen/xlsim"
)

// fleet makes guests with a disk each; their names are alike.
func fleet(t *testing.T, n int, extra ...string) (src, dst xen.XL, configs []string) {
	t.Helper()
	dir := t.TempDir()
	src.Command, src.Xenstore = simulatedHost(t, dir, "source")
	dst.Command, dst.Xenstore = simulatedHost(t, dir, "destination")
	for i := range n {
		disk := filepath.Join(dir, fmt.Sprintf("disk %d.img", i))
		if err := xlsim.MakeDisk(disk, 4<<20, xlsim.Mix{}); err != nil {
			t.Fatal(err)
		}
		cfg, err := xlsim.WriteGuestConfig(dir, xlsim.GuestSpec{
			Name: fmt.Sprintf("guest %d", i), MemoryMiB: 16, Rate: -1, DirtyRate: -1,
			Disks: []xlsim.GuestDisk{{Path: disk, Vdev: "xvda"}}, Extra: extra,
		})
		if err != nil {
			t.Fatal(err)
		}
		configs = append(configs, cfg)
	}
	return src, dst, configs
}

// TestRestoresAtOnce: each Create and each Restore tells its own domain, with
// others that come into being at the same time.
func TestRestoresAtOnce(t *testing.T) {
	t.Parallel()
	src, dst, configs := fleet(t, 3)
	var wg sync.WaitGroup
	for _, cfg := range configs {
		wg.Go(func() {
			made, err := src.Create(t.Context(), cfg, xen.Running)
			if err != nil {
				t.Error(err)
				return
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			saved := make(chan error, 1)
			go func() {
				err := src.Save(t.Context(), made.ID, w)
				saved <- errors.Join(err, w.Close())
			}()
			restored, err := dst.Restore(t.Context(), r)
			if err := errors.Join(err, <-saved); err != nil || restored.UUID != made.UUID || restored.Name != made.Name {
				t.Errorf("saved %+v, restored %+v, %v", made, restored, err)
			}
		})
	}
	wg.Wait()
}

// TestNameTaken: by another guest, in a Restore and in a Rename.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	src, dst, configs := fleet(t, 2)
	var ids []int
	for _, cfg := range configs {
		d, err := src.Create(t.Context(), cfg, xen.Paused)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	if err := src.Rename(t.Context(), ids[0], "guest 1"); !errors.Is(err, xen.ErrNameTaken) {
		t.Errorf("rename: %v", err)
	}
	if err := src.Unpause(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := src.Save(t.Context(), ids[0], image); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, xen.ErrNameTaken} {
		again, err := os.Open(image.Name())
		if err != nil {
			t.Fatal(err)
		}
		d, err := dst.Restore(t.Context(), again)
		again.Close()
		if !errors.Is(err, want) || (err == nil) != (d.Name == "guest 0") {
			t.Errorf("restore %d: %+v, %v, want %v", i+1, d, err, want)
		}
	}
}

func TestGuestThatDoesNotSuspend(t *testing.T) {
	t.Parallel()
	src, _, configs := fleet(t, 1, `extra = "xlsim.suspend=never"`)
	d, err := src.Create(t.Context(), configs[0], xen.Running)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := src.Guest(t.Context(), d.ID); err != nil || !state.NoSuspend {
		t.Errorf("it says that it does not suspend; got %+v, %v", state, err)
	}
}
