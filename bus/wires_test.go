package bus

import (
	"bufio"
	"bytes"
	"context"
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

// TestGreeting: one line that begins a connection, and nothing that could be
// meant for TLS, is taken for the server's greeting.
func TestGreeting(t *testing.T) {
	for name, tc := range map[string]struct {
		said string
		ends bool
		want string
	}{
		"whole":        {"INFO {}\r\n", false, ""},
		"cut":          {"INFO {", true, "EOF"},
		"nothing":      {"", true, "EOF"},
		"silent":       {"INFO {", false, "given up"},
		"more":         {"INFO {}\r\n\x16\x03", false, "2 bytes behind"},
		"without end":  {strings.Repeat("x", maxGreeting), false, "no end"},
		"in one piece": {"INFO {" + strings.Repeat(" ", maxGreeting/2) + "}\r\n", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			defer here.Close()
			defer there.Close()
			ctx, giveUp := context.WithCancelCause(testContext(t))
			go func() {
				_, _ = io.WriteString(there, tc.said)
				if tc.ends {
					there.Close()
				} else if name == "silent" {
					giveUp(errors.New("given up"))
				}
			}()
			got, err := greeting(ctx, here)
			if tc.want == "" {
				must(t, err)
				g := &greeted{Conn: here, greeting: got}
				go func() { _, _ = io.WriteString(there, "and more") }()
				all := make([]byte, len(tc.said)+len("and more"))
				if _, err := io.ReadFull(g, all); err != nil || string(all) != tc.said+"and more" {
					t.Errorf("%d bytes, %v", len(all), err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
