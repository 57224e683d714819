package monitoring

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Disks exports how the disks of some hosts are, as node_exporter's scripts do.
type Disks struct {
	hosts   []string
	server  *httptest.Server
	mu      sync.Mutex
	failing string // host, "": none
}

// NewDisks serves the disks of hosts, all well, until the test ends.
func NewDisks(t *testing.T, hosts ...string) *Disks {
	d := &Disks{hosts: hosts}
	d.server = httptest.NewServer(d)
	t.Cleanup(d.server.Close)
	return d
}

func (d *Disks) address() string { return strings.TrimPrefix(d.server.URL, "http://") }

// Fail makes the disk of one host fail, and that of any other be well; "": all are well.
func (d *Disks) Fail(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = host
}

func (d *Disks) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hosts {
		n := 0
		if h == d.failing {
			n = 24
		}
		fmt.Fprintf(w, "smart_reallocated_sectors{instance=\"%s.example.org:9100\",disk=\"sda\"} %d\n", h, n)
	}
}
