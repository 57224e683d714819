package blocksync

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// DefaultChunkSize is one full frame: the largest chunk has the fewest
	// digests (32 KiB per GiB) and hashes fastest.
	DefaultChunkSize = MaxPayload

	// MinChunkSize is one block of the coarse sub-digests: nothing smaller can be narrowed.
	MinChunkSize = coarseBlock

	// DefaultReaders keeps four reads in flight at each end: enough for one
	// disk to be busy while another chunk is being hashed.
	DefaultReaders = 4

	// MaxReaders bounds the slabs a pass may hold (see slab.go).
	MaxReaders = 16

	// BlanksAtOnce is how many passes of a lane best fill blank disks at once
	// (Turns): all together have so much under way that it leaves the
	// processor's caches before it is written, and read many places of one
	// spindle. Two keep the lane busy while one of them begins or ends.
	BlanksAtOnce = 2

	// DefaultSyncEvery is how often the destination flushes and acknowledges
	// what it has written, while it writes.
	DefaultSyncEvery = 2 * time.Second
)

// Compress says when content is compressed with zstd before it is sent.
type Compress uint8

const (
	// CompressAuto compresses a chunk if a small sample of it shrinks and the
	// link is slower than the compression.
	CompressAuto Compress = iota
	// CompressOff never compresses.
	CompressOff
	// CompressOn compresses a chunk if a small sample of it shrinks, however fast the link is.
	CompressOn
)

// Verify says what is compared at the end of a pass. What it never switches
// off: every chunk sent is checked against its digest before it is written.
type Verify uint8

const (
	// VerifyDelta compares the roots over all digests of the pass, as compared or written.
	VerifyDelta Verify = iota
	// VerifyFull adds, in a final pass, a second read of both devices after
	// the last fsync and compares the roots of what was read. Nobody may
	// write to the source meanwhile.
	VerifyFull
	// VerifyNone compares no roots.
	VerifyNone
)

// Settings are one end's choices for a pass. The zero value is usable: every
// zero field stands for its default. ChunkSize, Verify and Compress are the
// source's; the destination learns the first two from the begin frame.
type Settings struct {
	ChunkSize int           // bytes: a power of two, MinChunkSize to MaxPayload
	Readers   int           // reads in flight at this end, 1 to MaxReaders
	Compress  Compress      //
	Verify    Verify        //
	Limits    Limits        // bandwidth; see there
	SyncEvery time.Duration // destination: time between flushes during the pass

	// Turns, at the source, may be shared by the passes of a lane: each needs one
	// of them to send what the destination has nothing of. nil: there is no need.
	Turns *semaphore.Weighted

	// Holds, at the destination, reports whether its device is as the pass that
	// succeeded with this root left it. nil: nobody knows.
	Holds func(root [32]byte) bool

	// Index, at the destination, tells what content is here already, and learns
	// what is written. It costs both ends a digest of all content that differs. nil: none.
	Index *Index

	blank bool // destination: presume that the device is, whatever it looks like; for tests

	// Progress, if not nil, is called from one goroutine about five times a
	// second and once at the end. It must not block.
	Progress func(Progress)
}

// Limits are payload bytes per second, all of which hold: a job's, a host's.
// Each may be shared and changed at any time.
type Limits []*rate.Limiter

// perByte is the seconds for a byte that the tightest of them grants; 0: none does.
func (l Limits) perByte() float64 {
	var most float64
	for _, x := range l {
		if r := x.Limit(); r != rate.Inf && r > 0 {
			most = max(most, 1/float64(r))
		}
	}
	return most
}

// Validate reports every fault of the settings.
func (s Settings) Validate() error {
	var errs []error
	if c := s.ChunkSize; c != 0 && (c < MinChunkSize || c > MaxPayload || c&(c-1) != 0) {
		errs = append(errs, fmt.Errorf("chunk size %d: must be a power of two from %d to %d", c, MinChunkSize, MaxPayload))
	}
	if s.Readers < 0 || s.Readers > MaxReaders {
		errs = append(errs, fmt.Errorf("readers %d: must be 1 to %d", s.Readers, MaxReaders))
	}
	if s.Compress > CompressOn {
		errs = append(errs, fmt.Errorf("compress %d: unknown mode", s.Compress))
	}
	if s.Verify > VerifyNone {
		errs = append(errs, fmt.Errorf("verify %d: unknown mode", s.Verify))
	}
	if s.SyncEvery < 0 {
		errs = append(errs, fmt.Errorf("sync every %v: must not be negative", s.SyncEvery))
	}
	return errors.Join(errs...)
}

// withDefaults validates s and fills its zero fields.
func (s Settings) withDefaults() (Settings, error) {
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("sync settings: %w", err)
	}
	if s.ChunkSize == 0 {
		s.ChunkSize = DefaultChunkSize
	}
	if s.Readers == 0 {
		s.Readers = DefaultReaders
	}
	if s.SyncEvery == 0 {
		s.SyncEvery = DefaultSyncEvery
	}
	return s, nil
}
