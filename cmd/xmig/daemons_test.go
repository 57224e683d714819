package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/xen/xlsim"
)

func TestHostPort(t *testing.T) {
	for text, want := range map[string]string{"127.0.0.1:4222": "127.0.0.1 4222", ":4222": "0.0.0.0 4222", "[::1]:0": "::1 -1"} {
		host, port, err := hostPort("listen", text)
		if got := fmt.Sprint(host, " ", port); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "4222", "host", "host:port", "host:70000", "host:-1"} {
		if _, _, err := hostPort("listen", text); codeOf(err) != exitUsage {
			t.Errorf("%q: %v, want a usage error", text, err)
		}
	}
}

// TestEmbeddedBus: what `xmig server` starts can be reached, takes its layout,
// and says whom it lets in.
func TestEmbeddedBus(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	g, _, err := parse(t, "server", "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--server-name", "a", "--sync", "lazy")
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Server.startBus(ctx, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := bus.Connect(ctx, bus.Config{URL: s.ClientURL(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Setup(ctx, g.Server.layout()); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, s.ClientURL(), "job", "ls", "-o", "json"); code != 0 || strings.TrimSpace(out) != "[]" || errs != "" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
}

func TestServerFlags(t *testing.T) {
	for args, want := range map[string]string{
		"server --replicas 2":                               "--replicas 2: want 1 or 3",
		"server --listen nowhere":                           "want HOST:PORT",
		"server --listen 127.0.0.1:0 --cluster 127.0.0.1:0": "--cluster without --routes",
	} {
		var out, errs bytes.Buffer
		code := run(append(strings.Fields(args), "--state-dir", t.TempDir()), &terminal{Out: &out, Err: &errs})
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %s", args, code, &errs)
		}
	}
	g, _, err := parse(t, "server", "--cluster", "127.0.0.1:6222", "--routes", "nats://a:6222,nats://b:6222")
	if err != nil || g.Server.layout().Replicas != 3 || len(g.Server.Routes) != 2 {
		t.Errorf("a cluster of three has three copies: %+v, %v", g.Server.layout(), err)
	}
}

// TestNodeSettings: a simulated host is made if it is missing, and every path
// of the worker lies in it; it is said loudly.
func TestNodeSettings(t *testing.T) {
	dir := t.TempDir()
	g, _, err := parse(t, "node", "--simulate", filepath.Join(dir, "host"), "--state-dir", filepath.Join(dir, "state"), "--node-name", "hv1", "--attempts", "7", "--bus-patience", "2s")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for range 2 { // the second time it is there already
		cfg, err := g.Node.config(zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		if !cfg.Simulated || cfg.Limits.Attempts != 7 || cfg.Limits.BusPatience != 2*time.Second || cfg.ConfigDir != filepath.Join(dir, "host", "etc-xen") || len(cfg.Bridges) == 0 {
			t.Errorf("got %+v", cfg)
		}
		if err := cfg.Defaults().Validate(); err != nil {
			t.Error(err)
		}
		for _, path := range []string{cfg.AutostartDir, cfg.SaveDir} {
			if !strings.HasPrefix(path, dir) {
				t.Errorf("%s is outside of the simulated host", path)
			}
		}
	}
	if !strings.Contains(log.String(), "SIMULATED") {
		t.Errorf("the log does not say it: %s", &log)
	}
	if spec, err := xlsim.LoadHost(filepath.Join(dir, "host")); err != nil || spec.Net != filepath.Join(dir, "net") {
		t.Errorf("net is %q, %v: hosts beside each other must share it", spec.Net, err)
	}
	g.Node.NodeName = "HV 1"
	if _, err := g.Node.config(zerolog.Nop()); codeOf(err) != exitUsage {
		t.Errorf("got %v", err)
	}
}

// TestToolstackSettings: words of a command that look like flags are its own,
// and a simulated host has the command that is given.
func TestToolstackSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "host")
	for args, want := range map[string][]string{
		"--xl|ip netns exec blue xl -f|--xenstore|chroot --userspec=xen: /x": {"ip netns exec blue xl -f", "chroot --userspec=xen: /x"},
		"--xl|sim --host /x xl|--simulate|" + dir:                            {"sim --host /x xl", "xlsim --host " + dir},
		"--simulate|" + dir: {"xlsim --host " + dir + " xl", "xlsim --host " + dir},
	} {
		g, _, err := parse(t, append([]string{"node", "--node-name", "hv1"}, strings.Split(args, "|")...)...)
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		cfg, err := g.Node.config(zerolog.Nop())
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		for i, got := range [][]string{cfg.XL, cfg.Xenstore} {
			if !strings.HasSuffix(strings.Join(got, " "), want[i]) || len(got) < len(strings.Fields(want[i])) {
				t.Errorf("%s: got %q, want %q", args, got, want[i])
			}
		}
	}
}

// TestLaneDir: what a killed worker left is taken away, another's is not.
func TestLaneDir(t *testing.T) {
	state := t.TempDir()
	dead, alive := filepath.Join(state, "lanes-999999999"), filepath.Join(state, "lanes-1")
	for _, d := range []string{dead, alive} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		dir, err := laneDir(state)
		if err != nil || !isDir(dir) {
			t.Fatalf("%s: %v", dir, err)
		}
	}
	if isDir(dead) || !isDir(alive) {
		t.Errorf("dead worker's there: %t, living one's: %t", isDir(dead), isDir(alive))
	}
}
