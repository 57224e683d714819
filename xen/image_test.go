package xen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func image(config string, flags uint32, rest string) []byte {
	b := []byte(imageMagic)
	for _, w := range []uint32{imageByteOrder, flags, 0, uint32(4 + len(config))} {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(len(config)))
	return append(append(b, config...), rest...)
}

func TestMapImage(t *testing.T) {
	longer := func(c []byte) ([]byte, error) { return []byte(strings.ReplaceAll(string(c), "vg0", "another-vg")), nil }
	same := func(c []byte) ([]byte, error) { return c, nil }
	tests := []struct {
		name     string
		in, want []byte
		edit     func([]byte) ([]byte, error)
		fails    bool
	}{
		{"mapped", image("{\"p\":\"vg0\"}\x00", 3, "pages"), image("{\"p\":\"another-vg\"}\x00", 3, "pages"), longer, false},
		{"untouched", image("{\"p\":\"vg0\"}\x00", 3, "pages"), image("{\"p\":\"vg0\"}\x00", 3, "pages"), same, false},
		{"old text passes", image("name='x'\n", 0, "pages"), image("name='x'\n", 0, "pages"), same, false},
		{"old text is not mapped", image("disk='vg0'\n", 0, "pages"), nil, longer, true},
		{"garbage", []byte("root:x:0:0:root:/root:/bin/bash\n and more of it, long enough"), nil, same, true},
	}
	for _, tt := range tests {
		for step := 1; step <= len(tt.in); step += 7 {
			var out bytes.Buffer
			w := MapImage(&out, tt.edit)
			var err error
			for at := 0; at < len(tt.in) && err == nil; at += step {
				_, err = w.Write(tt.in[at:min(at+step, len(tt.in))])
			}
			if (err != nil) != tt.fails {
				t.Fatalf("%s in pieces of %d: error %v, want failure %v", tt.name, step, err, tt.fails)
			}
			if !tt.fails && !bytes.Equal(out.Bytes(), tt.want) {
				t.Fatalf("%s in pieces of %d:\n got %q\nwant %q", tt.name, step, out.Bytes(), tt.want)
			}
		}
	}
	if _, err := MapImage(&bytes.Buffer{}, same).Write([]byte("nonsense")); !errors.Is(err, ErrNotImage) {
		t.Errorf("nonsense: got %v, want ErrNotImage", err)
	}
}
