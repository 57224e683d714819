package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parse parses a command line as run does, without running it.
func parse(t *testing.T, args ...string) (*grammar, *kong.Context, error) {
	t.Helper()
	var g grammar
	p, err := newParser(&g, &bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := p.Parse(args)
	return &g, ctx, err
}

// examples finds the command lines in a command's help.
var examples = regexp.MustCompile(`(?m)^ {4}(xmig .*)$`)

// TestExamples: every command that people see explains itself, and every
// example in its help is a command line that parses, of that very command.
func TestExamples(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "xmig.toml")
	if err := os.WriteFile(conf, []byte("nats = \"nats://10.0.0.1:4222\"\n[node]\nnode-name = \"hv1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var g grammar
	p, err := newParser(&g, &bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, c := range n.Children {
			if c.Hidden {
				continue
			}
			if len(c.Help) < 15 || !strings.HasSuffix(c.Help, ".") {
				t.Errorf("%s: help is no sentence: %q", c.FullPath(), c.Help)
			}
			found := examples.FindAllStringSubmatch(c.Detail, -1)
			if !strings.Contains(c.Detail, "Examples:") || len(found) == 0 {
				t.Errorf("%s: no examples", c.FullPath())
			}
			for _, f := range found {
				args := words(strings.ReplaceAll(f[1], defaultConfig, conf))[1:]
				_, ctx, err := parse(t, args...)
				if err != nil {
					t.Errorf("%s: example %q: %v", c.FullPath(), f[1], err)
				} else if !strings.HasPrefix("xmig "+ctx.Command()+" ", c.FullPath()+" ") {
					t.Errorf("%s: example %q is of %q", c.FullPath(), f[1], ctx.Command())
				}
				seen++
			}
			walk(c)
		}
	}
	walk(p.Model.Node)
	if seen < 30 {
		t.Errorf("only %d examples: is the pattern right?", seen)
	}
}

// TestEveryFlagIsAVariable: each flag has one XMIG_ variable and a help text,
// and a duration or size says what it looks like.
func TestEveryFlagIsAVariable(t *testing.T) {
	var g grammar
	p, err := newParser(&g, &bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			if f.Name == "help" {
				continue
			}
			if want := "XMIG_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")); len(f.Envs) != 1 || f.Envs[0] != want {
				t.Errorf("%s --%s: variables %v, want %s", n.FullPath(), f.Name, f.Envs, want)
			}
			if len(f.Help) < 10 || !strings.HasSuffix(strings.TrimSpace(f.Help), ".") {
				t.Errorf("%s --%s: help is no sentence: %q", n.FullPath(), f.Name, f.Help)
			}
		}
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(p.Model.Node)
}

func TestVariablesAndFile(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "xmig.toml")
	text := "nats = \"nats://file:4222\"\n[node]\nnode-name = \"filed\"\nheartbeat = \"3s\"\nreserve = \"256MiB\"\nbridges = [\"br0\", \"br1\"]\nmoves = 5\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XMIG_CONFIG", conf)
	t.Setenv("XMIG_HEARTBEAT", "4s")
	g, _, err := parse(t, "node", "--node-name", "flagged")
	if err != nil {
		t.Fatal(err)
	}
	n := g.Node
	if n.NodeName != "flagged" || n.Heartbeat.Seconds() != 4 || n.Reserve != 256<<20 || len(n.Bridges) != 2 || n.Moves != 5 || g.NATS != "nats://file:4222" {
		t.Errorf("flag over variable over file: got %+v, nats %s", n, g.NATS)
	}
	if g, _, err = parse(t, "host", "ls"); err != nil || g.NATS != "nats://file:4222" {
		t.Errorf("keys at the top are for all commands: got %q, %v", g.NATS, err)
	}
}

func TestConfigFileFaults(t *testing.T) {
	for text, want := range map[string]string{
		"natz = \"x\"\n":                       "unknown keys: natz",
		"[node]\nnode-nam = \"x\"\n":           "unknown keys: node.node-nam",
		"[submit]\nto = \"x\"\n":               "unknown keys: submit.to",
		"nats = \n":                            "config file",
		"[node]\nheartbeat = \"soon\"\n":       "invalid duration",
		"[node]\nreserve = \"many\"\n":         "size \"many\"",
		"[server]\nsync = \"never\"\n":         "must be one of",
		"[node]\nlane-ports = \"7400-7449\"\n": "",
	} {
		conf := filepath.Join(t.TempDir(), "xmig.toml")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		command := "node"
		if strings.HasPrefix(text, "[server]") {
			command = "server"
		}
		_, _, err := parse(t, command, "--config", conf)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
