package blocksync

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
)

// coarseBlock and finePage are the two levels of sub-digests inside a chunk:
// a page is what guests write; a block of 16 pages keeps the first list at
// 256 bytes per MiB, where a flat list of pages would cost 4 KiB.
const (
	coarseBlock = 64 << 10
	finePage    = 4 << 10
)

// subSize is the length of a sub-digest in bytes. Sub-digests only choose what
// travels; the chunk's full digest is checked before anything is written, so a
// collision costs a resend of one chunk and never wrong data. 16 bytes under a
// secret that the guest cannot know make even that one chance in 2^128 per pair.
const subSize = 16

type digest = [32]byte

func sum(b []byte) digest { return blake3.Sum256(b) }

var zeroPage [finePage]byte

// isZero reports whether b is all zero; it looks at one page at a time and
// stops at the first that is not.
func isZero(b []byte) bool {
	for len(b) > finePage {
		if !bytes.Equal(b[:finePage], zeroPage[:]) {
			return false
		}
		b = b[finePage:]
	}
	return bytes.Equal(b, zeroPage[:len(b)])
}

// zeroes knows the digests of the two lengths a chunk of a disk can have.
type zeroes struct {
	full, tail       digest
	chunk, tailBytes int
}

func newZeroes(chunk int, size int64) zeroes {
	z := zeroes{chunk: chunk, tailBytes: int(size % int64(chunk))}
	buf := make([]byte, chunk)
	z.full, z.tail = sum(buf), sum(buf[:z.tailBytes])
	return z
}

// of returns the digest of n zero bytes; n is the length of a chunk of the disk.
func (z *zeroes) of(n int) digest {
	if n == z.chunk {
		return z.full
	}
	return z.tail
}

// subHasher computes keyed sub-digests. It belongs to one goroutine.
type subHasher struct {
	h   *blake3.Hasher
	buf [32]byte
}

func newSubHasher(secret [32]byte) (*subHasher, error) {
	h, err := blake3.NewKeyed(secret[:])
	if err != nil {
		return nil, fmt.Errorf("key for sub-digests: %w", err)
	}
	return &subHasher{h: h}, nil
}

// append appends the sub-digests of the blocks of b to dst.
func (s *subHasher) append(dst, b []byte, block int) []byte {
	for len(b) > 0 {
		n := min(block, len(b))
		s.h.Reset()
		_, _ = s.h.Write(b[:n]) // a hash never fails
		dst = append(dst, s.h.Sum(s.buf[:0])[:subSize]...)
		b = b[n:]
	}
	return dst
}

// seal binds content to the head of the frame that carries it: content under
// another index, length, kind or pass does not fit, so a flipped bit in a head
// is found as surely as one in a payload.
func seal(f *Frame, content digest) digest {
	var b [22 + 32]byte
	b[0], b[1] = byte(f.Kind), byte(f.Flags)
	binary.LittleEndian.PutUint32(b[2:], f.Pass)
	binary.LittleEndian.PutUint64(b[6:], uint64(f.Index))
	binary.LittleEndian.PutUint64(b[14:], uint64(f.Length))
	copy(b[22:], content[:])
	return sum(b[:])
}

// countBlocks is the number of blocks in n bytes, the last one perhaps short.
func countBlocks(n, block int) int { return (n + block - 1) / block }
