package blocksync

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// clones are three disks made from one image, of which the second and third
// have changed a little, and a destination for each.
func clones(t *testing.T, size int) (all []*pair) {
	image := randomBytes(7, size)
	clear(image[size/2 : size/2+mib/2]) // zeroes within a chunk
	for i := range 3 {
		disk := bytes.Clone(image)
		if i > 0 {
			copy(disk[mib+i*5000:], "this is another guest")
		}
		all = append(all, newPair(t, disk, make([]byte, size)))
	}
	return all
}

// TestClonesTravelOnce: of a disk made from the same image only what is other
// than in the first travels, whatever was at its place before; and it is not
// trusted that the first is still as it was.
func TestClonesTravelOnce(t *testing.T) {
	const size = 8*mib + 3*kib
	all := clones(t, size)
	writeFile(t, all[2].dst, randomBytes(9, size)) // old data there
	set := Settings{Index: NewIndex(1 << 20), Compress: CompressOff}
	if o := all[0].must(Pass{Number: 1, Final: true}, set); o.sent.Found != 0 {
		t.Errorf("the first found %d bytes", o.sent.Found)
	}
	for _, p := range all[1:] {
		o := p.must(Pass{Number: 1, Final: true}, set)
		p.equal()
		// A chunk has changed; zeroes travel as ever.
		if want := int64(size - mib); o.sent.Found != want || o.received.Found != want || o.sent.Sent > mib || o.sent.Wire > mib+40*kib {
			t.Errorf("%+v\nfound %d bytes here and %d there, want %d; sent %d, %d on the wire", o.sent.Counts, o.sent.Found, o.received.Found, want, o.sent.Sent, o.sent.Wire)
		}
	}
	p := newPair(t, all[0].read(all[0].src), make([]byte, size))
	for _, old := range all {
		writeFile(t, old.dst, randomBytes(11, size))
	}
	o := p.must(Pass{Number: 1, Final: true}, set)
	p.equal()
	if o.sent.Found != 0 || o.sent.Sent < size-mib {
		t.Errorf("after the others were written over: found %d, sent %d", o.sent.Found, o.sent.Sent)
	}
	for _, path := range []string{p.dst, all[0].dst} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	p = newPair(t, p.read(p.src), make([]byte, size))
	p.must(Pass{Number: 1, Final: true}, set)
	p.equal()
}

// What is a hole stays one where content comes from elsewhere.
func TestFoundContentKeepsHoles(t *testing.T) {
	const size = 4 * mib
	disk := make([]byte, size)
	for at := 0; at < size; at += mib {
		copy(disk[at:], randomBytes(uint64(at), 10*kib))
	}
	set := Settings{Index: NewIndex(1 << 20)}
	first, second := newPair(t, disk, make([]byte, size)), newPair(t, disk, nil)
	if err := os.Truncate(second.dst, size); err != nil {
		t.Fatal(err)
	}
	first.must(Pass{Number: 1}, set)
	o := second.must(Pass{Number: 1}, set)
	second.equal()
	if o.sent.Found != size || o.received.Written != 4*12*kib {
		t.Errorf("found %d of %d, written %d", o.sent.Found, size, o.received.Written)
	}
	if n := allocated(t, second.dst); n > 4*16*kib {
		t.Errorf("the file has %d bytes", n)
	}
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// The filter never denies what was put in, and rarely has what was not.
func TestFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3000).Draw(t, "n")
		seed := rapid.Uint64Range(0, 1<<20).Draw(t, "seed")
		in, out := randomBytes(seed, 32*n), randomBytes(seed+1<<21, 32*5000)
		f := newFilter(n)
		for i := range n {
			f.add(indexKey(in[32*i:]))
		}
		if _, err := decodeFilter(f); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if !f.has(digest(in[32*i:])) {
				t.Fatalf("of %d digests in %d bytes, number %d is not there", n, len(f), i)
			}
		}
		wrong := 0
		for i := range 5000 {
			if f.has(digest(out[32*i:])) {
				wrong++
			}
		}
		if wrong > 150 {
			t.Fatalf("%d of 5000 foreign digests are there, by %d in %d bytes", wrong, n, len(f))
		}
	})
	for _, n := range []int{0, 63, 65, MaxPayload * 2} {
		if _, err := decodeFilter(make([]byte, n)); err == nil {
			t.Errorf("a filter of %d bytes is taken", n)
		}
	}
	if n := len(newFilter(1 << 30)); n > MaxPayload {
		t.Errorf("a filter of %d bytes", n)
	}
}

// The index forgets the oldest and never grows.
func TestIndexIsBounded(t *testing.T) {
	x := NewIndex(4 * entryBytes)
	for i := range 10 {
		x.note(sum([]byte{byte(i)}), "/dev/none", int64(i), 1)
	}
	x.note(sum([]byte{9}), "/dev/other", 5, 1) // known: its place is a newer one
	for i := range 10 {
		p, ok := x.find(sum([]byte{byte(i)}))
		if ok != (i >= 6) {
			t.Errorf("digest %d is known: %v", i, ok)
		}
		if i == 9 && p != (place{"/dev/other", 5, 1}) {
			t.Errorf("%+v", p)
		}
	}
	if len(x.places) != 4 || len(x.order) != 4 {
		t.Errorf("%d places, %d in order", len(x.places), len(x.order))
	}
	if name, err := deviceName(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Errorf("a device that is not there is called %s", name)
	}
}
