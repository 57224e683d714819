package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/jobs"
)

// soon is well below workingGrace: who waited for that did not notice.
const soon = workingGrace / 3

// deaf answers only when its caller gives up, as a worker does that died.
func deaf(asked chan<- struct{}) func(context.Context, struct{}) (struct{}, error) {
	return func(ctx context.Context, _ struct{}) (struct{}, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return struct{}{}, ctx.Err()
	}
}

// TestCallOnBrokenConnection: an answer that comes while the caller's
// connection is down is never seen; the caller does not wait for it.
func TestCallOnBrokenConnection(t *testing.T) {
	s := testServer(t, "127.0.0.1")
	worker := testConnect(t, Config{InProcess: s})
	asked := make(chan struct{}, 1)
	service := value[*Service](t)(worker.NodeService("hv2", ServiceConfig{Name: "test", Version: "1.0.0", Log: zerolog.Nop()}))
	t.Cleanup(service.Close)
	must(t, Serve(service, "wait", deaf(asked)))
	p := newProxy(t, s.ClientURL())
	caller := testConnect(t, Config{URL: "nats://" + p.address()})
	ended := make(chan error, 1)
	go func() {
		_, err := Call[struct{}, struct{}](testContext(t), caller.Node("hv2"), "wait", struct{}{})
		ended <- err
	}()
	<-asked
	p.cut()
	select {
	case err := <-ended:
		if !errors.Is(err, jobs.ErrAway) || !errors.Is(err, errBroke) {
			t.Errorf("got %v, want %v", err, errBroke)
		}
	case <-time.After(soon):
		t.Error("it waits for an answer that nobody can bring")
	}
}

// TestCallWhoseLaneIsLost: a worker that dies takes its lane with it; what was
// asked of it over the bus is asked of the one that comes after it.
func TestCallWhoseLaneIsLost(t *testing.T) {
	s := testServer(t, "127.0.0.1")
	lanes := testLaneServer(t, 5*time.Second)
	src, dst := testLane(t, lanes, LaneSpec{Epoch: 1, Channels: []string{"xvda"}})
	t.Cleanup(src.Close)
	worker := testConnect(t, Config{InProcess: s})
	asked := make(chan struct{}, 2)
	service := value[*Service](t)(worker.NodeService("hv2", ServiceConfig{Name: "test", Version: "1.0.0", Log: zerolog.Nop()}))
	t.Cleanup(service.Close)
	must(t, Serve(service, "wait", deaf(asked)))
	caller := testConnect(t, Config{InProcess: s})
	ctx, enough := context.WithCancel(testContext(t))
	defer enough()
	ended := make(chan error, 1)
	go func() {
		_, err := callUntilLost[struct{}, struct{}](ctx, caller.Node("hv2"), src, "wait", struct{}{})
		ended <- err
	}()
	<-asked
	dst.Close()
	select {
	case <-asked:
	case err := <-ended:
		t.Errorf("given up: %v", err)
	case <-time.After(soon):
		t.Error("not asked again")
	}
	enough()
	<-ended
}
