package blocksync

import (
	"errors"
	"fmt"
	"slices"
	"sort"
)

// run is a row of neighbouring chunks.
type run struct {
	first, count int64 // chunk indices of the disk
	pos          int64 // position of the first chunk within the pass
}

// plan is the geometry of a pass. Its chunks are counted twice: by index on
// the disk, and by position in the pass, from 0 without gaps.
type plan struct {
	size  int64
	chunk int
	n     int64 // chunks in the pass
	runs  []run // ascending, not touching
}

// newPlan covers the ranges, or the whole disk if they are nil.
func newPlan(size int64, chunk int, ranges []Range) (*plan, error) {
	p := &plan{size: size, chunk: chunk}
	total := p.total()
	if ranges == nil {
		if total > 0 {
			p.runs = []run{{count: total}}
		}
		p.number()
		return p, nil
	}
	c := int64(chunk)
	for _, r := range ranges {
		if r.Offset < 0 || r.Length < 0 || r.Offset > size || r.Length > size-r.Offset {
			return nil, fmt.Errorf("range of %d bytes at %d: beyond the disk's %d bytes", r.Length, r.Offset, size)
		}
		if r.Length == 0 {
			continue
		}
		first := r.Offset / c
		last := (r.Offset + r.Length - 1) / c
		p.runs = append(p.runs, run{first: first, count: last - first + 1})
	}
	slices.SortFunc(p.runs, func(a, b run) int { return int(min(1, max(-1, a.first-b.first))) })
	p.merge(0)
	// The list of runs has to fit into the begin frame. Where it does not,
	// comparing some unchanged chunks is cheaper than a second frame type.
	for gap := int64(1); beginSize(p.runs) > MaxPayload; gap *= 2 {
		p.merge(gap)
	}
	p.number()
	return p, nil
}

// merge joins runs that overlap, touch, or have at most gap chunks between them.
func (p *plan) merge(gap int64) {
	out := p.runs[:0]
	for _, r := range p.runs {
		if k := len(out) - 1; k >= 0 && r.first <= out[k].first+out[k].count+gap {
			out[k].count = max(out[k].count, r.first+r.count-out[k].first)
			continue
		}
		out = append(out, r)
	}
	p.runs = out
}

// number gives every run its position and counts the chunks.
func (p *plan) number() {
	p.n = 0
	for i := range p.runs {
		p.runs[i].pos = p.n
		p.n += p.runs[i].count
	}
}

// check reports whether runs that came over the wire are in order and on the disk.
func (p *plan) check() error {
	next := int64(0)
	for i, r := range p.runs {
		if r.count <= 0 || r.first < next || (i > 0 && r.first == next) {
			return errors.New("chunk runs out of order")
		}
		if r.first > p.total() || r.count > p.total()-r.first {
			return fmt.Errorf("chunk run %d+%d beyond the disk's %d chunks", r.first, r.count, p.total())
		}
		next = r.first + r.count
	}
	return nil
}

// total is the number of chunks of the whole disk.
func (p *plan) total() int64 { return (p.size + int64(p.chunk) - 1) / int64(p.chunk) }

// whole reports whether the pass covers all of the disk.
func (p *plan) whole() bool { return p.n == p.total() }

// at returns the index on the disk of a position.
func (p *plan) at(pos int64) int64 {
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].pos > pos }) - 1
	return p.runs[i].first + pos - p.runs[i].pos
}

// find returns the position of a chunk index, if the pass covers it.
func (p *plan) find(index int64) (pos int64, ok bool) {
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].first > index }) - 1
	if index < 0 || i < 0 || index >= p.runs[i].first+p.runs[i].count {
		return 0, false
	}
	return p.runs[i].pos + index - p.runs[i].first, true
}

// extent returns where a chunk lies on the disk; the last may be short.
func (p *plan) extent(index int64) (off int64, n int) {
	off = index * int64(p.chunk)
	return off, int(min(int64(p.chunk), p.size-off))
}

// bytes is the number of bytes the pass covers.
func (p *plan) bytes() int64 {
	if p.n == 0 {
		return 0
	}
	last := p.runs[len(p.runs)-1]
	b := p.n * int64(p.chunk)
	if last.first+last.count == p.total() {
		_, n := p.extent(p.total() - 1)
		b -= int64(p.chunk - n)
	}
	return b
}
