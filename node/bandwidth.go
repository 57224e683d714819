package node

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
)

// bandwidth is how fast this host may send: all of it together, and each job.
// What people want of it is read from the bus as it changes and holds at once, also for
// passes that are under way.
type bandwidth struct {
	own  int64 // of the configuration, bytes per second; 0: none
	host *rate.Limiter

	mu     sync.Mutex
	wished map[string]int64         // by job, of those whose wish names a rate
	jobs   map[string]*rate.Limiter // of open departures
	spec   map[string]int64         // theirs, as submitted
}

func newBandwidth(own int64) *bandwidth {
	b := &bandwidth{own: own, host: rate.NewLimiter(rate.Inf, blocksync.MaxPayload),
		wished: map[string]int64{}, jobs: map[string]*rate.Limiter{}, spec: map[string]int64{}}
	setRate(b.host, own)
	return b
}

// setRate changes what l grants; a quarter of a second's worth may go at once,
// and one chunk always.
func setRate(l *rate.Limiter, perSecond int64) {
	if perSecond <= 0 {
		l.SetLimit(rate.Inf)
		return
	}
	l.SetBurst(max(blocksync.MaxPayload, int(perSecond/4)))
	l.SetLimit(rate.Limit(perSecond))
}

// of gives the limits for a departure; forget ends them.
func (b *bandwidth) of(job jobs.Job) blocksync.Limits {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := rate.NewLimiter(rate.Inf, blocksync.MaxPayload)
	b.jobs[job.ID], b.spec[job.ID] = l, job.Spec.BWLimit
	b.apply(job.ID)
	return blocksync.Limits{l, b.host}
}

func (b *bandwidth) forget(job string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.jobs, job)
	delete(b.spec, job)
}

// apply sets a job's rate; the caller holds the lock.
func (b *bandwidth) apply(job string) {
	l := b.jobs[job]
	if l == nil {
		return
	}
	perSecond, wished := b.wished[job]
	if !wished {
		perSecond = b.spec[job]
	}
	setRate(l, perSecond)
}

// wish takes what people want of one job.
func (b *bandwidth) wish(row jobs.Row[jobs.Wish], gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if gone || row.Value.BWLimit == nil {
		delete(b.wished, row.Key)
	} else {
		b.wished[row.Key] = *row.Value.BWLimit
	}
	b.apply(row.Key)
}

// throttle takes what people want of this host; without it the configuration's holds.
func (b *bandwidth) throttle(row jobs.Row[jobs.Throttle], gone bool) {
	if gone || row.Value.BWLimit == nil {
		setRate(b.host, b.own)
		return
	}
	setRate(b.host, *row.Value.BWLimit)
}

// follow watches both until ctx ends. A bus that is away leaves the last rates as they are.
func (b *bandwidth) follow(ctx context.Context, on *bus.Bus, node string, tell func(jobs.Row[jobs.Wish], bool)) error {
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return bus.NewTable[jobs.Wish](on, "job").Watch(ctx, func(row jobs.Row[jobs.Wish], gone bool) {
			b.wish(row, gone)
			tell(row, gone)
		})
	})
	g.Go(func() error {
		return bus.NewTable[jobs.Throttle](on, "throttle").Watch(ctx, func(row jobs.Row[jobs.Throttle], gone bool) {
			if row.Key == node {
				b.throttle(row, gone)
			}
		})
	})
	if err := g.Wait(); outer.Err() == nil {
		return err
	}
	return nil // told to end
}
