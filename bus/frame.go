package bus

import (
	"encoding/binary"
	"fmt"

	"xmig/blocksync"
	"xmig/jobs"
)

// A frame on a lane is one byte of version, a msgpack array of eight values
// and the raw payload. The array has a fixed layout (numbers in their widest
// form), so that the head can be written right before the payload, is read
// without allocating, and has exactly one spelling:
//
//	version · 0x98 · epoch u64 · seq u64 · kind u8 · flags u8 · pass u32 · index i64 · length u32 · digest bin 32
const (
	frameVersion = 1
	frameHead    = 1 + 1 + 9 + 9 + 2 + 2 + 5 + 9 + 5 + 34
)

// maxFrame is the largest frame on the wire in bytes.
const maxFrame = frameHead + blocksync.MaxPayload

// head is what a lane adds to a frame: the attempt it belongs to, and its
// number in its channel, from 1.
type head struct{ epoch, seq uint64 }

// putHead writes the head of f into b, which has frameHead bytes.
func putHead(b []byte, h head, f *blocksync.Frame) {
	_ = b[frameHead-1]
	b[0], b[1] = frameVersion, 0x98
	b[2] = 0xcf
	binary.BigEndian.PutUint64(b[3:], h.epoch)
	b[11] = 0xcf
	binary.BigEndian.PutUint64(b[12:], h.seq)
	b[20], b[21] = 0xcc, byte(f.Kind)
	b[22], b[23] = 0xcc, byte(f.Flags)
	b[24] = 0xce
	binary.BigEndian.PutUint32(b[25:], f.Pass)
	b[29] = 0xd3
	binary.BigEndian.PutUint64(b[30:], uint64(f.Index))
	b[38] = 0xce
	binary.BigEndian.PutUint32(b[39:], uint32(f.Length))
	b[43], b[44] = 0xc4, 32
	copy(b[45:], f.Digest[:])
}

// typeBytes are the positions and values that never differ.
var typeBytes = [...]struct {
	at   int
	want byte
}{{0, frameVersion}, {1, 0x98}, {2, 0xcf}, {11, 0xcf}, {20, 0xcc}, {22, 0xcc}, {24, 0xce}, {29, 0xd3}, {38, 0xce}, {43, 0xc4}, {44, 32}}

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
	if len(data) < frameHead {
		return bad("shorter than its head")
	}
	if len(data) > maxFrame {
		return bad("larger than one chunk")
	}
	for _, t := range typeBytes {
		if data[t.at] != t.want {
			return bad("not the layout of version 1")
		}
	}
	f := blocksync.Frame{
		Kind:   blocksync.Kind(data[21]),
		Flags:  blocksync.Flags(data[23]),
		Pass:   binary.BigEndian.Uint32(data[25:]),
		Index:  int64(binary.BigEndian.Uint64(data[30:])),
		Length: int(binary.BigEndian.Uint32(data[39:])),
		Digest: [32]byte(data[45:frameHead]),
	}
	if len(data) > frameHead {
		f.Payload = data[frameHead:len(data):len(data)]
	}
	return head{binary.BigEndian.Uint64(data[3:]), binary.BigEndian.Uint64(data[12:])}, f, nil
}
