package blocksync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// badLane spoils the frame with number at among those sent through it.
type badLane struct {
	Lane
	at    int64
	spoil func(f *Frame) fate
	seen  atomic.Int64
}

type fate uint8

const (
	pass fate = iota
	drop
	cut
)

func (l *badLane) Send(ctx context.Context, f *Frame) error {
	n := l.seen.Add(1) - 1
	if n < l.at {
		return l.Lane.Send(ctx, f)
	}
	c := *f
	c.Slab = nil
	c.Payload = bytes.Clone(f.Payload)
	switch what := l.spoil(&c); {
	case what == cut: // and so are all that follow
		return fmt.Errorf("test: %w", ErrLaneLost)
	case n > l.at:
		return l.Lane.Send(ctx, f)
	case what == drop:
		return nil
	}
	return l.Lane.Send(ctx, &c)
}

// flips are single changes to every part of a frame.
var flips = map[string]func(f *Frame) fate{
	"kind":    func(f *Frame) fate { f.Kind ^= 1; return pass },
	"kind2":   func(f *Frame) fate { f.Kind ^= 4; return pass },
	"flags":   func(f *Frame) fate { f.Flags ^= 1; return pass },
	"blank":   func(f *Frame) fate { f.Flags ^= flagBlank; return pass },
	"older":   func(f *Frame) fate { f.Pass--; return pass },
	"newer":   func(f *Frame) fate { f.Pass++; return pass },
	"index":   func(f *Frame) fate { f.Index ^= 1; return pass },
	"beyond":  func(f *Frame) fate { f.Index |= 1 << 40; return pass },
	"behind":  func(f *Frame) fate { f.Index = -f.Index - 1; return pass },
	"length":  func(f *Frame) fate { f.Length ^= 1 << 12; return pass },
	"longer":  func(f *Frame) fate { f.Length = 1 << 40; return pass },
	"digest":  func(f *Frame) fate { f.Digest[7] ^= 0x10; return pass },
	"payload": func(f *Frame) fate { flipByte(f, 1, 2); return pass },
	"first":   func(f *Frame) fate { flipByte(f, 0, 1); return pass },
	"last":    func(f *Frame) fate { flipByte(f, 1, 1); return pass },
	"shorter": func(f *Frame) fate { f.Payload = f.Payload[:len(f.Payload)/2]; return pass },
	"drop":    func(f *Frame) fate { return drop },
	"cut":     func(f *Frame) fate { return cut },
}

func flipByte(f *Frame, num, den int) {
	if n := len(f.Payload); n > 0 {
		f.Payload[min(n-1, n*num/den)] ^= 0x20
	}
}

// faultDisks need every kind of frame: equal, zero, whole, pages, pages on zeroes.
func faultDisks() (src, dst []byte) {
	const c = 64 * kib
	src = make([]byte, 9*c+5000)
	dst = make([]byte, len(src))
	copy(src[0*c:], randomBytes(1, c)) // onto zeroes
	copy(dst[1*c:], randomBytes(2, c)) // becomes zero
	copy(src[2*c:], randomBytes(3, 2*c))
	copy(dst[2*c:], src[2*c:4*c]) // equal, and narrowed
	copy(dst[3*c+9*finePage+5:], "old")
	copy(src[4*c:], bytes.Repeat([]byte("text "), 2*c/5)) // compressed
	copy(dst[4*c:], randomBytes(4, 2*c))
	copy(src[6*c+8192:], "a page on zeroes")
	copy(src[7*c:], randomBytes(5, 2*c+5000))
	copy(dst[7*c:], src[7*c:])
	copy(dst[9*c:], randomBytes(6, 5000)) // the tail
	return src, dst
}

// sane fails the test if a chunk of the destination is neither old nor new.
func (p *pair) sane(old []byte, chunk int) {
	p.t.Helper()
	src, now := p.read(p.src), p.read(p.dst)
	if len(now) != len(old) {
		p.t.Fatalf("destination has %d bytes, had %d", len(now), len(old))
	}
	for at := 0; at < len(now); at += chunk {
		end := min(len(now), at+chunk)
		if c := now[at:end]; !bytes.Equal(c, src[at:end]) && !bytes.Equal(c, old[at:end]) {
			p.t.Fatalf("wrong data in the chunk at byte %d", at)
		}
	}
}

