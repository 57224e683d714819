package xlsim

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

const mib = 1 << 20

// TestMoveThroughAPipe is the whole way of a guest: it boots, works, is saved
// on one host and restored on the other through a pipe, works on, and every
// record is there.
func TestMoveThroughAPipe(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	cfg := s.guest(a, GuestSpec{Name: "web one", MemoryMiB: 64, Rate: 8 * mib, Writers: 4}, 64*mib, 32*mib)
	must(t, a, "xl", "create", cfg)
	uuid := uuidOf(t, a, "web one")
	written(t, a, "web one", 2*mib)
	before := verified(t, a, "web one")
	if before.Records == 0 || before.Pages != 64*mib/pageSize {
		t.Fatalf("nothing was checked: %+v", before)
	}

	pipe(t, program(a, "xl", "save", "-p", "web one", "/dev/stdout"), program(b, "xl", "restore", "-p", "/dev/stdin"))
	if got := state(t, a, "web one") + " " + state(t, b, "web one"); got != "--p--- --p---" {
		t.Fatalf("states %q, both must be paused", got)
	}
	verified(t, b, "web one")
	must(t, b, "xl", "unpause", "web one")
	must(t, a, "xl", "destroy", "web one")
	at := writtenBytes(t, b, "web one")
	written(t, b, "web one", at+2*mib)
	verified(t, b, "web one")
	gaps, err := Blackouts(s.net, uuid)
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	for _, g := range gaps {
		if g.HostChanged() {
			changes++
			if g.FromHost != "a" || g.ToHost != "b" || g.Length() <= 0 || g.Length() > 20*time.Second {
				t.Errorf("blackout %+v", g)
			}
		}
	}
	if changes != 1 {
		t.Errorf("%d changes of host in %+v, one is right", changes, gaps)
	}
}

// pipe joins two commands and lets both end well.
func pipe(t *testing.T, from, to *exec.Cmd) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said [2]bytes.Buffer
	from.Stdout, from.Stderr = w, &said[0]
	to.Stdin, to.Stderr = r, &said[1]
	for _, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	r.Close()
	for i, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, said[i].String())
		}
	}
}
