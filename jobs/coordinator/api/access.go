package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/BurntSushi/toml"

	"xmig/jobs"
)

// Role is what a client may do.
type Role string

const (
	Anyone Role = ""      // no token: what everybody who reaches the port may see
	Read   Role = "read"  // look at everything
	Alert  Role = "alert" // send alerts, and nothing else
	Admin  Role = "admin" // everything
)

// may reports whether a role is enough for what needs another.
func (r Role) may(need Role) bool { return need == Anyone || r == need || r == Admin }

// Client is who may ask.
type Client struct {
	Name        string
	Role        Role
	token       [sha256.Size]byte
	hasToken    bool
	certificate string // common name
}

// Access says who may ask; with no client only this machine may, and only look.
type Access struct{ Clients []Client }

const minToken = 16

// ParseAccess reads a file of clients.
func ParseAccess(text []byte) (Access, error) {
	var f struct {
		Client []struct {
			Name        string `toml:"name"`
			Role        string `toml:"role"`
			Token       string `toml:"token"`
			Certificate string `toml:"certificate"`
		} `toml:"client"`
	}
	meta, err := toml.Decode(string(text), &f)
	if err != nil {
		return Access{}, jobs.Failed(jobs.CodeUsage, "clients: %w", err)
	}
	var errs []error
	for _, k := range meta.Undecoded() {
		errs = append(errs, fmt.Errorf("unknown key %s", k))
	}
	if len(f.Client) == 0 {
		errs = append(errs, errors.New("nobody is named"))
	}
	var a Access
	seen := map[string]bool{}
	for i, c := range f.Client {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("client %d %q: %w", i+1, c.Name, fmt.Errorf(format, args...)))
		}
		role := Role(c.Role)
		if c.Name == "" || seen[c.Name] {
			bad("want a name of its own")
		}
		seen[c.Name] = true
		if role != Read && role != Alert && role != Admin {
			bad("role %q: want read, alert or admin", c.Role)
		}
		switch {
		case (c.Token == "") == (c.Certificate == ""):
			bad("want a token or the common name of a certificate, one of them")
		case c.Token != "" && len(c.Token) < minToken:
			bad("the token is too short: want %d characters or more", minToken)
		}
		a.Clients = append(a.Clients, Client{Name: c.Name, Role: role, token: sha256.Sum256([]byte(c.Token)), hasToken: c.Token != "", certificate: c.Certificate})
	}
	if len(errs) > 0 {
		return Access{}, jobs.Failed(jobs.CodeUsage, "clients: %w", errors.Join(errs...))
	}
	return a, nil
}

// errNobody: no client has this token or certificate.
var errNobody = errors.New("no client has this token or certificate")

// who finds the client of a request. Every token is compared, in constant time.
func (a Access) who(r *http.Request) (Client, error) {
	if len(a.Clients) == 0 {
		return local(r)
	}
	var found *Client
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
		for i := range a.Clients {
			if c := &a.Clients[i]; c.hasToken && subtle.ConstantTimeCompare(sum[:], c.token[:]) == 1 {
				found = c
			}
		}
	} else if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		for i := range a.Clients {
			if c := &a.Clients[i]; c.certificate != "" && c.certificate == name {
				found = c
			}
		}
	}
	if found == nil {
		return Client{}, errNobody
	}
	return *found, nil
}

// local lets this machine look. A page of another site that has its name lead
// here is not this machine.
func local(r *http.Request) (Client, error) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); host == "localhost" || ip != nil && ip.IsLoopback() {
		return Client{Name: "local", Role: Read}, nil
	}
	return Client{}, fmt.Errorf("asked as %q: without clients only localhost is answered", host)
}
