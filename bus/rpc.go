package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"xmig/jobs"
)

const (
	// workingEvery: a handler at work says so this often, so that a caller
	// can tell a long call from a dead worker.
	workingEvery = 3 * time.Second
	// workingGrace: a caller that heard nothing for so long gives up.
	workingGrace = 5 * workingEvery
	// callLimit bounds a call whose caller set no deadline.
	callLimit = time.Hour
	// parallelCalls of one endpoint; more wait in the connection's buffer.
	parallelCalls = 64
)

// ServiceConfig describes one end that answers calls.
type ServiceConfig struct {
	Name    string // shown by `nats micro ls`: xmig-node, xmig-coordinator
	Version string // semantic version of the program
	Meta    map[string]string
	Log     zerolog.Logger
}

// Service answers calls on one connection: the control bus, or a lane's
// server, so that the two ends of a migration can talk while the bus is away.
type Service struct {
	s       micro.Service
	nc      *nats.Conn
	subject func(verb string) string
	queue   string // empty: every instance answers
	log     zerolog.Logger
	ctx     context.Context // of the service's life; handlers end with it
	cancel  context.CancelCauseFunc
	calls   sync.WaitGroup
	own     *nats.Conn // closed with the service, nil where somebody else owns it
}

// errServiceStopped is the cause of handlers that were interrupted.
var errServiceStopped = errors.New("the worker is stopping")

// NodeService answers the verbs of a node.
func (b *Bus) NodeService(node string, cfg ServiceConfig) (*Service, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	// No queue group: two workers of one name must not share calls unnoticed.
	return newService(b.nc, cfg, func(verb string) string { return b.names.nodeVerb(node, verb) }, "")
}

// CoordinatorService answers the verbs of the coordinator; with several
// running, one of them gets each call.
func (b *Bus) CoordinatorService(cfg ServiceConfig) (*Service, error) {
	return newService(b.nc, cfg, b.names.coordinatorVerb, tokenCoordinator)
}

func newService(nc *nats.Conn, cfg ServiceConfig, subject func(string) string, queue string) (*Service, error) {
	s, err := micro.AddService(nc, micro.Config{
		Name: cfg.Name, Version: cfg.Version, Metadata: cfg.Meta,
		QueueGroup: queue, QueueGroupDisabled: queue == "",
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			cfg.Log.Warn().Str("subject", e.Subject).Str("service", cfg.Name).Msg(e.Description)
		},
	})
	if err != nil {
		return nil, jobs.Failed(jobs.CodeInternal, "service %s: %w", cfg.Name, err)
	}
	out := &Service{s: s, nc: nc, subject: subject, queue: queue, log: cfg.Log}
	out.ctx, out.cancel = context.WithCancelCause(context.Background())
	return out, nil
}

// Close takes no more calls, interrupts those at work and waits for them.
func (s *Service) Close() {
	_ = s.s.Stop() // fails only on a closed connection, where nothing is left to stop
	s.cancel(errServiceStopped)
	s.calls.Wait()
	if s.own != nil {
		s.own.Close()
	}
}

// reply is what travels back: an error or a value.
type reply[T any] struct {
	Error *wireError `json:"error,omitempty"`
	Value T          `json:"value"`
}

// Serve has do answer calls of verb. Calls run in parallel, so do must expect
// the same call twice at once. Its context ends with the caller's deadline.
func Serve[Req, Resp any](s *Service, verb string, do func(context.Context, Req) (Resp, error)) error {
	if err := checkToken("verb", verb); err != nil {
		return err
	}
	slots := make(chan struct{}, parallelCalls)
	handler := micro.HandlerFunc(func(r micro.Request) {
		slots <- struct{}{}
		s.calls.Add(1)
		go func() {
			defer func() { <-slots; s.calls.Done() }()
			answer(s, verb, r, do)
		}()
	})
	opts := []micro.EndpointOpt{micro.WithEndpointSubject(s.subject(verb))}
	if s.queue == "" {
		opts = append(opts, micro.WithEndpointQueueGroupDisabled())
	} else {
		opts = append(opts, micro.WithEndpointQueueGroup(s.queue))
	}
	if err := s.s.AddEndpoint(verb, handler, opts...); err != nil {
		return jobs.Failed(jobs.CodeInternal, "serve %s: %w", verb, err)
	}
	return nil
}

