package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// runMain makes the test binary be xmig, for scripts and for what xmig starts of itself.
const runMain = "XMIG_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Setenv(runMain, "1") // children are xmig
	os.Exit(m.Run())
}

// TestScripts are command lines as a person types them; none needs root or
// Xen. A script is lines of commands and then files, each behind "-- NAME --":
//
//	[!] exec COMMAND...   run it; with ! it must fail
//	stdout|stderr REGEXP  the last command's output has it ("! stdout ." has none)
//	code N                the last command's exit code
//	cmp|cp A B, env K=V, exists FILE, ! exists FILE
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			if testing.Short() && strings.Contains(f, "demo-") {
				t.Skip("NOT TESTED with -short: the demo's negative controls, minutes with the race detector")
			}
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, dir: t.TempDir(), file: f, env: append(os.Environ(), "NO_COLOR=1")}
			s.play(string(text))
		})
	}
}

type script struct {
	t         *testing.T
	dir, file string
	env       []string
	out, errs bytes.Buffer
	code      int
}

var fileMark = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

func (s *script) play(text string) {
	marks := fileMark.FindAllStringSubmatchIndex(text, -1)
	commands := text
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		if i == 0 {
			commands = text[:m[0]]
		}
		if err := os.WriteFile(filepath.Join(s.dir, text[m[2]:m[3]]), []byte(text[m[1]:end]), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	for n, line := range strings.Split(commands, "\n") {
		line = strings.ReplaceAll(strings.TrimSpace(line), "$WORK", s.dir)
		if line == "" || line[0] == '#' {
			continue
		}
		rest, not := strings.CutPrefix(line, "! ")
		word, args, _ := strings.Cut(rest, " ")
		if problem := s.do(word, args, not); problem != "" {
			s.t.Fatalf("%s:%d: %s: %s\nexit code %d\nstdout:\n%s\nstderr:\n%s", s.file, n+1, line, problem, s.code, &s.out, &s.errs)
		}
	}
}

func (s *script) do(word, args string, not bool) string {
	path := func(i int) string { return filepath.Join(s.dir, strings.Fields(args)[i]) }
	switch word {
	case "exec":
		s.exec(words(args))
		if (s.code != 0) != not {
			return "unexpected exit code"
		}
	case "stdout", "stderr":
		text := s.out.String()
		if word == "stderr" {
			text = s.errs.String()
		}
		if regexp.MustCompile("(?m)"+strings.Trim(args, "'")).MatchString(text) == not {
			return "unexpected output"
		}
	case "code":
		if strconv.Itoa(s.code) != args {
			return "another exit code"
		}
	case "env":
		s.env = append(s.env, args)
	case "exists":
		found, err := filepath.Glob(path(0))
		if err != nil || (len(found) > 0) == not {
			return "unexpected"
		}
	case "cmp", "cp":
		a, err := os.ReadFile(path(0))
		if err != nil {
			return err.Error()
		}
		if word == "cp" {
			if err := os.WriteFile(path(1), a, 0o600); err != nil {
				return err.Error()
			}
			break
		}
		if b, err := os.ReadFile(path(1)); err != nil || !bytes.Equal(a, b) {
			return "they differ"
		}
	default:
		return "no such command in scripts"
	}
	return ""
}

// words splits at blanks; what stands in single quotes is one word.
func words(s string) (out []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

func (s *script) exec(args []string) {
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	if args[0] != "xmig" {
		s.t.Fatalf("%s: scripts run xmig only", args[0])
	}
	s.out.Reset()
	s.errs.Reset()
	cmd := exec.Command(self, args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &s.out, &s.errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	s.code = cmd.ProcessState.ExitCode()
}
