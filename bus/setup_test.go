package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// TestAwaitSetup: a worker that is started before the server waits for it.
func TestAwaitSetup(t *testing.T) {
	b := testConnect(t, Config{InProcess: testServer(t, "")})
	short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if err := b.AwaitSetup(short); !errors.Is(err, jobs.ErrAway) {
		t.Errorf("an empty bus: got %v, want %v", err, jobs.ErrAway)
	}
	ready := make(chan error, 1)
	go func() { ready <- b.AwaitSetup(testContext(t)) }()
	must(t, b.Setup(testContext(t), Layout{Memory: InMemory}))
	must(t, <-ready)
}

// TestSetupTwiceAtOnce: several servers that start together all succeed.
func TestSetupTwiceAtOnce(t *testing.T) {
	s := testServer(t, "")
	done := make(chan error, 3)
	for range cap(done) {
		b := testConnect(t, Config{InProcess: s})
		go func() { done <- b.Setup(testContext(t), Layout{Memory: InMemory}) }()
	}
	for range cap(done) {
		must(t, <-done)
	}
}

// TestSetupChanges: what is there is brought to what is wanted, and is then
// taken for the same: a second Setup writes nothing.
func TestSetupChanges(t *testing.T) {
	b := testConnect(t, Config{InProcess: testServer(t, "")})
	for _, ttl := range []time.Duration{30 * time.Second, 90 * time.Second} {
		l := Layout{Memory: InMemory, LeaseTTL: ttl, KeepEvent: 10 * ttl}.withDefaults()
		must(t, b.Setup(testContext(t), l))
		for _, want := range b.streams(l) {
			s := value[jetstream.Stream](t)(b.js.Stream(testContext(t), want.Name))
			if have := s.CachedInfo().Config; !sameStream(have, want) {
				t.Errorf("%s is %+v, want %+v", want.Name, have, want)
			}
		}
	}
}

// TestPasses says which answers to a setup are waited out.
func TestPasses(t *testing.T) {
	api := func(status int, code jetstream.ErrorCode) error {
		return fmt.Errorf("stream: %w", &jetstream.APIError{Code: status, ErrorCode: code})
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{context.DeadlineExceeded, true}, {nats.ErrNoResponders, true}, {nats.ErrTimeout, true}, {nats.ErrConnectionClosed, true},
		{api(503, 10008), true}, {api(503, 10023), true}, {api(400, codeNoPeers), true}, {api(500, codeNotLeader), true},
		{api(500, 10074), false}, // three copies on one server: it will never have them
		{api(400, 10052), false}, {jobs.Failed(jobs.CodeUsage, "made by a newer xmig"), false},
	} {
		if got := passes(c.err); got != c.want {
			t.Errorf("%v: got %t, want %t", c.err, got, c.want)
		}
	}
}
