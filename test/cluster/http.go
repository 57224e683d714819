package cluster

import (
	"fmt"
	"os"
	"path/filepath"
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

func (c *Cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(fmt.Errorf("a file of the cluster: %w", err))
	}
	return path
}