func answer[Req, Resp any](s *Service, verb string, r micro.Request, do func(context.Context, Req) (Resp, error)) {
	limit := callLimit
	if d, err := time.ParseDuration(r.Headers().Get(headerTimeout)); err == nil && d > 0 {
		limit = d
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, limit, fmt.Errorf("the caller's deadline of %s is over", limit))
	defer cancel()
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		for pause(ctx, workingEvery) {
			// A beat that is lost is made up by the next.
			_ = s.nc.PublishMsg(&nats.Msg{Subject: r.Reply(), Header: nats.Header{headerWorking: {"1"}}})
		}
	}()
	data := respond(ctx, verb, r.Data(), do)
	if len(data) > int(s.nc.MaxPayload()) {
		err := jobs.Failed(jobs.CodeInternal, "%s: answer of %d bytes, the bus takes %d", verb, len(data), s.nc.MaxPayload())
		data = encodeReply(reply[struct{}]{Error: toWire(err)})
	}
	cancel()
	<-beats
	if err := r.Respond(data); err != nil {
		s.log.Warn().Err(err).Str("verb", verb).Msg("answer lost")
	}
}

func respond[Req, Resp any](ctx context.Context, verb string, data []byte, do func(context.Context, Req) (Resp, error)) []byte {
	var req Req
	var out reply[Resp]
	err := Decode(data, &req)
	if err == nil {
		out.Value, err = do(ctx, req)
	}
	if err != nil {
		return encodeReply(reply[Resp]{Error: toWire(err), Value: out.Value})
	}
	return encodeReply(out)
}

func encodeReply[T any](r reply[T]) []byte {
	data, err := Encode(r)
	if err == nil {
		return data
	}
	if data, err = Encode(reply[struct{}]{Error: toWire(err)}); err != nil {
		return nil // an error of three short texts always encodes
	}
	return data
}

// Caller makes calls to one service.
type Caller struct {
	nc      *nats.Conn
	subject func(verb string) string
	who     string // "host hv2"
	hint    string // what to do if nobody answers
}

// Node calls the worker of a node.
func (b *Bus) Node(node string) Caller {
	return Caller{b.nc, func(v string) string { return b.names.nodeVerb(node, v) }, "host " + node, "is `xmig node` running there?"}
}

// Coordinator calls whichever coordinator answers.
func (b *Bus) Coordinator() Caller {
	return Caller{b.nc, b.names.coordinatorVerb, "coordinator", "nobody takes submissions on " + b.nc.ConnectedUrlRedacted() + "; start `xmig server`"}
}

// Call asks and waits for the answer: for as long as ctx allows while the
// other end says that it is at work, and no longer than workingGrace if it
// falls silent. ErrAway: nothing is known of the outcome; every verb may be
// called again. An error of the other end comes back with its class and code.
func Call[Req, Resp any](ctx context.Context, c Caller, verb string, req Req) (Resp, error) {
	var none Resp
	data, err := Encode(req)
	if err != nil {
		return none, err
	}
	data, err = c.ask(ctx, verb, data)
	if err != nil {
		return none, err
	}
	var out reply[Resp]
	if err := Decode(data, &out); err != nil {
		// An error reply has no value of ours in it.
		var bare reply[struct{}]
		if Decode(data, &bare) == nil && bare.Error != nil {
			return none, fromWire(c.who, bare.Error)
		}
		return none, fmt.Errorf("%s: %s: %w", c.who, verb, err)
	}
	if out.Error != nil {
		return out.Value, fromWire(c.who, out.Error)
	}
	return out.Value, nil
}

