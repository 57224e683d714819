package blocksync

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/blake3"
)

// A chunk is compared in three levels. Its mark is made of the marks of its
// blocks, so that nothing but a block that changed has to be read, marked or
// checked again; a page is what guests write.
const (
	coarseBlock = 64 << 10
	finePage    = 4 << 10

	maxBlocks    = MaxPayload / coarseBlock
	pagesInBlock = coarseBlock / finePage
)

// digest is a BLAKE3-256: of frames, of roots, and of content in a full check.
type digest = [32]byte

func sum(b []byte) digest { return blake3.Sum256(b) }

// mark stands for content in the comparison of one pass: a universal hash
// (GHASH, as AES-GCM uses it) under a secret that is fresh for the pass, more than
// twice as fast as BLAKE3. Two different blocks chosen without knowledge of the
// secret have the same mark with a chance of at most 2^-115, whatever they are. The zero
// mark stands for zeroes and is not computed.
//
// Marks are no cryptographic digests: who sees many of them may find the
// secret. They never leave the two ends of a pass and the encrypted lane between
// them, and guests see neither them nor what they cause.
type mark = [markSize]byte

const (
	markSize = 16

	// pageMarkSize: a page's mark only chooses what travels. The mark of its
	// chunk is checked before anything is written, so one wrong choice in 2^55
	// costs a resend of one chunk and never wrong data.
	pageMarkSize = 8
)

// marker computes marks. It belongs to one goroutine.
type marker struct {
	content cipher.AEAD // of blocks and pages
	tree    cipher.AEAD // of a chunk, over the marks of its blocks
	out     [markSize]byte
}

// constant is the nonce of every mark: equal content shall have equal marks.
var constant = make([]byte, 12)

// newMarker derives two independent keys: that the marks of blocks depend
// on the one key must not matter to the chance that they collide under the other.
func newMarker(secret [32]byte) (*marker, error) {
	var m marker
	for i, g := range []*cipher.AEAD{&m.content, &m.tree} {
		key := make([]byte, 32)
		blake3.DeriveKey(fmt.Sprintf("xmig blocksync marks, level %d", i), secret[:], key)
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key for marks: %w", err)
		}
		if *g, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("key for marks: %w", err)
		}
	}
	return &m, nil
}

// of is the mark of one block or page.
func (m *marker) of(b []byte) mark {
	if isZero(b) {
		return mark{}
	}
	m.content.Seal(m.out[:0], constant, nil, b)
	return m.out
}

// blocks puts the marks of the blocks of b into marks, for the blocks of the set.
func (m *marker) blocks(marks, b []byte, which blockSet) {
	for i := range countBlocks(len(b), coarseBlock) {
		if which.has(i) {
			k := m.of(blockOf(b, i))
			copy(marks[i*markSize:], k[:])
		}
	}
}

// chunk is the mark of a chunk whose blocks have these marks.
func (m *marker) chunk(marks []byte) mark {
	if isZero(marks) {
		return mark{}
	}
	m.tree.Seal(m.out[:0], constant, nil, marks)
	return m.out
}

// appendPages appends the page marks of a block to dst.
func (m *marker) appendPages(dst, block []byte) []byte {
	for len(block) > 0 {
		n := min(finePage, len(block))
		k := m.of(block[:n])
		dst = append(dst, k[:pageMarkSize]...)
		block = block[n:]
	}
	return dst
}

// blockOf is the i-th block of a chunk; the last one may be short.
func blockOf(chunk []byte, i int) []byte {
	return chunk[i*coarseBlock : min(len(chunk), (i+1)*coarseBlock)]
}

// blockSet is a set of the blocks of one chunk.
type blockSet uint16

// allBlocks is the set of n blocks.
func allBlocks(n int) blockSet { return blockSet(1<<n - 1) }

func (s blockSet) has(i int) bool { return s&(1<<i) != 0 }

// pages is how many pages the blocks of the set have in a chunk of n bytes.
func (s blockSet) pages(n int) int {
	k := bits.OnesCount16(uint16(s)) * pagesInBlock
	if last := countBlocks(n, coarseBlock) - 1; s.has(last) {
		k -= pagesInBlock - countBlocks(n-last*coarseBlock, finePage)
	}
	return k
}

// differing is the set of blocks whose marks differ.
func differing(a, b []byte) blockSet {
	var s blockSet
	for i := range len(a) / markSize {
		if !bytes.Equal(a[i*markSize:(i+1)*markSize], b[i*markSize:(i+1)*markSize]) {
			s |= 1 << i
		}
	}
	return s
}

// inner is the set of those of n blocks whose neighbours are in the set too;
// beyond the ends of the chunk all are.
func (s blockSet) inner(n int) blockSet {
	return s & (s<<1 | 1) & (s>>1 | 1<<(n-1))
}

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

// contentOf widens a mark to what a seal covers.
func contentOf(m mark) (d digest) {
	copy(d[:], m[:])
	return d
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
