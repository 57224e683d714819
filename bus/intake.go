package bus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"strconv"
	"sync"

	"github.com/nats-io/nats-server/v2/server"

	"xmig/blocksync"
)

// intake is the destination's connection for the frames that its lane's stream
// delivers. It speaks the client protocol itself, because the client library
// reads in small pieces and allocates every message: this one reads each
// payload once, from the server's buffers to where it is written to the disk from.
//
// It is a pipe within this process, belongs to one lane, and is not made again.
type intake struct {
	c    net.Conn
	r    *bufio.Reader
	take func(message, slab []byte) error
	pong chan struct{}
	done chan struct{}
}

const (
	// intakeBuffer holds protocol lines and small frames; larger payloads go past it.
	intakeBuffer = 16 << 10
)

// hello is the client's side of the handshake.
type hello struct {
	Verbose  bool   `json:"verbose"`
	Pedantic bool   `json:"pedantic"`
	User     string `json:"user"`
	Pass     string `json:"pass"`
	Name     string `json:"name"`
	Lang     string `json:"lang"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
}

// openIntake connects to s and subscribes to subject. From then on take is
// called for each message, from one goroutine, until close or the first error,
// which lost is told. A message that lies in a slab is its payload at HeadRoom
// with the frame's head in front; a small one has no slab.
func openIntake(s *server.Server, user, pass, subject string, take func(message, slab []byte) error, lost func(error)) (*intake, error) {
	c, err := s.InProcessConn()
	if err != nil {
		return nil, err
	}
	in := &intake{c: c, r: bufio.NewReaderSize(c, intakeBuffer), take: take, pong: make(chan struct{}, 1), done: make(chan struct{})}
	if err := in.greet(user, pass, subject); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	// The pipe has no buffer: an answer written by the reader could wait for a
	// server that waits for the reader.
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for range in.pong {
			if _, err := io.WriteString(c, "PONG\r\n"); err != nil {
				return // the reader sees the same
			}
		}
	}()
	go func() {
		err := in.run()
		close(in.pong)
		_ = c.Close() // frees the other goroutine; that it was closed already is no fault
		<-answered
		lost(err)
		close(in.done)
	}()
	return in, nil
}

// greet ends with the server's answer to a ping, so that a refusal is seen here.
func (in *intake) greet(user, pass, subject string) error {
	if line, err := in.line(); err != nil || !bytes.HasPrefix(line, []byte("INFO ")) {
		return fmt.Errorf("lane server: %w: no greeting", errors.Join(err, errCodec))
	}
	who, err := json.Marshal(hello{User: user, Pass: pass, Name: "frames of a lane", Lang: "go", Version: "1", Protocol: 1})
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(in.c, "CONNECT %s\r\nSUB %s 1\r\nPING\r\n", who, subject)
		sent <- err
	}()
	for {
		line, err := in.line()
		switch {
		case err != nil:
			return fmt.Errorf("lane server: %w", errors.Join(err, in.c.Close(), <-sent))
		case bytes.HasPrefix(line, []byte("-ERR")):
			return fmt.Errorf("lane server: %s", line)
		case bytes.Equal(line, []byte("PONG")):
			return <-sent
		}
	}
}

// close ends the intake and waits until take is not called any more.
func (in *intake) close() {
	_ = in.c.Close() // the reader's error tells
	<-in.done
}

// line returns the next line without its end; it is valid until the next read.
func (in *intake) line() ([]byte, error) {
	line, err := in.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

func (in *intake) run() error {
	for {
		line, err := in.line()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(line, []byte("MSG ")):
			if err := in.message(line[len("MSG "):]); err != nil {
				return err
			}
		case bytes.Equal(line, []byte("PING")):
			signal(in.pong)
		case bytes.HasPrefix(line, []byte("-ERR")):
			return fmt.Errorf("lane server: %s", line)
		case bytes.Equal(line, []byte("PONG")), bytes.Equal(line, []byte("+OK")), bytes.HasPrefix(line, []byte("INFO ")):
		default:
			return fmt.Errorf("%w: lane server said %q", errCodec, line[:min(len(line), 40)])
		}
	}
}

// message reads "<subject> <sid> [reply] <size>" and the frame behind it.
func (in *intake) message(args []byte) error {
	size, err := strconv.Atoi(string(args[bytes.LastIndexByte(args, ' ')+1:]))
	if err != nil || size < 0 || size > maxFrame {
		return fmt.Errorf("%w: lane server said MSG %q", errCodec, args[:min(len(args), 80)])
	}
	slab := takeSlab(size - frameHead)
	message := slab
	if slab == nil {
		message = make([]byte, size)
	} else {
		message = slab[blocksync.HeadRoom-frameHead:][:size]
	}
	if _, err := io.ReadFull(in.r, message); err != nil {
		return err
	}
	var end [2]byte
	if _, err := io.ReadFull(in.r, end[:]); err != nil {
		return err
	}
	if end != [2]byte{'\r', '\n'} {
		return fmt.Errorf("%w: a message of %d bytes ends with %q", errCodec, size, end)
	}
	return in.take(message, slab)
}

// slabs are free buffers for received payloads, by the power of two that holds
// them: of one size they would be large, and a window of small frames would hold
// far more memory than its bytes. The last one used is the next, its memory is in the cache.
var slabs struct {
	sync.Mutex
	free  [21][][]byte
	bytes int
}

// keptSlabs is how many bytes of them are kept; the garbage collector has the rest.
const keptSlabs = 32 << 20

// smallPayload and smaller ones are left to the garbage collector.
const smallPayload = 32 << 10

func slabClass(payload int) int { return bits.Len(uint(payload - 1)) }

// takeSlab returns a buffer for a payload that is worth one.
func takeSlab(payload int) []byte {
	if payload <= smallPayload {
		return nil
	}
	class := slabClass(payload)
	slabs.Lock()
	defer slabs.Unlock()
	free := slabs.free[class]
	if len(free) == 0 {
		return blocksync.NewSlab(1 << class)
	}
	slab := free[len(free)-1]
	free[len(free)-1] = nil
	slabs.free[class] = free[:len(free)-1]
	slabs.bytes -= 1 << class
	return slab
}

// giveSlab takes back what takeSlab gave.
func giveSlab(slab []byte) {
	room := len(slab) - blocksync.HeadRoom
	if room > smallPayload && room <= blocksync.MaxPayload && room&(room-1) == 0 {
		slabs.Lock()
		defer slabs.Unlock()
		if slabs.bytes+room <= keptSlabs {
			slabs.bytes += room
			slabs.free[slabClass(room)] = append(slabs.free[slabClass(room)], slab)
		}
	}
}
