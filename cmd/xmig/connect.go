package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
)

const defaultURL = "nats://127.0.0.1:4222"

// busConfig is how the flags say to reach the bus.
func (g *globals) busConfig(name string, log zerolog.Logger) (bus.Config, error) {
	if g.NATS != "" && g.Context != "" {
		return bus.Config{}, usage("--nats and --context both name the bus: give one of them")
	}
	cfg := bus.Config{URL: g.NATS, Context: g.Context, Creds: g.Creds, NKey: g.NKey, User: g.User, Password: g.Password, CA: g.CA, Name: name, Log: log}
	if cfg.URL == "" && cfg.Context == "" {
		cfg.URL = defaultURL
	}
	return cfg, nil
}

// connect reaches the bus for a command that asks something, within --timeout.
func (g *globals) connect(ctx context.Context) (*bus.Bus, error) {
	cfg, err := g.busConfig("xmig", zerolog.Nop())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	return bus.Connect(ctx, cfg)
}

// ask bounds one question to the bus.
func (g *globals) ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, g.Timeout)
}

// logger writes lines for people to a terminal and JSON to everything else.
func (g *globals) logger(t *terminal) zerolog.Logger {
	level, err := zerolog.ParseLevel(g.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel // the grammar lets nothing else in
	}
	out := t.Err
	if t.Person {
		out = zerolog.ConsoleWriter{Out: t.Err, NoColor: true, TimeFormat: time.RFC3339}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}

// localAddress is the address of this host on its way to the bus: what other
// hosts most likely reach it by.
func localAddress(natsURL string) string {
	first, _, _ := strings.Cut(natsURL, ",")
	u, err := url.Parse(first)
	if err != nil || u.Hostname() == "" {
		return "127.0.0.1"
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port)) // sends nothing
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// printLine writes v as one line of JSON, for streams of values.
func printLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
