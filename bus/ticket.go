package bus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"time"

	"xmig/jobs"
)

// laneHost is the name in a lane server's certificate. It is no address: the
// certificate itself is pinned, names prove nothing here.
const laneHost = "xmig-lane"

// ticket is what lets a source into one lane. It travels over the control bus
// and is worth the lane's content: it must not be logged or stored.
type ticket struct {
	Job         string        `json:"job"`
	Epoch       uint64        `json:"epoch"`
	Opening     string        `json:"opening"`
	Node        string        `json:"node"` // the destination
	Prefix      string        `json:"prefix"`
	Address     string        `json:"address"` // host:port
	Plain       bool          `json:"plain"`   // without TLS, see LaneServerConfig
	Certificate []byte        `json:"certificate"`
	User        string        `json:"user"`
	Secret      string        `json:"secret"`
	Channels    []string      `json:"channels"`
	Window      int64         `json:"window_bytes"`
	Timeout     time.Duration `json:"timeout_ns"`
}

func readTicket(t jobs.Ticket) (ticket, error) {
	var out ticket
	if err := Decode(t, &out); err != nil {
		return ticket{}, fmt.Errorf("lane ticket: %w", err)
	}
	return out, nil
}

// spec is the lane as the ticket describes it.
func (t ticket) spec() LaneSpec {
	return LaneSpec{Job: t.Job, Epoch: t.Epoch, opening: t.Opening, Channels: t.Channels, Window: t.Window, Timeout: t.Timeout}
}

// tls trusts exactly the ticket's certificate. Its validity is not compared
// with the clock: a dom0 whose clock is wrong must still be evacuated, and
// the certificate dies with the process that made it.
func (t ticket) tls() (*tls.Config, error) {
	cert, err := x509.ParseCertificate(t.Certificate)
	if err != nil {
		return nil, jobs.Failed(jobs.CodeInternal, "lane ticket: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    pool,
		ServerName: laneHost,
		Time:       func() time.Time { return cert.NotBefore.Add(time.Hour) },
	}, nil
}

// ephemeralCertificate makes a key that never leaves this process.
func ephemeralCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: laneHost},
		DNSNames:              []string{laneHost},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// secret makes a credential of 256 random bits, and what is kept of it.
func secret() (plain string, hash [32]byte) {
	plain = rand.Text() + rand.Text()
	return plain, sha256.Sum256([]byte(plain))
}

// PortRange is where a lane server may listen; the zero value is any port.
type PortRange struct{ First, Last int }

// ParsePorts reads "7400-7449", one port, or nothing for any.
func ParsePorts(s string) (PortRange, error) {
	if s == "" {
		return PortRange{}, nil
	}
	first, last := s, s
	for i, r := range s {
		if r == '-' {
			first, last = s[:i], s[i+1:]
			break
		}
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return PortRange{}, jobs.Failed(jobs.CodeUsage, "ports %q: want FIRST-LAST, as 7400-7449", s)
	}
	return PortRange{int(a), int(b)}, nil
}

// free finds a port of the range that nobody listens on. Another process may
// take it right after: the server then says so when it starts.
func (p PortRange) free(host string) (int, error) {
	if p.First == 0 {
		return -1, nil // the server asks the kernel
	}
	var last error
	for port := p.First; port <= p.Last; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, jobs.Failed(jobs.CodeUsage, "lane server: no port of %d-%d is free on %s: %w", p.First, p.Last, host, last)
}

// listenAddress turns an address or the name of an interface into an address.
func listenAddress(s string) (string, error) {
	if net.ParseIP(s) != nil {
		return s, nil
	}
	ifc, err := net.InterfaceByName(s)
	if err != nil {
		return "", jobs.Failed(jobs.CodeUsage, "lane address %q: neither an address nor an interface of this host", s)
	}
	addrs, err := ifc.Addrs()
	if err != nil {
		return "", fmt.Errorf("addresses of %s: %w", s, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", jobs.Failed(jobs.CodeUsage, "lane address: interface %s has no address that is not link-local", s)
}
