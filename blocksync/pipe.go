package blocksync

import (
	"context"
	"fmt"
	"sync"
)

// Pipe returns the two ends of a lane in memory, for two ends in one process.
// Each direction holds up to capacity frames (at least one), so at most
// capacity MiB, and blocks beyond that.
func Pipe(capacity int) (a, b Lane) {
	capacity = max(1, capacity)
	ab, ba := make(chan Frame, capacity), make(chan Frame, capacity)
	bufs := &sync.Pool{New: func() any { b := alignedBytes(MaxPayload); return &b }}
	return &pipeEnd{out: ab, in: ba, bufs: bufs}, &pipeEnd{out: ba, in: ab, bufs: bufs}
}

type pipeEnd struct {
	out  chan<- Frame
	in   <-chan Frame
	bufs *sync.Pool
}

// smallPayload and smaller ones are not worth a buffer of a whole chunk.
const smallPayload = 16 << 10

func (p *pipeEnd) Send(ctx context.Context, f *Frame) error {
	if len(f.Payload) > MaxPayload {
		return fmt.Errorf("payload of %d bytes, at most %d fit into a frame", len(f.Payload), MaxPayload)
	}
	c := *f
	c.Slab = nil
	if len(f.Payload) > smallPayload {
		c.Payload = (*p.bufs.Get().(*[]byte))[:len(f.Payload)]
		copy(c.Payload, f.Payload)
	} else {
		c.Payload = append([]byte(nil), f.Payload...)
	}
	select {
	case p.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipeEnd) Recv(ctx context.Context) (Frame, error) {
	select {
	case f := <-p.in:
		return f, nil
	case <-ctx.Done():
		return Frame{}, ctx.Err()
	}
}

// Release takes a buffer back.
func (p *pipeEnd) Release(f *Frame) {
	if cap(f.Payload) != MaxPayload {
		return
	}
	b := f.Payload[:MaxPayload]
	p.bufs.Put(&b)
	f.Payload = nil
}
