package xen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The head of a saved domain (xl, all versions): 32 bytes magic, then four
// words in the host's byte order: 0x01020304, mandatory flags, optional flags,
// length of the optional data. The optional data is a word with the config's
// length and the config, JSON with its final NUL counted (flag bit 0), older
// versions' text otherwise.
const (
	imageMagic     = "Xen saved domain, xl format\n \x00 \r"
	imageHeadSize  = 48
	imageByteOrder = 0x01020304
	imageJSON      = 1 << 0
	// maxImageConfig bounds what is buffered of an image; real configs are a few KiB.
	maxImageConfig = 4 << 20
)

// ErrNotImage: what was written does not begin like a saved domain.
var ErrNotImage = errors.New("not a saved domain")

// MapImage passes a saved domain through to w and lets edit rewrite the JSON
// config in its head. It buffers the head only. An image whose config is not
// JSON passes unchanged where edit would not change it, and fails otherwise.
func MapImage(w io.Writer, edit func(config []byte) ([]byte, error)) io.Writer {
	return &imageMapper{w: w, edit: edit}
}

type imageMapper struct {
	w    io.Writer
	edit func([]byte) ([]byte, error)
	head []byte
	past bool // the head went through
}

func (m *imageMapper) Write(p []byte) (int, error) {
	if m.past {
		return m.w.Write(p)
	}
	m.head = append(m.head, p...)
	n, err := headLength(m.head)
	if err != nil {
		return 0, err
	}
	if n == 0 || len(m.head) < n {
		return len(p), nil
	}
	mapped, err := mapHead(m.head[:n], m.edit)
	if err != nil {
		return 0, err
	}
	if _, err := m.w.Write(append(mapped, m.head[n:]...)); err != nil {
		return 0, err
	}
	m.head, m.past = nil, true
	return len(p), nil
}

// headLength is the length of head and optional data, 0 while too few bytes are there.
func headLength(b []byte) (int, error) {
	if n := min(len(b), len(imageMagic)); string(b[:n]) != imageMagic[:n] {
		return 0, ErrNotImage
	}
	if len(b) < imageHeadSize {
		return 0, nil
	}
	if order := binary.NativeEndian.Uint32(b[32:]); order != imageByteOrder {
		return 0, fmt.Errorf("%w: byte order %#x", ErrNotImage, order)
	}
	n := binary.NativeEndian.Uint32(b[44:])
	if n > maxImageConfig {
		return 0, fmt.Errorf("%w: %d bytes of optional data", ErrNotImage, n)
	}
	return imageHeadSize + int(n), nil
}

func mapHead(head []byte, edit func([]byte) ([]byte, error)) ([]byte, error) {
	data := head[imageHeadSize:]
	if len(data) < 4 {
		return head, nil
	}
	size := binary.NativeEndian.Uint32(data)
	if int(size) > len(data)-4 {
		return nil, fmt.Errorf("%w: config of %d bytes in %d", ErrNotImage, size, len(data)-4)
	}
	old, rest := data[4:4+size], data[4+size:]
	text := bytes.TrimSuffix(old, []byte{0})
	edited, err := edit(text)
	if err != nil {
		return nil, fmt.Errorf("saved domain: %w", err)
	}
	if bytes.Equal(edited, text) {
		return head, nil
	}
	if binary.NativeEndian.Uint32(head[36:])&imageJSON == 0 {
		return nil, fmt.Errorf("saved domain: its config is not JSON (Xen before 4.5), disks and bridges cannot be mapped")
	}
	edited = append(edited, 0)
	out := append([]byte(nil), head[:imageHeadSize]...)
	binary.NativeEndian.PutUint32(out[44:], uint32(4+len(edited)+len(rest)))
	out = binary.NativeEndian.AppendUint32(out, uint32(len(edited)))
	return append(append(out, edited...), rest...), nil
}
