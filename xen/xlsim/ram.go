package xlsim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// A guest's RAM, page by page:
//
//	head     what the guest is and where the rest lies; a copy of the heart line's beat
//	lines    one line of 64 bytes per worker: counters and random state
//	gens     the expected generation of every work page
//	slots    what was acknowledged, for every slot of every disk
//	text     never changes (programs): compresses well
//	work     dirtied for ever: number, generation and content grown from both
//	zero     never touched
//
// Every page that changes is vouched for by another one: work pages by gens,
// gens by the sum of all generations in the dirtier's line, slots by the disks
// and by the writers' sums, the heart line by the head. So one page of an older
// time shows.
const (
	pageSize   = 4096
	minRAM     = 8 << 20
	ramMagic   = "XLSIMRAM"
	maxDisks   = 16
	maxWriters = 16
	lineSize   = 64
	entrySize  = 32   // of a slot
	beatMirror = 4000 // offset in the head page
)

// ramHead is the beginning of the head page; it never changes after the boot.
type ramHead struct {
	Magic     [8]byte
	UUID      [16]byte
	Pages     uint64
	LinesAt   uint64 // first pages
	GensAt    uint64
	SlotsAt   uint64
	TextAt    uint64
	WorkAt    uint64
	ZeroAt    uint64
	Seed      uint64
	Rate      int64 // bytes per second written to all disks
	DirtyRate int64 // bytes of RAM per second
	Writers   uint32
	NDisks    uint32
	Disks     [maxDisks]ramDisk
}

// ramDisk is a writable disk the guest writes records to.
type ramDisk struct {
	DevID uint32
	Slots uint32
	First uint64 // its first entry in the slot table
	Size  int64  // that counts for the slots
}

// line numbers: two of the guest, then the writers'.
const (
	lineDirtier = iota
	lineHeart
	firstWriterLine
)

// fields of a line, as offsets.
const (
	lineRandom = 8 * iota // random state
	lineBase              // sum that was there at the boot
	lineDone              // pages dirtied, records acknowledged, or beats
	lineBytes             // bytes written
	lineBad               // bad records seen
	lineReads             // records read back
	lineDevID             // writers: disk
)

// ram is a guest's memory, mapped or read.
type ram struct {
	mem  []byte
	head ramHead
}

// mapRAM maps a memory file; the changes are the file's.
func mapRAM(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("RAM: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("RAM: %w", err)
	}
	if st.Size() < minRAM {
		return nil, fmt.Errorf("RAM %s: %d bytes, a guest needs %d MiB", path, st.Size(), minRAM>>20)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("RAM %s: map: %w", path, err)
	}
	return mem, nil
}

// openRAM finds the guest in memory that was restored.
func openRAM(mem []byte) (*ram, error) {
	r := &ram{mem: mem}
	n, err := binary.Decode(mem, binary.LittleEndian, &r.head)
	if err != nil {
		return nil, fmt.Errorf("RAM: %w", err)
	}
	if string(r.head.Magic[:]) != ramMagic || crc32.Checksum(mem[:n], castagnoli) != binary.LittleEndian.Uint32(mem[n:]) {
		return nil, errors.New("RAM: its head page is damaged, no guest can be found in it")
	}
	if r.head.Pages*pageSize > uint64(len(mem)) {
		return nil, fmt.Errorf("RAM: %d bytes, the guest in it has %d pages", len(mem), r.head.Pages)
	}
	return r, nil
}

