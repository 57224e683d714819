package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"xmig/blocksync"
)

// channel is one blocksync.Lane. It has its own frame numbers and its own
// credit in each direction, so that a disk that is slow to write holds up
// neither the others nor the memory image.
type channel struct {
	end        *LaneEnd
	name       string
	number     uint8         // in the heads of its frames
	recvWindow uint64        // bytes
	granted    chan struct{} // holds one token when there may be new credit
	arrived    chan struct{} // holds one token when there may be a frame

	mu sync.Mutex
	// Sending: totals of bytes and frames, and what the other end has taken.
	sent, sentSeq, credit uint64
	window                window
	buf                   []byte // for frames without a slab
	// Receiving: totals that arrived and that were taken, in bytes.
	queue       []arrival
	got, gotSeq uint64
	taken, told uint64
	peerSeq     uint64    // frames that the other end says it sent
	behindSeq   uint64    // gotSeq when behind was set
	behind      time.Time // since when frames are missing without progress
}

type arrival struct {
	frame blocksync.Frame
	size  uint64
}

// Send waits for credit, hands f to the connection, and returns; f.Payload
// belongs to the caller again. It does not wait for the other end.
func (c *channel) Send(ctx context.Context, f *blocksync.Frame) error {
	size := uint64(frameHead + len(f.Payload))
	for {
		if c.end.ctx.Err() != nil {
			return c.end.lost()
		}
		if c.reserve(size) {
			break
		}
		select {
		case <-c.granted:
		case <-c.end.ctx.Done():
		case <-ctx.Done():
			return fmt.Errorf("lane channel %s: waiting for credit: %w", c.name, context.Cause(ctx))
		}
	}
	return c.publish(f)
}

func (c *channel) reserve(size uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.window.fits(c.sent-c.credit, size) {
		return false
	}
	c.sent += size
	c.window.sent(c.sent, c.sent-c.credit, time.Now())
	return true
}

func (c *channel) publish(f *blocksync.Frame) error {
	c.mu.Lock()
	seq := c.sentSeq + 1
	c.mu.Unlock()
	m, err := encodeFrame(head{c.end.spec.Epoch, c.number, seq}, f, c.buf)
	if err != nil {
		c.mu.Lock()
		c.sent -= uint64(frameHead + len(f.Payload))
		c.mu.Unlock()
		return fmt.Errorf("lane channel %s: %w", c.name, err)
	}
	if f.Slab == nil {
		c.buf = m
	}
	// No reply: an acknowledgement of a memory stream says nothing that the
	// credit does not. Either way copies or writes m before it returns.
	send := c.end.nc.Publish
	if c.end.wires != nil {
		send = c.end.wires.publish
	}
	if err := send(c.end.subject, m); err != nil {
		c.end.fail(fmt.Errorf("channel %s: send: %w", c.name, err))
		return c.end.lost()
	}
	c.mu.Lock()
	c.sentSeq = seq
	c.mu.Unlock()
	return nil
}

// grant takes what the other end told: its taken bytes and its sent frames.
func (c *channel) grant(taken, sent uint64) {
	c.mu.Lock()
	if taken > c.sent {
		c.mu.Unlock()
		c.end.fail(fmt.Errorf("channel %s: credit for %d bytes, only %d were sent", c.name, taken, c.sent))
		return
	}
	more := taken > c.credit
	c.credit = max(c.credit, taken)
	c.window.taken(c.credit, time.Now())
	c.peerSeq = max(c.peerSeq, sent)
	c.mu.Unlock()
	if more {
		signal(c.granted)
	}
}

// push takes a frame off the connection.
func (c *channel) push(h head, f blocksync.Frame, size uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case h.epoch != c.end.spec.Epoch:
		return fmt.Errorf("frame of epoch %d, this is %d", h.epoch, c.end.spec.Epoch)
	case h.seq <= c.gotSeq:
		return fmt.Errorf("frame %d came again, after %d", h.seq, c.gotSeq)
	case h.seq != c.gotSeq+1:
		return fmt.Errorf("frames %d to %d are missing", c.gotSeq+1, h.seq-1)
	case c.got+size-c.taken > c.recvWindow:
		return fmt.Errorf("more than the window of %d bytes was sent", c.recvWindow)
	}
	c.gotSeq, c.got = h.seq, c.got+size
	c.queue = append(c.queue, arrival{f, size})
	signal(c.arrived)
	return nil
}

// Recv returns the next frame. What arrived before the lane was lost is still given.
func (c *channel) Recv(ctx context.Context) (blocksync.Frame, error) {
	for {
		if f, tell, ok := c.pop(); ok {
			if tell && c.end.ctx.Err() == nil {
				c.end.beat("")
			}
			return f, nil
		}
		select {
		case <-c.arrived:
		case <-c.end.ctx.Done():
			if c.empty() {
				return blocksync.Frame{}, c.end.lost()
			}
		case <-ctx.Done():
			return blocksync.Frame{}, fmt.Errorf("lane channel %s: waiting for a frame: %w", c.name, context.Cause(ctx))
		}
	}
}

// Release takes the buffer of a frame that came through Recv back.
func (c *channel) Release(f *blocksync.Frame) {
	giveSlab(f.Slab)
	f.Payload, f.Slab = nil, nil
}

// pop gives the oldest frame; tell says that enough was taken since the last
// beat to let the other end know.
func (c *channel) pop() (f blocksync.Frame, tell, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return blocksync.Frame{}, false, false
	}
	a := c.queue[0]
	c.queue[0] = arrival{} // let go of the payload
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.taken += a.size
	if c.taken-c.told >= told(c.recvWindow) {
		c.told, tell = c.taken, true
	}
	return a.frame, tell, true
}

func (c *channel) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0
}

// missing reports whether the other end sent frames that are not here yet.
func (c *channel) missing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gotSeq < c.peerSeq
}

// overdue reports whether frames are missing for a whole timeout without any
// that came. A server that refuses a frame tells nobody, and if it was the
// last one no later one shows the gap.
func (c *channel) overdue(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gotSeq >= c.peerSeq:
		c.behind = time.Time{}
	case c.behind.IsZero(), c.gotSeq != c.behindSeq:
		c.behind, c.behindSeq = now, c.gotSeq
	default:
		return now.Sub(c.behind) > c.end.spec.Timeout
	}
	return false
}

// signal leaves a token; one is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