func (c Caller) ask(ctx context.Context, verb string, data []byte) ([]byte, error) {
	if len(data) > int(c.nc.MaxPayload()) && c.nc.IsConnected() {
		return nil, jobs.Failed(jobs.CodeInternal, "%s: %s: call of %d bytes, the bus takes %d", c.who, verb, len(data), c.nc.MaxPayload())
	}
	m := &nats.Msg{Subject: c.subject(verb), Reply: c.nc.NewInbox(), Data: data, Header: nats.Header{}}
	if end, ok := ctx.Deadline(); ok {
		m.Header.Set(headerDeadline, end.Format(time.RFC3339Nano))
		m.Header.Set(headerTimeout, time.Until(end).String())
	}
	gone := func(err error) error {
		return silent(err, "%s does not answer (%s): %v", c.who, verb, err)
	}
	sub, err := c.nc.SubscribeSync(m.Reply)
	if err != nil {
		return nil, gone(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	whole, done := c.unbroken(ctx)
	defer done()
	if err := c.nc.PublishMsg(m); err != nil {
		return nil, gone(err)
	}
	for {
		wait, cancel := context.WithTimeout(whole, workingGrace)
		a, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case err == nil && len(a.Data) == 0 && a.Header.Get("Status") == "503", errors.Is(err, nats.ErrNoResponders):
			return nil, silent(nil, "%s does not answer; %s", c.who, c.hint)
		case err == nil && a.Header.Get(headerWorking) != "":
			continue
		case err == nil:
			return a.Data, nil
		case whole.Err() != nil:
			return nil, gone(context.Cause(whole))
		}
		return nil, gone(err)
	}
}

// errBroke: what was under way on a connection is lost with it.
var errBroke = errors.New("the connection broke before the answer came")

// unbroken is ctx for as long as the connection stays up. An answer that comes
// while the connection is down is never seen, so nobody should wait for it.
func (c Caller) unbroken(ctx context.Context) (context.Context, func()) {
	whole, lose := context.WithCancelCause(ctx)
	broken := c.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go func() { // ends with the listener
		if _, changed := <-broken; changed {
			lose(errBroke)
		}
	}()
	return whole, func() { c.nc.RemoveStatusListener(broken); lose(nil) }
}

// wireError is how an error travels.
type wireError struct {
	Class    jobs.Class     `json:"class"`
	Code     jobs.Code      `json:"code"`
	Text     string         `json:"text"`
	VM       string         `json:"vm,omitempty"`
	Blockers []jobs.Blocker `json:"blockers,omitempty"`
}

func toWire(err error) *wireError {
	w := &wireError{Class: jobs.ClassOf(err), Code: jobs.CodeOf(err), Text: err.Error()}
	var b *jobs.BlockedError
	if errors.As(err, &b) {
		w.VM, w.Blockers = b.VM, b.Blockers
	}
	return w
}

// fromWire makes the error again: errors.As finds its class and code and the
// blockers, errors.Is the stores' errors.
func fromWire(who string, w *wireError) error {
	var cause error
	switch {
	case len(w.Blockers) > 0:
		cause = &jobs.BlockedError{VM: w.VM, Blockers: w.Blockers}
	case w.Code == jobs.CodeNotFound:
		cause = jobs.ErrNotFound
	case w.Code == jobs.CodeConflict:
		cause = jobs.ErrConflict
	case w.Code == jobs.CodeAway:
		cause = jobs.ErrAway
	}
	return &jobs.Error{Class: w.Class, Code: w.Code, Err: &worded{text: who + ": " + w.Text, cause: cause}}
}

// silent is ErrAway, because of cause if there is one, in words that need not
// say "no answer" again.
func silent(cause error, format string, args ...any) error {
	return &jobs.Error{Class: jobs.Retry, Code: jobs.CodeAway, Err: &worded{text: fmt.Sprintf(format, args...), cause: errors.Join(jobs.ErrAway, cause)}}
}

// worded is an error whose text does not repeat its cause's.
type worded struct {
	text  string
	cause error
}

func (e *worded) Error() string { return e.text }
func (e *worded) Unwrap() error { return e.cause }
