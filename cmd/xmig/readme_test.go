package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// readmes are what people read beside --help.
var readmes = []string{"../../README.md", "../../docs/operations.md", "../../docs/alerts.md"}

var fenced = regexp.MustCompile("(?ms)^```([a-z ]*)\n(.*?)^```$")

// TestReadmeParses: commands that need Xen or root are at least command lines
// of this grammar, and config files have keys that there are. The others are
// run, by test/readme_test.go and test/compose.
func TestReadmeParses(t *testing.T) {
	lines := 0
	for _, name := range readmes {
		for _, m := range fenced.FindAllStringSubmatch(read(t, name), -1) {
			switch kind, text := m[1], m[2]; kind {
			case "text":
				for _, line := range strings.Split(text, "\n") {
					line, _, _ = strings.Cut(line, " #")
					if args := strings.Fields(line); len(args) > 0 && args[0] == "xmig" {
						lines++
						if _, _, err := parse(t, args[1:]...); err != nil {
							t.Errorf("%s: %s: %v", name, line, err)
						}
					}
				}
			case "toml":
				conf := filepath.Join(t.TempDir(), "xmig.toml")
				if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, command := range []string{"node", "server"} {
					if _, _, err := parse(t, command, "--config", conf); err != nil {
						t.Errorf("%s: %v in\n%s", name, err, text)
					}
				}
			case "ini":
				_, command, _ := strings.Cut(text, "\nExecStart=/usr/local/bin/xmig ")
				command, _, ok := strings.Cut(command, "\n")
				if _, _, err := parse(t, strings.Fields(command)...); err != nil || !ok {
					t.Errorf("%s: %v in\n%s", name, err, text)
				}
			}
		}
	}
	if lines < 8 {
		t.Errorf("only %d command lines: is the pattern right?", lines)
	}
}

// TestReadmeExitCodes: the table has every exit code that there is.
func TestReadmeExitCodes(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| (\d) \| `).FindAllStringSubmatch(read(t, "../../README.md"), -1)
	for i, row := range rows {
		if row[1] != strconv.Itoa(i) {
			t.Errorf("row %d is of code %s", i, row[1])
		}
	}
	if len(rows) != len(gravity) {
		t.Errorf("README.md explains %d exit codes, there are %d", len(rows), len(gravity))
	}
}

// mentioned finds `xmig …` in texts.
var mentioned = regexp.MustCompile("`(xmig [^`]*)`")

// TestMentions: no text of ours, be it an error of any package or a page, names
// a command or a flag that is not there.
func TestMentions(t *testing.T) {
	var g grammar
	p, err := newParser(&g, &bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	look := func(where, text string) {
		for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
			seen++
			if problem := unknownWord(p.Model.Node, strings.Fields(m[1])[1:]); problem != "" {
				t.Errorf("%s: `%s`: there is no %s", where, m[1], problem)
			}
		}
	}
	for _, name := range readmes {
		look(name, read(t, name))
	}
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, text := range literals(t, path) {
			look(path, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d commands are mentioned: is the pattern right?", seen)
	}
}

// unknownWord follows a command line down the grammar; arguments and values
// are nobody's business here.
func unknownWord(n *kong.Node, words []string) string {
	for _, w := range words {
		if flag, ok := strings.CutPrefix(w, "--"); ok {
			flag, _, _ = strings.Cut(flag, "=")
			if !hasFlag(n, flag) {
				return w
			}
			continue
		}
		if len(n.Children) == 0 {
			continue
		}
		var next *kong.Node
		for _, c := range n.Children {
			if c.Name == w {
				next = c
			}
		}
		if next == nil && w != "hold" && w != "xlsim" { // not for people: see main
			return w
		}
		if next == nil {
			return ""
		}
		n = next
	}
	return ""
}

func hasFlag(n *kong.Node, name string) bool {
	for _, group := range n.AllFlags(false) {
		for _, f := range group {
			if f.Name == name {
				return true
			}
		}
	}
	return false
}

// literals are the string constants of a file: what it can say.
func literals(t *testing.T, path string) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				all = append(all, text)
			}
		}
		return true
	})
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
