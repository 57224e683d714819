package faults

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"xmig/test/cluster"
)

var update = flag.Bool("update", false, "write testdata/errors.golden anew")

const goldenFile = "testdata/errors.golden"

// golden is the texts of all rows, by name.
type golden struct {
	mu    sync.Mutex
	texts map[string]string
	seen  map[string]bool
}

var section = regexp.MustCompile(`(?m)^== (.*) ==\n`)

// openGolden reads the file; at the test's end it is written anew, or a
// section that no row has any more is an error.
func openGolden(t *testing.T) *golden {
	t.Helper()
	raw, err := os.ReadFile(goldenFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	g := &golden{texts: map[string]string{}, seen: map[string]bool{}}
	marks := section.FindAllSubmatchIndex(raw, -1)
	for i, m := range marks {
		end := len(raw)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		g.texts[string(raw[m[2]:m[3]])] = string(raw[m[1]:end])
	}
	t.Cleanup(func() { g.close(t) })
	return g
}

func (g *golden) close(t *testing.T) {
	names := map[string]bool{}
	var b strings.Builder
	for _, f := range table() {
		names[f.name] = true
		if text := g.texts[f.name]; text != "" {
			fmt.Fprintf(&b, "== %s ==\n%s", f.name, text)
		}
	}
	if *update {
		if err := os.WriteFile(goldenFile, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	for name := range g.texts {
		if !names[name] {
			t.Errorf("%s: section %q belongs to no row", goldenFile, name)
		}
	}
}

// hold compares what a row's command lines said with the file.
func (g *golden) hold(t *testing.T, name, dir string, told []cluster.Result) {
	t.Helper()
	var b strings.Builder
	for _, r := range told {
		fmt.Fprintf(&b, "$ xmig %s\n%s%sexit code %d\n", strings.Join(r.Args, " "), r.Stdout, r.Stderr, r.Code)
	}
	got := plain(b.String(), dir)
	g.mu.Lock()
	defer g.mu.Unlock()
	if *update {
		g.texts[name] = got
		return
	}
	if want := g.texts[name]; got != want {
		t.Errorf("the command line says:\n%s\nand in %s is:\n%s\n(-update writes it)", got, goldenFile, want)
	}
}

// plain replaces what differs from run to run.
func plain(text, dir string) string {
	text = strings.ReplaceAll(text, dir, "DIR")
	for _, r := range varying() {
		text = r.what.ReplaceAllString(text, r.by)
	}
	return text
}

type replacement struct {
	what *regexp.Regexp
	by   string
}

var varying = sync.OnceValue(func() []replacement {
	return []replacement{
		{regexp.MustCompile(`(?m)^\S+Z job=.*\n`), ""}, // how often a watcher looks is not told exactly
		{regexp.MustCompile(`(?m)^  (DISK|xvd\w|PASS|\d+|wire|memory) .*\n`), ""},
		{regexp.MustCompile(`\S*/xmig-bin-\d+/xlsim`), "XLSIM"},
		{regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`), "JOB"},
		{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*`), "TIME"},
		{regexp.MustCompile(`127\.0\.0\.1:\d+(->127\.0\.0\.1:\d+)?`), "ADDRESS"},
		{regexp.MustCompile(`(dial|read) tcp ADDRESS: (connect|read): connection reset`), "tcp ADDRESS: connection reset"},
		{regexp.MustCompile(`(took|predicted|measured) [0-9.µmsh]+`), "$1 SPAN"},
		{regexp.MustCompile(`file system \S+ \(\S+\) has \d+ MiB free`), "FILESYSTEM has N MiB free"},
		{regexp.MustCompile(`/dev/loop\d+`), "/dev/loopN"},
		{regexp.MustCompile(`\(pid \d+, \w+\)`), "(pid N, PROGRAM)"},
	}
})
