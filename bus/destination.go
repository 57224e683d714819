package bus

import (
	"context"
	"errors"
	"sync"

	"xmig/jobs"
)

// Verbs of a node that is the destination of a migration. Every one may be
// called twice, so an answer that was lost is asked for again.
const (
	verbCheck    = "check"
	verbReserve  = "reserve"
	verbPrepare  = "prepare"
	verbReceive  = "receive"
	verbReady    = "ready"
	verbGo       = "go"
	verbAbort    = "abort"
	verbSettle   = "settle"
	verbEvidence = "evidence"
)

type (
	readyCall struct {
		Job  jobs.Job  `json:"job"`
		Seal jobs.Seal `json:"seal"`
	}
	goCall struct {
		Job        jobs.Job        `json:"job"`
		Permission jobs.Permission `json:"permission"`
	}
	goAnswer struct {
		Ran      jobs.Ran      `json:"ran"`
		Evidence jobs.Evidence `json:"evidence"`
	}
	abortCall struct {
		Job   jobs.Job        `json:"job"`
		Scope jobs.AbortScope `json:"scope"`
	}
	ticketAnswer struct {
		Ticket jobs.Ticket `json:"ticket"`
	}
	done struct{}
)

// ServeDestination has d answer the calls of sources, on s. The same d may be
// served on the control bus and on the lanes' server.
func ServeDestination(s *Service, d jobs.Destination) error {
	return errors.Join(
		Serve(s, verbCheck, d.Check),
		Serve(s, verbReserve, func(ctx context.Context, j jobs.Job) (done, error) { return done{}, d.Reserve(ctx, j) }),
		Serve(s, verbPrepare, func(ctx context.Context, j jobs.Job) (ticketAnswer, error) {
			t, err := d.Prepare(ctx, j)
			return ticketAnswer{t}, err
		}),
		Serve(s, verbReceive, func(ctx context.Context, j jobs.Job) (done, error) { return done{}, d.Receive(ctx, j) }),
		Serve(s, verbReady, func(ctx context.Context, c readyCall) (jobs.Evidence, error) { return d.Ready(ctx, c.Job, c.Seal) }),
		Serve(s, verbGo, func(ctx context.Context, c goCall) (goAnswer, error) {
			ran, ev, err := d.Go(ctx, c.Job, c.Permission)
			return goAnswer{ran, ev}, err
		}),
		Serve(s, verbAbort, func(ctx context.Context, c abortCall) (jobs.Evidence, error) { return d.Abort(ctx, c.Job, c.Scope) }),
		Serve(s, verbSettle, func(ctx context.Context, j jobs.Job) (done, error) { return done{}, d.Settle(ctx, j) }),
		Serve(s, verbEvidence, d.Evidence),
	)
}

// RemoteDestination is the destination behind the bus: a jobs.Destination.
// When the bus is away it calls over the lane's server, if it knows one.
type RemoteDestination struct {
	bus Caller

	mu   sync.Mutex
	lane *LaneEnd
}

// Destination is the given node as the other end of a migration.
func (b *Bus) Destination(node string) *RemoteDestination {
	return &RemoteDestination{bus: b.Node(node)}
}

// Over lets calls go over the lane too, from now on; nil: not any more.
func (r *RemoteDestination) Over(lane *LaneEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lane = lane
}

// callEither asks over the bus, and over the lane if nobody answers there.
func callEither[Req, Resp any](ctx context.Context, r *RemoteDestination, verb string, req Req) (Resp, error) {
	r.mu.Lock()
	lane := r.lane
	r.mu.Unlock()
	out, err := callUntilLost[Req, Resp](ctx, r.bus, lane, verb, req)
	if lane == nil || !errors.Is(err, jobs.ErrAway) || ctx.Err() != nil {
		return out, err
	}
	c, lerr := lane.Node(ctx)
	if lerr != nil {
		return out, errors.Join(err, lerr)
	}
	out, lerr = Call[Req, Resp](ctx, c, verb, req)
	if errors.Is(lerr, jobs.ErrAway) {
		return out, errors.Join(err, lerr)
	}
	return out, lerr
}

// callUntilLost asks again once when the lane is lost meanwhile: most likely the
// worker at its other end died, and with it the call, which a guest may be
// held for. A worker that lives is asked twice, which every verb allows.
func callUntilLost[Req, Resp any](ctx context.Context, c Caller, lane *LaneEnd, verb string, req Req) (Resp, error) {
	if lane == nil || lane.ctx.Err() != nil {
		return Call[Req, Resp](ctx, c, verb, req)
	}
	first, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	defer context.AfterFunc(lane.ctx, func() { lose(context.Cause(lane.ctx)) })()
	out, err := Call[Req, Resp](first, c, verb, req)
	if first.Err() == nil || ctx.Err() != nil || !errors.Is(err, jobs.ErrAway) {
		return out, err
	}
	return Call[Req, Resp](ctx, c, verb, req)
}

// Check implements jobs.Destination, as all that follow do.
func (r *RemoteDestination) Check(ctx context.Context, job jobs.Job) (jobs.Answer, error) {
	return callEither[jobs.Job, jobs.Answer](ctx, r, verbCheck, job)
}

func (r *RemoteDestination) Reserve(ctx context.Context, job jobs.Job) error {
	_, err := callEither[jobs.Job, done](ctx, r, verbReserve, job)
	return err
}

func (r *RemoteDestination) Prepare(ctx context.Context, job jobs.Job) (jobs.Ticket, error) {
	a, err := callEither[jobs.Job, ticketAnswer](ctx, r, verbPrepare, job)
	return a.Ticket, err
}

func (r *RemoteDestination) Receive(ctx context.Context, job jobs.Job) error {
	_, err := callEither[jobs.Job, done](ctx, r, verbReceive, job)
	return err
}

func (r *RemoteDestination) Ready(ctx context.Context, job jobs.Job, s jobs.Seal) (jobs.Evidence, error) {
	return callEither[readyCall, jobs.Evidence](ctx, r, verbReady, readyCall{job, s})
}

func (r *RemoteDestination) Go(ctx context.Context, job jobs.Job, p jobs.Permission) (jobs.Ran, jobs.Evidence, error) {
	a, err := callEither[goCall, goAnswer](ctx, r, verbGo, goCall{job, p})
	return a.Ran, a.Evidence, err
}

func (r *RemoteDestination) Abort(ctx context.Context, job jobs.Job, over jobs.AbortScope) (jobs.Evidence, error) {
	return callEither[abortCall, jobs.Evidence](ctx, r, verbAbort, abortCall{job, over})
}

func (r *RemoteDestination) Settle(ctx context.Context, job jobs.Job) error {
	_, err := callEither[jobs.Job, done](ctx, r, verbSettle, job)
	return err
}

func (r *RemoteDestination) Evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	return callEither[jobs.VMRef, jobs.Evidence](ctx, r, verbEvidence, vm)
}

var (
	_ jobs.Destination = (*RemoteDestination)(nil)
	_ jobs.Store       = (*Records)(nil)
	_ jobs.Owners      = (*Owners)(nil)
	_ jobs.Events      = (*Bus)(nil)
)
