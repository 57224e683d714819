package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
	"xmig/jobs/coordinator/metrics"
)

// httpFlags are those of `xmig server` about HTTP and alerts.
type httpFlags struct {
	HTTP         string `name:"http" placeholder:"HOST:PORT" help:"Where to answer HTTP: API, alerts, metrics and a page to look at, such as 127.0.0.1:8480 (default: nowhere)."`
	HTTPClients  string `name:"http-clients" placeholder:"FILE" type:"path" help:"Who may ask, TOML: names, roles and tokens or certificates. Without it only this machine may, and only look."`
	HTTPCert     string `name:"http-cert" placeholder:"FILE" type:"path" help:"Certificate of this server, PEM, for HTTPS."`
	HTTPKey      string `name:"http-key" placeholder:"FILE" type:"path" help:"Key of that certificate, PEM."`
	HTTPClientCA string `name:"http-client-ca" placeholder:"FILE" type:"path" help:"Authority that signed the clients' certificates; with it they may come by one in place of a token."`
	Rules        string `placeholder:"FILE" type:"path" help:"What to do about alerts, TOML (default: nothing). xmig rule test tries it out."`
}

// httpSettings are those flags, read.
type httpSettings struct {
	Listen string
	Access api.Access
	TLS    *tls.Config
}

// settings reads the files that the flags name.
func (f *httpFlags) settings() (set coordinatorSettings, err error) {
	if f.Rules != "" {
		text, err := os.ReadFile(f.Rules)
		if err != nil {
			return set, usage("--rules: %w", err)
		}
		if set.Rules, err = alert.ParseRules(text); err != nil {
			return set, fmt.Errorf("%s: %w", f.Rules, err)
		}
		set.RulesFile, set.RulesText = f.Rules, string(text)
	}
	set.HTTP.Listen = f.HTTP
	if f.HTTP == "" {
		if f.HTTPClients+f.HTTPCert+f.HTTPKey+f.HTTPClientCA != "" {
			return set, usage("--http-… without --http: say where to listen")
		}
		return set, nil
	}
	host, _, err := net.SplitHostPort(f.HTTP)
	if err != nil {
		return set, usage("--http %q: want HOST:PORT: %w", f.HTTP, err)
	}
	if f.HTTPClients == "" {
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return set, usage("--http %s: whoever reaches it would see everything; give --http-clients, or listen on 127.0.0.1", f.HTTP)
		}
	} else if set.HTTP.Access, err = readAccess(f.HTTPClients); err != nil {
		return set, err
	}
	set.HTTP.TLS, err = f.tls()
	return set, err
}

func readAccess(path string) (api.Access, error) {
	info, err := os.Stat(path)
	if err != nil {
		return api.Access{}, usage("--http-clients: %w", err)
	}
	if info.Mode()&0o007 != 0 {
		return api.Access{}, usage("--http-clients %s: everybody may read it (mode %v), and it holds secrets: chmod o= it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return api.Access{}, usage("--http-clients: %w", err)
	}
	a, err := api.ParseAccess(text)
	if err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

func (f *httpFlags) tls() (*tls.Config, error) {
	if f.HTTPCert == "" && f.HTTPKey == "" {
		if f.HTTPClientCA != "" {
			return nil, usage("--http-client-ca without --http-cert and --http-key: certificates need HTTPS")
		}
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.HTTPCert, f.HTTPKey)
	if err != nil {
		return nil, usage("--http-cert, --http-key: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if f.HTTPClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(f.HTTPClientCA)
	if err != nil {
		return nil, usage("--http-client-ca: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, usage("--http-client-ca %s: no certificate in it", f.HTTPClientCA)
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven // a token will do as well
	return cfg, nil
}

// serveHTTP answers HTTP until ctx ends; without an address it does nothing.
func serveHTTP(ctx context.Context, c *control, log zerolog.Logger) error {
	set := c.set.HTTP
	if set.Listen == "" {
		return nil
	}
	l, err := listenHTTP("http", set.Listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if set.TLS != nil {
		scheme = "https"
	} else if len(set.Access.Clients) > 0 && !loopback(l.Addr()) {
		log.Warn().Str("http", set.Listen).Msg("tokens travel in the clear: give --http-cert and --http-key")
	}
	log.Info().Str("http", scheme+"://"+l.Addr().String()).Msg("HTTP is answered")
	scrape := metrics.Handler(c.counts, metrics.Process{Version: thisBuild().String(), Go: runtime.Version(), Bus: busCounts(c.bus)})
	return api.New(c, set.Access, scrape, log).Serve(ctx, l, set.TLS)
}

func listenHTTP(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, usage("--%s: %w", flag, err)
	}
	return l, nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func busCounts(b *bus.Bus) func() metrics.Bus {
	return func() metrics.Bus {
		n := b.Counts()
		return metrics.Bus{Connected: b.Connected(), Reconnects: n.Reconnects, EventsLost: n.EventsLost, LeasesLost: n.LeasesLost, HeartbeatsFailed: n.HeartbeatsFailed}
	}
}

// serveMetrics lets Prometheus ask a worker until ctx ends.
func serveMetrics(ctx context.Context, b *bus.Bus, node, address string, log zerolog.Logger) error {
	if address == "" {
		return nil
	}
	l, err := listenHTTP("metrics", address)
	if err != nil {
		return err
	}
	log.Info().Str("metrics", "http://"+l.Addr().String()+"/metrics").Msg("metrics are told")
	w := metrics.NewWorker(node, time.Now())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(w, metrics.Process{Version: thisBuild().String(), Go: runtime.Version(), Worker: true, Bus: busCounts(b)}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: healthTime, ReadTimeout: healthTime, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	failed := make(chan error, 1)
	watch, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		failed <- s.Serve(l)
	}()
	err = b.Records().Watch(watch, w.Record)
	_ = s.Close()
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("metrics at %s: %w", address, served)
	}
	return err
}

// openText opens a file, or stdin for "-".
func openText(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, usage("%w", err)
	}
	return f, nil
}
