package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "4096": 4096, "200MiB": 200 << 20, "1.5 GiB": 3 << 29, "1kB": 1000, "2g": 2 << 30, "1TiB": 1 << 40, "7B": 7,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1x", "1 MiB MiB", "1e30TiB", "9999999999TiB", "NaN", "Inf", "0x10"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is no size, got %d", text, got)
		}
	}
	var r rate
	if err := r.UnmarshalText([]byte("200MiB/s")); err != nil || r != 200<<20 {
		t.Errorf("rate: %d, %v", r, err)
	}
}

// TestSizesReadWhatIsShown: what reports print can be typed as a flag.
func TestSizesReadWhatIsShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<49).Draw(t, "n")
		got, err := parseSize(show.Bytes(n))
		if err != nil {
			t.Fatal(err)
		}
		if diff := float64(got) - float64(n); diff > 0.06*float64(n) || -diff > 0.06*float64(n) {
			t.Fatalf("%d was shown as %s and read as %d", n, show.Bytes(n), got)
		}
	})
}

func TestMapping(t *testing.T) {
	g, _, err := parse(t, "submit", "web01", "--map", "disk=/dev/vg0:/dev/ssd,bridge=xenbr0:br0", "--map", "disk=/a:/b")
	want := mapping{Disks: map[string]string{"/dev/vg0": "/dev/ssd", "/a": "/b"}, Bridges: map[string]string{"xenbr0": "br0"}}
	if err != nil || !reflect.DeepEqual(g.Submit.Map, want) {
		t.Errorf("got %v, %v; want %v", g.Submit.Map, err, want)
	}
	for _, bad := range []string{"disk=/a", "disk=:/b", "nic=a:b", "disk", ""} {
		if _, _, err := parse(t, "submit", "web01", "--map="+bad); err == nil {
			t.Errorf("--map %q was taken", bad)
		}
	}
}

