//go:build !cgo

package blocksync

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Compressor names what compresses in this build.
const Compressor = "zstd of Go"

// compressor makes zstd frames where no C compiler was at hand.
type compressor struct{ enc *zstd.Encoder }

func newCompressor() (*compressor, error) {
	// One goroutine, no checksum of its own: the digest covers the content.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxPayload), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &compressor{enc}, nil
}

// append appends src as one frame to dst.
func (c *compressor) append(dst, src []byte) ([]byte, error) { return c.enc.EncodeAll(src, dst), nil }

func (c *compressor) close() { _ = c.enc.Close() } // writes nothing: there is no stream
