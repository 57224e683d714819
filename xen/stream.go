package xen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// What follows the head of a saved domain, streams of version 2 (Xen 4.6 and
// newer): libxl's head (16 bytes) and records; in the record LIBXC_CONTEXT,
// which has no body of its own, libxc's image: two heads (24 and 16 bytes) and
// records up to its END, then libxl's go on up to theirs. A record is type,
// length, and its body filled up to 8 bytes. Idents are big-endian, records in
// the order that the heads tell: ours, or the stream is refused.
const (
	imageStreamV2 = 1 << 1 // mandatory flag of the head

	libxlIdent   = 0x4c6962786c466d74 // "LibxlFmt"
	libxlVersion = 2
	libxlHead    = 16
	libxlEnd     = 0
	libxlContext = 1

	libxcMarker = ^uint64(0)
	libxcIdent  = 0x58454e46 // "XENF"
	libxcHeads  = 24 + 16
	libxcEnd    = 0
	libxcPages  = 1
	recordHead  = 8
	pagesPeek   = 16 // of a record of pages: how many, and the first one's number
	pfnMask     = uint64(1)<<52 - 1
	// StreamEnd is how many bytes end a stream: without them xl waits.
	StreamEnd    = recordHead
	bigEndianBit = 1
)

// Stream reads a saved domain up to its very last byte and then says io.EOF,
// where the pipe that it came from stays open: behind a live migration's image
// follows its sender's GO. What is read is what came, byte for byte.
type Stream struct {
	r     io.Reader
	next  func([]byte) error // takes what head holds
	head  []byte             // what is being gathered, next's length
	want  int
	out   []byte // gathered, and not yet given out
	body  uint64 // bytes that go through unseen
	ended bool

	pages atomic.Int64 // of all rounds
	first uint64       // page of the record before
	turn  atomic.Int64 // when the last round may have begun, Unix nanoseconds
	last  time.Time    // when the record of pages before was through
}

// NewStream reads from r.
func NewStream(r io.Reader) *Stream {
	s := &Stream{r: r}
	s.gather(imageHeadSize, s.imageHead)
	return s
}

func (s *Stream) gather(n int, next func([]byte) error) { s.want, s.next = n, next }

// Pages is how many pages have come, some of them again and again.
func (s *Stream) Pages() int64 { return s.pages.Load() }

// Turn is when the last round of pages can have begun at the earliest: a guest
// that is suspended for it ran until then. Zero: there was one round so far.
func (s *Stream) Turn() time.Time {
	if n := s.turn.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// SetReadDeadline interrupts a Read, if what is read from can be.
func (s *Stream) SetReadDeadline(t time.Time) error {
	if d, ok := s.r.(interface{ SetReadDeadline(time.Time) error }); ok {
		return d.SetReadDeadline(t)
	}
	return errors.ErrUnsupported
}

// Read gives what came. A stream that is cut is io.ErrUnexpectedEOF.
func (s *Stream) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 {
		switch {
		case len(s.out) > 0:
			n = copy(p, s.out)
			s.out = s.out[n:]
		case s.ended:
			return 0, io.EOF
		case s.body > 0:
			n, err = s.r.Read(p[:min(uint64(len(p)), s.body)])
			s.body -= uint64(n)
		default:
			err = s.gatherMore()
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// gatherMore reads on in a head, and looks at one that is whole.
func (s *Stream) gatherMore() error {
	at := len(s.head)
	s.head = append(s.head, make([]byte, s.want-at)...)
	n, err := s.r.Read(s.head[at:])
	s.head = s.head[:at+n]
	if len(s.head) < s.want {
		return err
	}
	whole := s.head
	s.head = nil
	if err := s.next(whole); err != nil {
		return err
	}
	s.out = whole
	return nil // an error that came with the last of it comes again
}

func (s *Stream) imageHead(b []byte) error {
	n, err := headLength(b)
	if err != nil {
		return err
	}
	if flags := binary.NativeEndian.Uint32(b[36:]); flags&imageStreamV2 == 0 {
		return fmt.Errorf("%w: its stream is one of Xen before 4.6 (flags %#x)", ErrNotImage, flags)
	}
	s.body = uint64(n - imageHeadSize)
	s.gather(libxlHead, s.libxl)
	return nil
}

func (s *Stream) libxl(b []byte) error {
	be := binary.BigEndian
	if be.Uint64(b) != libxlIdent || be.Uint32(b[8:]) != libxlVersion || be.Uint32(b[12:])&bigEndianBit != 0 {
		return fmt.Errorf("%w: libxl's head is % x", ErrNotImage, b)
	}
	s.gather(recordHead, s.libxlRecord)
	return nil
}

func (s *Stream) libxlRecord(b []byte) error {
	kind, length := recordOf(b)
	switch {
	case kind == libxlEnd && length == 0:
		s.ended = true
	case kind == libxlContext && length == 0:
		s.gather(libxcHeads, s.libxc)
	case kind == libxlEnd, kind == libxlContext:
		return fmt.Errorf("%w: libxl's record %d has %d bytes", ErrNotImage, kind, length)
	default:
		s.body = padded(length)
	}
	return nil
}

func (s *Stream) libxc(b []byte) error {
	be := binary.BigEndian
	if be.Uint64(b) != libxcMarker || be.Uint32(b[8:]) != libxcIdent || be.Uint16(b[16:])&bigEndianBit != 0 {
		return fmt.Errorf("%w: libxc's head is % x", ErrNotImage, b)
	}
	s.gather(recordHead, s.libxcRecord)
	return nil
}

func (s *Stream) libxcRecord(b []byte) error {
	kind, length := recordOf(b)
	switch {
	case kind == libxcEnd && length == 0:
		s.gather(recordHead, s.libxlRecord)
	case kind == libxcEnd:
		return fmt.Errorf("%w: libxc's END has %d bytes", ErrNotImage, length)
	case kind == libxcPages && length >= pagesPeek:
		s.gather(pagesPeek, func(b []byte) error {
			s.page(binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint64(b[8:])&pfnMask)
			s.body = padded(length) - pagesPeek
			s.gather(recordHead, s.libxcRecord)
			return nil
		})
	default:
		s.body = padded(length)
	}
	return nil
}

// page notes a record of pages. Within a round they come in order, so that one
// that does not begins the next.
func (s *Stream) page(n uint32, first uint64) {
	now := time.Now()
	if s.pages.Add(int64(n)); !s.last.IsZero() && first <= s.first {
		s.turn.Store(s.last.UnixNano())
	}
	s.first, s.last = first, now
}

func recordOf(b []byte) (kind, length uint32) {
	return binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
}

func padded(length uint32) uint64 { return (uint64(length) + 7) &^ 7 }
