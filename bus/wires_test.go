package bus

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCommandsStayWhole: what the client library writes and what is published
// past it share a connection, and neither comes in the middle of the other.
func TestCommandsStayWhole(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	w := &wires{out: &outlet{Conn: here, timeout: time.Minute}}
	const writers, each = 4, 200
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte('a' + i)}, 1000)
			for range each {
				if err := w.publish("lane.x", body); err != nil {
					t.Error(err)
				}
				if _, err := io.WriteString(w.out, "PING\r\n"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		all.Wait()
		here.Close()
	}()
	pings, messages := 0, 0
	for r := bufio.NewReader(there); ; {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		switch {
		case err == nil && line == "PING\r\n":
			pings++
		case err == nil && line == "PUB lane.x 1000\r\n":
			body := make([]byte, 1002)
			if _, err := io.ReadFull(r, body); err != nil || strings.Trim(string(body), string(body[:1])) != "\r\n" {
				t.Fatalf("message %q, %v", body, err)
			}
			messages++
		default:
			t.Fatalf("command %q, %v", line, err)
		}
	}
	if pings != writers*each || messages != writers*each {
		t.Errorf("%d pings and %d messages of %d", pings, messages, writers*each)
	}
}

// TestHungWriteEnds: nobody reads, and whoever lifts a deadline lifts none of ours.
func TestHungWriteEnds(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	w := &wires{out: &outlet{Conn: here, timeout: 50 * time.Millisecond}}
	ended := make(chan error)
	go func() { ended <- w.publish("lane.x", []byte("frame")) }()
	for {
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			return
		default:
			if err := w.out.SetWriteDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
