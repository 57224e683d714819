package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// complaint is a line of docs/complaints.md that names a test: package, test, case.
var complaint = regexp.MustCompile("^\\| [^|]+ \\| `(\\S+) (Test\\w+)(?:/([^`]+))?` \\|$")

// TestComplaints: every line names a test, and a case of it, that exists.
func TestComplaints(t *testing.T) {
	text, err := os.ReadFile("../docs/complaints.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| **") || line == "| complaint | test |" || line == "| --- | --- |" {
			continue
		}
		m := complaint.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("names no test: %s", line)
			continue
		}
		lines++
		source := sourceOfTests(t, m[1])
		if !strings.Contains(source, "func "+m[2]+"(t *testing.T)") {
			t.Errorf("there is no %s in %s: %s", m[2], m[1], line)
		}
		if m[3] != "" && !strings.Contains(source, `"`+m[3]+`"`) {
			t.Errorf("%s has no case %q: %s", m[2], m[3], line)
		}
	}
	if lines < 30 {
		t.Errorf("%d complaints are met", lines)
	}
}

// sourceOfTests is the text of a package's tests.
func sourceOfTests(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
