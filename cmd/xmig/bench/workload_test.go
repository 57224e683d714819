package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// memory is a disk in a slice.
type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

func made(t interface{ Fatal(...any) }, m Image) memory {
	b := bytes.Repeat([]byte{0xa5}, int(m.Size)) // what is not written shows
	if err := m.Write(memory(b)); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestImageIsKnown: the same image for ever, so that numbers of two versions
// are of the same work.
func TestImageIsKnown(t *testing.T) {
	sum := sha256.Sum256(made(t, Usual(32<<20, 1)))
	if got, want := hex.EncodeToString(sum[:8]), "ffdd458ae662d67b"; got != want {
		t.Errorf("got %s, want %s: numbers of earlier versions are of another image now", got, want)
	}
	if bytes.Equal(made(t, Usual(1<<20, 1)), made(t, Usual(1<<20, 2))) {
		t.Error("two seeds, one image")
	}
}

// TestImageShares: as much is zero, incompressible and compressible as was
// asked for, wherever it lies, and all of the disk is written.
func TestImageShares(t *testing.T) {
	squeeze, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer squeeze.Close()
	rapid.Check(t, func(t *rapid.T) {
		pages := rapid.Int64Range(1, 2048).Draw(t, "pages")
		m := Image{Size: pages * Page, Seed: rapid.Uint64().Draw(t, "seed"), Zero: float64(rapid.IntRange(0, 100).Draw(t, "zero")) / 100}
		m.Random = (1 - m.Zero) * float64(rapid.IntRange(0, 100).Draw(t, "random")) / 100
		b := made(t, m)
		var count [kinds]int64
		next := int64(0)
		for _, e := range m.extents() {
			if e.Offset != next || e.Length <= 0 || e.Length > maxExtent || e.Length%Page != 0 {
				t.Fatalf("extent %+v, the one before ended at %d", e, next)
			}
			next += e.Length
			count[e.kind] += e.Length
			part := b[e.Offset:next]
			small := float64(len(squeeze.EncodeAll(part, nil))) / float64(len(part))
			// A rest of a few pages may hold too few words twice for zstd to see.
			dense := small > 0.7 && e.Length >= minExtent
			switch blank := len(bytes.Trim(part, "\x00")) == 0; {
			case e.kind == zero && !blank, e.kind == random && small < 0.99, e.kind == text && (dense || blank):
				t.Fatalf("extent of kind %d: shrinks to %.2f, blank %t", e.kind, small, blank)
			}
		}
		if next != m.Size {
			t.Fatalf("extents end at %d of %d", next, m.Size)
		}
		for kind, share := range map[content]float64{zero: m.Zero, random: m.Random} {
			if off := count[kind] - int64(share*float64(m.Size)); off > 0 || off <= -Page {
				t.Errorf("kind %d: %d bytes of %d, want a share of %g", kind, count[kind], m.Size, share)
			}
		}
	})
}

func TestImageRefused(t *testing.T) {
	for _, m := range []Image{{}, {Size: Page + 1}, {Size: -Page}, {Size: Page, Zero: 0.6, Random: 0.6}, {Size: Page, Zero: -0.1}} {
		if m.Write(memory(nil)) == nil {
			t.Errorf("%+v was written", m)
		}
	}
}

// TestChanges: the share that was asked for, whole pages, in order, nothing
// twice, and the same again from the same seed.
func TestChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 64<<10).Draw(t, "pages") * Page
		share := float64(rapid.IntRange(0, 10).Draw(t, "percent")) / 100
		seed := rapid.Uint64().Draw(t, "seed")
		for name, pick := range map[string]func(int64, float64, uint64) []Span{"scattered": Scattered, "clustered": Clustered} {
			spans := pick(size, share, seed)
			end := int64(0)
			for i, s := range spans {
				if s.Offset%Page != 0 || s.Length%Page != 0 || s.Length <= 0 || s.Offset < end || s.Offset+s.Length > size {
					t.Fatalf("%s: %+v behind %d of %d", name, s, end, size)
				}
				if name == "clustered" && i > 0 && s.Offset == end {
					t.Fatalf("two runs touch at %d", end)
				}
				if long := s.Length >= 1<<20 && s.Length <= 4<<20; name == "clustered" && len(spans) > 1 && !long && s.Length != shortest(spans) {
					t.Fatalf("a run of %d bytes", s.Length)
				}
				end = s.Offset + s.Length
			}
			if want := int64(float64(size/Page)*share) * Page; Total(spans) != want {
				t.Fatalf("%s: %d bytes, want %d", name, Total(spans), want)
			}
			again := pick(size, share, seed)
			for i := range spans {
				if again[i] != spans[i] {
					t.Fatalf("%s: %+v, and then %+v", name, spans[i], again[i])
				}
			}
		}
	})
}

// shortest is the rest that is left for the last run, wherever it lies.
func shortest(spans []Span) int64 {
	n := spans[0].Length
	for _, s := range spans {
		n = min(n, s.Length)
	}
	return n
}
