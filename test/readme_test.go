package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"xmig/xen/xlsim"
)

// readmeKinds says what becomes of the fenced blocks of README.md, by what
// stands behind the fence. There are no others: a block that nobody runs rots.
var readmeKinds = map[string]string{
	"":           "pictures and what commands print",
	"sh":         "run in a scratch directory, with a server and two workers of the test's own",
	"sh repo":    "run at the root of the repository",
	"sh compose": "run by test/compose",
	"text":       "commands that need Xen or root: parsed by cmd/xmig",
	"toml":       "parsed by cmd/xmig",
	"ini":        "its command is parsed by cmd/xmig",
}

// readmeBlock is one fenced block.
type readmeBlock struct {
	kind, text string
	line       int
}

var fence = regexp.MustCompile("(?ms)^```([a-z ]*)\n(.*?)^```$")

func readmeBlocks(t *testing.T) (all []readmeBlock) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllSubmatchIndex(text, -1) {
		b := readmeBlock{kind: string(text[m[2]:m[3]]), text: string(text[m[4]:m[5]]), line: 1 + bytes.Count(text[:m[0]], []byte("\n"))}
		if _, ok := readmeKinds[b.kind]; !ok {
			t.Errorf("README.md:%d: a block of kind %q is run by nobody", b.line, b.kind)
		}
		all = append(all, b)
	}
	return all
}

// testCommand is the one block that is not run here: it is what runs this.
const testCommand = "go test ./...\n"

// TestReadme runs every command of README.md that needs neither Xen nor root
// nor Docker, in order, as it stands there; only sizes, ports and the mapping
// of two hosts on one machine come from XMIG_ variables.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: the commands of README.md; they take half a minute")
	}
	blocks := readmeBlocks(t)
	w := newReadmeWorld(t)
	run := 0
	for _, b := range blocks {
		dir, env := w.scratch, w.env
		switch {
		case b.text == testCommand:
			ci, err := os.ReadFile("../.ci/run")
			if err != nil || !bytes.Contains(ci, []byte("\n"+testCommand)) {
				t.Errorf("README.md:%d: .ci/run does not run %q (%v)", b.line, testCommand, err)
			}
			continue
		case b.kind == "sh repo":
			dir = w.root
		case b.kind != "sh":
			continue
		case strings.Contains(b.text, "xmig server"):
			env = append(env[:len(env):len(env)], onPort(t)...) // it brings its own
		}
		begin := time.Now()
		out, err := w.bash(dir, env, b.text)
		if err != nil {
			t.Fatalf("README.md:%d: %v\n%s\n%s", b.line, err, b.text, out)
		}
		t.Logf("README.md:%d: %4.1fs  %s", b.line, time.Since(begin).Seconds(), strings.ReplaceAll(strings.TrimSpace(b.text), "\n", "; "))
		run++
	}
	if run < 8 {
		t.Errorf("only %d blocks were run: is the pattern right?", run)
	}
}

// readmeWorld is what README's commands find: the binary on PATH as xmig, a
// server, workers hv1 and hv2 with simulated hosts, guests web01 and web02 on hv1.
type readmeWorld struct {
	t             *testing.T
	root, scratch string
	env           []string
}

// blockTime bounds one block; the longest takes some ten seconds on an idle machine.
const blockTime = 2 * time.Minute

func newReadmeWorld(t *testing.T) *readmeWorld {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := &readmeWorld{t: t, root: root, scratch: filepath.Join(dir, "scratch")}
	for _, d := range []string{w.scratch, filepath.Join(dir, "bin")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "bin", "real", "xmig")
	// As README does, which finds all of it built then: from nothing it takes a minute and more.
	build := exec.Command("go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags=-extldflags=-static", "-o", binary, "./cmd/xmig")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	// A server that is told of a bus uses that one; README's have it in themselves.
	wrapper := "#!/bin/sh\n[ \"$1\" = server ] && unset XMIG_NATS\nexec " + binary + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "bin", "xmig"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(dir, "hosts")
	w.env = append(os.Environ(), onPort(t)...)
	w.env = append(w.env, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "TMPDIR="+w.scratch, "NO_COLOR=1",
		"XMIG_DISKS=24MiB,8MiB", "XMIG_MAX_DOWNTIME=1m", "XMIG_TIMEOUT=30s",
		// Two dom0s have the same paths; two simulated ones on one machine have not.
		fmt.Sprintf("XMIG_MAP=disk=%[1]s/hv1/disks:%[1]s/hv2/disks,disk=%[1]s/hv2/disks:%[1]s/hv1/disks", hosts))
	t.Cleanup(func() { w.endGuests(hosts) })
	w.daemon("server", "--state-dir", filepath.Join(dir, "server"))
	for _, host := range []string{"hv1", "hv2"} {
		w.daemon("node", "--node-name", host, "--simulate", filepath.Join(hosts, host), "--state-dir", filepath.Join(dir, host+"-state"), "--heartbeat", "1s")
	}
	out, err := w.bash(w.scratch, w.env, `
		until xmig host show hv1 && xmig host show hv2; do sleep 0.2; done
		for vm in web01 web02; do xmig simguest create $vm --host `+hosts+`/hv1; done
		until xmig vm show web01 && xmig vm show web02; do sleep 0.2; done`)
	if err != nil {
		t.Fatalf("the world that README's commands need did not come up: %v\n%s", err, out)
	}
	return w
}

// onPort gives the variables of a bus on a port that is free now.
func onPort(t *testing.T) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return []string{"XMIG_LISTEN=" + l.Addr().String(), "XMIG_NATS=nats://" + l.Addr().String()}
}

// bash runs a block as a person's shell would, but ends at the first command
// that fails. What it leaves running in the background is killed.
func (w *readmeWorld) bash(dir string, env []string, text string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), blockTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second // daemons end after the shell that told them to
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nobody is left, most often
	}
	return out, err
}

// daemon starts xmig until the test ends.
func (w *readmeWorld) daemon(args ...string) {
	w.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("bash", append([]string{"-c", `exec xmig "$@"`, "bash"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, &log, &log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || w.t.Failed() {
			w.t.Logf("xmig %s: %v\n%s", strings.Join(args, " "), err, &log)
		}
	})
}

// endGuests ends the guests of all simulated hosts, also of those that a block
// made and, because it failed, did not end: they outlive whoever started them.
func (w *readmeWorld) endGuests(hosts string) {
	found, err := filepath.Glob(filepath.Join(hosts, "hv*"))
	if err != nil {
		w.t.Error(err)
	}
	more, err := filepath.Glob(filepath.Join(w.scratch, "*", "hv*"))
	if err != nil {
		w.t.Error(err)
	}
	for _, dir := range append(found, more...) {
		if err := xlsim.StopHost(dir); err != nil {
			w.t.Errorf("end the guests of %s: %v", dir, err)
		}
	}
}