// cloneOf is another disk at the destination with the same content, and an
// index that knows two chunks of it: one where it is, one where it is not any more.
func cloneOf(t *testing.T, src []byte, chunk int) (index func() *Index) {
	path := writeFile(t, filepath.Join(tempDir(t), "clone"), src)
	return func() *Index {
		x := NewIndex(1 << 20)
		x.note(sum(src[4*chunk:5*chunk]), path, int64(4*chunk), chunk)
		x.note(sum(src[:chunk]), path, int64(7*chunk), chunk)
		return x
	}
}

// TestFaults spoils each frame of a pass, of either end, in each way. Nothing
// wrong may be written, success means equal, and a clean pass heals the rest.
func TestFaults(t *testing.T) { faults(t, false) }

// TestFaultsOfTheBlank: the same where the destination takes its disk to be blank.
func TestFaultsOfTheBlank(t *testing.T) { faults(t, true) }

func faults(t *testing.T, blank bool) {
	src, dst := faultDisks()
	set := Settings{ChunkSize: 64 * kib, Readers: 2, SyncEvery: time.Hour}
	final := Pass{Number: 7, Final: true}
	full := set
	full.Verify = VerifyFull
	index := cloneOf(t, src, set.ChunkSize)
	for name, spoil := range flips {
		for _, end := range []string{endSource, endDestination} {
			t.Run(name+" from the "+end, func(t *testing.T) {
				t.Parallel()
				for at := int64(0); ; at++ {
					p := newPair(t, src, dst)
					// A lost frame is the lane's to notice; here only the deadline ends the wait.
					ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
					a, b := Pipe(64)
					bad := &badLane{at: at, spoil: spoil}
					if end == endSource {
						bad.Lane, a = a, bad
					} else {
						bad.Lane, b = b, bad
					}
					there := full
					there.Index, there.blank = index(), blank
					o := p.over(ctx, a, b, final, full, there)
					cancel()
					p.sane(dst, set.ChunkSize)
					if o.sendErr == nil && o.receivedErr == nil {
						p.equal()
						if bad.seen.Load() <= at && o.sent.Found != int64(set.ChunkSize) {
							t.Errorf("nothing is spoiled, and %d bytes are found, not one chunk", o.sent.Found)
						}
					}
					if name == "cut" && bad.seen.Load() > at && !errors.Is(o.err(), ErrLaneLost) {
						t.Fatalf("a cut lane gives: %v", o.err())
					}
					p.must(Pass{Number: 8, Final: true}, set)
					p.equal()
					if bad.seen.Load() <= at {
						return // the pass had no frame left to spoil
					}
				}
			})
		}
	}
}

// TestFlippedPayloadIsSentAgain: one bit on the way costs one chunk, not the pass.
func TestFlippedPayloadIsSentAgain(t *testing.T) {
	src, dst := faultDisks()
	index := cloneOf(t, src, 64*kib)
	for _, kind := range []Kind{kindWhole, kindPages, kindSame} {
		done := false
		spoil := func(f *Frame) fate {
			if f.Kind == kind && !done {
				done = true
				flipByte(f, 1, 2)
			}
			return pass
		}
		p := newPair(t, src, dst)
		a, b := Pipe(4)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		o := p.over(ctx, &eachLane{a, spoil}, b, Pass{Number: 1, Final: true}, Settings{ChunkSize: 64 * kib}, Settings{Index: index()})
		cancel()
		if o.err() != nil || !done {
			t.Fatalf("kind %d: spoiled %v, error %v", kind, done, o.err())
		}
		p.equal()
	}
}

// eachLane may change every frame sent.
type eachLane struct {
	Lane
	change func(f *Frame) fate
}

func (l *eachLane) Send(ctx context.Context, f *Frame) error {
	c := *f
	c.Slab, c.Payload = nil, bytes.Clone(f.Payload)
	l.change(&c)
	return l.Lane.Send(ctx, &c)
}

