package xlsim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A saved domain: xl's head with the config, then libxl's stream version 2
// with libxc's image version 3 in it. Words of heads are big-endian, of records
// in the host's order; a record is type, length, body, padding to 8 bytes.
const (
	savedMagic    = "Xen saved domain, xl format\n \x00 \r"
	savedHead     = 48
	savedOrder    = 0x01020304
	savedFlags    = 0x3 // JSON config, stream version 2
	maxSavedBytes = 4 << 20

	libxlIdent   = 0x4c6962786c466d74 // "LibxlFmt"
	libxlVersion = 2
	libxlEnd     = 0
	libxlContext = 1

	libxcIdent   = 0x58454e46 // "XENF"
	libxcVersion = 3
	libxcEnd     = 0
	libxcPages   = 1
	libxcTSC     = 8
	libxcHVM     = 9
	libxcParams  = 0xa
	libxcStatic  = 0x10
	libxcCPUID   = 0x11
	libxcMSR     = 0x12
	typePV       = 1
	typeHVM      = 2

	batchPages   = 1024               // of one page record
	batchBytes   = batchPages*8 + 8   // its list of page numbers
	progressStep = 2 * batchPages     // pages between two progress lines
	pfnMask      = uint64(1)<<52 - 1  // the page number in a list's word
	maxRecord    = batchBytes + 4<<20 // longest record a reader takes
	pageListHead = 8                  // count and reserved word
	recordHeadLn = 8                  // type and length
)

// savedHeader is xl's head with the config as its optional data.
func savedHeader(config string) []byte {
	b := make([]byte, savedHead, savedHead+len(config)+5)
	copy(b, savedMagic)
	ne := binary.NativeEndian
	ne.PutUint32(b[32:], savedOrder)
	ne.PutUint32(b[36:], savedFlags)
	ne.PutUint32(b[44:], uint32(4+len(config)+1))
	b = ne.AppendUint32(b, uint32(len(config)+1))
	return append(append(b, config...), 0)
}

// imageStart is everything between the config and the first page.
func imageStart(guestType string, major, minor uint32) []byte {
	be, ne := binary.BigEndian, binary.NativeEndian
	b := be.AppendUint64(nil, libxlIdent)
	b = be.AppendUint32(b, libxlVersion)
	b = be.AppendUint32(b, 0)
	b = ne.AppendUint32(b, libxlContext)
	b = ne.AppendUint32(b, 0)

	b = be.AppendUint64(b, ^uint64(0))
	b = be.AppendUint32(b, libxcIdent)
	b = be.AppendUint32(b, libxcVersion)
	b = be.AppendUint64(b, 0) // options and reserved
	kind := uint32(typeHVM)
	if guestType == "pv" {
		kind = typePV
	}
	b = ne.AppendUint32(b, kind)
	b = ne.AppendUint32(b, 12) // page shift, reserved
	b = ne.AppendUint32(b, major)
	b = ne.AppendUint32(b, minor)
	b = ne.AppendUint32(b, libxcStatic)
	return ne.AppendUint32(b, 0)
}

// imageEnd ends libxc's image and libxl's stream. Of a guest with hardware
// support the state of its processors comes before: made up here, in the sizes
// of a real one with one processor, for the guest's own state is in its RAM.
func imageEnd(guestType string) []byte {
	ne := binary.NativeEndian
	var b []byte
	if guestType != "pv" {
		for _, r := range []struct{ kind, length uint32 }{{libxcTSC, 24}, {libxcHVM, 2477}, {libxcParams, 8 + 6*16}} {
			b = ne.AppendUint32(ne.AppendUint32(b, r.kind), r.length)
			b = append(b, make([]byte, (r.length+7)&^7)...)
		}
	}
	b = ne.AppendUint64(b, libxcEnd)
	return ne.AppendUint64(b, libxlEnd)
}

// numbers are the n page numbers from first on.
func numbers(first, n int) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(first + i)
	}
	return all
}

// pageRecord is the beginning of a record with these pages.
func pageRecord(pages []uint64) []byte {
	ne, n := binary.NativeEndian, len(pages)
	b := ne.AppendUint32(nil, libxcPages)
	b = ne.AppendUint32(b, uint32(pageListHead+n*8+n*pageSize))
	b = ne.AppendUint32(b, uint32(n))
	b = ne.AppendUint32(b, 0)
	for _, p := range pages {
		b = ne.AppendUint64(b, p)
	}
	return b
}

// savedFile is a saved domain that is being read.
type savedFile struct {
	r     *bufio.Reader
	flags uint32
	size  uint32 // of the optional data
}

var errNotSaved = xlError{"File has wrong magic number - corrupt or for a different tool?\n"}

