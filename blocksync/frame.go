package blocksync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Kinds of frames. The values are on the wire: never reuse one.
const (
	kindBegin    Kind = 1  // source: the pass; body is a begin
	kindMarks    Kind = 2  // destination: marks of chunks from position Index on; presumed for one that was not read
	kindZero     Kind = 3  // source: the chunk is zero
	kindWhole    Kind = 4  // source: the chunk
	kindCoarse   Kind = 5  // source: marks of the chunk's blocks
	kindFine     Kind = 6  // destination: what differs; body is a fineBody
	kindPages    Kind = 7  // source: bitmap of pages, then the pages; sealed over the whole chunk
	kindRefuse   Kind = 8  // destination: the chunk did not fit its digest, send it whole
	kindWritten  Kind = 9  // destination: 8 bytes, what is written and flushed
	kindEnd      Kind = 10 // source: everything is sent; root
	kindDone     Kind = 11 // destination: everything is written and flushed; root
	kindVerified Kind = 12 // both: root of all content, read again
	kindAbort    Kind = 13 // both: the reason, as text; Index abortCorrupt for a *CorruptError, else 0
	kindKnown    Kind = 14 // destination: filter of what else it has, before any marks
	kindSame     Kind = 15 // source: the digest of the chunk, which the filter knows; sealed over the chunk
	kindTaken    Kind = 16 // destination: one byte, 1: it had that content and wrote it; 0: send it

	kindStreamBegin Kind = 32 // sender: Index is a random number that tells streams apart
	kindStreamData  Kind = 33 // sender: the next bytes; the digest is over all bytes so far
	kindStreamEnd   Kind = 34 // sender: 8 bytes length; the digest is over all bytes
	kindStreamDone  Kind = 35 // receiver: all of it is written
)

// Flags of kindWhole, kindPages, kindStreamData and, the last, kindCoarse.
const (
	flagZstd  Flags = 1 << iota // the payload is one zstd frame
	flagZero                    // no payload: Length zero bytes (streams only)
	flagBlank                   // the pages lie on zeroes: the destination's chunk is zero, or presumed to be (kindPages only)
	flagEager                   // whole blocks changed lately: those between others that differ need no page marks (kindCoarse only)
)

const (
	beginVersion = 4
	beginFixed   = 1 + 1 + 1 + 1 + 8 + 4 + 4 + 32 + 32 + 4 // bytes before the runs
	maxAbortText = 1 << 10
	abortCorrupt = 1 // Index of a kindAbort
)

var errBody = errors.New("malformed frame body")

// begin is the body of kindBegin.
type begin struct {
	final  bool
	verify Verify
	sector int
	secret [32]byte
	since  digest // Pass.Since
	plan   *plan
}

// beginSize is the length of the body with these runs.
func beginSize(runs []run) int {
	n, next := beginFixed, int64(0)
	for _, r := range runs {
		n += uvarintLen(uint64(r.first-next)) + uvarintLen(uint64(r.count))
		next = r.first + r.count
	}
	return n
}

func uvarintLen(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

func (b *begin) encode() []byte {
	le := binary.LittleEndian
	out := make([]byte, 0, beginSize(b.plan.runs))
	final := byte(0)
	if b.final {
		final = 1
	}
	out = append(out, beginVersion, final, byte(b.verify), 0)
	out = le.AppendUint64(out, uint64(b.plan.size))
	out = le.AppendUint32(out, uint32(b.plan.chunk))
	out = le.AppendUint32(out, uint32(b.sector))
	out = append(out, b.secret[:]...)
	out = append(out, b.since[:]...)
	out = le.AppendUint32(out, uint32(len(b.plan.runs)))
	next := int64(0)
	for _, r := range b.plan.runs {
		out = binary.AppendUvarint(out, uint64(r.first-next))
		out = binary.AppendUvarint(out, uint64(r.count))
		next = r.first + r.count
	}
	return out
}

// decodeBegin accepts only what encode writes: every plan has one encoding.
func decodeBegin(b []byte) (*begin, error) {
	le := binary.LittleEndian
	if len(b) < beginFixed {
		return nil, fmt.Errorf("%w: begin of %d bytes", errBody, len(b))
	}
	if b[0] != beginVersion {
		return nil, fmt.Errorf("begin frame has version %d, this xmig speaks %d: use the same version at both ends", b[0], beginVersion)
	}
	if b[1] > 1 || b[2] > byte(VerifyNone) || b[3] != 0 {
		return nil, fmt.Errorf("%w: begin flags % x", errBody, b[1:4])
	}
	out := &begin{final: b[1] == 1, verify: Verify(b[2])}
	size, chunk := le.Uint64(b[4:]), le.Uint32(b[12:])
	if size > 1<<62 || Settings.Validate(Settings{ChunkSize: int(chunk)}) != nil || chunk == 0 {
		return nil, fmt.Errorf("%w: disk of %d bytes in chunks of %d", errBody, size, chunk)
	}
	out.sector = int(le.Uint32(b[16:]))
	copy(out.secret[:], b[20:52])
	copy(out.since[:], b[52:84])
	count := le.Uint32(b[84:])
	runs, err := decodeRuns(b[beginFixed:], count)
	if err != nil {
		return nil, err
	}
	out.plan = &plan{size: int64(size), chunk: int(chunk), runs: runs}
	if err := out.plan.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	out.plan.number()
	return out, nil
}

func decodeRuns(rest []byte, count uint32) ([]run, error) {
	if int64(count)*2 > int64(len(rest)) {
		return nil, fmt.Errorf("%w: %d runs in %d bytes", errBody, count, len(rest))
	}
	runs := make([]run, 0, count)
	next := uint64(0)
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 || n != uvarintLen(v) || v > 1<<46 {
			rest = nil // reported below: the remaining numbers are missing then
			return 0
		}
		rest = rest[n:]
		return v
	}
	for range count {
		gap := number()
		n := number()
		if n == 0 || next > 1<<46 {
			return nil, fmt.Errorf("%w: bad run", errBody)
		}
		runs = append(runs, run{first: int64(next + gap), count: int64(n)})
		next += gap + n
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the runs", errBody, len(rest))
	}
	return runs, nil
}

