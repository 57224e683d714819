package main

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
	"xmig/jobs/coordinator/metrics"
)

// control is all that can be asked of a server. The bus's verbs and HTTP are
// both over it.
type control struct {
	*coordinator.Coordinator
	bus    *bus.Bus
	set    coordinatorSettings
	alerts alertStore
	intake *alert.Intake
	keeper *alert.Keeper
	counts *metrics.Server
	ledger ledger
}

func newControl(b *bus.Bus, set coordinatorSettings, log zerolog.Logger) *control {
	c := &control{Coordinator: newDecider(b, set, log), bus: b, set: set, alerts: newAlertStore(b)}
	c.counts = metrics.NewServer(c.standing)
	clock := steadyClock()
	c.intake = &alert.Intake{Store: c.alerts, Events: b, Rules: set.Rules, Name: set.Node, Clock: clock, Count: c.counts.Alert, Log: log}
	c.keeper = &alert.Keeper{Store: c.alerts, Fleet: fleetForRules{c.Coordinator}, Events: b, Rules: set.Rules, Name: set.Node, Clock: clock, Log: log}
	return c
}

// steadyClock goes on evenly from now, whatever is done to the host's clock:
// what counts minutes until a host is drained must not be hurried by a jump.
func steadyClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Round(0).Add(time.Since(start)) }
}

// follow keeps what is asked often, until ctx ends.
func (c *control) follow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Follow(ctx) })
	g.Go(func() error { return c.ledger.follow(ctx, c.bus) })
	g.Go(func() error {
		return c.bus.TakeAlerts(ctx, func(ctx context.Context, body []byte) []byte {
			r, err := c.TakeAlerts(ctx, "bus", body)
			if err != nil {
				c.Log.Warn().Err(err).Msg("alerts posted on the bus are not taken in")
			}
			return postReply(r, err)
		})
	})
	return g.Wait()
}

// lead decides until ctx ends; one server does at a time.
func (c *control) lead(ctx context.Context) error {
	c.ledger.acts(true)
	defer c.ledger.acts(false)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return lead(ctx, c.bus, c.Coordinator, c.set) })
	if len(c.set.Rules.Rules) > 0 {
		g.Go(func() error { return c.keeper.Run(ctx) })
	}
	return g.Wait()
}

// Cancel asks whoever has the job now.
func (c *control) Cancel(ctx context.Context, id, by string) (jobs.Record, error) {
	return cancel(ctx, c.bus, c.Coordinator, cancelRequest{Job: id, By: by})
}

func (c *control) Job(ctx context.Context, id string) (jobs.Record, error) {
	return c.bus.Records().Load(ctx, id)
}

func (c *control) Jobs(ctx context.Context) ([]jobs.Record, error) {
	if all, ok := c.ledger.jobs(); ok {
		return all, nil
	}
	return c.bus.Records().List(ctx)
}

func (c *control) Hosts(context.Context) ([]api.HostView, error) {
	s, err := c.Snapshot()
	return hostViews(s), err
}

func (c *control) Plan(_ context.Context, host string, kind coordinator.DrainKind) (coordinator.Plan, error) {
	s, err := c.Snapshot()
	if err != nil {
		return coordinator.Plan{}, err
	}
	return coordinator.PlanFor(s, c.Limits, host, kind, jobs.Spec{})
}

func (c *control) Events(ctx context.Context, f api.EventFilter) iter.Seq2[jobs.Event, error] {
	return c.bus.Events(ctx, bus.EventFilter{Job: f.Job, VM: f.VM, Host: f.Host, Alert: f.Alert, Since: f.Since, After: f.After, Follow: bus.Forever})
}

func (c *control) Progress() []jobs.Progress { return c.ledger.progress() }

func (c *control) TakeAlerts(ctx context.Context, source string, body []byte) (alert.Receipt, error) {
	return c.intake.Take(ctx, source, body)
}

func (c *control) Incidents(ctx context.Context) ([]jobs.Incident, error) {
	return c.alerts.Incidents(ctx)
}
func (c *control) Mutes(ctx context.Context) ([]jobs.Mute, error) { return c.alerts.Mutes(ctx) }

// maxMute: what is to stay silent for longer is a rule to change.
const maxMute = 31 * 24 * time.Hour

