package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// authority signs clients' certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	der, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

// sign signs a certificate, the first of all by itself.
func (a *authority) sign(c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

func (a *authority) client(name string) tls.Certificate {
	der, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificates: a client comes by its certificate, if the authority that we
// know signed it; one that another signed does not even get to ask.
func TestCertificates(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	access, err := ParseAccess([]byte("[[client]]\nname=\"prom\"\nrole=\"read\"\ncertificate=\"prometheus.example.org\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(New(&book{}, access, http.NotFoundHandler(), zerolog.Nop()))
	s.TLS = &tls.Config{ClientCAs: x509.NewCertPool(), ClientAuth: tls.VerifyClientCertIfGiven}
	s.TLS.ClientCAs.AddCert(ours.cert)
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	ask := func(certs ...tls.Certificate) (int, error) {
		transport := s.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certs
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(s.URL + "/v1/jobs")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}
	if status, err := ask(ours.client("prometheus.example.org")); status != http.StatusOK {
		t.Errorf("by its certificate: %d %v", status, err)
	}
	if status, err := ask(ours.client("somebody.example.org")); status != http.StatusUnauthorized {
		t.Errorf("another name: %d %v", status, err)
	}
	if status, err := ask(); status != http.StatusUnauthorized {
		t.Errorf("none: %d %v", status, err)
	}
	if status, err := ask(others.client("prometheus.example.org")); err == nil && status == http.StatusOK {
		t.Errorf("signed by another authority: %d", status)
	}
}
