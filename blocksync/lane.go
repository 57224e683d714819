package blocksync

import (
	"context"
	"errors"
)

// HeadRoom is the number of bytes a lane may use in front of Frame.Payload when
// Frame.Slab is set. One page, so that the payload behind it stays aligned for O_DIRECT.
const HeadRoom = 4096

// MaxPayload is the largest payload of one frame in bytes: one chunk. A lane
// must carry a frame of this size and its head in one message.
const MaxPayload = 1 << 20

// ErrLaneLost is wrapped by every error of a lane that cannot carry frames any
// more. What was written at the destination stays; a new lane carries on from there.
var ErrLaneLost = errors.New("lane lost")

// Kind says what a frame means. The lane does not look at it.
type Kind uint8

// Flags describe a frame's payload. The lane does not look at them.
type Flags uint8

// Frame is one message of a channel: a small head and raw bytes.
type Frame struct {
	Kind   Kind
	Flags  Flags
	Pass   uint32   // pass the frame belongs to; frames of another pass are dropped
	Index  int64    // chunk index in the disk, or a sequence number
	Length int      // bytes of content the frame stands for, before compression
	Digest [32]byte // BLAKE3-256 of that content, zero where none is meant

	// Payload is at most MaxPayload bytes. On Send it belongs to the caller
	// again when Send returns; from Recv on it belongs to the receiver.
	Payload []byte

	// Slab, if not nil, is the buffer that holds Payload at HeadRoom:
	// Payload is Slab[HeadRoom:HeadRoom+len(Payload)]. A lane that sends it
	// writes its head in front of the payload, and copies nothing.
	Slab []byte
}

// Lane is one channel between the two ends of a sync. Frames arrive in the
// order sent, each once, or the lane fails with ErrLaneLost for good.
// One goroutine may send while another receives.
type Lane interface {
	// Send blocks while the other end grants no credit, at most until ctx ends.
	Send(ctx context.Context, f *Frame) error
	// Recv returns the next frame and grants its bytes back as credit.
	Recv(ctx context.Context) (Frame, error)
}