// TestHours: by the flag, given twice, and by the file.
func TestHours(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xmig.toml")
	if err := os.WriteFile(file, []byte(`server.hours = ["mon-fri 08:00-18:00 out=1 in=1", "sun 02:00-04:00 all=0"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"server", "--hours", "mon-fri 08:00-18:00 out=1 in=1", "--hours", "sun 02:00-04:00 all=0"},
		{"server", "--config", file},
	} {
		g, _, err := parse(t, args...)
		if err != nil || len(g.Server.Hours) != 2 || g.Server.Hours[1].Text != "sun 02:00-04:00 all=0" {
			t.Errorf("%v: %v, %v", args, g.Server.Hours, err)
		}
	}
	if _, _, err := parse(t, "server", "--hours", "sometimes"); err == nil {
		t.Error("--hours sometimes was taken")
	}
}

// TestRateHours: rates for parts of the week, by flag and file.
func TestRateHours(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xmig.toml")
	if err := os.WriteFile(file, []byte(`node.bwlimit-hours = ["MON-fri 08:00-18:00 50 MiB/s", "22:00-06:00 0"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []jobs.RateHours{{Hours: "mon-fri 08:00-18:00", Rate: 50 << 20}, {Hours: "22:00-06:00"}}
	for _, args := range [][]string{
		{"node", "--bwlimit-hours", "mon-fri 08:00-18:00 50MiB/s", "--bwlimit-hours", "22:00-06:00 0"},
		{"node", "--config", file},
	} {
		g, _, err := parse(t, args...)
		if err != nil || !reflect.DeepEqual(plainHours(g.Node.BWLimitHours), want) {
			t.Errorf("%v: %v, %v", args, g.Node.BWLimitHours, err)
		}
	}
	for _, bad := range []string{" ", "08:00-18:00", "50MiB/s", "08:00-18:00 fast", "mon-fry 08:00-18:00 1MiB/s", "08:00-18:00 -1"} {
		if _, _, err := parse(t, "node", "--bwlimit-hours="+bad); err == nil || !strings.Contains(err.Error(), jobs.PeriodForm) {
			t.Errorf("--bwlimit-hours %q: %v", bad, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	for text, want := range map[string]place{
		"hv1:/dev/vg0/a": {"hv1", "/dev/vg0/a"}, "/dev/vg0/a": {"", "/dev/vg0/a"}, "a.img": {"", "a.img"},
		"./hv1:/x": {"", "./hv1:/x"}, "HV1:/x": {"", "HV1:/x"}, "hv1:x": {"", "hv1:x"}, "/a:/b": {"", "/a:/b"},
	} {
		if got := parsePlace(text); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	failed := func(c jobs.Code) jobs.Record {
		return jobs.Record{State: jobs.FailedState, Failure: &jobs.Failure{Code: c}}
	}
	for _, c := range []struct {
		rec  jobs.Record
		want int
	}{
		{jobs.Record{State: jobs.Succeeded}, 0},
		{failed(jobs.CodeStorage), 1}, {failed(jobs.CodeDowntime), 1}, {jobs.Record{State: jobs.FailedState}, 1},
		{failed(jobs.CodeUsage), 2}, {failed(jobs.CodeBlocked), 3},
		{jobs.Record{State: jobs.Running}, 4}, {jobs.Record{State: jobs.Queued}, 4}, {jobs.Record{State: jobs.Planned}, 4},
		{jobs.Record{State: jobs.RolledBack}, 5}, {jobs.Record{State: jobs.Cancelled}, 6}, {jobs.Record{State: jobs.Indeterminate}, 7},
	} {
		if got := codeOfJob(c.rec); got != c.want {
			t.Errorf("%s %v: exit code %d, want %d", c.rec.State, c.rec.Failure, got, c.want)
		}
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usage("x"), 2}, {jobs.ErrNotFound, 2}, {jobs.ErrConflict, 3}, {jobs.ErrAway, 1},
		{fmt.Errorf("w: %w", &jobs.BlockedError{Blockers: []jobs.Blocker{{}}}), 3}, {&exitError{code: 4}, 4},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
	for _, s := range jobs.States() { // a new state must be thought of here
		if c := codeOfJob(jobs.Record{State: s}); c == exitStillRunning && s.Final() {
			t.Errorf("%s is final and has no exit code", s)
		}
	}
}

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		codes []int
		want  int
	}{{nil, 0}, {[]int{0, 0}, 0}, {[]int{0, 3}, 3}, {[]int{1, 7, 5}, 7}, {[]int{4, 6}, 6}, {[]int{5, 1}, 5}} {
		if got := worst(c.codes); got != c.want {
			t.Errorf("%v: got %d, want %d", c.codes, got, c.want)
		}
	}
	for c := exitDone; c <= exitIndeterminate; c++ {
		if worst([]int{c}) != c {
			t.Errorf("%d has no gravity", c)
		}
	}
}

// TestTell: an error is one line, blockers a line each, and what was told
// already is not told again.
func TestTell(t *testing.T) {
	blocked := &jobs.BlockedError{VM: "web01", Blockers: []jobs.Blocker{
		{Host: "hv2", Disk: "xvda", Text: "no space", Next: "free some"}, {Host: "hv3", Text: "cordoned"}}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{&exitError{code: 5}, ""},
		{errors.Join(errors.New("a"), errors.New("b")), "xmig: a; b\n"},
		{fmt.Errorf("submit: %w", blocked), "xmig: vm web01 cannot move, 2 blocker(s):\nxmig: hv2: disk xvda: no space (free some)\nxmig: hv3: cordoned\n"},
	} {
		var b strings.Builder
		tell(&b, c.err)
		if b.String() != c.want {
			t.Errorf("got %q, want %q", b.String(), c.want)
		}
	}
	if got := codeOf(both(nil, []error{blocked, usage("x")})); got != exitUsage {
		t.Errorf("two refused: exit code %d, want %d", got, exitUsage)
	}
}