// bitmap is a row of bits, the first in the lowest bit of the first byte.
type bitmap []byte

func bitmapLen(n int) int         { return (n + 7) / 8 }
func (b bitmap) set(i int)        { b[i/8] |= 1 << (i % 8) }
func (b bitmap) has(i int) bool   { return b[i/8]&(1<<(i%8)) != 0 }
func (b bitmap) valid(n int) bool { return n%8 == 0 || b[len(b)-1]>>(n%8) == 0 }

// blocks are the blocks with a bit set among the pages of a chunk of n bytes,
// and those with all of them set.
func (b bitmap) blocks(n int) (touched, full blockSet) {
	pages := countBlocks(n, finePage)
	for i := range countBlocks(n, coarseBlock) {
		some, all := false, true
		for p := i * pagesInBlock; p < min(pages, (i+1)*pagesInBlock); p++ {
			some, all = some || b.has(p), all && b.has(p)
		}
		if some {
			touched |= 1 << i
		}
		if all {
			full |= 1 << i
		}
	}
	return touched, full
}

func (b bitmap) count() int {
	n := 0
	for _, v := range b {
		n += bits.OnesCount8(v)
	}
	return n
}

// splitBitmap cuts the bitmap of n bits from the front of a body.
func splitBitmap(body []byte, n int) (bitmap, []byte, error) {
	k := bitmapLen(n)
	if len(body) < k || !bitmap(body[:k]).valid(n) {
		return nil, nil, fmt.Errorf("%w: bitmap of %d bits in %d bytes", errBody, n, len(body))
	}
	return body[:k], body[k:], nil
}

// fineBody is the body of kindFine for a chunk of a known length.
type fineBody struct {
	differ blockSet
	entire blockSet // of those: send all pages
	marks  []byte   // of the pages of the others, in order
}

const fineHead = 4

func appendFine(dst []byte, differ, entire blockSet) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(differ))
	return binary.LittleEndian.AppendUint16(dst, uint16(entire))
}

func decodeFine(body []byte, chunk int) (fineBody, error) {
	if len(body) < fineHead {
		return fineBody{}, fmt.Errorf("%w: answer of %d bytes", errBody, len(body))
	}
	f := fineBody{
		differ: blockSet(binary.LittleEndian.Uint16(body)),
		entire: blockSet(binary.LittleEndian.Uint16(body[2:])),
		marks:  body[fineHead:],
	}
	if f.differ&^allBlocks(countBlocks(chunk, coarseBlock)) != 0 || f.entire&^f.differ != 0 {
		return fineBody{}, fmt.Errorf("%w: blocks %04x, entire %04x", errBody, f.differ, f.entire)
	}
	if want := (f.differ &^ f.entire).pages(chunk) * pageMarkSize; len(f.marks) != want {
		return fineBody{}, fmt.Errorf("%w: %d bytes of page marks, want %d", errBody, len(f.marks), want)
	}
	return f, nil
}

// decodePages splits the body of kindPages for a chunk of a known length.
func decodePages(body []byte, chunk int) (pages bitmap, content []byte, err error) {
	n := countBlocks(chunk, finePage)
	pages, content, err = splitBitmap(body, n)
	if err != nil {
		return nil, nil, err
	}
	want := pages.count() * finePage
	if pages.has(n - 1) {
		want -= n*finePage - chunk // the last page of the disk may be short
	}
	if len(content) != want {
		return nil, nil, fmt.Errorf("%w: %d bytes of pages, want %d", errBody, len(content), want)
	}
	return pages, content, nil
}

// encodeCount and decodeCount are the bodies that hold one number of bytes.
func encodeCount(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

func decodeCount(b []byte) (int64, error) {
	if len(b) != 8 || b[7] >= 0x80 {
		return 0, fmt.Errorf("%w: count in %d bytes", errBody, len(b))
	}
	return int64(binary.LittleEndian.Uint64(b)), nil
}
