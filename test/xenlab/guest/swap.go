package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// swappedSize and swapEvery: enough pages that some are on the swap disk at any
// time, and as many changes that every pass over that disk finds some.
const (
	swappedSize  = 2 << 20
	swapPages    = 32 // that get new content at a time
	swapEvery    = 500 * time.Millisecond
	swapPageSize = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// swapped is memory that the kernel is made to write to the swap disk. What
// must be in it is known by checksums that stay in RAM.
type swapped struct {
	mu   sync.Mutex
	mem  []byte
	sums []uint32
	next int
	bad  []string
}

func newSwapped(size int) (*swapped, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory to swap out: %w", err)
	}
	s := &swapped{mem: mem, sums: make([]uint32, size/swapPageSize)}
	for i := range s.sums {
		s.fill(i)
	}
	return s, s.out(0, len(s.sums))
}

func (s *swapped) page(i int) []byte { return s.mem[i*swapPageSize : (i+1)*swapPageSize] }

func (s *swapped) fill(i int) {
	r := rand.NewPCG(rand.Uint64(), uint64(i))
	p := s.page(i)
	for at := 0; at < len(p); at += 8 {
		n := r.Uint64()
		for b := range 8 {
			p[at+b] = byte(n >> (8 * b))
		}
	}
	s.sums[i] = crc32.Checksum(p, castagnoli)
}

// out asks the kernel to write pages to the swap disk.
func (s *swapped) out(from, to int) error {
	if err := unix.Madvise(s.mem[from*swapPageSize:to*swapPageSize], unix.MADV_PAGEOUT); err != nil {
		return fmt.Errorf("swap out: %w", err)
	}
	return nil
}

// run brings some pages back at a time, checks them and swaps new ones out.
func (s *swapped) run(ctx context.Context) error {
	tick := time.NewTicker(swapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.turn(); err != nil {
			return err
		}
	}
}

func (s *swapped) turn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.next
	s.next = (s.next + swapPages) % len(s.sums)
	for i := from; i < from+swapPages; i++ {
		s.look(i)
		s.fill(i)
	}
	return s.out(from, from+swapPages)
}

// look checks a page; a fault is kept, the next content hides it.
func (s *swapped) look(i int) {
	if crc32.Checksum(s.page(i), castagnoli) != s.sums[i] {
		s.bad = append(s.bad, fmt.Sprintf("swapped page %d: came back as another one", i))
		fmt.Printf("WL BAD %s\n", s.bad[len(s.bad)-1])
	}
}

// check brings all pages back.
func (s *swapped) check() (pages int, bad []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.sums {
		s.look(i)
	}
	return len(s.sums), s.bad
}