// TestStubbornFlipNamesTheOffset: the same chunk wrong twice ends the pass.
func TestStubbornFlipNamesTheOffset(t *testing.T) {
	src, dst := faultDisks()
	p := newPair(t, src, dst)
	a, b := Pipe(4)
	bad := &eachLane{a, func(f *Frame) fate {
		if f.Index == 4 && f.Kind == kindWhole {
			flipByte(f, 1, 2)
		}
		return pass
	}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := p.over(ctx, bad, b, Pass{Number: 1}, Settings{ChunkSize: 64 * kib}, Settings{})
	var corrupt *CorruptError
	if !errors.As(o.receivedErr, &corrupt) || corrupt.Offset != 4*64*kib || corrupt.Path != p.dst {
		t.Errorf("destination: %v", o.receivedErr)
	}
	var told *AbortError
	if !errors.As(o.sendErr, &told) || told.End != endDestination || !told.Corrupt {
		t.Errorf("source: %v", o.sendErr)
	}
	p.sane(dst, 64*kib)
}

// TestFlipInDecompression: content that comes out of the decompression another
// than what went in is not written, though its frame was whole.
func TestFlipInDecompression(t *testing.T) {
	text := bytes.Repeat([]byte("all work and no play makes a dull block device. "), 4*64*kib/48+1)[:4*64*kib]
	zip, err := newSqueezer(CompressOn, &pace{crew: 1, limit: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer zip.close()
	for _, times := range []int{1, 2} {
		p := newPair(t, text, randomBytes(1, len(text)))
		a, b := Pipe(4)
		flips := 0
		bad := &eachLane{a, func(f *Frame) fate {
			if f.Index == 2 && f.Kind == kindWhole && f.Flags&flagZstd != 0 && flips < times {
				flips++
				wrong := bytes.Clone(text[2*64*kib : 3*64*kib])
				wrong[777] ^= 1
				f.Payload, _ = zip.pack(nil, wrong)
			}
			return pass
		}}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		o := p.over(ctx, bad, b, Pass{Number: 1, Final: true}, Settings{ChunkSize: 64 * kib, Compress: CompressOn}, Settings{})
		cancel()
		if flips != times {
			t.Fatalf("%d flips, want %d", flips, times)
		}
		var corrupt *CorruptError
		switch {
		case times == 1 && o.err() != nil:
			t.Errorf("one flip ended the pass: %v", o.err())
		case times == 1:
			p.equal()
		case !errors.As(o.receivedErr, &corrupt) || corrupt.Offset != 2*64*kib || corrupt.Path != p.dst:
			t.Errorf("the same chunk wrong twice: %v", o.receivedErr)
		}
	}
}

// TestDestinationReadsWrong: a chunk that was read wrong, once, when it was
// marked costs a repetition and no wrong data.
func TestDestinationReadsWrong(t *testing.T) {
	disk := randomBytes(1, 4*mib)
	p := newPair(t, disk, disk)
	at := int64(2*mib + 5*64*kib + 17)
	flipOnDisk(t, p.dst, at)
	a, b := Pipe(4)
	chunk, mended := at/mib, 0
	// Once its mark is on the way the device gives the right content again,
	// and not later: the source may answer that mark at once.
	spoiled := &eachLane{b, func(f *Frame) fate {
		marks := int64(len(f.Payload) / markSize)
		if f.Kind == kindMarks && f.Index <= chunk && chunk < f.Index+marks {
			flipOnDisk(t, p.dst, at)
			mended++
		}
		return pass
	}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := p.over(ctx, a, spoiled, Pass{Number: 1, Final: true}, Settings{Verify: VerifyFull}, Settings{})
	if o.err() != nil || mended != 1 || !o.sent.Verified {
		t.Fatalf("mended %d times, %v", mended, o.err())
	}
	p.equal()
}

// TestFailureOfOneEndEndsTheOther: neither is left waiting, and it knows why.
func TestFailureOfOneEndEndsTheOther(t *testing.T) {
	random := randomBytes(1, 8*mib)
	var told *AbortError
	t.Run("source shrinks", func(t *testing.T) {
		p := newPair(t, random, make([]byte, len(random)))
		src, _ := OpenSource(p.src)
		dst, _ := OpenDestination(p.dst)
		defer src.Close()
		defer dst.Close()
		if err := os.Truncate(p.src, 5*mib); err != nil {
			t.Fatal(err)
		}
		a, b := Pipe(4)
		sent, received := ends(context.Background(), context.Background(), a, b, src, dst)
		if !errors.Is(sent, io.ErrUnexpectedEOF) || !errors.As(received, &told) || told.End != endSource || told.Corrupt {
			t.Errorf("source: %v\ndestination: %v", sent, received)
		}
	})
	t.Run("destination not writable", func(t *testing.T) {
		p := newPair(t, random, make([]byte, len(random)))
		src, _ := OpenSource(p.src)
		dst, _ := OpenSource(p.dst)
		defer src.Close()
		defer dst.Close()
		a, b := Pipe(4)
		sent, received := ends(context.Background(), context.Background(), a, b, src, dst)
		if received == nil || !errors.As(sent, &told) || told.End != endDestination {
			t.Errorf("source: %v\ndestination: %v", sent, received)
		}
	})
	t.Run("destination too small", func(t *testing.T) {
		p := newPair(t, random, make([]byte, len(random)-1))
		o := p.run(Pass{Number: 1}, Settings{})
		if o.receivedErr == nil || !errors.As(o.sendErr, &told) {
			t.Errorf("%v", o.err())
		}
	})
	cause := errors.New("cancelled by the test")
	for _, end := range []string{endSource, endDestination} {
		t.Run(end+" cancelled", func(t *testing.T) {
			p := newPair(t, random, make([]byte, len(random)))
			src, _ := OpenSource(p.src)
			dst, _ := OpenDestination(p.dst)
			defer src.Close()
			defer dst.Close()
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			a, b := Pipe(4)
			b = &eachLane{b, func(f *Frame) fate { // in the middle of the pass
				if f.Kind == kindMarks {
					cancel(cause)
				}
				return pass
			}}
			sctx, rctx := ctx, context.Background()
			if end == endDestination {
				sctx, rctx = rctx, sctx
			}
			mine, other := ends(sctx, rctx, a, b, src, dst)
			if end == endDestination {
				mine, other = other, mine
			}
			if !errors.Is(mine, cause) || !errors.As(other, &told) || told.End != end {
				t.Errorf("this end: %v\nother end: %v", mine, other)
			}
		})
	}
}

// ends runs both ends and returns their errors.
func ends(sctx, rctx context.Context, a, b Lane, src, dst *Device) (sent, received error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, sent = Send(sctx, a, src, Pass{Number: 1}, Settings{})
	}()
	_, received = Receive(rctx, b, dst, Settings{})
	<-done
	return sent, received
}

// TestVerifyFullFindsFlips: a bit that flips on either disk after it was
// written or compared is found and named.
func TestVerifyFullFindsFlips(t *testing.T) {
	src, dst := faultDisks()
	for _, end := range []string{endSource, endDestination} {
		t.Run(end, func(t *testing.T) {
			p := newPair(t, src, dst)
			path, at := p.src, int64(5*64*kib+17)
			if end == endDestination {
				path = p.dst
			}
			a, b := Pipe(4)
			// Just before the source hears that all is done, and before anyone reads again.
			spoiled := &eachLane{b, func(f *Frame) fate {
				if f.Kind == kindDone {
					flipOnDisk(t, path, at)
				}
				return pass
			}}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			set := Settings{ChunkSize: 64 * kib, Verify: VerifyFull}
			o := p.over(ctx, a, spoiled, Pass{Number: 1, Final: true}, set, set)
			mine, other := o.sendErr, o.receivedErr
			if end == endDestination {
				mine, other = other, mine
			}
			var corrupt *CorruptError
			if !errors.As(mine, &corrupt) || corrupt.Offset != 5*64*kib || corrupt.Path != path {
				t.Errorf("this end: %v", mine)
			}
			var told *AbortError
			if !errors.As(other, &told) || told.End != end || !told.Corrupt {
				t.Errorf("other end: %v", other)
			}
		})
	}
}

func flipOnDisk(t *testing.T, path string, at int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 4
	if _, werr := f.WriteAt(b[:], at); err != nil || werr != nil {
		t.Error(err, werr)
	}
}
