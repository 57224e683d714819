package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"xmig/blocksync"
)

func testStage(t *testing.T, name string, size int64) *Stage {
	t.Helper()
	s, err := NewStage(t.TempDir(), name, Usual(size, 1))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPairMoves: disks of two lanes at once between two processes, and what
// both say about it.
func TestPairMoves(t *testing.T) {
	a, b, c := testStage(t, "xvda", 6<<20), testStage(t, "xvdb", 3<<20), testStage(t, "xvda", 2<<20)
	lanes := []Lane{{Job: "one", Disks: []Disk{a.Disk(), b.Disk()}}, {Job: "two", Disks: []Disk{c.Disk()}}}
	p := testPair(t, testOptions())
	r, err := p.Sync(lanes, Settings{Compress: blocksync.CompressOff})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Stage{a, b, c} {
		if err := s.Compare(); err != nil {
			t.Error(err)
		}
	}
	if len(r.Sent) != 3 || len(r.Taken) != 3 || r.Sent[1].Name != "xvdb" || r.Sent[1].Counts.Size != 3<<20 || r.Taken[2].Counts.Written == 0 {
		t.Errorf("counts: %+v, %+v", r.Sent, r.Taken)
	}
	if r.Wire() < 6<<20 || r.Wire() > 11<<20 || r.Read() < 22<<20 {
		t.Errorf("%d bytes on the wire, %d read", r.Wire(), r.Read())
	}
	for role, u := range map[Role]Usage{Source: r.Source, Destination: r.Destination} {
		if u.CPU <= 0 || u.CPU > time.Minute || u.Peak < 4<<20 || u.Peak > 1<<30 {
			t.Errorf("%s: %+v", role, u)
		}
	}
	if r.Elapsed <= 0 || r.CPU() != r.Source.CPU+r.Destination.CPU {
		t.Errorf("%+v", r)
	}
}

// TestWrongCopyIsAnError: the comparison sees one bit.
func TestWrongCopyIsAnError(t *testing.T) {
	s := testStage(t, "xvda", 2<<20)
	if err := s.Equalize(); err != nil {
		t.Fatal(err)
	}
	if err := s.Compare(); err != nil {
		t.Fatal(err)
	}
	if err := onFile(s.Destination, func(f *os.File) error {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 1<<20+77); err != nil {
			return err
		}
		b[0] ^= 4
		_, err := f.WriteAt(b, 1<<20+77)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Compare(); err == nil || !strings.Contains(err.Error(), "byte 1048653") {
		t.Errorf("one bit is wrong at byte 1048653: %v", err)
	}
}

// TestChangeAndUndo: the change is as large as it says, and goes away again.
func TestChangeAndUndo(t *testing.T) {
	s := testStage(t, "xvda", 4<<20)
	if err := s.Equalize(); err != nil {
		t.Fatal(err)
	}
	spans := Scattered(s.Image.Size, 0.05, 4)
	if err := s.Change(spans, 9); err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(s.Source)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := os.ReadFile(s.Destination)
	if err != nil {
		t.Fatal(err)
	}
	var differ []Span
	for at := 0; at < len(src); at += Page {
		if string(src[at:at+Page]) != string(dst[at:at+Page]) {
			differ = append(differ, Span{int64(at), Page})
		}
	}
	if len(differ) != len(spans) || differ[0] != spans[0] {
		t.Errorf("%d pages differ, want %d", len(differ), len(spans))
	}
	if err := errors.Join(s.Undo(), s.Compare()); err != nil {
		t.Error(err)
	}
	// And where the destination has taken the change, it goes away there too.
	if err := errors.Join(s.Change(spans, 9), s.Equalize(), s.Compare(), s.Undo(), s.Compare()); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(s.Destination); err != nil || !bytes.Equal(now, dst) {
		t.Errorf("the destination is not as it was: %v", err)
	}
	// What was not seen to be equal is made so.
	if err := errors.Join(s.Change(spans, 9), s.Undo(), s.Blank(), s.Equalize(), s.Compare()); err != nil {
		t.Error(err)
	}
}

// TestNothingWritten: a pass over disks that are known to be as an earlier one
// left them reads neither; one that is said to be of another root does.
func TestNothingWritten(t *testing.T) {
	s := testStage(t, "xvda", 4<<20)
	p := testPair(t, testOptions())
	first, err := p.Sync(s.Lane(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	lanes := s.Lane()
	lanes[0].Disks[0].Since = first.Sent[0].Root
	known, err := p.Sync(lanes, Settings{})
	if err != nil || known.Read() != 0 || known.Wire() > 4<<10 {
		t.Errorf("read %d, wire %d, %v", known.Read(), known.Wire(), err)
	}
	again, err := p.Sync(s.Lane(), Settings{})
	if err != nil || again.Read() < 4<<20 {
		t.Errorf("read %d, %v", again.Read(), err)
	}
	if err := s.Compare(); err != nil {
		t.Error(err)
	}
}

// TestFloors: each floor moves its bytes, with TLS or without.
func TestFloors(t *testing.T) {
	for _, plain := range []bool{false, true} {
		o := testOptions()
		o.Plain = plain
		p := testPair(t, o)
		for _, f := range []Floor{RawTCP, TLSTCP, BareLane} {
			r, err := p.Pump(f, 5<<20+12345)
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if r.Source.CPU <= 0 || r.Destination.CPU <= 0 {
				t.Errorf("%s: %+v", f, r)
			}
		}
		if r, err := p.Digest(8 << 20); err != nil || r.Source.CPU <= 0 {
			t.Errorf("digest: %+v, %v", r, err)
		}
		if r, err := p.Read("/proc/self/exe"); err != nil || r.Source.CPU <= 0 {
			t.Errorf("read: %+v, %v", r, err)
		}
	}
}

// TestDelay: every order of bytes waits its way, and bytes arrive whole.
func TestDelay(t *testing.T) {
	const way = 100 * time.Millisecond
	o := testOptions()
	o.Delay = 2 * way
	s := testStage(t, "xvda", 2<<20)
	p := testPair(t, o)
	r, err := p.Sync(s.Lane(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Compare(); err != nil {
		t.Error(err)
	}
	// TCP's and TLS's handshakes and the pass itself are three round trips at least.
	if r.Elapsed < 6*way {
		t.Errorf("took %s, with a round trip of %s", r.Elapsed, 2*way)
	}
}

// TestFaultIsTold: an end that cannot do its part says why, and the other ends too.
func TestFaultIsTold(t *testing.T) {
	s := testStage(t, "xvda", 1<<20)
	d := s.Disk()
	d.Destination += ".absent"
	p := testPair(t, testOptions())
	if _, err := p.Sync([]Lane{{Job: "one", Disks: []Disk{d}}}, Settings{}); err == nil || !strings.Contains(err.Error(), "destination: open device") {
		t.Errorf("no such destination: %v", err)
	}
	if _, err := p.Sync(s.Lane(), Settings{}); err != nil {
		t.Errorf("and then, with the right one: %v", err)
	}
}

// TestEndsEndWithTheirMaster: whoever measures may be killed.
func TestEndsEndWithTheirMaster(t *testing.T) {
	p, err := StartPair(context.Background(), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil { // closes their input and waits for them
		t.Error(err)
	}
}

// TestSeries: one round of all that `xmig bench` does, with a disk that is small.
func TestSeries(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	said := 0
	got, err := Series{Dir: dir, Size: 4 << 20, Rounds: 1, Options: testOptions(), Tell: func(string) { said++ }}.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 10 || said != 11 {
		t.Errorf("%d measurements, %d lines", len(got), said)
	}
	for _, m := range got {
		if len(m.Runs) != 1 || m.Runs[0].Elapsed <= 0 {
			t.Errorf("%s: %+v", m.Name, m.Runs)
		}
		if !m.Floor && m.Name != "unchanged" && m.Runs[0].Wire() < m.Changed {
			t.Errorf("%s: %d bytes on the wire for %d changed", m.Name, m.Runs[0].Wire(), m.Changed)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
