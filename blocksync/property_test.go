package blocksync

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// drawDisk makes content of regions: zero, random, text, repeated.
func drawDisk(t *rapid.T, size int, label string) []byte {
	b := make([]byte, size)
	for at := 0; at < size; {
		n := rapid.IntRange(1, 200*kib).Draw(t, label+" region")
		region := b[at:min(size, at+n)]
		switch rapid.IntRange(0, 2).Draw(t, label+" kind") {
		case 1:
			copy(region, randomBytes(rapid.Uint64Range(0, 1<<20).Draw(t, "seed"), len(region)))
		case 2:
			copy(region, bytes.Repeat([]byte("console: login as root\n"), len(region)/23+1))
		}
		at += len(region)
	}
	return b
}

// edit changes a few places of any length.
func edit(t *rapid.T, b []byte) []Range {
	var out []Range
	for range rapid.IntRange(0, 12).Draw(t, "edits") {
		if len(b) == 0 {
			return out
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		n := min(len(b)-at, rapid.SampledFrom([]int{1, 100, 4096, 5000, 70000, 200000}).Draw(t, "length"))
		if rapid.Bool().Draw(t, "wipe") {
			clear(b[at : at+n])
		} else {
			copy(b[at:at+n], randomBytes(rapid.Uint64Range(0, 1<<20).Draw(t, "seed"), n))
		}
		out = append(out, Range{int64(at), int64(n)})
	}
	return out
}

func drawSettings(t *rapid.T) Settings {
	var index *Index
	if rapid.Bool().Draw(t, "index") {
		index = NewIndex(rapid.Int64Range(1, 40*entryBytes).Draw(t, "index bytes"))
	}
	return Settings{
		Index:     index,
		ChunkSize: rapid.SampledFrom([]int{64 * kib, 128 * kib, 512 * kib}).Draw(t, "chunk"),
		Readers:   rapid.IntRange(1, 4).Draw(t, "readers"),
		Compress:  rapid.SampledFrom([]Compress{CompressAuto, CompressOff, CompressOn}).Draw(t, "compress"),
		Verify:    rapid.SampledFrom([]Verify{VerifyDelta, VerifyFull, VerifyNone}).Draw(t, "verify"),
	}
}

// TestAnyDisksBecomeEqual: whatever both hold, one pass makes them equal, a
// second sends nothing, and a pass over the changed ranges is enough later.
func TestAnyDisksBecomeEqual(t *testing.T) {
	dir := tempDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(0, 900*kib).Draw(rt, "size")
		src := drawDisk(rt, size, "source")
		dst := bytes.Clone(src)
		if rapid.Bool().Draw(rt, "another disk") {
			dst = drawDisk(rt, size, "destination")
		}
		edit(rt, dst)
		p := &pair{t, writeFile(t, filepath.Join(dir, "src"), src), writeFile(t, filepath.Join(dir, "dst"), dst)}
		for _, path := range []string{p.src, p.dst} {
			if rapid.Bool().Draw(rt, "sparse") {
				dig(t, path)
			}
		}
		set := drawSettings(rt)
		presuming := set
		presuming.blank = rapid.Bool().Draw(rt, "presumed blank")
		p.must(Pass{Number: 1, Final: true}, presuming)
		p.equal()
		if o := p.must(Pass{Number: 2}, set); o.sent.Differed != 0 {
			rt.Fatalf("second pass sends: %+v", o.sent)
		}
		ranges := edit(rt, src)
		writeFile(t, p.src, src)
		if ranges == nil {
			ranges = []Range{}
		}
		o := p.must(Pass{Number: 3, Ranges: ranges, Final: true}, set)
		p.equal()
		if len(ranges) == 0 && o.sent.Size != 0 {
			rt.Fatalf("no ranges, yet %d bytes compared", o.sent.Size)
		}
	})
}

