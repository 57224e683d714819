package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmig/bus"
	"xmig/jobs"
)

// gate keeps the guest of one job from being stopped before a person wants it,
// and while as many guests of either host stand still as may. The places are
// leases, so that they need no coordinator, and are free again after a crash.
type gate struct {
	n    *Node
	job  string
	held []place
}

// place is one guest that may stand still, at one host and way.
type place struct {
	ctx   context.Context // ends when the place is lost
	lease *bus.Lease
	end   context.CancelFunc // of ctx
}

// Ask tells what a guest that could be stopped waits for.
func (g *gate) Ask(ctx context.Context, r jobs.Record) (jobs.Wait, error) {
	w := g.n.wishes.of(g.job)
	switch {
	case w.Paused != nil:
		g.Leave()
		return jobs.Wait{Why: w.Paused.Reason, Quiet: true}, nil
	case w.Cutover != nil:
	case r.Spec.Cutover == jobs.CutoverManual:
		return jobs.Wait{Why: "waits for a word: `xmig job cutover " + g.job + "`"}, nil
	case g.n.now().Before(r.Spec.CutoverAt):
		return jobs.Wait{Why: "the guest shall not be stopped before " + r.Spec.CutoverAt.Format("2006-01-02 15:04:05 MST")}, nil
	}
	if g.stands() {
		return jobs.Wait{}, nil
	}
	g.Leave()
	for _, key := range []string{"cut-out-" + r.Source, "cut-in-" + r.Destination} {
		if err := g.take(ctx, key); err != nil {
			g.Leave()
			if ctx.Err() != nil {
				return jobs.Wait{}, context.Cause(ctx)
			}
			return jobs.Wait{Why: fmt.Sprintf("waits until fewer guests stand still at %s and %s", r.Source, r.Destination)}, nil
		}
	}
	return jobs.Wait{}, nil
}

func (g *gate) stands() bool {
	for _, p := range g.held {
		if p.ctx.Err() != nil {
			return false
		}
	}
	return len(g.held) > 0
}

// take takes one of a host's places.
func (g *gate) take(ctx context.Context, key string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	for i := range g.n.cfg.Blackouts {
		// Asked for no longer than ctx lasts; once held it outlives ctx.
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		stop := context.AfterFunc(ctx, end)
		held, lease, lerr := g.n.bus.Leases().Hold(life, fmt.Sprintf("%s-%d", key, i), bus.Holder{Node: g.n.cfg.Name, Instance: g.job}, bus.MayLive)
		stop()
		if lerr == nil {
			g.held = append(g.held, place{held, lease, end})
			return nil
		}
		end()
		if err = lerr; !errors.Is(lerr, jobs.ErrConflict) {
			return err
		}
	}
	return err
}

// placeTime is how long a place is asked for; then it is asked for again.
const placeTime = 5 * time.Second

// leaveTime bounds how long a job that needs a place no more waits to say so.
const leaveTime = 2 * time.Second

// Leave gives the places back. One that cannot be runs out.
func (g *gate) Leave() {
	for _, p := range g.held {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		if err := p.lease.Release(ctx); err != nil {
			g.n.log.Debug().Err(err).Str("job", g.job).Msg("place for a guest that stands still runs out by itself")
		}
		cancel()
		p.end()
	}
	g.held = nil
}

// wishes is what people want of jobs, as far as the bus told.
type wishes struct {
	mu  sync.Mutex
	all map[string]jobs.Wish
}

func (w *wishes) of(job string) jobs.Wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[job]
}

func (w *wishes) take(row jobs.Row[jobs.Wish], gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[string]jobs.Wish{}
	}
	if gone {
		delete(w.all, row.Key)
	} else {
		w.all[row.Key] = row.Value
	}
}
