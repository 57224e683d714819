package xlsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// status is a domain's run state as Xen would know it.
type status struct {
	Built     bool
	Paused    bool
	Suspended bool
	Reason    int // why it shut down, -1 while it has not
	Ticks     uint64
	CPU       time.Duration
}

// Shutdown reasons of Xen.
const (
	notShutDown     = -1
	reasonPoweroff  = 0
	reasonReboot    = 1
	reasonSuspend   = 2
	reasonLetters   = "-rscwS"
	statusSize      = pageSize
	flagPaused      = 1 << 0
	flagSuspended   = 1 << 1
	flagShutDown    = 1 << 2
	flagReasonShift = 8
)

// letters is the State column of `xl list`. A domain that runs is shown
// running, blocked or as neither, as on a real host.
func (s status) letters() string {
	b := []byte("------")
	if s.Paused || !s.Built {
		b[2] = 'p'
	}
	if s.Reason >= 0 {
		b[3], b[4] = 's', reasonLetters[s.Reason]
	}
	if string(b) == "------" {
		switch s.Ticks % 3 {
		case 0:
			b[0] = 'r'
		case 1:
			b[1] = 'b'
		}
	}
	return string(b)
}

// statusFile is where a guest shows its state: a few words in a mapped file,
// read by every `xl` without asking the guest.
type statusFile struct {
	mem          []byte
	flags        *atomic.Uint64
	ticks, nanos *atomic.Uint64
}

func createStatusFile(path string) (*statusFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(statusSize); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, statusSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	word := func(i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[8*i])) }
	return &statusFile{mem: mem, flags: word(0), ticks: word(1), nanos: word(2)}, nil
}

// tick counts CPU time: a guest that runs uses what it runs.
func (f *statusFile) tick(d time.Duration) {
	f.ticks.Add(1)
	f.nanos.Add(uint64(d))
}

func (f *statusFile) close() { _ = unix.Munmap(f.mem) }

// status reads what the guest of d shows.
func (h *host) status(d *domain) status {
	s := status{Reason: notShutDown}
	if !d.Built {
		return s
	}
	s.Built = true
	data, err := os.ReadFile(filepath.Join(h.runtime(d.ID), "status"))
	if err != nil || len(data) < 24 {
		return s // only between a guest's death and the next look
	}
	flags := binary.NativeEndian.Uint64(data)
	s.Paused, s.Suspended = flags&flagPaused != 0, flags&flagSuspended != 0
	s.Ticks = binary.NativeEndian.Uint64(data[8:])
	s.CPU = time.Duration(binary.NativeEndian.Uint64(data[16:]))
	switch {
	case flags&flagShutDown != 0:
		s.Reason = int(flags >> flagReasonShift & 0xff)
	case s.Suspended:
		s.Reason = reasonSuspend
	}
	return s
}

var errNotRunning = errors.New("the domain does not run")