// dig makes holes of the file's zero blocks.
func dig(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at+finePage <= len(b); at += finePage {
		if isZero(b[at : at+finePage]) {
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), finePage); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestGuestWritesMeanwhile: passes under a writing guest succeed, and the pass
// after its last write makes the disks equal.
func TestGuestWritesMeanwhile(t *testing.T) {
	const size = 24 * mib
	p := newPair(t, mixed(size), randomBytes(5, size))
	quit, quiet := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(quiet)
		f, err := os.OpenFile(p.src, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		rng := rand.New(rand.NewPCG(3, 4))
		for {
			select {
			case <-quit:
				return
			default:
			}
			n := 1 + rng.IntN(3*finePage)
			if _, err := f.WriteAt(randomBytes(rng.Uint64(), n), rng.Int64N(size-int64(n))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	set := Settings{ChunkSize: 256 * kib}
	for n := range uint32(4) {
		p.must(Pass{Number: n + 1}, set)
	}
	close(quit)
	<-quiet
	set.Verify = VerifyFull
	p.must(Pass{Number: 9, Final: true}, set)
	p.equal()
}

// TestRangesTouchNothingElse: what lies outside the ranges' chunks stays.
func TestRangesTouchNothingElse(t *testing.T) {
	const c = 64 * kib
	src, dst := randomBytes(1, 20*c), randomBytes(2, 20*c)
	p := newPair(t, src, dst)
	o := p.must(Pass{Number: 1, Ranges: []Range{{7*c + 5, 10}, {3 * c, c}, {3*c + 1, c}}}, Settings{ChunkSize: c})
	want := bytes.Clone(dst)
	copy(want[3*c:], src[3*c:5*c])
	copy(want[7*c:], src[7*c:8*c])
	if got := p.read(p.dst); !bytes.Equal(got, want) {
		t.Errorf("differs at byte %d", differsAt(got, want))
	}
	if o.sent.Chunks != 3 || o.sent.Size != 3*c {
		t.Errorf("%+v", o.sent.Counts)
	}
	if o := p.run(Pass{Number: 2, Ranges: []Range{{0, 20*c + 1}}}, Settings{}); o.sendErr == nil {
		t.Error("a range beyond the disk was accepted")
	}
}

// TestPlan: positions and indices are each other's inverse, on exactly the
// chunks that the ranges touch, and survive the begin frame.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 40*64*kib).Draw(t, "size")
		touched := map[int64]bool{}
		ranges := []Range{}
		for range rapid.IntRange(0, 10).Draw(t, "ranges") {
			off := rapid.Int64Range(0, size).Draw(t, "off")
			n := rapid.Int64Range(0, size-off).Draw(t, "n")
			ranges = append(ranges, Range{off, n})
			for c := off / (64 * kib); c*64*kib < off+n && n > 0; c++ {
				touched[c] = true
			}
		}
		p, err := newPlan(size, 64*kib, ranges)
		if err != nil {
			t.Fatal(err)
		}
		in := begin{final: true, verify: VerifyFull, sector: 512, secret: [32]byte{1, 2}, plan: p}
		out, err := decodeBegin(in.encode())
		if err != nil || len(in.encode()) != beginSize(p.runs) {
			t.Fatal(err)
		}
		if !slices.Equal(out.plan.runs, p.runs) || out.plan.n != p.n || out.secret != in.secret || !out.final {
			t.Fatalf("%+v became %+v", p, out.plan)
		}
		if int(p.n) != len(touched) {
			t.Fatalf("%d chunks, want %d", p.n, len(touched))
		}
		total := int64(0)
		for pos := range p.n {
			index := p.at(pos)
			if back, ok := p.find(index); !ok || back != pos || !touched[index] {
				t.Fatalf("position %d is chunk %d is position %d, %v", pos, index, back, ok)
			}
			_, n := p.extent(index)
			total += int64(n)
		}
		if total != p.bytes() {
			t.Fatalf("%d bytes, want %d", p.bytes(), total)
		}
		for c := int64(-1); c <= p.total(); c++ {
			if _, ok := p.find(c); ok != touched[c] {
				t.Fatalf("chunk %d: covered %v", c, ok)
			}
		}
	})
}

// TestManyRunsFitIntoTheBeginFrame: a list that is too long covers more instead.
func TestManyRunsFitIntoTheBeginFrame(t *testing.T) {
	var ranges []Range
	for i := range int64(600_000) {
		ranges = append(ranges, Range{i * 2 * 64 * kib, 1})
	}
	p, err := newPlan(600_000*2*64*kib, 64*kib, ranges)
	if err != nil || beginSize(p.runs) > MaxPayload {
		t.Fatal(beginSize(p.runs), err)
	}
	for i := range int64(600_000) {
		if _, ok := p.find(2 * i); !ok {
			t.Fatalf("chunk %d is lost", 2*i)
		}
	}
}

// TestResume: what a broken pass has written is not sent again.
func TestResume(t *testing.T) {
	const size = 32 * mib
	p := newPair(t, randomBytes(1, size), make([]byte, size))
	a, b := Pipe(2)
	cutter := &badLane{Lane: a, at: 20, spoil: func(*Frame) fate { return cut }}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	src, dst := p.open()
	defer src.Close()
	defer dst.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := Send(ctx, cutter, src, Pass{Number: 1}, Settings{})
		sent <- err
		stop(ErrLaneLost) // a real lane fails at both ends
	}()
	broken, err := Receive(rctx, b, dst, Settings{})
	if serr := <-sent; !errors.Is(serr, ErrLaneLost) || !errors.Is(err, ErrLaneLost) {
		t.Fatalf("source: %v\ndestination: %v", serr, err)
	}
	if broken.Written < 10*mib || broken.Written > 19*mib {
		t.Fatalf("the broken pass wrote %d bytes", broken.Written)
	}
	o := p.must(Pass{Number: 2, Final: true}, Settings{Verify: VerifyFull})
	p.equal()
	if o.sent.Sent != size-broken.Written {
		t.Errorf("sent %d, of %d bytes %d were there", o.sent.Sent, size, broken.Written)
	}
}

func (p *pair) open() (src, dst *Device) {
	p.t.Helper()
	src, err := OpenSource(p.src)
	if err != nil {
		p.t.Fatal(err)
	}
	if dst, err = OpenDestination(p.dst); err != nil {
		p.t.Fatal(err)
	}
	return src, dst
}