// readSaved reads the head and returns the config in it.
func readSaved(r io.Reader) (*savedFile, domainConfig, error) {
	s := &savedFile{r: bufio.NewReaderSize(r, 1<<20)}
	head := make([]byte, savedHead)
	if n, err := io.ReadFull(s.r, head); err != nil && n < 32 {
		return nil, domainConfig{}, truncated("header from saved state file")
	}
	if string(head[:32]) != savedMagic {
		return nil, domainConfig{}, errNotSaved
	}
	ne := binary.NativeEndian
	if ne.Uint32(head[32:]) != savedOrder {
		return nil, domainConfig{}, xlError{"File has wrong byte order\n"}
	}
	s.flags, s.size = ne.Uint32(head[36:]), ne.Uint32(head[44:])
	if bad := s.flags &^ savedFlags; bad != 0 {
		return nil, domainConfig{}, xlError{fmt.Sprintf("File has unknown mandatory flags 0x%x - need newer xl?\n", bad)}
	}
	if s.size < 4 || s.size > maxSavedBytes {
		return nil, domainConfig{}, xlError{"Savefile has no config, or one that is too long\n"}
	}
	data := make([]byte, s.size)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return nil, domainConfig{}, truncated("optional data from saved state file")
	}
	length := ne.Uint32(data)
	if int(length) > len(data)-4 {
		return nil, domainConfig{}, xlError{"Savefile's config is longer than its optional data\n"}
	}
	config, err := parseStored(data[4 : 4+length])
	if err != nil {
		return nil, config, xlError{fmt.Sprintf("Failed to parse config: %v\n", err)}
	}
	return s, config, nil
}

func truncated(what string) error {
	return xlError{"libxl: error: libxl_utils.c:505:libxl_read_exactly: file/stream truncated reading " + what + "\n"}
}

// imageInfo is what the heads of the image say.
type imageInfo struct {
	kind         uint32
	major, minor uint32
}

// start reads up to the first record of libxc.
func (s *savedFile) start() (imageInfo, error) {
	b := make([]byte, 16+8+24+16)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return imageInfo{}, err
	}
	be, ne := binary.BigEndian, binary.NativeEndian
	info := imageInfo{kind: ne.Uint32(b[48:]), major: ne.Uint32(b[56:]), minor: ne.Uint32(b[60:])}
	switch {
	case be.Uint64(b) != libxlIdent || be.Uint32(b[8:]) != libxlVersion:
		return info, errors.New("stream's ident or version is not libxl's")
	case ne.Uint32(b[16:]) != libxlContext:
		return info, errors.New("stream does not begin with a libxc context")
	case be.Uint64(b[24:]) != ^uint64(0) || be.Uint32(b[32:]) != libxcIdent || be.Uint32(b[36:]) != libxcVersion:
		return info, errors.New("image's marker, id or version is not libxc's")
	}
	return info, nil
}

// shortRecord is a stream that ended, or broke, within a record.
type shortRecord struct {
	length, kind uint32
	cause        error
}

func (e shortRecord) Error() string {
	return fmt.Sprintf("%d bytes of record 0x%08x: %v", e.length, e.kind, e.cause)
}

func (e shortRecord) Unwrap() error { return e.cause }

// load reads the pages into a memory file, up to and with libxl's END.
func (s *savedFile) load(ram *os.File, pages uint64) error {
	buf := make([]byte, maxRecord)
	for {
		kind, length, err := s.recordHead()
		if err != nil {
			return err
		}
		if length > maxRecord {
			return fmt.Errorf("record 0x%08x of %d bytes is too long", kind, length)
		}
		body := buf[:(length+7)&^7]
		if _, err := io.ReadFull(s.r, body); err != nil {
			return shortRecord{length, kind, err}
		}
		switch kind {
		case libxcStatic, libxcTSC, libxcHVM, libxcParams, libxcCPUID, libxcMSR:
		case libxcPages:
			if err := putPages(ram, body[:length], pages); err != nil {
				return err
			}
		case libxcEnd:
			kind, _, err := s.recordHead()
			if err == nil && kind != libxlEnd {
				err = fmt.Errorf("record 0x%08x where libxl's END belongs", kind)
			}
			return err
		default:
			if kind>>31 == 0 { // bit 31: may be ignored
				return fmt.Errorf("record 0x%08x: unknown", kind)
			}
		}
	}
}

func (s *savedFile) recordHead() (kind, length uint32, err error) {
	var b [recordHeadLn]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return 0, 0, shortRecord{length: recordHeadLn, cause: err}
	}
	return binary.NativeEndian.Uint32(b[:]), binary.NativeEndian.Uint32(b[4:]), nil
}

// putPages writes the pages of one record; zero ones stay holes.
func putPages(ram *os.File, body []byte, pages uint64) error {
	ne := binary.NativeEndian
	if len(body) < pageListHead {
		return errors.New("page record without its list")
	}
	n := int(ne.Uint32(body))
	if n > batchPages || len(body) != pageListHead+n*8+n*pageSize {
		return fmt.Errorf("page record of %d bytes for %d pages", len(body), n)
	}
	zero := make([]byte, pageSize)
	data := body[pageListHead+n*8:]
	for i := range n {
		pfn := ne.Uint64(body[pageListHead+i*8:]) & pfnMask
		if pfn >= pages {
			return fmt.Errorf("page %d, the domain has %d", pfn, pages)
		}
		page := data[i*pageSize : (i+1)*pageSize]
		if string(page) == string(zero) {
			continue
		}
		if _, err := ram.WriteAt(page, int64(pfn)*pageSize); err != nil {
			return err
		}
	}
	return nil
}
