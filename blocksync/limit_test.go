package blocksync

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// TestLimitsChangeWhileRunning: a pass that would take days ends at once when
// the last of its limits is lifted, and not before.
func TestLimitsChangeWhileRunning(t *testing.T) {
	p := newPair(t, randomBytes(1, 8*mib), make([]byte, 8*mib))
	job, host := rate.NewLimiter(20, mib), rate.NewLimiter(10, mib)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := make(chan struct{})
	ended := make(chan outcome)
	a, b := Pipe(4)
	set := Settings{Limits: Limits{job, host}, Progress: func(c Progress) {
		if c.Sent > 0 && began != nil {
			close(began)
			began = nil
		}
	}}
	first := began
	go func() { ended <- p.over(ctx, a, b, Pass{Number: 1}, set, Settings{}) }()
	<-first
	job.SetLimit(rate.Inf)
	select {
	case o := <-ended:
		t.Fatalf("it ended under a limit: %+v, %v", o.sent, o.err())
	default:
	}
	host.SetLimit(rate.Inf)
	if o := <-ended; o.err() != nil {
		t.Fatal(o.err())
	}
	p.equal()
}

// TestTurns: of passes that share one turn a blank disk is filled by whose turn
// it is; others wait, are ended by their context, and take no turn with them.
// What is there already needs none.
func TestTurns(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	set := Settings{Turns: semaphore.NewWeighted(1)}
	if !set.Turns.TryAcquire(1) {
		t.Fatal("no turn to begin with")
	}
	content := randomBytes(1, 8*mib)
	start := func(ctx context.Context, p *pair) <-chan outcome {
		ended := make(chan outcome, 1)
		a, b := Pipe(4)
		go func() { ended <- p.over(ctx, a, b, Pass{Number: 1}, set, Settings{}) }()
		return ended
	}
	waits := newPair(t, content, make([]byte, 8*mib))
	waiting := start(ctx, waits)
	gives, giveUp := context.WithCancel(ctx)
	givesUp := start(gives, newPair(t, content, make([]byte, 8*mib)))
	for _, there := range [][]byte{content, randomBytes(2, 8*mib)} {
		p := newPair(t, content, there)
		if o := <-start(ctx, p); o.err() != nil {
			t.Fatal(o.err())
		}
		p.equal()
	}
	giveUp()
	if o := <-givesUp; !errors.Is(o.sendErr, context.Canceled) {
		t.Errorf("given up while it waited: %v", o.sendErr)
	}
	select {
	case o := <-waiting:
		t.Fatalf("it ended out of turn: %+v, %v", o.sent, o.err())
	default:
	}
	set.Turns.Release(1)
	if o := <-waiting; o.err() != nil {
		t.Fatal(o.err())
	}
	waits.equal()
	if !set.Turns.TryAcquire(1) {
		t.Error("the turn was not given back")
	}
}

func TestPerByte(t *testing.T) {
	for _, tc := range []struct {
		limits Limits
		want   float64
	}{
		{nil, 0},
		{Limits{rate.NewLimiter(rate.Inf, 1)}, 0},
		{Limits{rate.NewLimiter(100, 1), rate.NewLimiter(rate.Inf, 1), rate.NewLimiter(50, 1)}, 1.0 / 50},
	} {
		if got := tc.limits.perByte(); got != tc.want {
			t.Errorf("%v: %v seconds for a byte, want %v", tc.limits, got, tc.want)
		}
	}
}

// TestPace: content is compressed until it is known to delay, and tried again
// now and then; a slow link or a cap makes it worth while again.
func TestPace(t *testing.T) {
	capped := 0.0
	p := &pace{crew: 1, limit: func() float64 { return capped }}
	if !p.worth() {
		t.Error("nothing is known, and nothing is compressed")
	}
	p.sent(mib, 1e6)      // 1 ms
	p.squeezed(mib, 10e6) // 10 ms
	tried := 0
	for range 10 * paceProbe {
		if p.worth() {
			tried++
		}
	}
	if tried != 10 {
		t.Errorf("compressed %d of %d contents for a link ten times as fast", tried, 10*paceProbe)
	}
	capped = 1.0 / (50 * mib)
	if !p.worth() {
		t.Error("not compressed under a cap of half of what is compressed")
	}
	capped = 0
	p.sent(4*kib, 1e9)                          // says nothing of the link
	if again := p.worth(); p.worth() && again { // one of them may be a probe
		t.Error("a small frame was taken for a slow link")
	}
	for range 40 {
		p.sent(mib, 30e6)
	}
	if again := p.worth(); !p.worth() || !again {
		t.Error("not compressed though the link is slow now")
	}
}

// TestSqueezeLearnsIncompressible: random content is not compressed at any
// setting, for the price of a sample.
func TestSqueezeLearnsIncompressible(t *testing.T) {
	random, text := randomBytes(1, mib), bytes.Repeat([]byte("a line of a log\n"), mib/16)
	for _, mode := range []Compress{CompressAuto, CompressOn} {
		s, err := newSqueezer(mode, &pace{crew: 1, limit: func() float64 { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		for range 3 {
			if _, ok := s.pack(nil, random); ok {
				t.Errorf("mode %d compressed random content", mode)
			}
			out, ok := s.pack(nil, text)
			if !ok || len(out) > len(text)/8 {
				t.Errorf("mode %d: text became %d of %d bytes", mode, len(out), len(text))
			}
		}
		if s.pace.squeeze == 0 {
			t.Error("the time of compression was not taken")
		}
	}
}
