package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func fill(t testing.TB, path string, facts ...string) []Entry {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []Entry
	for i, f := range facts {
		e, err := j.Append(Entry{Attempt: "a1", Epoch: uint64(i + 1), Fact: f, Data: json.RawMessage(`{"n":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func TestAppendIsReadBack(t *testing.T) {
	path, err := Path(t.TempDir(), "2f5c7e0a-0000-4000-8000-000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || got != nil {
		t.Fatalf("missing file: %v, %v", got, err)
	}
	want := fill(t, path, "BEGIN", "SEALED", "COMMITTING")
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v, appended %+v", got, want)
	}
	for i, e := range got {
		if e.Seq != uint64(i+1) || e.Time.IsZero() {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func TestAppendConditionAndRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.journal")
	fill(t, path, "BEGIN")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, path, "SEALED") // somebody else
	if _, err := j.Append(Entry{Seq: 2, Fact: "BACK"}); !errors.Is(err, ErrStale) {
		t.Fatalf("stale number: %v", err)
	}
	if e, err := j.Append(Entry{Seq: 3, Fact: "BACK"}); err != nil || e.Seq != 3 {
		t.Fatalf("right number: %+v, %v", e, err)
	}
	for _, bad := range []Entry{
		{}, {Fact: FactArchived}, {Fact: "X", Data: json.RawMessage("{")},
		{Fact: "X", Data: json.RawMessage(`"` + strings.Repeat("x", MaxLine) + `"`)},
		{Fact: "X", Time: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := j.Append(bad); err == nil {
			t.Errorf("accepted fact %q", bad.Fact)
		}
	}
	if got, err := Read(path); err != nil || len(got) != 3 {
		t.Fatalf("after refusals: %d entries, %v", len(got), err)
	}
	for _, vm := range []string{"", ".", "../x", "a/b", "a\nb"} {
		if _, err := Path("/var", vm); err == nil {
			t.Errorf("Path accepted %q", vm)
		}
	}
}

func TestDamageIsLoud(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "good.journal")
	fill(t, path, "BEGIN", "SEALED", "COMMITTING")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	flip := func(l []byte) []byte {
		return bytes.Replace(bytes.Clone(l), []byte(`"fact":"`), []byte(`"fact":"_`), 1)
	}
	for name, c := range map[string]struct {
		content []byte
		line    string
	}{
		"first line changed":      {join(flip(lines[0]), lines[1], lines[2]), "line 1"},
		"middle line changed":     {join(lines[0], flip(lines[1]), lines[2]), "line 2"},
		"last whole line changed": {join(lines[0], lines[1], flip(lines[2])), "line 3"},
		"first line lost":         {join(lines[1], lines[2]), "line 1"},
		"middle line lost":        {join(lines[0], lines[2]), "line 2"},
		"line twice":              {join(lines[0], lines[1], lines[1]), "line 3"},
		"empty line":              {join(lines[0], []byte("\n"), lines[1]), "line 2"},
		"torn line in the middle": {join(lines[0], lines[1][:10], []byte("\n"), lines[2]), "line 2"},
		"two lines run together":  {join(lines[0], bytes.TrimSpace(lines[1]), lines[2]), "line 2"},
		"blank added":             {join([]byte(" "), lines[0]), "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vm.journal")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path)
			if !errors.Is(err, ErrDamaged) || got != nil || !strings.Contains(err.Error(), path+" "+c.line+":") {
				t.Fatalf("got %d entries and %v, want ErrDamaged at %s", len(got), err, c.line)
			}
			if _, err := Open(path); !errors.Is(err, ErrDamaged) {
				t.Fatalf("Open: %v", err)
			}
			if _, err := (&Journal{path: path}).Append(Entry{Fact: "BACK"}); !errors.Is(err, ErrDamaged) {
				t.Fatalf("Append: %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, c.content) {
				t.Fatalf("the damaged file was changed (%v)", err)
			}
		})
	}
}

// TestCrashAtAnyByte: what was acknowledged is read after a crash at any byte
// of the next write, and appending goes on from there.
func TestCrashAtAnyByte(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run))
		j, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var acknowledged []Entry
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			for range rapid.IntRange(0, 3).Draw(t, "appends") {
				e, err := j.Append(draw(t))
				if err != nil {
					t.Fatal(err)
				}
				acknowledged = append(acknowledged, e)
			}
			last := draw(t)
			last.Seq, last.Time = uint64(len(acknowledged)+1), time.Unix(1700000000, 0).UTC()
			text, err := encode(last)
			if err != nil {
				t.Fatal(err)
			}
			cut := rapid.IntRange(0, len(text)).Draw(t, "cut")
			writeRaw(t, path, text[:cut])
			want := acknowledged
			if cut == len(text) {
				want = append(want, last)
			}
			got, err := Read(path)
			if err != nil || len(got) != len(want) || (len(want) > 0 && !reflect.DeepEqual(got, want)) {
				t.Fatalf("cut at %d of %d: read %+v (%v), want %+v", cut, len(text), got, err, want)
			}
			acknowledged = want
		}
		e, err := j.Append(Entry{Fact: "END"})
		if err != nil || e.Seq != uint64(len(acknowledged)+1) {
			t.Fatalf("append after the crash: %+v, %v", e, err)
		}
		if got, err := Read(path); err != nil || len(got) != len(acknowledged)+1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
	})
}

func draw(t *rapid.T) Entry {
	e := Entry{
		Attempt: rapid.StringMatching(`[a-z0-9<>&é]{0,8}`).Draw(t, "attempt"),
		Epoch:   rapid.Uint64().Draw(t, "epoch"),
		Fact:    rapid.SampledFrom([]string{"BEGIN", "SEALED", "READY", "GO"}).Draw(t, "fact"),
	}
	if rapid.Bool().Draw(t, "with data") {
		b, err := json.Marshal(rapid.String().Draw(t, "data"))
		if err != nil {
			t.Fatal(err)
		}
		e.Data = b
	}
	return e
}

// writeRaw appends as a process does that dies in the middle of it.
func writeRaw(t *rapid.T, path string, b []byte) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.LastIndexByte(content, '\n') + 1
	if err := write(f, b, int64(whole), len(content) > whole); err != nil {
		t.Fatal(err)
	}
}

func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	fill(f, path, "BEGIN", "SEALED")
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, seed, seed[:len(seed)-1], append(bytes.Clone(seed), "{\"sum\":"...), []byte("\n"), make([]byte, 100)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, whole, err := parse("x", content)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || entries != nil {
				t.Fatalf("%d entries with %v", len(entries), err)
			}
			return
		}
		if bytes.IndexByte(content[whole:], '\n') >= 0 {
			t.Fatal("a line that ends was taken for torn")
		}
		var again []byte
		for _, e := range entries {
			b, err := encode(e)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, b...)
		}
		if !bytes.Equal(again, content[:whole]) {
			t.Fatalf("read and written again:\n%q\n%q", content[:whole], again)
		}
	})
}

func TestAppendersAndArchiverTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.journal")
	const writers, each = 4, 15
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			j, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				if _, err := j.Append(Entry{Attempt: "a", Epoch: uint64(i), Fact: fmt.Sprintf("W%d.%d", w, i)}); err != nil {
					t.Error(err)
				}
				if i%5 == 4 {
					if _, err := j.Archive(func(string) bool { return true }); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	wg.Wait()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Archive(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	old, err := Read(OldPath(path))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range old {
		seen[e.Fact] = true
	}
	if len(old) != writers*each || len(seen) != writers*each {
		t.Fatalf("%d entries archived, %d different, want %d", len(old), len(seen), writers*each)
	}
	if now, err := Read(path); err != nil || len(now) != 1 || now[0].Fact != FactArchived || now[0].Seq != writers*each || now[0].Epoch != each-1 {
		t.Fatalf("left: %+v, %v", now, err)
	}
}

func TestArchiveKeepsWhatIsNotFinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.journal")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, attempt := range []string{"a1", "a1", "a2", "a3", "a2"} {
		if _, err := j.Append(Entry{Attempt: attempt, Epoch: uint64(10 - i), Fact: "F"}); err != nil {
			t.Fatal(err)
		}
	}
	done := func(a string) bool { return a != "a3" }
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := j.Archive(done); err != nil || n != 3 {
		t.Fatalf("archived %d, %v", n, err)
	}
	check := func() {
		t.Helper()
		got, err := j.Entries()
		if err != nil || len(got) != 3 || got[0].Fact != FactArchived || got[0].Epoch != 10 || got[0].Seq != 3 || got[1].Attempt != "a3" || got[2].Seq != 5 {
			t.Fatalf("left: %+v, %v", got, err)
		}
		if old, err := Read(OldPath(path)); err != nil || len(old) != 3 {
			t.Fatalf("old: %+v, %v", old, err)
		}
	}
	check()
	if n, err := j.Archive(done); err != nil || n != 0 {
		t.Fatalf("archived again %d, %v", n, err)
	}
	// A crash between the two files: the old one has the entries, the journal too.
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Archive(done); err != nil || n != 3 {
		t.Fatalf("archived after the crash %d, %v", n, err)
	}
	check()
	if e, err := j.Append(Entry{Fact: "BEGIN", Epoch: 11}); err != nil || e.Seq != 6 {
		t.Fatalf("append after archiving: %+v, %v", e, err)
	}
}

// TestFullDisk: a journal on a full disk refuses, stays readable and goes on
// when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a small tmpfs needs root; a full disk was not tested")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("SKIPPED: no tmpfs can be mounted here (%v); a full disk was not tested", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "vm.journal")
	want := fill(t, path, "BEGIN", "SEALED")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	big, err := json.Marshal(strings.Repeat("x", 10_000))
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := j.Append(Entry{Fact: "READY", Data: big})
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("full disk: %v", err)
			}
			break
		}
		want = append(want, e)
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("on the full disk: %d entries, %v, want %d", len(got), err, len(want))
	}
	if n, err := j.Archive(func(string) bool { return true }); err == nil {
		t.Fatalf("archived %d entries to a full disk", n)
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("after a failed Archive: %d entries, %v", len(got), err)
	}
	if err := os.Remove(OldPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=256k"); err != nil {
		t.Fatal(err)
	}
	if e, err := j.Append(Entry{Fact: "BACK"}); err != nil || e.Seq != uint64(len(want)+1) {
		t.Fatalf("with room again: %+v, %v", e, err)
	}
}
