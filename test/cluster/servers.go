package cluster

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// clusterTTL of leases and presence where the bus is three servers: longer than
// they need to agree on a new leader when one of them dies.
const clusterTTL = 10 * time.Second

// servers makes three servers that have the bus in them, as one cluster: each
// key is kept three times, and any two of them go on.
func (c *Cluster) servers() {
	c.t.Helper()
	const n = 3
	var ports []string
	for _, p := range Ports(c.t, 2*n) {
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", p))
	}
	for i := range n {
		name := fmt.Sprintf("server%d", i+1)
		var routes []string
		for j := range n {
			if j != i {
				routes = append(routes, "nats://"+ports[n+j])
			}
		}
		c.Coordinators = append(c.Coordinators, c.process(name, slices.Concat([]string{"server", "--state-dir", filepath.Join(c.Dir, name), "--server-name", name,
			"--listen", ports[i], "--cluster", ports[n+i], "--routes", strings.Join(routes, ","), "--replicas", "3", "--sync", "always",
			"--lease-ttl", clusterTTL.String(), "--node-ttl", clusterTTL.String()}, c.http(), c.set.Server)...))
		c.listens = append(c.listens, ports[i])
	}
	c.Server = c.Coordinators[0]
}

// living is the address of a server that takes connections.
func (c *Cluster) living() string {
	for _, at := range c.listens {
		conn, err := net.DialTimeout("tcp", at, time.Second)
		if err == nil {
			_ = conn.Close() // it was only asked whether it is there
			return at
		}
	}
	return ""
}

// AwaitCopies waits until every server of the bus has all that is stored: until
// then no other may be taken away.
func (c *Cluster) AwaitCopies() {
	c.t.Helper()
	c.Eventually(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, f := range c.Bus().Examine(ctx) {
			if f.Level == jobs.Bad || f.Code == "replica" {
				return fmt.Errorf("the bus: %s; see %s", f.Text, c.Server.Log)
			}
		}
		return nil
	})
}
