package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/jobs"
)

// Records keeps job records; Create fails with jobs.ErrConflict where one is
// there, Save where it was changed since.
type Records interface {
	jobs.Store
	Create(ctx context.Context, r jobs.Record) (jobs.Record, error)
	List(ctx context.Context) ([]jobs.Record, error)
	Watch(ctx context.Context, tell func(jobs.Record)) error
}

// Claims keeps which job may move a VM: one, or none.
type Claims interface {
	// Claim makes job the one; claiming again changes nothing. The error wraps
	// jobs.ErrConflict where another has it; the key says which.
	Claim(ctx context.Context, vm jobs.VMRef, node, job string) (jobs.Owner, error)
	Unclaim(ctx context.Context, vm, job string) error
}

// Hosts tells which hosts are alive: all of them first, then every change.
type Hosts interface {
	Hosts(ctx context.Context) ([]jobs.Host, error)
	WatchHosts(ctx context.Context, tell func(node string, h *jobs.Host)) error // nil: gone
}

// Nodes reaches the workers.
type Nodes interface {
	// Ring has the source node look at the record. Ringing again is harmless.
	Ring(ctx context.Context, r jobs.Record) error
	// Examine asks both ends of a job for all that stands against it.
	Examine(ctx context.Context, job jobs.Job) ([]jobs.Blocker, error)
	// Cancel asks the source node to take a running job back.
	Cancel(ctx context.Context, r jobs.Record, by string) error
}

// Coordinator takes submissions and orders, and decides while Lead runs.
type Coordinator struct {
	Records  Records
	Claims   Claims
	Hosts    Hosts
	Nodes    Nodes
	Events   jobs.Events
	Marks    Table[Mark]      // by host
	Policies Table[Policy]    // by UUID of the VM
	Wishes   Table[jobs.Wish] // by id of the job
	Hooks    Hooks            // nil: none
	Name     string           // of this server, in events
	Limits   Limits
	Clock    func() time.Time
	NewID    func() string // of a job; sorts by time, and IDTime reads that
	IDTime   func(id string) (time.Time, error)
	Log      zerolog.Logger

	view    view
	reading sync.Mutex // held while all hosts are read anew
	read    time.Time  // when they last were
}

const (
	// lookAgain is how often all is decided anew without any news: what was
	// tried and failed for want of an answer is tried again.
	lookAgain = 2 * time.Second
	// ringAgain is how long a handed-over job may lie before its doorbell is
	// taken for lost: a worker that is there takes it at once.
	ringAgain = 30 * time.Second
	// examineFor is how long both hosts of a move may take to look at it.
	examineFor = time.Minute
	// askRefusedAgain is how long a host's own no is believed.
	askRefusedAgain = time.Minute
	// examineAtOnce bounds how many moves are looked at by their hosts at a time.
	examineAtOnce = 16
	// breath is the least time between two decisions: a fleet that changes all
	// the time is decided on in rounds.
	breath = 20 * time.Millisecond
)

// Follow keeps what this coordinator knows up to date until ctx ends. Every
// coordinator follows, so that each can answer.
func (c *Coordinator) Follow(ctx context.Context) error {
	c.view.follows()
	defer c.view.watched(false)
	for {
		err := c.catchUp(ctx, c.Records.List)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, jobs.ErrAway) {
			return err
		}
		c.Log.Warn().Err(err).Msg("the bus does not tell what there is; trying again")
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
	c.view.watched(true)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Records.Watch(ctx, c.view.record) })
	g.Go(func() error { return c.Hosts.WatchHosts(ctx, c.view.host) })
	g.Go(func() error { return c.Marks.Watch(ctx, c.view.mark) })
	g.Go(func() error { return c.Policies.Watch(ctx, c.view.policy) })
	g.Go(func() error { return c.Wishes.Watch(ctx, c.view.wish) })
	return g.Wait()
}

// Office is the right to change records that wait, taken by one coordinator at
// a time: Save fails with an error of class Lost when another took it since.
type Office interface {
	Save(ctx context.Context, r jobs.Record) (jobs.Record, error)
	// List gives all records, none older than the taking of the office.
	List(ctx context.Context) ([]jobs.Record, error)
}

// Lead decides until ctx ends, or until another took the office: at every
// change of a record, a host or an order, and once in a while.
func (c *Coordinator) Lead(ctx context.Context, o Office) error {
	if err := c.catchUp(ctx, o.List); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	l := &lead{Coordinator: c, office: o, end: end, ask: make(chan struct{}, examineAtOnce), work: g}
	g.Go(func() error { return l.decide(ctx) })
	return g.Wait()
}

// catchUp reads all there is: a decision on half of the records would go over
// the limits.
func (c *Coordinator) catchUp(ctx context.Context, list func(context.Context) ([]jobs.Record, error)) error {
	records, err := list(ctx)
	if err != nil && records == nil {
		return err
	}
	for _, r := range records {
		c.view.record(r)
	}
	hosts, err := c.Hosts.Hosts(ctx)
	if err != nil && hosts == nil {
		return err
	}
	for _, h := range hosts {
		c.view.host(h.Node, &h)
	}
	if err := readRows(ctx, c.Marks, c.view.mark); err != nil {
		return err
	}
	if err := readRows(ctx, c.Policies, c.view.policy); err != nil {
		return err
	}
	return readRows(ctx, c.Wishes, c.view.wish)
}

func readRows[T any](ctx context.Context, t Table[T], tell func(jobs.Row[T], bool)) error {
	rows, err := t.List(ctx)
	if err != nil && rows == nil {
		return err
	}
	for _, row := range rows {
		tell(row, false)
	}
	return nil
}

// lead is one time of leading.
type lead struct {
	*Coordinator
	office Office
	end    context.CancelCauseFunc // with why it ends
	ask    chan struct{}           // a place for each examination under way
	work   *errgroup.Group         // examinations and hooks; they end with the leading
}

func (l *lead) decide(ctx context.Context) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	news := l.view.news()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-news:
		}
		l.round(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(breath):
		}
	}
}

// round looks at everything once and does what is to be done.
func (l *lead) round(ctx context.Context) {
	l.tellHosts(ctx)
	l.advanceDrains(ctx)
	for _, a := range Decide(l.view.snapshot(l.Clock()), l.Limits) {
		if ctx.Err() != nil {
			return
		}
		l.apply(ctx, a)
	}
	l.ringLost(ctx)
	l.dropWishes(ctx)
}
