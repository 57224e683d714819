package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"xmig/jobs"
)

// codecVersion is the first byte of every value and message but frames. It
// goes up when a field changes its meaning; a new optional field needs a new
// version too, because decoding is strict and an old reader must not drop
// what it does not know and write the rest back.
const codecVersion = 1

const (
	// maxMessage bounds what is decoded: our own server's max_payload.
	maxMessage = 8 << 20
	// maxDepth of nested values; our deepest type has seven levels.
	maxDepth = 32
)

// errCodec is wrapped by every error of Decode.
var errCodec = errors.New("malformed message")

// Encode makes a versioned msgpack value of v. Field names are those of the
// json tags, so that a value on the bus and one on a pipe read the same.
func Encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte(codecVersion)
	enc := msgpack.NewEncoder(&buf)
	enc.SetCustomStructTag("json")
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		return nil, jobs.Failed(jobs.CodeInternal, "encode %T: %w", v, err)
	}
	if buf.Len() > maxMessage {
		return nil, jobs.Failed(jobs.CodeInternal, "encode %T: %d bytes, more than the %d a message may have", v, buf.Len(), maxMessage)
	}
	return buf.Bytes(), nil
}

// Decode fills v from what Encode made, and refuses everything else: another
// version, fields that v does not have, bytes behind the value, lengths that
// the data cannot hold. What it refuses may have been written to v in part.
func Decode(data []byte, v any) (err error) {
	bad := func(format string, args ...any) error {
		return jobs.Failed(jobs.CodeInternal, "decode %T: %w: %w", v, errCodec, fmt.Errorf(format, args...))
	}
	switch {
	case len(data) == 0:
		return bad("empty")
	case len(data) > maxMessage:
		return bad("%d bytes, more than %d", len(data), maxMessage)
	case data[0] != codecVersion:
		return bad("version %d, this program reads %d", data[0], codecVersion)
	}
	body := data[1:]
	rest, err := skipValue(body, 0)
	if err != nil {
		return bad("%w", err)
	}
	if len(rest) != 0 {
		return bad("%d bytes behind the value", len(rest))
	}
	// The library is trusted with well-formed input only, and even then a
	// panic of it must not end a worker that holds a guest.
	defer func() {
		if p := recover(); p != nil {
			err = bad("%v", p)
		}
	}()
	dec := msgpack.NewDecoder(bytes.NewReader(body))
	dec.SetCustomStructTag("json")
	dec.DisallowUnknownFields(true)
	if err := dec.Decode(v); err != nil {
		return bad("%w", err)
	}
	return nil
}

var (
	errShort = errors.New("ends in the middle of a value")
	errDeep  = errors.New("nested too deep")
	errType  = errors.New("type byte that msgpack does not have")
)

// skipValue steps over one msgpack value and returns what follows it. It
// bounds depth and lets no length pass that the data cannot hold, so that
// decoding afterwards neither overflows the stack nor allocates by a lie.
func skipValue(b []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	if len(b) == 0 {
		return nil, errShort
	}
	c, b := b[0], b[1:]
	switch {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // small ints, nil, bools
		return b, nil
	case c <= 0x8f:
		return skipMany(b, 2*uint64(c&0x0f), depth)
	case c <= 0x9f:
		return skipMany(b, uint64(c&0x0f), depth)
	case c <= 0xbf:
		return skipBytes(b, uint64(c&0x1f))
	}
	size, extra, isContainer := layout(c)
	if size < 0 {
		return nil, errType
	}
	if len(b) < size {
		return nil, errShort
	}
	var n uint64
	switch size {
	case 1:
		n = uint64(b[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(b))
	case 4:
		n = uint64(binary.BigEndian.Uint32(b))
	}
	b = b[size:]
	if isContainer {
		return skipMany(b, n*uint64(extra), depth)
	}
	return skipBytes(b, n+uint64(extra))
}

// layout tells of a type byte from 0xc1 on: the size of its length field
// (-1: no such type), and either the fixed bytes that follow beside the
// counted ones, or, for a container, how many values one element has.
func layout(c byte) (size, extra int, isContainer bool) {
	switch c {
	case 0xc4, 0xd9: // bin 8, str 8
		return 1, 0, false
	case 0xc5, 0xda:
		return 2, 0, false
	case 0xc6, 0xdb:
		return 4, 0, false
	case 0xc7, 0xc8, 0xc9: // ext: one byte of type
		return 1 << (c - 0xc7), 1, false
	case 0xca, 0xce, 0xd2: // 32-bit numbers
		return 0, 4, false
	case 0xcb, 0xcf, 0xd3: // 64-bit numbers
		return 0, 8, false
	case 0xcc, 0xd0:
		return 0, 1, false
	case 0xcd, 0xd1:
		return 0, 2, false
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext 1 to 16, with a byte of type
		return 0, 1 + 1<<(c-0xd4), false
	case 0xdc:
		return 2, 1, true
	case 0xdd:
		return 4, 1, true
	case 0xde:
		return 2, 2, true
	case 0xdf:
		return 4, 2, true
	}
	return -1, 0, false
}

func skipBytes(b []byte, n uint64) ([]byte, error) {
	if uint64(len(b)) < n {
		return nil, errShort
	}
	return b[n:], nil
}

func skipMany(b []byte, n uint64, depth int) (_ []byte, err error) {
	if uint64(len(b)) < n { // each value has a byte at least
		return nil, errShort
	}
	for ; n > 0; n-- {
		if b, err = skipValue(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}
