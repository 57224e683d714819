package storage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writers are the ways in which content of a path is changed.
var writers = map[string]func(t *testing.T, path string){
	"write":        func(t *testing.T, path string) { scribble(t, path, 0) },
	"direct write": func(t *testing.T, path string) { scribble(t, path, unix.O_DIRECT) },
	"hole": func(t *testing.T, path string) {
		f := ok[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
		defer f.Close()
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	},
}

// scribble writes a page with other content each time, and flushes it.
func scribble(t *testing.T, path string, flags int) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	raw := make([]byte, 3*4096)
	at := 4096 - int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%4096)
	page := raw[at : at+4096]
	page[0] = byte(time.Now().UnixNano())
	if _, err := unix.Pwrite(fd, page, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fsync(fd); err != nil {
		t.Fatal(err)
	}
}

// testWitness: equal as long as nobody writes, and after each kind of write another.
func testWitness(t *testing.T, path string) {
	ctx := context.Background()
	before := ok[Witness](t)(TakeWitness(ctx, path))
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if now := ok[Witness](t)(TakeWitness(ctx, path)); now != before {
		t.Fatalf("nobody wrote:\n%s\n%s", before, now)
	}
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			for range 20 { // right after one another: the clock has a grain
				write(t, path)
				now := ok[Witness](t)(TakeWitness(ctx, path))
				if now == before {
					t.Fatalf("a write was not noticed: %s", now)
				}
				before = now
			}
		})
	}
}

func TestWitnessOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	put(t, path, strings.Repeat("x", 64<<10))
	testWitness(t, path)

	before := ok[Witness](t)(TakeWitness(context.Background(), path))
	moved := path + ".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if now := ok[Witness](t)(TakeWitness(context.Background(), moved)); now != before {
		t.Errorf("a rename passes for a write:\n%s\n%s", before, now)
	}
	put(t, path, strings.Repeat("x", 64<<10)) // another file in its place
	if now := ok[Witness](t)(TakeWitness(context.Background(), path)); now == before {
		t.Error("another file passes for this one")
	}
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, future, future); err != nil {
		t.Fatal(err)
	}
	_, err := TakeWitness(context.Background(), path)
	wantErr(t, err, ErrUnfit, "future")
	_, err = TakeWitness(context.Background(), t.TempDir())
	wantErr(t, err, ErrUnfit)
}

func TestWitnessOfDevice(t *testing.T) {
	dev, _ := loopDevice(t, 8*mib)
	testWitness(t, dev)
}
