package blocksync

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// lines is what a log looks like.
func lines(n int) []byte {
	b := make([]byte, 0, n+64)
	for i := uint32(0); len(b) < n; i++ {
		b = append(b, "kernel: [0x"...)
		for _, c := range binary.BigEndian.AppendUint32(nil, i*2654435761) {
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
		b = append(b, "] device entered forwarding state\n"...)
	}
	return b[:n]
}

func TestPromising(t *testing.T) {
	noise := randomBytes(3, mib)
	with := func(at int, part []byte) []byte {
		b := bytes.Clone(noise)
		copy(b[at:], part)
		return b
	}
	tests := []struct {
		name string
		src  []byte
		want bool
	}{
		{"random", noise, false},
		{"random, a short rest", noise[:5*coarseBlock+100], false},
		{"random, one page", noise[:finePage], false},
		{"text", lines(mib), true},
		{"text, one page", lines(finePage), true},
		{"base64", []byte(base64.StdEncoding.EncodeToString(noise[:mib/2])), true},
		{"first block is text", with(0, lines(coarseBlock)), true},
		{"block in the middle is text", with(7*coarseBlock, lines(coarseBlock)), true},
		{"last block is text", with(15*coarseBlock, lines(coarseBlock)), true},
	}
	for _, tt := range tests {
		if got := promising(tt.src); got != tt.want {
			t.Errorf("%s: promising = %v", tt.name, got)
		}
	}
}

// What no byte stands out in is not tried, wherever it comes from.
func TestRandomIsNeverPromising(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(sampleBytes, mib).Draw(t, "bytes")
		if promising(randomBytes(rapid.Uint64().Draw(t, "seed"), n)) {
			t.Fatalf("%d random bytes are promising", n)
		}
	})
}

// A block of text among random ones shrinks, and all of it comes back.
func TestMixedContentShrinks(t *testing.T) {
	src := randomBytes(4, mib)
	copy(src[9*coarseBlock:], lines(coarseBlock))
	s, err := newSqueezer(CompressOn, &pace{crew: 1, limit: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	out, ok := s.pack(nil, src)
	if !ok || len(out) > len(src)-coarseBlock/2 {
		t.Fatalf("packed: %v, %d of %d bytes", ok, len(out), len(src))
	}
	inf, err := newInflater()
	if err != nil {
		t.Fatal(err)
	}
	defer inf.close()
	back, err := inf.into(make([]byte, 0, mib), out)
	if err != nil || !bytes.Equal(back, src) {
		t.Fatalf("unpacked: %d bytes, %v", len(back), err)
	}
}

// A frame is appended to what is there, whatever room there is, and what the
// compressor of this build makes the decoder of every build reads.
func TestCompressorAppends(t *testing.T) {
	c, err := newCompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	inf, err := newInflater()
	if err != nil {
		t.Fatal(err)
	}
	defer inf.close()
	room := make([]byte, 0, mib)
	rapid.Check(t, func(t *rapid.T) {
		src := mixedBytes(t)
		head := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "in front")
		dst := append(make([]byte, 0, len(head)+rapid.IntRange(0, 2*len(src)+64).Draw(t, "room")), head...)
		out, err := c.append(dst, src)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(out, head) {
			t.Fatal("what was in front is gone")
		}
		back, err := inf.into(room, out[len(head):])
		if err != nil || !bytes.Equal(back, src) {
			t.Fatalf("%d bytes became %d and came back as %d: %v", len(src), len(out)-len(head), len(back), err)
		}
	})
}

// mixedBytes draws content of up to 256 KiB in which lines, random bytes and
// zeroes take turns.
func mixedBytes(t *rapid.T) []byte {
	var b []byte
	for range rapid.IntRange(0, 8).Draw(t, "parts") {
		n := rapid.IntRange(0, 32<<10).Draw(t, "bytes")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			b = append(b, lines(n)...)
		case 1:
			b = append(b, randomBytes(rapid.Uint64().Draw(t, "seed"), n)...)
		default:
			b = append(b, make([]byte, n)...)
		}
	}
	return b
}

// A slab has room for a chunk that does not shrink at all: a frame that is
// written elsewhere would have to be copied to where it travels from.
func TestSlabHoldsAnyFrame(t *testing.T) {
	s, err := newSqueezer(CompressOn, &pace{crew: 1, limit: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for chunk := MinChunkSize; chunk <= MaxPayload; chunk *= 2 {
		into := newSlab(chunk)
		out, err := s.zstd.append(into.empty(), randomBytes(5, chunk))
		if err != nil {
			t.Fatal(err)
		}
		if len(out) < chunk || &out[0] != &into.bytes(1)[0] {
			t.Errorf("a chunk of %d bytes made %d, outside of its slab", chunk, len(out))
		}
	}
}
