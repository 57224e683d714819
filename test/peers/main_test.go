package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// beMain makes the test binary be this program, which starts itself again.
const beMain = "XMIG_TEST_PEERS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestContest: one round of one workload for real, with private daemons in a
// namespace: every tool of it gets its disk right and has its cost counted.
func TestContest(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: a round of the peers")
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED without root: a network namespace, cgroups and a private sshd")
	}
	for _, tool := range needed {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT TESTED: %v; `go run ./test/peers --install` brings it", err)
		}
	}
	if _, err := cgroupRoot(); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	file := filepath.Join(dir, "out.json")
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "--rounds", "1", "--size", "16", "--parts", "peers", "--workloads", "W2,lane", "--dir", dir, "--disk-dir", dir, "--json", file)
	cmd.Env = append(os.Environ(), beMain+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 7 || len(got.Bars) != len(bars()) {
		t.Fatalf("%d runs, %d bars: %s", len(got.Runs), len(got.Bars), text)
	}
	for _, r := range got.Runs {
		if r.Wall <= 0 || r.Source <= 0 || r.Destination <= 0 || r.CPU() > 2*time.Minute {
			t.Errorf("%s: %+v", r.Tool, r.cost)
		}
		low, high := int64(1<<10), int64(1<<20) // both ends are equal
		if r.Workload == "lane" {
			low, high = 16<<20, 18<<20 // the bytes cross once, with TLS and TCP around them
		}
		if r.Wire < low || r.Wire > high {
			t.Errorf("%s, %s: %d bytes on the wire, want %d to %d", r.Workload, r.Tool, r.Wire, low, high)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestContinue: runs add up, of the same thing only.
func TestContinue(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	first := &outcome{Binary: "a", Machine: "m", Size: 1 << 30}
	if err := first.continueFrom(file); err != nil || len(first.Runs) != 0 {
		t.Errorf("no file yet: %v", err)
	}
	first.Runs = []result{ran("W2", xmigOff, 1, 2, 3), ran("W2", rsyncDaemon, 4, 5, 6)}
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(writeJSON(f, first), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	next := &outcome{Binary: "a", Machine: "m", Size: 1 << 30}
	if err := next.continueFrom(file); err != nil || len(next.Runs) != 2 || next.Runs[1] != first.Runs[1] {
		t.Errorf("%+v, %v", next.Runs, err)
	}
	for _, other := range []outcome{{Binary: "b", Machine: "m", Size: 1 << 30}, {Binary: "a", Machine: "n", Size: 1 << 30}, {Binary: "a", Machine: "m", Size: 1 << 20}} {
		if err := other.continueFrom(file); err == nil || len(other.Runs) != 0 {
			t.Errorf("%+v went on", other)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"--parts", "peers,none"}, {"--rounds", "0"}, {"--size", "1"}, {"word"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	o, err := parse([]string{"--parts", "lanes", "--sizes", "16,32"})
	if err != nil || o.Parts != "lanes" {
		t.Errorf("%+v, %v", o, err)
	}
	if s, err := mebibytes(o.SizesMiB); err != nil || len(s) != 2 || s[1] != 32<<20 {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := mebibytes("16,x"); err == nil {
		t.Error("sizes of 16,x are taken")
	}
}
