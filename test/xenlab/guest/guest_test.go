package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSettings(t *testing.T) {
	s, err := parseSettings("console=hvc0 quiet lab.name=d1 lab.watch=10.99.0.254:7600 lab.ram=16 lab.rate=4096 lab.dirty=-1 panic=5")
	if err != nil {
		t.Fatal(err)
	}
	want := settings{name: "d1", watch: "10.99.0.254:7600", ram: 16, rate: 4096, dirty: -1}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	for _, line := range []string{"", "lab.name=d1", "lab.name=d1 lab.watch=a:1 lab.ram=many", "lab.name=d1 lab.watch=a:1 lab.rate=1MiB"} {
		if _, err := parseSettings(line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

// at is a line of the record, so many milliseconds after the beginning.
func at(ms int64, rest string) string {
	return fmt.Sprintf("%d %s\n", time.Unix(1000, 0).UnixNano()+ms*1e6, rest)
}

func TestSilences(t *testing.T) {
	record := at(0, "beat d1 a 1") + at(50, "beat d1 a 2") + at(60, "echo d1 a 1") +
		at(100, "beat h1 b 1") + at(2050, "beat d1 a 3") + at(2060, "twice d1 a 3") +
		at(2070, "lost d1 a 1") + at(2100, "beat h1 b 2") + at(5000, "echo d1 c 1")
	all, err := silences(strings.NewReader(record), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Silence{}
	for _, s := range all {
		got[s.Guest+" "+s.Kind] = s
	}
	if s := got["d1 beat"]; s.Length != 2*time.Second || s.Heard != 4 || s.Twice != 1 {
		t.Errorf("d1 beat: %+v", s)
	}
	if s := got["d1 echo"]; s.Length != 4940*time.Millisecond || s.Lost != 1 {
		t.Errorf("d1 echo: %+v", s)
	}
	if s := got["h1 beat"]; s.Length != 2*time.Second || s.Twice != 0 {
		t.Errorf("h1 beat: %+v", s)
	}
	// A silence that began before the time asked for still counts as a whole.
	late, err := silences(strings.NewReader(record), time.Unix(1002, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range late {
		if s.Guest == "d1" && s.Kind == kindBeat && (s.Length != 2*time.Second || s.Heard != 2) {
			t.Errorf("d1 beat, late: %+v", s)
		}
	}
	if _, err := silences(strings.NewReader("half a li"), time.Time{}); err == nil {
		t.Error("a damaged record was taken")
	}
}

func TestGapsFailsOnTwoCopies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "beats")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{out: bufio.NewWriter(f), heard: map[string]map[uint64]bool{}}
	for n := range uint64(3) {
		if isNew, err := w.beat("d1", "boot", n); err != nil || isNew != (n == 0) {
			t.Fatalf("beat %d: new %v, %v", n, isNew, err)
		}
	}
	if err := gaps([]string{"-json", path}, new(strings.Builder)); err != nil {
		t.Errorf("one copy: %v", err)
	}
	if _, err := w.beat("d1", "boot", 2); err != nil {
		t.Fatal(err)
	}
	if err := gaps([]string{path}, new(strings.Builder)); !errors.Is(err, errTwoCopies) {
		t.Errorf("two copies: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSwappedPages(t *testing.T) {
	s, err := newSwapped(4 * swapPages * swapPageSize)
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if err := s.turn(); err != nil {
			t.Fatal(err)
		}
	}
	if n, bad := s.check(); n != 4*swapPages || bad != nil {
		t.Fatalf("%d pages, bad: %v", n, bad)
	}
	s.page(17)[99] ^= 1
	if _, bad := s.check(); len(bad) != 1 {
		t.Errorf("one page was changed, found: %v", bad)
	}
}

func TestServiceEchoes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service{}.run(ctx, listener) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("17\n18\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	for _, want := range []string{"17\n", "18\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