// bootRAM lays fresh memory out and fills it.
func bootRAM(mem []byte, head ramHead) (*ram, error) {
	head.Pages = uint64(len(mem) / pageSize)
	copy(head.Magic[:], ramMagic)
	pagesFor := func(bytes uint64) uint64 { return (bytes + pageSize - 1) / pageSize }
	lines, entries := uint64(firstWriterLine)+uint64(head.NDisks*head.Writers), uint64(0)
	for i := range head.Disks[:head.NDisks] {
		head.Disks[i].First = entries
		entries += uint64(head.Disks[i].Slots)
	}
	head.LinesAt = 1
	head.GensAt = head.LinesAt + pagesFor(lines*lineSize)
	head.SlotsAt = head.GensAt + pagesFor(head.Pages*8)
	head.TextAt = head.SlotsAt + pagesFor(entries*entrySize)
	if head.TextAt*2 > head.Pages {
		return nil, fmt.Errorf("RAM: %d MiB are too few for %d slots", len(mem)>>20, entries)
	}
	rest := head.Pages - head.TextAt
	head.WorkAt = head.TextAt + rest/4
	head.ZeroAt = head.WorkAt + rest/2
	r := &ram{mem: mem, head: head}
	encoded, err := binary.Append(nil, binary.LittleEndian, head)
	if err != nil {
		return nil, fmt.Errorf("RAM: %w", err)
	}
	copy(mem, binary.LittleEndian.AppendUint32(encoded, crc32.Checksum(encoded, castagnoli)))
	for p := head.TextAt; p < head.WorkAt; p++ {
		fillText(r.page(p), p)
	}
	for i := range r.workPages() {
		r.setGen(i, 1)
		fillWork(r.page(head.WorkAt+i), head.Seed, i, 1)
	}
	r.line(lineDirtier).set(lineBase, r.workPages())
	for i := range int(lines) {
		r.line(i).set(lineRandom, mix(head.Seed+uint64(i)))
	}
	return r, nil
}

func (r *ram) page(n uint64) []byte { return r.mem[n*pageSize : (n+1)*pageSize] }

func (r *ram) workPages() uint64 { return r.head.ZeroAt - r.head.WorkAt }

func (r *ram) disks() []ramDisk { return r.head.Disks[:r.head.NDisks] }

func (r *ram) gen(i uint64) uint64 {
	return binary.LittleEndian.Uint64(r.mem[r.head.GensAt*pageSize+i*8:])
}

func (r *ram) setGen(i, gen uint64) {
	binary.LittleEndian.PutUint64(r.mem[r.head.GensAt*pageSize+i*8:], gen)
}

// fillWork is the content of work page i in a generation.
func fillWork(page []byte, seed, i, gen uint64) {
	binary.LittleEndian.PutUint64(page, i)
	binary.LittleEndian.PutUint64(page[8:], gen)
	fillRandom(page[16:], seed^mix(i)^mix(gen<<20))
}

// dirty brings one random work page to its next generation.
func (r *ram) dirty() {
	l := r.line(lineDirtier)
	i := l.random() % r.workPages()
	gen := r.gen(i) + 1
	fillWork(r.page(r.head.WorkAt+i), r.head.Seed, i, gen)
	r.setGen(i, gen)
	l.add(lineDone, 1)
}

// beat counts a heartbeat.
func (r *ram) beat() uint64 {
	l := r.line(lineHeart)
	l.add(lineDone, 1)
	n := l.get(lineDone)
	binary.LittleEndian.PutUint64(r.mem[beatMirror:], n)
	return n
}

// line is one worker's counters; only that worker writes them.
type line []byte

func (r *ram) line(i int) line {
	at := r.head.LinesAt*pageSize + uint64(i)*lineSize
	return line(r.mem[at : at+lineSize])
}

func (r *ram) writerLine(disk, writer int) line {
	return r.line(firstWriterLine + disk*int(r.head.Writers) + writer)
}

func (l line) get(field int) uint64    { return binary.LittleEndian.Uint64(l[field:]) }
func (l line) set(field int, v uint64) { binary.LittleEndian.PutUint64(l[field:], v) }
func (l line) add(field int, n uint64) { l.set(field, l.get(field)+n) }

// random is the next number of the worker's own sequence.
func (l line) random() uint64 {
	s := l.get(lineRandom) + 0x9e3779b97f4a7c15
	l.set(lineRandom, s)
	return mix(s)
}

func (r *ram) entry(d ramDisk, slot int) []byte {
	at := r.head.SlotsAt*pageSize + (d.First+uint64(slot))*entrySize
	return r.mem[at : at+entrySize]
}

func (r *ram) slot(d ramDisk, slot int) SlotState {
	e := r.entry(d, slot)
	le := binary.LittleEndian
	return SlotState{Ack: le.Uint64(e), AckSum: le.Uint64(e[8:]), Fly: le.Uint64(e[16:]), FlySum: le.Uint64(e[24:])}
}

func (r *ram) setSlot(d ramDisk, slot int, s SlotState) {
	e := r.entry(d, slot)
	le := binary.LittleEndian
	le.PutUint64(e, s.Ack)
	le.PutUint64(e[8:], s.AckSum)
	le.PutUint64(e[16:], s.Fly)
	le.PutUint64(e[24:], s.FlySum)
}

