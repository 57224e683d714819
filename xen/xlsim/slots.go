package xlsim

import (
	"encoding/binary"
	"hash/crc32"
)

// Slots lie scattered over a disk. Where they are depends on its size alone,
// so that MakeDisk, a guest and a verifier agree without asking each other.
const (
	slotEvery = 256 << 10 // one slot for so many bytes
	maxSlots  = 2048      // a cold boot reads all of them
	slotBase  = 64 << 10  // the first bytes are the label's, and free
)

// geometry is the place of a disk's slots.
type geometry struct {
	size  int64
	slots int
}

func geometryOf(size int64) geometry {
	n := (size - slotBase) / slotEvery
	return geometry{size: size, slots: int(max(0, min(n, maxSlots)))}
}

// offset is where slot i begins: a multiple of 4 KiB at a place of its own
// within the slot's share of the disk.
func (g geometry) offset(i int) int64 {
	share := (g.size - slotBase) / int64(g.slots) &^ 4095
	places := uint64(share-slotSize)/4096 + 1
	return slotBase + int64(i)*share + int64(mix(uint64(i)^0x510d)%places)*4096
}

// The label is the first 4 KiB of a disk a guest has used: whose it is and the
// size that counts for the slots, should the disk have become larger.
const (
	labelMagic = "XLSIMLBL"
	labelSize  = 4096
)

func encodeLabel(buf []byte, uuid [16]byte, devID uint32, size int64) {
	clear(buf[:labelSize])
	copy(buf, labelMagic)
	copy(buf[8:], uuid[:])
	binary.LittleEndian.PutUint32(buf[24:], devID)
	binary.LittleEndian.PutUint64(buf[32:], uint64(size))
	binary.LittleEndian.PutUint32(buf[40:], crc32.Checksum(buf[:40], castagnoli))
}

// decodeLabel is the size in the label, 0 where there is none of this guest's disk.
func decodeLabel(buf []byte, uuid [16]byte, devID uint32) int64 {
	ok := string(buf[:8]) == labelMagic && [16]byte(buf[8:24]) == uuid &&
		binary.LittleEndian.Uint32(buf[24:]) == devID &&
		binary.LittleEndian.Uint32(buf[40:]) == crc32.Checksum(buf[:40], castagnoli)
	if !ok {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(buf[32:]))
}
