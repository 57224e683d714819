package coordinator

import (
	"context"
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
}

// Coordinator takes submissions, and decides while Run runs.
type Coordinator struct {
	Records Records
	Claims  Claims
	Hosts   Hosts
	Nodes   Nodes
	Events  jobs.Events
	Name    string // of this server, in events
	Limits  Limits
	Clock   func() time.Time
	NewID   func() string // of a job; sorts by time, and IDTime reads that
	IDTime  func(id string) (time.Time, error)
	Log     zerolog.Logger
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
)

// Run decides until ctx ends: at every change of a record or a host, and once
// in a while.
func (c *Coordinator) Run(ctx context.Context) error {
	v := newView()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Records.Watch(ctx, v.record) })
	g.Go(func() error { return c.Hosts.WatchHosts(ctx, v.host) })
	g.Go(func() error { return c.decide(ctx, v) })
	return g.Wait()
}

func (c *Coordinator) decide(ctx context.Context, v *view) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-v.news:
		}
		c.tellHosts(ctx, v)
		snap := v.snapshot()
		for _, a := range Decide(snap, c.Limits) {
			c.apply(ctx, v, a)
		}
		c.ringLost(ctx, v, snap)
	}
}
