package bus

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	vm1 = "11111111-2222-3333-4444-555555555555"
	vm2 = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	job = "01J0000000000000000000000A"
	jo2 = "01J0000000000000000000000B"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// testServer starts a real server of this process; listen is empty for none but in-process connections.
func testServer(t testing.TB, listen string, users ...User) *Server {
	t.Helper()
	s, err := StartServer(testContext(t), ServerConfig{StoreDir: t.TempDir(), Listen: listen, Port: -1, Sync: SyncLazy, Users: users, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func testConnect(t testing.TB, cfg Config) *Bus {
	t.Helper()
	cfg.Log = zerolog.Nop()
	b, err := Connect(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// testBus is a connection to a fresh bus with everything set up.
func testBus(t testing.TB) *Bus {
	t.Helper()
	b := testConnect(t, Config{InProcess: testServer(t, "")})
	if err := b.Setup(testContext(t), Layout{Memory: InMemory}); err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// proxy passes bytes between clients and a server, and loses them on demand.
type proxy struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool
	dropBack bool // bytes from the server are thrown away
	hang     bool // bytes of both are thrown away, and nobody is told
	refuse   bool
}

func newProxy(t testing.TB, url string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{l: l, target: strings.TrimPrefix(strings.TrimPrefix(url, "nats://"), "tls://"), conns: map[net.Conn]bool{}}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); p.cut(); p.wg.Wait() })
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	refuse := p.refuse
	p.mu.Unlock()
	s, err := net.Dial("tcp", p.target)
	if err != nil || refuse {
		_ = c.Close()
		if s != nil {
			_ = s.Close()
		}
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	p.wg.Add(2)
	go p.pipe(s, c, true)
	go p.pipe(c, s, false)
}

func (p *proxy) pipe(to, from net.Conn, up bool) {
	defer p.wg.Done()
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		drop := !up && p.dropBack || p.hang
		p.mu.Unlock()
		if drop {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

func (p *proxy) set(f func(p *proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}
