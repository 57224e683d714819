package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRandomOperations walks at random through operations of several jobs and
// VMs on a few paths, with foreign files coming and going, and with changes that end
// in the middle, as a crash would end them. After each step: what is foreign
// has its content, every file of ours is in a record, no two records share a place.
func TestRandomOperations(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w := &walk{disks: base + "/disks", state: base + "/state", foreign: map[string]string{}}
		if err := os.Mkdir(w.disks, 0o755); err != nil {
			rt.Fatal(err)
		}
		if w.host, err = New(Config{StateDir: w.state}); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			w.step(rt)
			w.check(rt)
		}
		w.tidy(rt)
	})
}

type walk struct {
	host         *Host
	disks, state string
	foreign      map[string]string // path to content; a guest's disk, once handed to Shadow, stays one
}

// crash is what the injected point panics with: the deferred unlock runs, as the
// kernel drops a dead process's locks, and nothing else does.
type crash struct{}

func (w *walk) step(t *rapid.T) {
	path := filepath.Join(w.disks, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "path"))
	if rapid.IntRange(0, 4).Draw(t, "who") == 0 {
		w.stranger(t, path)
		return
	}
	q := Request{
		Path: path, Size: 4096, VM: rapid.SampledFrom([]string{"vm1", "vm2"}).Draw(t, "vm"), Disk: "xvda",
		Job: rapid.SampledFrom([]string{"j1", "j2", "j3"}).Draw(t, "job"), Host: "hv2",
	}
	op := rapid.SampledFrom([]string{"create", "adopt", "shadow", "retire", "settle", "prune"}).Draw(t, "op")
	left := rapid.IntRange(0, 12).Draw(t, "points until the crash")
	w.host.at = func(string) {
		if left--; left == 0 {
			panic(crash{})
		}
	}
	doomed := w.doomed(t, op, path)
	defer func() {
		w.host.at = func(string) {}
		if r := recover(); r != nil {
			if _, is := r.(crash); !is {
				panic(r)
			}
		}
		w.follow(doomed)
	}()
	if err := operate(w.host, op, q); err != nil {
		t.Logf("refused: %v", err)
	} // check decides what must hold
}

// stranger does what people do to directories.
func (w *walk) stranger(t *rapid.T, path string) {
	if missing(path) {
		text := fmt.Sprintf("foreign %d", rapid.Uint32().Draw(t, "content"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.foreign[path] = text
		return
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	delete(w.foreign, path)
}

// doomed returns the places whose shadow op may remove: the one that is asked to be
// pruned, and those of which an earlier prune was cut off.
func (w *walk) doomed(t *rapid.T, op, path string) map[string]bool {
	all, err := w.host.records()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, r := range all {
		out[r.Place] = r.Role == RoleShadow && (r.Pending == pendingRemove || op == "prune" && r.Place == path)
	}
	return out
}

// follow moves the entries of foreign files that Shadow or an adoption renamed,
// and forgets those that were doomed and are gone.
func (w *walk) follow(doomed map[string]bool) {
	has := func(path, text string) bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.TrimRight(string(b), "\x00") == text
	}
	for path, text := range w.foreign {
		place := strings.TrimSuffix(path, shadowSuffix)
		if doomed[place] && !has(place, text) && !has(ShadowPath(place), text) {
			delete(w.foreign, path)
		}
	}
	moved := map[string]string{}
	for path, text := range w.foreign {
		place := strings.TrimSuffix(path, shadowSuffix)
		switch {
		case has(path, text):
			moved[path] = text
		case has(place, text):
			moved[place] = text
		case has(ShadowPath(place), text):
			moved[ShadowPath(place)] = text
		default:
			moved[path] = text // lost: check will say so
		}
	}
	w.foreign = moved
}

func (w *walk) check(t *rapid.T) {
	for path, text := range w.foreign {
		b, err := os.ReadFile(path)
		if err != nil || strings.TrimRight(string(b), "\x00") != text {
			t.Fatalf("foreign %s: %q, %v, want %q", path, b, err, text)
		}
	}
	all, err := w.host.records()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, r := range all {
		if named[r.Place] {
			t.Fatalf("two records of %s", r.Place)
		}
		named[r.Place], named[draft(r)] = true, true
	}
	for _, n := range mustList(t, w.disks) {
		path := filepath.Join(w.disks, n)
		ours := strings.Contains(n, ".xmig-")
		if ours && !named[path] && !named[strings.TrimSuffix(path, shadowSuffix)] {
			t.Fatalf("no record names %s", path)
		}
	}
}

// tidy takes everything back: afterwards nothing of ours is there.
func (w *walk) tidy(t *rapid.T) {
	ctx := context.Background()
	for _, job := range []string{"j1", "j2", "j3"} {
		if _, err := w.host.Retire(ctx, job); err != nil {
			t.Fatalf("retire %s: %v", job, err)
		}
	}
	w.follow(nil)
	left, err := w.host.Shadows(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range left {
		// A cut-off Shadow or return with a foreign file at the name it needs
		// stays, and says so; all else can be pruned.
		if err := w.host.PruneShadow(ctx, r.Place, time.Now()); err != nil && r.Pending == pendingNone {
			t.Fatalf("prune %s: %v", r.Place, err)
		}
		w.follow(map[string]bool{r.Place: true})
	}
	w.check(t)
	after, err := w.host.records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range after {
		if r.Pending == pendingNone {
			t.Fatalf("left: %+v", r)
		}
	}
}

func mustList(t *rapid.T, dir string) []string {
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}
