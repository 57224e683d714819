package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
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
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue // somebody's
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}
