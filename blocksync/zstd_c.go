//go:build cgo

package blocksync

import (
	"sync"

	"github.com/DataDog/zstd"
)

// Compressor names what compresses in this build.
const Compressor = "zstd of C"

// levelC is the lowest level that spends no more bytes than `zstd -1` does on a
// stream: a frame ends with its chunk and cannot refer to the one before.
const levelC = 2

// compressor makes zstd frames with the reference library. It only ever compresses:
// what another host sends is decoded by code that is safe with memory.
type compressor struct{ ctx zstd.Ctx }

// contexts outlive passes: each is up to 1 MiB outside of the heap, and only the
// garbage collector gives it back.
var contexts = sync.Pool{New: func() any { return zstd.NewCtx() }}

func newCompressor() (*compressor, error) {
	return &compressor{ctx: contexts.Get().(zstd.Ctx)}, nil
}

// append appends src as one frame to dst. An error says that there was no
// memory for it, and nothing of src.
func (c *compressor) append(dst, src []byte) ([]byte, error) {
	out, err := c.ctx.CompressLevel(dst[len(dst):], src, levelC)
	if err != nil {
		return nil, err
	}
	if cap(dst)-len(dst) < zstd.CompressBound(len(src)) {
		return append(dst, out...), nil // it was written elsewhere
	}
	return dst[:len(dst)+len(out)], nil
}

func (c *compressor) close() {
	contexts.Put(c.ctx)
	c.ctx = nil
}
