package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// Ports for those who must be known before they listen come from below the
// range that the kernel takes ports from by itself (32768 and up): what is free
// there now is not taken by some other connection a moment later.
const (
	firstPort = 20000
	portCount = 12000
)

// lastPort is what this process gave away last; processes begin at different ones.
var lastPort = func() *atomic.Uint32 { var n atomic.Uint32; n.Store(rand.Uint32N(portCount)); return &n }()

// Ports gives n ports at which nobody listens on any loopback address.
func Ports(t testing.TB, n int) (ports []int) {
	t.Helper()
	for tries := 0; len(ports) < n; tries++ {
		if tries > portCount {
			t.Fatalf("no %d ports are free from %d on", n, firstPort)
		}
		port := firstPort + int(lastPort.Add(1)%portCount)
		if free(t, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// free tells whether nobody listens there. No process may be started meanwhile:
// until its program is loaded it would have the port open too.
func free(t testing.TB, port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false // somebody's
	}
	if err := l.Close(); err != nil {
		t.Error(err)
		return false
	}
	return true
}
