package xlsim

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// mix is one step of splitmix64's output function: what makes a good seed out
// of numbers that differ in a bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fillRandom fills p, a multiple of 8 bytes, with what seed stands for.
func fillRandom(p []byte, seed uint64) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], mix(seed))
		seed += 0x9e3779b97f4a7c15
	}
}

// fillText fills p with lines that compress well and still say where they
// belong.
func fillText(p []byte, number uint64) {
	line := fmt.Sprintf("%08x: the guest's programs and files, as text, which compresses well\n", number)
	for n := 0; n < len(p); {
		n += copy(p[n:], line)
	}
}

// newUUID makes a random one (version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newMAC makes a random address in Xen's range.
func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("00:16:3e:%02x:%02x:%02x", b[0]&0x7f, b[1], b[2])
}
