package node

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
)

// bandwidth is how fast this host may send: all of it together, and each job.
// What people want of it is read from the bus as it changes and holds at once, also for
// passes that are under way; so does what the time of day says.
type bandwidth struct {
	now  func() time.Time
	log  zerolog.Logger
	own  jobs.Bandwidth // of the configuration
	host *rate.Limiter

	mu       sync.Mutex
	throttle jobs.Throttle            // what people want of the host
	sends    jobs.Sending             // what holds now
	wished   map[string]int64         // by job, of those whose wish names a rate
	jobs     map[string]*rate.Limiter // of open departures
	spec     map[string]int64         // theirs, as submitted
}

func newBandwidth(own jobs.Bandwidth, now func() time.Time, log zerolog.Logger) *bandwidth {
	b := &bandwidth{now: now, log: log, own: own, host: rate.NewLimiter(rate.Inf, blocksync.MaxPayload),
		wished: map[string]int64{}, jobs: map[string]*rate.Limiter{}, spec: map[string]int64{}}
	b.settle()
	return b
}

// settle has the host send as fast as it may at this moment.
func (b *bandwidth) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.sends
	b.sends = jobs.Sending{Bandwidth: b.throttle.Bandwidth(b.own)}
	if b.throttle.Changes() {
		b.sends.By = b.throttle.By
	}
	b.sends.Now, b.sends.Named = b.sends.At(b.now())
	setRate(b.host, b.sends.Now)
	if b.sends.Now != was.Now || b.sends.Named != was.Named {
		b.log.Info().Stringer("sends", b.sends).Str("wished_by", b.sends.By).Msg("how fast this host may send")
	}
}

// keepTime settles at each full minute of the wall clock: hours begin and end
// there. A timer goes on evenly whatever is done to the clock, so that a clock
// that jumps is obeyed within a minute.
func (b *bandwidth) keepTime(ctx context.Context) error {
	for sleep(ctx, toFullMinute(b.now())) == nil {
		b.settle()
	}
	return nil
}

// toFullMinute is more than nothing, and a minute at most.
func toFullMinute(now time.Time) time.Duration {
	now = now.Round(0) // the wall's, not the even one
	return now.Truncate(time.Minute).Add(time.Minute).Sub(now)
}

// sending is what holds now.
func (b *bandwidth) sending() jobs.Sending {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sends
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

// slow takes what people want of this host; without it the configuration's
// holds. What a newer program wrote and this one cannot read changes nothing.
func (b *bandwidth) slow(row jobs.Row[jobs.Throttle], gone bool) {
	t := row.Value
	if gone {
		t = jobs.Throttle{}
	}
	if err := t.Bandwidth(b.own).Validate(); err != nil {
		b.log.Error().Err(err).Str("wished_by", t.By).Msg("what is wished of this host's bandwidth cannot be read and does not hold; say it again with xmig host set")
		return
	}
	b.mu.Lock()
	b.throttle = t
	b.mu.Unlock()
	b.settle()
}

// lowest of several limits, bytes per second; 0: none.
func lowest(of blocksync.Limits) int64 {
	least := rate.Inf
	for _, l := range of {
		least = min(least, l.Limit())
	}
	if least == rate.Inf {
		return 0
	}
	return int64(least)
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
				b.slow(row, gone)
			}
		})
	})
	if err := g.Wait(); outer.Err() == nil {
		return err
	}
	return nil // told to end
}