func (r *ram) owner(d ramDisk, slot int) slotOwner {
	return slotOwner{uuid: r.head.UUID, devID: d.DevID, writer: uint32(slot) % r.head.Writers, slot: uint32(slot)}
}

// expected copies what the RAM knows of the disks.
func (r *ram) expected(how bound) Expected {
	e := Expected{UUID: formatUUID(r.head.UUID), Writers: int(r.head.Writers), Exact: how == exactly}
	for _, d := range r.disks() {
		known := ExpectedDisk{DevID: int(d.DevID), Size: d.Size}
		for i := range int(d.Slots) {
			known.Slots = append(known.Slots, r.slot(d, i))
		}
		e.Disks = append(e.Disks, known)
	}
	return e
}

// check proves that every page belongs to the same moment. The guest must stand.
func (r *ram) check() (pages int, bad []string) {
	want := make([]byte, pageSize)
	sum := uint64(0)
	for i := range r.workPages() {
		gen, page := r.gen(i), r.page(r.head.WorkAt+i)
		sum += gen
		fillWork(want, r.head.Seed, i, gen)
		if !bytes.Equal(page, want) {
			bad = append(bad, workFault(r, page, want, i, gen))
		}
	}
	for p := r.head.TextAt; p < r.head.WorkAt; p++ {
		if fillText(want, p); !bytes.Equal(r.page(p), want) {
			bad = append(bad, fmt.Sprintf("RAM page %d: text has changed", p))
		}
	}
	clear(want)
	for p := r.head.ZeroAt; p < r.head.Pages; p++ {
		if !bytes.Equal(r.page(p), want) {
			bad = append(bad, fmt.Sprintf("RAM page %d: never touched, and not zero", p))
		}
	}
	if l := r.line(lineDirtier); sum != l.get(lineBase)+l.get(lineDone) {
		bad = append(bad, fmt.Sprintf("RAM: the generations add up to %d, %d pages were dirtied: a stale table or counter page", sum, l.get(lineBase)+l.get(lineDone)))
	}
	if a, b := r.line(lineHeart).get(lineDone), binary.LittleEndian.Uint64(r.mem[beatMirror:]); a != b {
		bad = append(bad, fmt.Sprintf("RAM: beat %d in one page, %d in another: one of them is stale", a, b))
	}
	return int(r.head.Pages), append(bad, r.checkWriters()...)
}

// checkWriters holds the writers' counters against the slot table.
func (r *ram) checkWriters() (bad []string) {
	for i, d := range r.disks() {
		sums := make([]uint64, r.head.Writers)
		for s := range int(d.Slots) {
			sums[s%len(sums)] += r.slot(d, s).Ack
		}
		for w, sum := range sums {
			l := r.writerLine(i, w)
			if want := l.get(lineBase) + l.get(lineDone); sum != want {
				bad = append(bad, fmt.Sprintf("RAM: disk %d writer %d: the slots add up to %d, the counter to %d: a stale table or counter page", d.DevID, w, sum, want))
			}
			if n := l.get(lineBad); n > 0 {
				bad = append(bad, fmt.Sprintf("disk %d writer %d: the guest itself saw %d bad records (WL BAD in its log)", d.DevID, w, n))
			}
		}
	}
	return bad
}

func workFault(r *ram, page, want []byte, i, gen uint64) string {
	n, g := binary.LittleEndian.Uint64(page), binary.LittleEndian.Uint64(page[8:])
	where := fmt.Sprintf("RAM page %d", r.head.WorkAt+i)
	if n == i && g != gen {
		fillWork(want, r.head.Seed, i, g)
		if bytes.Equal(page, want) && g < gen {
			return fmt.Sprintf("%s: older: generation %d, the table says %d", where, g, gen)
		}
		if bytes.Equal(page, want) {
			return fmt.Sprintf("%s: newer: generation %d, the table says %d", where, g, gen)
		}
	}
	if n < r.workPages() && n != i {
		return fmt.Sprintf("%s: foreign: the content of work page %d", where, n)
	}
	return fmt.Sprintf("%s: torn: its content is not that of generation %d", where, gen)
}

// bootSeed is different at every boot, so that two boots never write the same.
func bootSeed() uint64 { return rand.Uint64() }