// TestWireBudget: what travels, all told, on 256 MiB.
func TestWireBudget(t *testing.T) {
	const size = 256 * mib
	dst := mixed(size)
	src := bytes.Clone(dst)
	changed := scatter(src, 0.02, 7) * finePage
	p := newPair(t, src, dst)
	for _, c := range []Compress{CompressOff, CompressAuto} {
		writeFile(t, p.dst, dst)
		o := p.must(Pass{Number: 1}, Settings{Compress: c})
		if ratio := float64(o.sent.Wire) / float64(changed); ratio > 1.2 {
			t.Errorf("2 %% scattered, compression %d: %.3f times the changed bytes on the wire", c, ratio)
		} else {
			t.Logf("2 %% scattered, compression %d: %.3f times the changed bytes on the wire", c, ratio)
		}
	}
	p.equal()
	o := p.must(Pass{Number: 2}, Settings{})
	if perGiB := o.sent.Wire * (1 << 30) / size; perGiB > 64*kib || o.sent.Differed != 0 {
		t.Errorf("unchanged: %d bytes on the wire per GiB, %d chunks differ", perGiB, o.sent.Differed)
	}
}

// TestDelay: many chunks narrow at once, so a slow answer costs one round
// trip for a window of them and not one each.
func TestDelay(t *testing.T) {
	const chunks = 256
	dst := randomBytes(1, chunks*64*kib)
	src := bytes.Clone(dst)
	for i := range chunks {
		src[i*64*kib+100] ^= 1
	}
	p := newPair(t, src, dst)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, b := Pipe(4)
	slow, end := delayed(ctx, b, 10*time.Millisecond)
	defer end()
	o := p.over(ctx, a, slow, Pass{Number: 1}, Settings{ChunkSize: 64 * kib}, Settings{})
	if o.err() != nil {
		t.Fatal(o.err())
	}
	p.equal()
	// In lock-step it would take 2.56 s.
	if o.sent.Elapsed > time.Second {
		t.Errorf("took %v", o.sent.Elapsed)
	}
}

// delayed delivers what is sent through it later by d.
func delayed(ctx context.Context, l Lane, d time.Duration) (Lane, func()) {
	type due struct {
		f  Frame
		at time.Time
	}
	queue, ended := make(chan due, 1024), make(chan struct{})
	go func() {
		defer close(ended)
		for q := range queue {
			time.Sleep(time.Until(q.at)) // the link, not a guess
			if l.Send(ctx, &q.f) != nil {
				return
			}
		}
	}()
	return &eachQueued{l, func(f Frame) { queue <- due{f, time.Now().Add(d)} }}, func() { close(queue); <-ended }
}

type eachQueued struct {
	Lane
	put func(Frame)
}

func (l *eachQueued) Send(_ context.Context, f *Frame) error {
	c := *f
	c.Slab, c.Payload = nil, bytes.Clone(f.Payload)
	l.put(c)
	return nil
}

// TestSlabsAreBounded: whatever the disks, and however many, one end holds no
// more than its workers need and what is spare; and all of it comes back.
func TestSlabsAreBounded(t *testing.T) {
	const chunks, disks = 300, 6
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dst := randomBytes(1, chunks*64*kib)
	src := bytes.Clone(dst)
	for i := range chunks {
		src[i*64*kib] ^= 1 // every chunk is narrowed
	}
	var g errgroup.Group
	senders := make([]*sender, disks)
	for i := range disks {
		p := newPair(t, src, dst)
		from, to := p.open()
		defer from.Close()
		defer to.Close()
		a, b := Pipe(64)
		s, err := newSender(a, from, Pass{Number: 1}, Settings{ChunkSize: 64 * kib, Readers: 8})
		if err != nil {
			t.Fatal(err)
		}
		senders[i] = s
		g.Go(func() error { _, err := s.run(ctx); return err })
		g.Go(func() error { _, err := Receive(ctx, b, to, Settings{}); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	crew := 0
	for _, s := range senders {
		own := s.crew * (1 + workSlabs)
		crew += s.crew
		if n := s.slabs.most.Load(); n > int64(own+narrowWindow+s.crew) || s.slabs.out.Load() != 0 || len(s.slabs.tokens) != own || s.slabs.lent.Load() != 0 {
			t.Errorf("%d slabs at most, %d of %d of its own back, %d bytes lent", n, len(s.slabs.tokens), own, s.slabs.lent.Load())
		}
		if n := s.meter.narrowed.Load(); n != chunks {
			t.Errorf("%d of %d chunks narrowed", n, chunks)
		}
		s.close()
	}
	if crew > maxWorkers+disks {
		t.Errorf("%d workers for %d disks", crew, disks)
	}
	for _, a := range []*allowance{&sourceMemory, &destinationMemory} {
		if a.passes != 0 || a.workers != 0 || a.spare != 0 {
			t.Errorf("left behind: %d passes, %d workers, %d bytes", a.passes, a.workers, a.spare)
		}
	}
}
