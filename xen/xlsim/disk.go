package xlsim

import (
	"errors"
	"fmt"
	"os"
)

// Mix is what a made disk holds outside of the guests' slots: shares of zero,
// random and compressible text pieces, as weights. The zero Mix is an empty
// disk.
type Mix struct {
	Zero, Random, Text int
	Seed               uint64
}

// DefaultMix is much like a used system disk: half of it was never written.
func DefaultMix(seed uint64) Mix { return Mix{Zero: 50, Random: 25, Text: 25, Seed: seed} }

// diskPiece is the unit of the mix. It is not the chunk size of anything that
// reads disks, so that chunks hold several kinds.
const diskPiece = 192 << 10

// MakeDisk makes a disk image: sparse, the same for the same size and mix. What
// is there is replaced.
func MakeDisk(path string, size int64, m Mix) (err error) {
	if size < 0 || size%512 != 0 {
		return fmt.Errorf("disk %s: %d bytes are no whole number of sectors", path, size)
	}
	if m.Zero < 0 || m.Random < 0 || m.Text < 0 {
		return fmt.Errorf("disk %s: a negative share in %+v", path, m)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("disk %s: %w", path, err)
	}
	buf := make([]byte, diskPiece)
	place := geometryOf(size)
	slot := 0
	for at := int64(labelSize); at < size; {
		end := min(at+diskPiece, size)
		if slot < place.slots {
			begin := place.offset(slot)
			if at >= begin {
				at, slot = begin+slotSize, slot+1
				continue
			}
			end = min(end, begin)
		}
		if piece := m.piece(buf[:end-at], uint64(at)); piece != nil {
			if _, err := f.WriteAt(piece, at); err != nil {
				return fmt.Errorf("disk %s: %w", path, err)
			}
		}
		at = end
	}
	return f.Sync()
}

// piece fills buf with what lies at an offset; nil for zeros.
func (m Mix) piece(buf []byte, at uint64) []byte {
	total := uint64(m.Zero + m.Random + m.Text)
	if total == 0 {
		return nil
	}
	seed := mix(m.Seed ^ mix(at))
	switch draw := seed % total; {
	case draw < uint64(m.Zero):
		return nil
	case draw < uint64(m.Zero+m.Random):
		fillRandom(buf, seed)
	default:
		fillText(buf, at)
	}
	return buf
}
