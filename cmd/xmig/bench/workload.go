package bench

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// Page is the smallest piece that has one kind of content, or changes.
	Page = 4096
	// Extents of one kind are between these, as files on a disk are: most are
	// small, most bytes are in large ones.
	minExtent, maxExtent = 64 << 10, 8 << 20
)

// Image is the content of a disk. Two of the same values are equal byte for byte.
type Image struct {
	Size   int64   // bytes, a multiple of Page
	Seed   uint64  //
	Zero   float64 // share that is zero
	Random float64 // share that nothing can compress; the rest is text that zstd halves or better
}

// Usual is the mix of a guest's system disk: 35 % zero, 35 % random, 30 % text.
func Usual(size int64, seed uint64) Image {
	return Image{Size: size, Seed: seed, Zero: 0.35, Random: 0.35}
}

// content is what an extent is made of.
type content int

const (
	zero content = iota
	random
	text
	kinds
)

// Span is a part of a disk in bytes.
type Span struct{ Offset, Length int64 }

type extent struct {
	Span
	kind content
	seed uint64
}

// extents lays the image out. Shares are exact but for one page each.
func (m Image) extents() []extent {
	rng := rand.New(rand.NewPCG(m.Seed, 0xe7e))
	var left [kinds]int64
	left[zero] = int64(m.Zero*float64(m.Size)) / Page * Page
	left[random] = int64(m.Random*float64(m.Size)) / Page * Page
	left[text] = m.Size - left[zero] - left[random]
	var all []extent
	for at := int64(0); at < m.Size; {
		kind, pick := zero, rng.Int64N(m.Size-at)
		for pick >= left[kind] {
			pick -= left[kind]
			kind++
		}
		// Logarithms make small extents as frequent as large ones.
		n := int64(minExtent*math.Pow(maxExtent/minExtent, rng.Float64())) / Page * Page
		n = min(n, left[kind])
		all = append(all, extent{Span{at, n}, kind, rng.Uint64()})
		left[kind] -= n
		at += n
	}
	return all
}

// Check reports why the image cannot be made.
func (m Image) Check() error {
	switch {
	case m.Size <= 0 || m.Size%Page != 0:
		return fmt.Errorf("image of %d bytes: want a multiple of %d", m.Size, Page)
	case m.Zero < 0 || m.Random < 0 || m.Zero+m.Random > 1:
		return fmt.Errorf("image with shares %g zero and %g random: want both above 0 and 1 together at most", m.Zero, m.Random)
	}
	return nil
}

// Write writes the image. Zeroes are written too: a block device has no holes.
func (m Image) Write(w io.WriterAt) error {
	if err := m.Check(); err != nil {
		return err
	}
	buf := make([]byte, maxExtent)
	for _, e := range m.extents() {
		b := buf[:e.Length]
		fill(b, e.kind, e.seed)
		if _, err := w.WriteAt(b, e.Offset); err != nil {
			return err
		}
	}
	return nil
}

func fill(b []byte, kind content, seed uint64) {
	switch kind {
	case zero:
		clear(b)
	case random:
		fillRandom(b, seed)
	default:
		fillText(b, seed)
	}
}

func fillRandom(b []byte, seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
}

// vocabulary is what text is made of, the same in every image.
var vocabulary = func() [][]byte {
	rng := rand.New(rand.NewPCG(7, 7))
	words := make([][]byte, 4096)
	for i := range words {
		w := make([]byte, 3+rng.IntN(9))
		for k := range w {
			w[k] = 'a' + byte(rng.IntN(26))
		}
		words[i] = append(w, ' ')
	}
	return words
}()

// fillText writes words, frequent ones more often, with numbers between them
// as logs have them.
func fillText(b []byte, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0x7e87))
	for len(b) > 0 {
		r := rng.Uint64()
		if r>>60 == 0 {
			var digits [16]byte
			for i := range digits {
				digits[i] = "0123456789abcdef"[r>>(4*(i%15))&15]
			}
			b = b[copy(b, digits[:]):]
			continue
		}
		// The product of evenly drawn numbers leans to the small ones.
		i := (r & 0xfff) * (r >> 12 & 0xfff) * (r >> 24 & 0xfff) * (r >> 36 & 0xfff) >> 36
		b = b[copy(b, vocabulary[i]):]
	}
}

// Scattered picks a share of a disk's pages, in order.
func Scattered(size int64, share float64, seed uint64) []Span {
	rng := rand.New(rand.NewPCG(seed, 0x5ca7))
	pages := size / Page
	picked := map[int64]bool{}
	for want := int64(float64(pages) * share); int64(len(picked)) < want; {
		picked[rng.Int64N(pages)] = true
	}
	spans := make([]Span, 0, len(picked))
	for p := range picked {
		spans = append(spans, Span{p * Page, Page})
	}
	slices.SortFunc(spans, func(a, b Span) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	return spans
}

// Clustered picks a share of a disk in runs of 1 to 4 MiB that do not touch;
// on a disk too small for that, in shorter ones.
func Clustered(size int64, share float64, seed uint64) []Span {
	rng := rand.New(rand.NewPCG(seed, 0xc105))
	pages := size / Page
	left := int64(float64(pages) * share)
	used := map[int64]bool{}
	var spans []Span
	for left > 0 {
		run := min(left, (1<<20+rng.Int64N(3<<20))/Page)
		at := rng.Int64N(pages - run + 1)
		free := true
		for p := max(0, at-1); p <= at+run; p++ {
			free = free && !used[p]
		}
		if !free {
			continue // two per cent are taken at most a few times
		}
		for p := at; p < at+run; p++ {
			used[p] = true
		}
		spans = append(spans, Span{at * Page, run * Page})
		left -= run
	}
	slices.SortFunc(spans, func(a, b Span) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	return spans
}

// Total is the length of all spans.
func Total(spans []Span) (n int64) {
	for _, s := range spans {
		n += s.Length
	}
	return n
}
