package cluster

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
)

// How says what becomes of connections over a link.
type How string

const (
	Healed  How = "healed"
	Refused How = "refused" // reset at once, as by a host without the service
	Silent  How = "silent"  // nothing arrives and nobody is told, as behind a dead switch
)

// Link carries connections to the server, from one host. It can be cut.
type Link struct {
	l      net.Listener
	target func() string // where the server listens now
	wg     sync.WaitGroup

	mu    sync.Mutex
	how   How
	heals chan struct{} // closed when how changes
	conns map[net.Conn]bool
}

// newLink listens on a port of its own for as long as the test lasts: no other
// process can take the port while the link is cut.
func newLink(t testing.TB, target func() string) *Link { return newLinkAt(t, "127.0.0.1:0", target) }

// laneLink is a link that stands at an address of its own before a worker's
// lanes, and what tells the worker so. The port is the same on both.
func (c *Cluster) laneLink() (*Link, []string) {
	var k *Link
	k = newLinkAt(c.t, fmt.Sprintf("127.0.0.2:%d", Ports(c.t, 1)[0]), func() string {
		_, port, _ := net.SplitHostPort(k.l.Addr().String()) // an address that listens has one
		return net.JoinHostPort("127.0.0.1", port)
	})
	_, port, err := net.SplitHostPort(k.l.Addr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	return k, []string{"--lane-ports", port, "--lane-advertise", "127.0.0.2"}
}

func newLinkAt(t testing.TB, address string, target func() string) *Link {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	k := &Link{l: l, target: target, how: Healed, heals: make(chan struct{}), conns: map[net.Conn]bool{}}
	k.wg.Add(1)
	go k.accept()
	t.Cleanup(k.close)
	return k
}

// URL is where to connect.
func (k *Link) URL() string { return "nats://" + k.l.Addr().String() }

// Cut makes the link carry nothing from now on.
func (k *Link) Cut(how How) { k.set(how) }

// Heal takes new connections again; those that went silent carry on.
func (k *Link) Heal() { k.set(Healed) }

func (k *Link) set(how How) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.how = how
	close(k.heals)
	k.heals = make(chan struct{})
	if how == Refused {
		for c := range k.conns {
			reset(c)
		}
	}
}

// reset closes a connection so that its other end sees it broken, not ended.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed one
	}
	_ = c.Close() // whoever copies from it closes it too
}

func (k *Link) close() {
	_ = k.l.Close() // its accept loop ends
	k.set(Refused)
	k.wg.Wait()
}

func (k *Link) accept() {
	defer k.wg.Done()
	for {
		c, err := k.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the connection was gone before it was taken
		}
		k.wg.Add(1)
		go k.carry(c)
	}
}

// state is how the link is, and what ends when that changes.
func (k *Link) state() (How, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.how, k.heals
}

// carry joins one connection with the server.
func (k *Link) carry(c net.Conn) {
	defer k.wg.Done()
	if !k.audible() {
		reset(c)
		return
	}
	s, err := net.Dial("tcp", k.target())
	if err != nil {
		reset(c)
		return
	}
	k.mu.Lock()
	refused := k.how == Refused
	k.conns[c], k.conns[s] = true, true
	k.mu.Unlock()
	if refused { // meanwhile
		reset(c)
		reset(s)
	}
	var both sync.WaitGroup
	both.Go(func() { k.copy(c, s) })
	both.Go(func() { k.copy(s, c) })
	both.Wait()
	k.mu.Lock()
	delete(k.conns, c)
	delete(k.conns, s)
	k.mu.Unlock()
}

// audible waits while the link is silent; false: it refuses.
func (k *Link) audible() bool {
	for {
		how, changed := k.state()
		if how != Silent {
			return how == Healed
		}
		<-changed
	}
}

// copy carries bytes one way until either end closes; then both do.
func (k *Link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && k.audible() {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
