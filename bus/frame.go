package bus

import (
	"encoding/binary"
	"fmt"

	"xmig/blocksync"
	"xmig/jobs"
)

// A frame on a lane is one byte of version, a msgpack array of nine values
// and the raw payload. The array has a fixed layout (numbers in their widest
// form), so that the head can be written right before the payload, is read
// without allocating, and has exactly one spelling:
//
//	version · 0x99 · epoch u64 · channel u8 · seq u64 · kind u8 · flags u8 · pass u32 · index i64 · length u32 · digest bin 32
const (
	frameVersion = 2
	frameHead    = 1 + 1 + 9 + 2 + 9 + 2 + 2 + 5 + 9 + 5 + 34
)

// maxFrame is the largest frame on the wire in bytes.
const maxFrame = frameHead + blocksync.MaxPayload

// head is what a lane adds to a frame: the attempt it belongs to, the place of
// its channel in LaneSpec.Channels, and its number in that channel, from 1.
type head struct {
	epoch   uint64
	channel uint8
	seq     uint64
}

// putHead writes the head of f into b, which has frameHead bytes.
func putHead(b []byte, h head, f *blocksync.Frame) {
	_ = b[frameHead-1]
	b[0], b[1] = frameVersion, 0x99
	b[2] = 0xcf
	binary.BigEndian.PutUint64(b[3:], h.epoch)
	b[11], b[12] = 0xcc, h.channel
	b[13] = 0xcf
	binary.BigEndian.PutUint64(b[14:], h.seq)
	b[22], b[23] = 0xcc, byte(f.Kind)
	b[24], b[25] = 0xcc, byte(f.Flags)
	b[26] = 0xce
	binary.BigEndian.PutUint32(b[27:], f.Pass)
	b[31] = 0xd3
	binary.BigEndian.PutUint64(b[32:], uint64(f.Index))
	b[40] = 0xce
	binary.BigEndian.PutUint32(b[41:], uint32(f.Length))
	b[45], b[46] = 0xc4, 32
	copy(b[47:], f.Digest[:])
}

// typeBytes are the positions and values that never differ in this version.
var typeBytes = [...]struct {
	at   int
	want byte
}{{1, 0x99}, {2, 0xcf}, {11, 0xcc}, {13, 0xcf}, {22, 0xcc}, {24, 0xcc}, {26, 0xce}, {31, 0xd3}, {40, 0xce}, {45, 0xc4}, {46, 32}}

// encodeFrame gives the message for f. If f.Slab is set, the head is written
// in front of the payload there and nothing is copied; otherwise buf is used,
// and grown if it must be.
func encodeFrame(h head, f *blocksync.Frame, buf []byte) ([]byte, error) {
	if len(f.Payload) > blocksync.MaxPayload {
		return nil, fmt.Errorf("frame with %d bytes of payload, more than %d", len(f.Payload), blocksync.MaxPayload)
	}
	if f.Length < 0 || int64(f.Length) > 1<<32-1 {
		return nil, fmt.Errorf("frame with length %d", f.Length)
	}
	if f.Slab != nil {
		if len(f.Slab) < blocksync.HeadRoom+len(f.Payload) ||
			len(f.Payload) > 0 && &f.Slab[blocksync.HeadRoom] != &f.Payload[0] {
			return nil, fmt.Errorf("frame whose payload does not lie at byte %d of its slab", blocksync.HeadRoom)
		}
		m := f.Slab[blocksync.HeadRoom-frameHead : blocksync.HeadRoom+len(f.Payload)]
		putHead(m, h, f)
		return m, nil
	}
	n := frameHead + len(f.Payload)
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	putHead(buf, h, f)
	copy(buf[frameHead:], f.Payload)
	return buf, nil
}

// decodeFrame reads what encodeFrame made; the payload is a part of data.
func decodeFrame(data []byte) (head, blocksync.Frame, error) {
	bad := func(why string) (head, blocksync.Frame, error) {
		return head{}, blocksync.Frame{}, jobs.Failed(jobs.CodeLane, "frame: %w: %s", errCodec, why)
	}
	if len(data) > 0 && data[0] != frameVersion {
		return bad(fmt.Sprintf("version %d, this xmig speaks %d: use the same version at both ends", data[0], frameVersion))
	}
	if len(data) < frameHead {
		return bad("shorter than its head")
	}
	if len(data) > maxFrame {
		return bad("larger than one chunk")
	}
	for _, t := range typeBytes {
		if data[t.at] != t.want {
			return bad("not the layout of its version")
		}
	}
	f := blocksync.Frame{
		Kind:   blocksync.Kind(data[23]),
		Flags:  blocksync.Flags(data[25]),
		Pass:   binary.BigEndian.Uint32(data[27:]),
		Index:  int64(binary.BigEndian.Uint64(data[32:])),
		Length: int(binary.BigEndian.Uint32(data[41:])),
		Digest: [32]byte(data[47:frameHead]),
	}
	if len(data) > frameHead {
		f.Payload = data[frameHead:len(data):len(data)]
	}
	return head{binary.BigEndian.Uint64(data[3:]), data[12], binary.BigEndian.Uint64(data[14:])}, f, nil
}
