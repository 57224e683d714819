package blocksync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Index remembers which chunks lie where at this end, by the BLAKE3-256 of
// their content: disks made from one image have most of it in common, and what
// is here already need not travel. All passes of a process may share one.
//
// It vouches for nothing: guests write to their disks, and disks go away. What
// it finds is read, and taken only if its mark under the secret of the pass is
// that of the chunk that is wanted, just as content that came over the lane.
type Index struct {
	mu     sync.Mutex
	places map[indexKey]place
	order  []indexKey // a ring: the oldest is forgotten first
	next   int
}

// indexKey is the first half of a digest: who is found by chance fits no mark.
type indexKey [16]byte

// place is a chunk on a device. A block device goes by its number, which stays
// when a volume is renamed, and of a file the name is known.
type place struct {
	dev  string
	off  int64
	size int32
}

// entryBytes is what one chunk takes: its key twice, its place, and the map's own.
const entryBytes = 128

// NewIndex returns an index that takes at most so many bytes; each 128 of them
// are good for one chunk of a MiB.
func NewIndex(bytes int64) *Index {
	n := max(1, int(bytes/entryBytes))
	return &Index{places: make(map[indexKey]place), order: make([]indexKey, 0, n)}
}

// note remembers that content with digest d lies there.
func (x *Index) note(d digest, dev string, off int64, size int) {
	key := indexKey(d[:])
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.places[key]; !known {
		if len(x.order) < cap(x.order) {
			x.order = append(x.order, key)
		} else {
			delete(x.places, x.order[x.next])
			x.order[x.next] = key
			x.next = (x.next + 1) % len(x.order)
		}
	}
	x.places[key] = place{dev, off, int32(size)}
}

func (x *Index) find(d digest) (place, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p, ok := x.places[indexKey(d[:])]
	return p, ok
}

// filter is what the source asks before it asks us; nil: nothing is known.
func (x *Index) filter() filter {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.places) == 0 {
		return nil
	}
	f := newFilter(len(x.places))
	for k := range x.places {
		f.add(k)
	}
	return f
}

// deviceName is the name under which a device is found again.
func deviceName(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return path, nil
	}
	number := fmt.Sprintf("/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if _, err := os.Stat(number); err != nil {
		return path, nil // no udev keeps these names here
	}
	return number, nil
}

// read reads the content of a place. The device is opened for this one read:
// an open one could not be removed by those whose it is.
func (p place) read(into *slab) (err error) {
	d, err := OpenSource(p.dev)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if p.off+int64(p.size) > d.size {
		return fmt.Errorf("%s: %w", p.dev, os.ErrNotExist)
	}
	return d.readAt(into.bytes(int(p.size)+slack), int(p.size), p.off)
}

// filter is a Bloom filter over digests: who is not in it is not in the index.
type filter []byte

const (
	// filterBits per digest, of which filterProbes are set: one in a hundred is
	// taken for known and is not, which costs a question.
	filterBits   = 10
	filterProbes = 4
	minFilter    = 64
)

// newFilter has room for n digests, and a power of two of bytes.
func newFilter(n int) filter {
	want := uint(n) * filterBits / 8
	return make(filter, min(MaxPayload, max(minFilter, 1<<bits.Len(want))))
}

// decodeFilter accepts what newFilter makes.
func decodeFilter(b []byte) (filter, error) {
	if n := len(b); n < minFilter || n > MaxPayload || n&(n-1) != 0 {
		return nil, fmt.Errorf("%w: filter of %d bytes", errBody, n)
	}
	return b, nil
}

// probe is one of the bits of a digest: digests are random enough as they are.
func (f filter) probe(k indexKey, i int) (at int, bit byte) {
	n := int(binary.LittleEndian.Uint32(k[4*i:])) & (8*len(f) - 1)
	return n / 8, 1 << (n % 8)
}

func (f filter) add(k indexKey) {
	for i := range filterProbes {
		at, bit := f.probe(k, i)
		f[at] |= bit
	}
}

func (f filter) has(d digest) bool {
	for i := range filterProbes {
		if at, bit := f.probe(indexKey(d[:]), i); f[at]&bit == 0 {
			return false
		}
	}
	return true
}
