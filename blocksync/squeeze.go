package blocksync

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// sampleBytes out of the middle of each block tell whether it is worth
	// trying: 1/64 of the content is counted, which takes 1/300 of the time that
	// compressing it does. Blocks, because files end within chunks; deciding anew for
	// each chunk follows a disk's regions at once, where a back-off would lag behind.
	sampleBytes = 1 << 10

	// gainShift: compression pays if it saves at least 1/32, half a block of text in
	// a chunk of other content. zstd stores what does not shrink as it is, so the
	// destination has little to do for the rest.
	gainShift = 5
)

// squeezer compresses content. It belongs to one goroutine.
type squeezer struct {
	mode Compress
	pace *pace       // of all squeezers of a pass
	zstd *compressor // nil if nothing is to be compressed
}

func newSqueezer(mode Compress, p *pace) (*squeezer, error) {
	s := &squeezer{mode: mode, pace: p}
	if mode == CompressOff {
		return s, nil
	}
	var err error
	if s.zstd, err = newCompressor(); err != nil {
		return nil, err
	}
	return s, nil
}

// pack appends src, compressed, to dst, if that pays. What cannot be compressed,
// for want of memory, travels as it is.
func (s *squeezer) pack(dst, src []byte) ([]byte, bool) {
	if s.mode == CompressOff || s.mode == CompressAuto && !s.pace.worth() || !promising(src) {
		return nil, false
	}
	began := time.Now()
	out, err := s.zstd.append(dst, src)
	if err != nil {
		return nil, false
	}
	s.pace.squeezed(len(src), time.Since(began))
	return out, pays(len(out)-len(dst), len(src))
}

// promising reports whether any block of src is not evenly spread over all
// bytes, as what is random, encrypted or compressed already is.
func promising(src []byte) bool {
	if len(src) < sampleBytes {
		return true // chance rules so few bytes, and trying costs nothing
	}
	for len(src) >= sampleBytes {
		block := src[:min(len(src), coarseBlock)]
		if uneven(block[(len(block)-sampleBytes)/2:][:sampleBytes]) {
			return true
		}
		src = src[len(block):]
	}
	return false
}

// uneven compares how many pairs of equal bytes b has with what chance gives:
// of n bytes drawn evenly n + n(n-1)/256 (each with itself, too), within some 2 % for
// a sample. Whatever could be coded in 11/12 of its bytes one by one
// has half as many more.
func uneven(b []byte) bool {
	var seen [256]int
	for _, c := range b {
		seen[c]++
	}
	pairs := 0
	for _, k := range seen {
		pairs += k * k
	}
	n := len(b)
	return 2*256*pairs > 3*(256*n+n*(n-1))
}

func pays(out, in int) bool { return out <= in-in>>gainShift }

// pace compares how fast the link takes bytes with how fast they are
// compressed. Where the link is faster, compression only delays.
type pace struct {
	crew  int                      // squeezers
	limit func() (perByte float64) // seconds that a bandwidth cap grants for a byte; 0: none

	mu       sync.Mutex
	link     float64 // seconds per byte sent, a moving average; 0: not known yet
	squeeze  float64 // seconds per byte compressed, by one squeezer
	declined int
}

const (
	// paceWeight of the newest value: a change shows within some ten chunks.
	paceWeight = 1.0 / 8

	// paceProbe: of so many contents that are left as they are, one is
	// compressed, to know whether that is still slower.
	paceProbe = 64

	// paceBytes: smaller frames tell nothing about the link.
	paceBytes = 64 << 10
)

func (p *pace) sent(bytes int, took time.Duration) {
	if bytes >= paceBytes {
		p.learn(&p.link, bytes, took)
	}
}

func (p *pace) squeezed(bytes int, took time.Duration) {
	if bytes >= paceBytes {
		p.learn(&p.squeeze, bytes, took)
	}
}

func (p *pace) learn(v *float64, bytes int, took time.Duration) {
	now := took.Seconds() / float64(bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if *v == 0 {
		*v = now
		return
	}
	*v += (now - *v) * paceWeight
}

// worth reports whether the next content shall be compressed if it shrinks.
func (p *pace) worth() bool {
	capped := p.limit()
	p.mu.Lock()
	defer p.mu.Unlock()
	together := float64(min(p.crew, runtime.GOMAXPROCS(0)))
	if p.link == 0 || p.squeeze == 0 || max(p.link, capped)*together >= p.squeeze {
		return true
	}
	p.declined++
	return p.declined%paceProbe == 0
}

func (s *squeezer) close() {
	if s.zstd != nil {
		s.zstd.close()
		s.zstd = nil
	}
}

// inflater decompresses payloads. It belongs to one goroutine.
type inflater struct {
	dec *zstd.Decoder
}

func newInflater() (*inflater, error) {
	// The output never grows beyond the buffer given, whatever a frame claims.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(2*MaxPayload), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &inflater{dec}, nil
}

// into decompresses payload behind buf[:0], never past its capacity.
func (i *inflater) into(buf, payload []byte) ([]byte, error) {
	out, err := i.dec.DecodeAll(payload, buf[:0])
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return out, nil
}

func (i *inflater) close() { i.dec.Close() }
