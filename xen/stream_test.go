package xen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// made is a stream as Xen makes it: heads, rounds of pages, what comes with them.
type made struct{ bytes.Buffer }

func (m *made) words(order binary.ByteOrder, words ...any) *made {
	for _, w := range words {
		_ = binary.Write(m, order, w) // to memory
	}
	return m
}

func (m *made) record(kind uint32, body []byte) *made {
	m.words(binary.NativeEndian, kind, uint32(len(body)))
	m.Write(body)
	m.Write(make([]byte, (8-len(body)%8)%8))
	return m
}

func (m *made) pages(pfns ...uint64) *made {
	body := binary.NativeEndian.AppendUint32(nil, uint32(len(pfns)))
	body = binary.NativeEndian.AppendUint32(body, 0)
	for _, p := range pfns {
		body = binary.NativeEndian.AppendUint64(body, p|3<<60) // types of page tables are in the upper bits
	}
	for range pfns {
		body = append(body, bytes.Repeat([]byte{0}, 4096)...) // pages may look like an END
	}
	return m.record(1, body)
}

func begun() *made {
	m := &made{}
	config := "{}\x00"
	m.WriteString(imageMagic)
	m.words(binary.NativeEndian, uint32(imageByteOrder), uint32(imageJSON|imageStreamV2), uint32(0), uint32(4+len(config)), uint32(len(config)))
	m.WriteString(config)
	m.words(binary.BigEndian, uint64(libxlIdent), uint32(2), uint32(0))
	m.record(1, nil) // LIBXC_CONTEXT
	m.words(binary.BigEndian, ^uint64(0), uint32(libxcIdent), uint32(3), uint64(0))
	m.words(binary.NativeEndian, uint32(2), uint32(12), uint32(4), uint32(17))
	return m.record(0x11, make([]byte, 37)).record(0x12, make([]byte, 16)).record(0x10, nil)
}

// ended closes libxc's image and adds what libxl has behind it.
func (m *made) ended(emulator int) []byte {
	m.record(8, make([]byte, 24)).record(9, make([]byte, 2477)).record(0xa, make([]byte, 104)).record(0, nil)
	if emulator > 0 {
		m.record(2, make([]byte, emulator)).record(3, make([]byte, emulator*3))
	}
	return m.record(0, nil).Bytes()
}

// TestStreamEnd: a stream passes byte for byte, however it is read, and ends
// where it ends, not a byte later.
func TestStreamEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := begun()
		for range rapid.IntRange(0, 4).Draw(t, "records") {
			m.pages(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Uint64Range(0, 1<<20), 1, 3).Draw(t, "pages")))...)
		}
		want := m.ended(rapid.IntRange(0, 30).Draw(t, "emulator"))
		behind := []byte(Go + "and more")
		in := bytes.NewReader(append(slices.Clone(want), behind...))
		wrap := rapid.SampledFrom([]func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader,
		}).Draw(t, "reader")
		var got bytes.Buffer
		buf := make([]byte, rapid.IntRange(1, 9000).Draw(t, "buffer"))
		s := NewStream(wrap(in))
		for {
			n, err := s.Read(buf)
			got.Write(buf[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", got.Len(), len(want), err)
			}
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%d bytes came, %d were sent", got.Len(), len(want))
		}
		if rest, _ := io.ReadAll(in); !bytes.Equal(rest, behind) {
			t.Fatalf("behind the end %q is left, of %q", rest, behind)
		}
		if n, err := s.Read(buf); n != 0 || err != io.EOF {
			t.Fatalf("read on behind the end: %d, %v", n, err)
		}
	})
}

func TestStreamRounds(t *testing.T) {
	m := begun().pages(0, 1, 2).pages(3, 4)
	all, err := io.ReadAll(NewStream(bytes.NewReader(slices.Clone(m.Bytes()))))
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(all) != m.Len() {
		t.Errorf("a cut stream: %d of %d bytes, %v", len(all), m.Len(), err)
	}
	s := NewStream(bytes.NewReader(slices.Clone(m.Bytes())))
	_, _ = io.ReadAll(s)
	if s.Pages() != 5 || !s.Turn().IsZero() {
		t.Errorf("one round: %d pages, turn %s", s.Pages(), s.Turn())
	}
	s = NewStream(bytes.NewReader(m.pages(2, 7).ended(0)))
	if _, err := io.ReadAll(s); err != nil || s.Pages() != 7 || s.Turn().IsZero() {
		t.Errorf("two rounds: %d pages, turn %s, %v", s.Pages(), s.Turn(), err)
	}
}

// TestStreamCut: wherever it is cut, that is no end.
func TestStreamCut(t *testing.T) {
	whole := begun().pages(0, 1).ended(9)
	for n := range len(whole) {
		if _, err := io.Copy(io.Discard, NewStream(bytes.NewReader(whole[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	if n, err := io.Copy(io.Discard, NewStream(iotest.DataErrReader(bytes.NewReader(whole)))); err != nil || int(n) != len(whole) {
		t.Errorf("%d of %d bytes, the last with io.EOF: %v", n, len(whole), err)
	}
	broken := errors.New("the pipe broke")
	if _, err := io.Copy(io.Discard, NewStream(io.MultiReader(bytes.NewReader(whole[:500]), iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// TestStreamRefused: what is not understood to the byte is refused, for a wrong
// end would be found after the guest was suspended.
func TestStreamRefused(t *testing.T) {
	good := begun().pages(0).ended(0)
	head := imageHeadSize + 4 + 3
	for name, spoil := range map[string]func([]byte){
		"magic":                 func(b []byte) { b[0]++ },
		"version 1":             func(b []byte) { b[36] = imageJSON },
		"libxl's ident":         func(b []byte) { b[head]++ },
		"libxl's version":       func(b []byte) { b[head+11]++ },
		"the other byte order":  func(b []byte) { b[head+15] = 1 },
		"a context with a body": func(b []byte) { b[head+16+4] = 8 },
		"libxc's marker":        func(b []byte) { b[head+16+8]-- },
		"libxc's ident":         func(b []byte) { b[head+16+8+8]++ },
		"libxc's byte order":    func(b []byte) { b[head+16+8+17] = 1 },
	} {
		b := slices.Clone(good)
		spoil(b)
		if _, err := io.Copy(io.Discard, NewStream(bytes.NewReader(b))); !errors.Is(err, ErrNotImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	end := begun().record(0, []byte("body")).Bytes()
	if _, err := io.Copy(io.Discard, NewStream(bytes.NewReader(end))); !errors.Is(err, ErrNotImage) {
		t.Errorf("an END with a body: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(begun().pages(0, 5).pages(3).ended(20))
	f.Add(begun().ended(0)[:200])
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		got, err := io.ReadAll(NewStream(r))
		if used := len(in) - r.Len(); !bytes.Equal(got, in[:min(len(got), len(in))]) || len(got) > used {
			t.Fatalf("%d bytes out of %d used: not what came in", len(got), used)
		} else if err == nil && len(got) != used {
			t.Fatalf("%d bytes read, %d given out", used, len(got))
		}
	})
}
