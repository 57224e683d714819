package xlsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// slotSize is the room of a slot and the longest record.
const slotSize = 64 << 10

// recordMagic begins every record; recordHead is the length of what comes
// before the payload.
const (
	recordMagic = "XLSIMREC"
	recordHead  = 96
	recordSum   = 72 // offset of the checksum
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what a writer puts into a slot. Only Seed is written of the
// payload: it grows from it.
type record struct {
	UUID   [16]byte
	DevID  uint32
	Writer uint32
	Slot   uint32
	Length uint32 // of the whole record: 4 KiB to 64 KiB, a multiple of 4 KiB
	Seq    uint64
	Prev   uint64 // the sequence number it overwrites
	Seed   uint64
}

var (
	errNoRecord = errors.New("no record")
	errTorn     = errors.New("torn record")
)

// encode writes the record into buf and returns its checksum.
func (r record) encode(buf []byte) uint64 {
	buf = buf[:r.Length]
	clear(buf[:recordHead])
	copy(buf, recordMagic)
	copy(buf[8:], r.UUID[:])
	le := binary.LittleEndian
	le.PutUint32(buf[24:], r.DevID)
	le.PutUint32(buf[28:], r.Writer)
	le.PutUint32(buf[32:], r.Slot)
	le.PutUint32(buf[36:], r.Length)
	le.PutUint64(buf[40:], r.Seq)
	le.PutUint64(buf[48:], r.Prev)
	le.PutUint64(buf[56:], r.Seed)
	fillRandom(buf[recordHead:], r.Seed)
	sum := checksum(buf)
	le.PutUint64(buf[recordSum:], sum)
	return sum
}

// checksum covers the whole record but for its own place. The lower half is of
// the seed, so that two records that CRC-32C takes for one still differ.
func checksum(buf []byte) uint64 {
	crc := crc32.Checksum(buf[:recordSum], castagnoli)
	crc = crc32.Update(crc, castagnoli, buf[recordSum+8:])
	return uint64(crc)<<32 | uint64(uint32(binary.LittleEndian.Uint64(buf[56:])))
}

// decodeRecord reads what is at the beginning of a slot.
func decodeRecord(buf []byte) (record, uint64, error) {
	var r record
	if len(buf) < recordHead || string(buf[:8]) != recordMagic {
		return r, 0, errNoRecord
	}
	le := binary.LittleEndian
	copy(r.UUID[:], buf[8:])
	r.DevID = le.Uint32(buf[24:])
	r.Writer = le.Uint32(buf[28:])
	r.Slot = le.Uint32(buf[32:])
	r.Length = le.Uint32(buf[36:])
	r.Seq = le.Uint64(buf[40:])
	r.Prev = le.Uint64(buf[48:])
	r.Seed = le.Uint64(buf[56:])
	sum := le.Uint64(buf[recordSum:])
	if r.Length < recordHead || int(r.Length) > len(buf) || checksum(buf[:r.Length]) != sum {
		return r, sum, errTorn
	}
	return r, sum, nil
}

// SlotState is what a guest's RAM knows of one slot.
type SlotState struct {
	Ack, AckSum uint64 // the record that was acknowledged as durable; 0: none yet
	Fly, FlySum uint64 // the one being written, 0 when none is
}

// unknownSum marks a slot whose content the guest found damaged or strange when
// it booted: it says nothing until it is written again.
const unknownSum = ^uint64(0)

func (s SlotState) unknown() bool { return s.Ack == 0 && s.AckSum == unknownSum }

// slotOwner is whose record a slot must hold.
type slotOwner struct {
	uuid   [16]byte
	devID  uint32
	writer uint32
	slot   uint32
}

// bound says how a slot's content may relate to what is known of it.
type bound int

const (
	exactly bound = iota // this record and no other
	atLeast              // this one or a later one
)

// judge compares a slot's content with what is known of it. An empty answer
// means all is well; any other names what is proven.
func (o slotOwner) judge(buf []byte, want SlotState, how bound) string {
	if want.unknown() {
		return ""
	}
	r, sum, err := decodeRecord(buf)
	switch {
	case errors.Is(err, errNoRecord):
		if want.Ack == 0 {
			return ""
		}
		return fmt.Sprintf("lost: no record, sequence %d was acknowledged", want.Ack)
	case errors.Is(err, errTorn) && want.Fly != 0:
		return "" // a write that failed, and the guest knows it
	case errors.Is(err, errTorn):
		return fmt.Sprintf("torn: the checksum is wrong, sequence %d was acknowledged", want.Ack)
	case r.UUID != o.uuid || r.DevID != o.devID:
		return fmt.Sprintf("foreign: a record of guest %x, disk %d", r.UUID, r.DevID)
	case r.Slot != o.slot || r.Writer != o.writer:
		return fmt.Sprintf("repeated: the record of slot %d, writer %d", r.Slot, r.Writer)
	case r.Seq == want.Ack && sum == want.AckSum, want.Fly != 0 && r.Seq == want.Fly && sum == want.FlySum:
		return ""
	case r.Seq < want.Ack:
		return fmt.Sprintf("older: sequence %d, %d was acknowledged", r.Seq, want.Ack)
	case r.Seq == want.Ack:
		return fmt.Sprintf("repeated: sequence %d was written twice, with different content", r.Seq)
	case how == atLeast:
		return ""
	}
	return fmt.Sprintf("newer: sequence %d, the guest knows only of %d", r.Seq, want.Ack)
}
