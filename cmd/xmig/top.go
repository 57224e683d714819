package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/api"
)

type topCmd struct {
	Once  bool          `help:"Print it once; so it is where nothing can be redrawn, and with -o json."`
	Every time.Duration `default:"1s" help:"How often to draw it."`
}

func (topCmd) Help() string {
	return `All hosts, and the jobs that run, wait, and ended last, as they change. Ctrl-C ends
it.

Examples:

    xmig top
    xmig top --once
    xmig top -o json`
}

func (c *topCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Every < 100*time.Millisecond {
		return usage("--every %s: want 100ms or more", c.Every)
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	l := newLatest()
	ask, cancel := g.ask(ctx)
	err = l.read(ask, b)
	cancel()
	if err != nil {
		return err
	}
	switch {
	case g.Output == "json":
		return printJSON(t.Out, l.overview(time.Now()))
	case c.Once || !t.Bars:
		_, err := fmt.Fprint(t.Out, show.Top(l.overview(time.Now())))
		return err
	}
	return l.live(ctx, b, t, c.Every)
}

// latest is what is known of hosts and jobs now.
type latest struct {
	mu       sync.Mutex
	hosts    map[string]jobs.Host
	marks    map[string]coordinator.Mark
	records  map[string]jobs.Record
	progress map[string]jobs.Progress
}

func newLatest() *latest {
	return &latest{hosts: map[string]jobs.Host{}, marks: map[string]coordinator.Mark{}, records: map[string]jobs.Record{}, progress: map[string]jobs.Progress{}}
}

// read reads all there is.
func (l *latest) read(ctx context.Context, b *bus.Bus) error {
	hosts, err := b.Hosts(ctx)
	if err != nil {
		return err
	}
	rows, err := marks(b).List(ctx)
	if err != nil {
		return err
	}
	all, err := b.Records().List(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		l.host(bus.HostChange{Node: h.Node, Host: h})
	}
	for _, r := range rows {
		l.mark(r, false)
	}
	for _, r := range all {
		l.record(r)
	}
	return nil
}

func (l *latest) host(c bus.HostChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts[c.Node] = c.Host; c.Gone {
		delete(l.hosts, c.Node)
	}
}

func (l *latest) mark(row jobs.Row[coordinator.Mark], gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marks[row.Key] = row.Value; gone {
		delete(l.marks, row.Key)
	}
}

func (l *latest) record(r jobs.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.records[r.ID]; ok && old.Revision > r.Revision {
		return
	}
	if l.records[r.ID] = r; r.State.Final() {
		delete(l.progress, r.ID)
	}
}

func (l *latest) tell(p jobs.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.records[p.Job]; ok && !r.State.Final() {
		l.progress[p.Job] = p
	}
}

// overview is what the server's page shows too.
func (l *latest) overview(now time.Time) api.Overview {
	l.mu.Lock()
	defer l.mu.Unlock()
	hosts := hostViews(coordinator.Snapshot{Hosts: slices.Collect(maps.Values(l.hosts)), Marks: l.marks})
	return api.Summarize(now, hosts, slices.Collect(maps.Values(l.records)), nil, slices.Collect(maps.Values(l.progress)))
}

// live draws it again and again until ctx ends; leaving it is no failure.
func (l *latest) live(ctx context.Context, b *bus.Bus, t *terminal, every time.Duration) error {
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.WatchHosts(ctx, l.host) })
	g.Go(func() error { return marks(b).Watch(ctx, l.mark) })
	g.Go(func() error { return b.Records().Watch(ctx, l.record) })
	g.Go(func() error { return b.Progress(ctx, "*", l.tell) })
	g.Go(func() error {
		drawn := 0
		for tick := time.NewTicker(every); ; {
			lines := show.Fit(show.Top(l.overview(time.Now())), t.Width, t.Height)
			if _, err := fmt.Fprint(t.Out, show.Redraw(drawn, lines)); err != nil {
				return err
			}
			drawn = len(lines)
			select {
			case <-ctx.Done():
				tick.Stop()
				return context.Cause(ctx)
			case <-tick.C:
			}
		}
	})
	if err := g.Wait(); outer.Err() == nil {
		return err
	}
	return nil
}
