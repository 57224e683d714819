package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"xmig/bus"
	"xmig/jobs"
)

// healthSocket is where a server or a node answers whether it is well. A
// socket of this very process: an answer over the bus could be another's.
const healthSocket = "health.sock"

// healthTime bounds a health check: it runs every few seconds.
const healthTime = 3 * time.Second

const healthy = "ok"

// socketPath gives a path below the kernel's limit of 108 bytes whatever the
// directory's length; close keeps and frees what the path leads through.
func socketPath(dir string) (path string, close func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), healthSocket), d.Close, nil
}

// serveHealth answers health checks until ctx ends; well says what is wrong.
func serveHealth(ctx context.Context, dir string, well func() error) error {
	if err := os.Remove(filepath.Join(dir, healthSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("health socket: %w", err)
	}
	path, done, err := socketPath(dir)
	if err != nil {
		return fmt.Errorf("health socket: %w", err)
	}
	defer done()
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("health socket in %s: %w", dir, err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("health socket in %s: %w", dir, err)
		}
		text := healthy
		if err := well(); err != nil {
			text = err.Error()
		}
		_ = c.SetDeadline(time.Now().Add(healthTime))
		_, _ = io.WriteString(c, text) // whoever asked and left needs no answer
		c.Close()
	}
}

// askHealth asks the process that uses dir.
func askHealth(dir string) error {
	path, done, err := socketPath(dir)
	if err != nil {
		return jobs.Failed(jobs.CodeAway, "not running: %w", err)
	}
	defer done()
	c, err := net.DialTimeout("unix", path, healthTime)
	if err != nil {
		return jobs.Failed(jobs.CodeAway, "nobody answers in %s: %w", dir, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(healthTime))
	text, err := io.ReadAll(c)
	if err != nil || string(text) != healthy {
		return jobs.Failed(jobs.CodeAway, "not well: %s", strings.TrimSpace(string(text)))
	}
	return nil
}

// healthCmd asks an HTTP page, for images FROM scratch that have no curl.
type healthCmd struct {
	Of  string `arg:"" enum:"nats" help:"What is asked: ${enum}."`
	URL string `arg:"" help:"Its health page."`
}

func (c *healthCmd) Run(ctx context.Context, t *terminal) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return usage("%s: %w", c.URL, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return jobs.Failed(jobs.CodeAway, "%s: %w", c.Of, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return jobs.Failed(jobs.CodeAway, "%s: %s answers %s", c.Of, c.URL, resp.Status)
	}
	_, err = fmt.Fprintln(t.Out, healthy)
	return err
}

// wellness says whether a daemon is well: it is while it reaches the bus.
type wellness struct{ b atomic.Pointer[bus.Bus] }

func (w *wellness) connected(b *bus.Bus) { w.b.Store(b) }

func (w *wellness) ask() error {
	if b := w.b.Load(); b == nil || !b.Connected() {
		return errors.New("no connection to the bus")
	}
	return nil
}
