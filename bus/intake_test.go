package bus

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"xmig/blocksync"
)

// fed is an intake that reads what is given.
func fed(r io.Reader, take func(message, slab []byte) error) *intake {
	return &intake{r: bufio.NewReaderSize(r, intakeBuffer), take: take, pong: make(chan struct{}, 1)}
}

func delivery(subject string, message []byte) []byte {
	b := fmt.Appendf(nil, "MSG %s 1 $JS.ACK.reply.to %d\r\n", subject, len(message))
	return append(append(b, message...), '\r', '\n')
}

// TestIntakeReads: frames of every size class, among other lines of the
// protocol, whole however the bytes are cut; large ones begin on a page.
func TestIntakeReads(t *testing.T) {
	sizes := []int{0, 1, 100, 4 << 10, smallPayload, smallPayload + 1, 64 << 10, 100_000, 1<<20 - 1, 1 << 20}
	var stream bytes.Buffer
	stream.WriteString("PING\r\n+OK\r\nPONG\r\nINFO {}\r\n")
	var sent [][]byte
	for i, n := range sizes {
		f := frame(i, n)
		m, err := encodeFrame(head{3, 0, uint64(i + 1)}, f, nil)
		must(t, err)
		sent = append(sent, bytes.Clone(m))
		stream.Write(delivery("lane.chunk", m))
	}
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r },
		"half":  iotest.HalfReader,
		"odd":   func(r io.Reader) io.Reader { return &pieces{r, 777} },
	} {
		t.Run(name, func(t *testing.T) {
			var got int
			in := fed(cut(bytes.NewReader(stream.Bytes())), func(message, slab []byte) error {
				if !bytes.Equal(message, sent[got]) {
					t.Fatalf("message %d of %d bytes is not what was sent", got, len(message))
				}
				h, f, err := decodeFrame(message)
				must(t, err)
				if h.seq != uint64(got+1) || len(f.Payload) != sizes[got] {
					t.Fatalf("message %d: frame %d with %d bytes", got, h.seq, len(f.Payload))
				}
				if slab != nil && &f.Payload[0] != &slab[blocksync.HeadRoom] {
					t.Error("a payload does not lie at its place in the slab")
				}
				if (slab != nil) != (sizes[got] > smallPayload) {
					t.Errorf("payload of %d bytes: slab of %d", sizes[got], len(slab))
				}
				giveSlab(slab) // and is used again
				got++
				return nil
			})
			if err := in.run(); !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
			if got != len(sizes) {
				t.Errorf("%d of %d messages", got, len(sizes))
			}
			if len(in.pong) != 1 {
				t.Error("a ping was not noticed")
			}
		})
	}
}

type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

func TestIntakeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"error":         {"-ERR 'Slow Consumer'\r\n", "Slow Consumer"},
		"nonsense":      {"HELLO\r\n", "HELLO"},
		"no size":       {"MSG a 1 \r\n", "MSG"},
		"no number":     {"MSG a 1 x\r\n", "MSG"},
		"negative":      {"MSG a 1 -5\r\n", "MSG"},
		"too large":     {fmt.Sprintf("MSG a 1 %d\r\n", maxFrame+1), "MSG"},
		"nothing":       {"MSG \r\n", "MSG"},
		"endless line":  {strings.Repeat("a", 2*intakeBuffer), "buffer full"},
		"cut":           {"MSG a 1 5\r\nhel", "unexpected EOF"},
		"other length":  {"MSG a 1 5\r\nhello world\r\n", "ends with"},
		"cut at end":    {"MSG a 1 5\r\nhello", "EOF"},
		"header format": {"HMSG a 1 5 10\r\n", "HMSG"},
	} {
		t.Run(name, func(t *testing.T) {
			in := fed(strings.NewReader(tc.text), func(m, _ []byte) error {
				t.Errorf("took %q", m)
				return nil
			})
			if err := in.run(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ended with %v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzIntake: whatever the server says, what is taken is what stands there, and
// nothing larger than a frame is made room for.
func FuzzIntake(f *testing.F) {
	f.Add(delivery("a.b", []byte("hello")))
	f.Add([]byte("PING\r\nMSG a 1 0\r\n\r\n"))
	f.Add([]byte("MSG a 1 99999999999999999999\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := fed(bytes.NewReader(b), func(message, _ []byte) error {
			if len(message) > maxFrame || !bytes.Contains(b, message) {
				t.Errorf("took %d bytes that nobody sent", len(message))
			}
			return nil
		})
		if in.run() == nil {
			t.Error("it ended without a reason")
		}
	})
}

// TestIntakeGreeting: who is refused is told at once, and leaves nothing behind.
func TestIntakeGreeting(t *testing.T) {
	s := testLaneServer(t, 0)
	take := func(_, _ []byte) error { return nil }
	if _, err := openIntake(s.s, s.auth.self, "wrong", "x", take, func(error) {}); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("a wrong password gives %v", err)
	}
	var lost error
	in, err := openIntake(s.s, s.auth.self, s.auth.secret, "x", take, func(err error) { lost = err })
	must(t, err)
	in.close()
	if lost == nil {
		t.Error("its end was told to nobody")
	}
}

// TestGather: what one Write of the TLS connection makes reaches the socket in
// few writes, all of it and in order; other writes pass at once.
func TestGather(t *testing.T) {
	var w countingConn
	g := &gather{Conn: &w}
	_, err := g.Write([]byte("first"))
	must(t, err)
	if w.writes != 1 {
		t.Fatal("a write was kept though nothing said so")
	}
	must(t, g.hold(true))
	want := []byte("first")
	for i := range 64 {
		record := bytes.Repeat([]byte{byte(i)}, 16<<10)
		want = append(want, record...)
		n, err := g.Write(record)
		must(t, err)
		if n != len(record) {
			t.Fatalf("wrote %d of %d", n, len(record))
		}
	}
	must(t, g.hold(false))
	if !bytes.Equal(w.got, want) {
		t.Error("not what was written")
	}
	if w.writes > 1+9 {
		t.Errorf("%d writes for a MiB", w.writes-1)
	}
	w.fail = errors.New("cut")
	must(t, g.hold(true))
	if _, err := g.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := g.hold(false); !errors.Is(err, w.fail) {
		t.Errorf("the failure was swallowed: %v", err)
	}
	if _, err := g.Write([]byte("y")); !errors.Is(err, w.fail) {
		t.Errorf("written on behind a gap: %v", err)
	}
}

type countingConn struct {
	net.Conn
	got    []byte
	writes int
	fail   error
}

func (c *countingConn) Write(b []byte) (int, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	c.writes++
	c.got = append(c.got, b...)
	return len(b), nil
}