func (c *control) Mute(ctx context.Context, r api.MuteRequest) (jobs.Mute, error) {
	known := slices.ContainsFunc(c.set.Rules.Rules, func(rule alert.Rule) bool { return rule.Name == r.Rule })
	switch {
	case r.For <= 0 || r.For > maxMute:
		return jobs.Mute{}, usage("mute for %s: want more than nothing and up to %s", r.For, maxMute)
	case r.Rule != "" && !known:
		return jobs.Mute{}, jobs.Failed(jobs.CodeNotFound, "server %s has no rule %q; `xmig rule ls` lists them", c.set.Node, r.Rule)
	case r.Host != "" && !jobs.ValidNode(r.Host):
		return jobs.Mute{}, usage("host %q: a node name is 1 to 32 of a-z, 0-9 and -", r.Host)
	}
	now := time.Now()
	m := jobs.Mute{ID: ulid.Make().String(), Rule: r.Rule, Host: r.Host, Until: now.Add(r.For), By: r.By, Reason: r.Reason, Created: now}
	_, err := c.alerts.mutes.Save(ctx, jobs.Row[jobs.Mute]{Key: m.ID, Value: m})
	return m, err
}

func (c *control) Unmute(ctx context.Context, id string) error {
	row, err := c.alerts.mutes.Load(ctx, id)
	if err != nil {
		return err
	}
	if row.Revision == 0 {
		return jobs.Failed(jobs.CodeNotFound, "mute %s: %w; `xmig rule ls` lists them", id, jobs.ErrNotFound)
	}
	return c.alerts.mutes.Remove(ctx, row)
}

func (c *control) Rules() api.RulesView {
	return api.RulesView{Server: c.set.Node, File: c.set.RulesFile, Text: c.set.RulesText}
}

// standing is what metrics tell of a server.
func (c *control) standing() (metrics.Standing, bool) {
	s, err := c.Snapshot()
	all, ok := c.ledger.jobs()
	if err != nil || !ok {
		return metrics.Standing{}, false
	}
	ask, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	incidents, err := c.alerts.Incidents(ask)
	if err != nil {
		return metrics.Standing{}, false
	}
	st := metrics.Standing{Now: time.Now(), Acting: c.ledger.acting(), Jobs: all, Incidents: incidents, Hosts: map[string]string{}, Drains: map[string]map[string]int{}}
	for _, v := range hostViews(s) {
		st.Hosts[v.Name] = string(v.State)
		if v.Mark == nil || !v.Mark.Active() {
			continue
		}
		st.Drains[v.Name] = map[string]int{}
		for _, m := range v.Mark.Drain.Moves {
			st.Drains[v.Name][string(m.State)]++
		}
	}
	return st, true
}

// scrapeTime is well below Prometheus's own limit of 10 s.
const scrapeTime = 3 * time.Second

// ledger is every record and the newest progress of each job, kept by watching.
type ledger struct {
	mu      sync.Mutex
	records map[string]jobs.Record
	moving  map[string]jobs.Progress
	whole   bool
	leads   bool
}

func (l *ledger) follow(ctx context.Context, b *bus.Bus) error {
	l.mu.Lock()
	l.records, l.moving = map[string]jobs.Record{}, map[string]jobs.Progress{}
	l.mu.Unlock()
	defer l.set(false)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.Records().WatchAll(ctx, l.record) })
	g.Go(func() error { return b.Progress(ctx, "*", l.moves) })
	g.Go(func() error {
		for {
			all, err := b.Records().List(ctx)
			for _, r := range all {
				l.record(r.ID, &r)
			}
			if err == nil || all != nil { // one that cannot be read is told by the watch
				l.set(true)
				return nil
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(askAgain):
			}
		}
	})
	return g.Wait()
}

func (l *ledger) record(id string, r *jobs.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r == nil:
		delete(l.records, id)
	case l.records[id].Revision < r.Revision:
		l.records[id] = *r
	}
	if r == nil || r.State.Final() {
		delete(l.moving, id)
	}
}

func (l *ledger) moves(p jobs.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.records[p.Job]; ok && !r.State.Final() {
		l.moving[p.Job] = p
	}
}

func (l *ledger) set(whole bool) {
	l.mu.Lock()
	l.whole = whole
	l.mu.Unlock()
}

func (l *ledger) acts(leads bool) {
	l.mu.Lock()
	l.leads = leads
	l.mu.Unlock()
}

func (l *ledger) acting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads
}

// jobs gives all records, the oldest first; false: not all were read yet.
func (l *ledger) jobs() ([]jobs.Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.SortedFunc(maps.Values(l.records), func(a, b jobs.Record) int { return cmp.Compare(a.ID, b.ID) })
	return all, l.whole
}

func (l *ledger) progress() []jobs.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.moving), func(a, b jobs.Progress) int { return cmp.Compare(a.Job, b.Job) })
}
