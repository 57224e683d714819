package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"

	"xmig/bus"
)

// end is one of the two processes.
type end struct {
	out    *json.Encoder
	log    zerolog.Logger
	opened func(lanes int)
	lanes  *bus.LaneServer // of the destination
	dir    string          // the server's
}

// errGone: whoever measures is not there any more.
var errGone = errors.New("the measuring process has ended")

// RunEnd carries out orders from in until in ends, and answers on out. opened
// is told how many lanes are open, as in a worker.
func RunEnd(ctx context.Context, in io.Reader, out io.Writer, log zerolog.Logger, opened func(lanes int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e := &end{out: json.NewEncoder(out), log: log, opened: opened}
	defer e.close()
	orders := make(chan order)
	// Ends with in: a reader that waits in the kernel for a process that ends
	// anyway is nobody's burden.
	go func() {
		dec := json.NewDecoder(in)
		for {
			var o order
			if err := dec.Decode(&o); err != nil {
				cancel(errGone)
				return
			}
			select {
			case orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errGone) {
				return nil
			}
			return context.Cause(ctx)
		case o := <-orders:
			if err := e.out.Encode(e.obey(ctx, o)); err != nil {
				return fmt.Errorf("answer to %s: %w", o.Do, err)
			}
		}
	}
}

// obey carries out one order and adds what it took.
func (e *end) obey(ctx context.Context, o order) answer {
	before, err := cpuTime()
	var a answer
	if err == nil {
		a, err = e.carryOut(ctx, o)
	}
	if err == nil {
		a.Usage, err = usedSince(before)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func (e *end) carryOut(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case doServe:
		return e.serve(ctx, o.Serve)
	case doReceive:
		return e.receive(ctx, o)
	case doSend:
		return e.send(ctx, o)
	case doSink:
		return answer{}, e.sink(ctx, o.Floor)
	case doPump:
		return answer{}, e.pump(ctx, o)
	case doDigest:
		digest(o.Bytes)
		return answer{}, nil
	case doRead:
		return answer{}, readDirect(o.Path)
	}
	return answer{}, fmt.Errorf("unknown order %q", o.Do)
}

// ready is the first of two answers.
func (e *end) ready(a answer) error {
	if err := e.out.Encode(a); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// serve starts the server of the lanes, as a worker has one.
func (e *end) serve(ctx context.Context, s Serving) (answer, error) {
	if e.lanes != nil {
		return answer{}, errors.New("the server of the lanes runs already")
	}
	dir, err := os.MkdirTemp("", "xmig-bench-lanes-")
	if err != nil {
		return answer{}, err
	}
	e.dir = dir
	e.lanes, err = bus.StartLaneServer(ctx, bus.LaneServerConfig{
		Node: "bench", Listen: s.Listen, Advertise: s.Advertise, Plain: s.Plain, Dir: dir, Opened: e.opened, Log: e.log,
	})
	if err != nil {
		return answer{}, err
	}
	return answer{Port: e.lanes.Port()}, nil
}

func (e *end) close() {
	if e.lanes != nil {
		e.lanes.Close()
	}
	if e.dir != "" {
		if err := os.RemoveAll(e.dir); err != nil {
			e.log.Warn().Err(err).Msg("directory of the lane server left behind")
		}
	}
}
