package blocksync

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const kib, mib = 1 << 10, 1 << 20

// patience ends a test that hangs; nothing here waits for it.
const patience = 20 * time.Second

// tempDir is on a tmpfs where there is one: these tests are about bytes.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "blocksync")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// randomBytes is the same for the same seed.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1}).Read(b)
	return b
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair is a source and a destination file.
type pair struct {
	t        testing.TB
	src, dst string
}

func newPair(t testing.TB, src, dst []byte) *pair {
	dir := tempDir(t)
	return &pair{t, writeFile(t, filepath.Join(dir, "src"), src), writeFile(t, filepath.Join(dir, "dst"), dst)}
}

type outcome struct {
	sent, received       Result
	sendErr, receivedErr error
}

func (o outcome) err() error { return errors.Join(o.sendErr, o.receivedErr) }

// over runs one pass over the given lanes.
func (p *pair) over(ctx context.Context, a, b Lane, pass Pass, ss, rs Settings) outcome {
	p.t.Helper()
	src, err := OpenSource(p.src)
	if err != nil {
		p.t.Fatal(err)
	}
	defer src.Close()
	dst, err := OpenDestination(p.dst)
	if err != nil {
		p.t.Fatal(err)
	}
	defer dst.Close()
	var o outcome
	var g errgroup.Group
	g.Go(func() error { o.sent, o.sendErr = Send(ctx, a, src, pass, ss); return nil })
	g.Go(func() error { o.received, o.receivedErr = Receive(ctx, b, dst, rs); return nil })
	_ = g.Wait()
	return o
}

func (p *pair) run(pass Pass, s Settings) outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, b := Pipe(4)
	return p.over(ctx, a, b, pass, s, s)
}

// must runs a pass that has to succeed.
func (p *pair) must(pass Pass, s Settings) outcome {
	p.t.Helper()
	o := p.run(pass, s)
	if err := o.err(); err != nil {
		p.t.Fatal(err)
	}
	if o.sent.Root != o.received.Root || o.sent.Done != o.sent.Size || o.received.Done != o.sent.Size {
		p.t.Fatalf("sent %+v\nreceived %+v", o.sent, o.received)
	}
	return o
}

// equal fails the test unless the destination begins with the source.
func (p *pair) equal() {
	p.t.Helper()
	src, dst := p.read(p.src), p.read(p.dst)
	if len(dst) < len(src) || !bytes.Equal(src, dst[:len(src)]) {
		p.t.Fatalf("destination differs at byte %d", differsAt(src, dst))
	}
}

func (p *pair) read(path string) []byte {
	p.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func differsAt(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestOnePass(t *testing.T) {
	text := bytes.Repeat([]byte("all work and no play makes a dull block device. "), 60000)
	random := randomBytes(1, 5*mib)
	changed := bytes.Clone(random)
	for i := range 40 {
		copy(changed[i*31*4096:], randomBytes(uint64(i), 100))
	}
	for _, tc := range []struct {
		name     string
		src, dst []byte
		set      Settings
	}{
		{"empty", nil, nil, Settings{}},
		{"one byte", []byte{1}, []byte{0}, Settings{}},
		{"equal", random, random, Settings{}},
		{"onto zeroes", random, make([]byte, len(random)), Settings{}},
		{"onto others", random, randomBytes(2, len(random)), Settings{}},
		{"zeroes onto others", make([]byte, len(random)), random, Settings{}},
		{"scattered", random, changed, Settings{}},
		{"scattered, compression on", random, changed, Settings{Compress: CompressOn}},
		{"text", text, randomBytes(3, len(text)), Settings{}},
		{"text, compression off", text, make([]byte, len(text)), Settings{Compress: CompressOff}},
		{"odd tail", random[:3*mib+777], changed[:3*mib+777], Settings{}},
		{"tail of pages", random[:3*mib+70*kib+5], randomBytes(4, 3*mib+70*kib+5), Settings{}},
		{"small chunks", random, changed, Settings{ChunkSize: 64 * kib}},
		{"one reader", random, changed, Settings{Readers: 1}},
		{"many readers", random, changed, Settings{Readers: MaxReaders, ChunkSize: 128 * kib}},
		{"larger destination", random, append(bytes.Clone(changed), 1, 2, 3), Settings{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, tc.src, tc.dst)
			tc.set.Verify = VerifyFull
			o := p.must(Pass{Number: 1, Final: true}, tc.set)
			p.equal()
			if !o.sent.Verified || !o.received.Verified {
				t.Error("not verified by a second read")
			}
			if o.sent.Written != o.received.Written || o.sent.Durable != o.received.Written {
				t.Errorf("written %d, known at the source %d, durable %d", o.received.Written, o.sent.Written, o.sent.Durable)
			}
			again := p.must(Pass{Number: 2}, tc.set)
			if again.sent.Differed != 0 || again.sent.Sent != 0 || again.sent.Same != again.sent.Size {
				t.Errorf("a second pass sends: %+v", again.sent)
			}
		})
	}
}

// TestSince: a pass after which nobody wrote ends at once, and only that one.
func TestSince(t *testing.T) {
	disk := randomBytes(1, 5*mib)
	p := newPair(t, disk, make([]byte, len(disk)))
	first := p.must(Pass{Number: 1}, Settings{})
	held, asked := first.sent.Root, 0
	set := Settings{Holds: func(root [32]byte) bool { asked++; return root == held }}
	quick := p.must(Pass{Number: 2, Since: held, Final: true}, set)
	if n := quick.sent.Read + quick.received.Read + quick.received.Written; n != 0 || quick.sent.Wire > 2*kib || asked != 1 {
		t.Errorf("%d bytes read and written, %d on the wire, asked %d times", n, quick.sent.Wire, asked)
	}
	if quick.sent.Root != held || quick.sent.Same != quick.sent.Size || !quick.received.Final {
		t.Errorf("the quick pass says %+v and %+v", quick.sent, quick.received)
	}
	for name, tc := range map[string]struct {
		pass Pass
		set  Settings
	}{
		"destination knows nothing": {Pass{Number: 3, Since: held}, Settings{}},
		"destination has another":   {Pass{Number: 3, Since: held}, Settings{Holds: func([32]byte) bool { return false }}},
		"source has another":        {Pass{Number: 3, Since: [32]byte{1}}, set},
		"full check":                {Pass{Number: 3, Since: held, Final: true}, Settings{Holds: set.Holds, Verify: VerifyFull}},
	} {
		t.Run(name, func(t *testing.T) {
			flipOnDisk(t, p.dst, 2*mib+5)
			if o := p.must(tc.pass, tc.set); o.sent.Read < int64(len(disk)) || o.received.Written == 0 {
				t.Errorf("read %d bytes, wrote %d", o.sent.Read, o.received.Written)
			}
			p.equal()
		})
	}
	from, to := p.open()
	defer from.Close()
	defer to.Close()
	a, _ := Pipe(1)
	if _, err := Send(context.Background(), a, from, Pass{Number: 9, Since: held, Ranges: []Range{}}, set); err == nil {
		t.Error("a root of the whole disk was taken for a part of it")
	}
}
