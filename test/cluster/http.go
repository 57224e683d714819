package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"xmig/jobs/coordinator/api"
)

// Tokens of those who may ask servers over HTTP, by role.
const (
	AdminToken = "admin-token-of-the-test"
	AlertToken = "alert-token-of-the-test"
	ReadToken  = "read-token-of-the-test"
)

const clientsText = `
[[client]]
name = "ann"
role = "admin"
token = "` + AdminToken + `"
[[client]]
name = "am"
role = "alert"
token = "` + AlertToken + `"
[[client]]
name = "prom"
role = "read"
token = "` + ReadToken + `"
`

// http is the part of the next server's command line that is about HTTP and
// alerts: nothing without Settings.Rules. The address stays over restarts.
func (c *Cluster) http() []string {
	c.t.Helper()
	if c.set.Rules == "" {
		return nil
	}
	address := fmt.Sprintf("127.0.0.1:%d", Ports(c.t, 1)[0])
	c.URLs = append(c.URLs, "http://"+address)
	return []string{"--http", address, "--http-clients", c.file("clients.toml", clientsText), "--rules", c.file("rules.toml", c.set.Rules)}
}

// Ask makes one request of the first server and gives the answer's status and body.
func (c *Cluster) Ask(method, path, token string, body any) (int, []byte) {
	c.t.Helper()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			c.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.URLs[0]+path, bytes.NewReader(data))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v; see %s", method, path, err, c.Coordinators[0].Log)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, out
}

// askTime is how long a request over HTTP may take.
const askTime = 30 * time.Second

// AwaitForgotten waits until the first server, which answers HTTP, does not know
// a guest on a host any more. What the bus tells a test, a server hears a moment
// later; what it then decides is decided of what it heard.
func (c *Cluster) AwaitForgotten(g *Guest, at *Host) {
	c.t.Helper()
	c.Eventually(func() error {
		status, body := c.Ask("GET", "/v1/hosts/"+at.Name, ReadToken, nil)
		var v api.HostView
		if err := json.Unmarshal(body, &v); err != nil || status != http.StatusOK || v.Host == nil {
			return fmt.Errorf("host %s over HTTP: %d %s (%v)", at.Name, status, body, err)
		}
		if _, known := v.Host.Find(g.UUID); known {
			return fmt.Errorf("the server still knows %s on %s", g.Name, at.Name)
		}
		return nil
	})
}

func (c *Cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(fmt.Errorf("a file of the cluster: %w", err))
	}
	return path
}
