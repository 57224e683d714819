package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
	"xmig/node"
)

// coordinatorSettings are those of `xmig server` that the coordinator sees.
type coordinatorSettings struct {
	Node          string // this server's name, in leases
	Sync          string // how its own bus writes; empty: the bus is another's
	MaxOut, MaxIn int    // migrations per host and way at a time; 0: default
	MaxAll        int    // migrations at a time in all; 0: as many as there are hosts
	Hours         []hours
	Hooks         string // directory of what runs around drains; empty: none

	Rules                alert.Rules // about alerts; none: nothing is done about them
	RulesFile, RulesText string
	HTTP                 httpSettings
}

// coordinate answers the coordinator's verbs on b and has it act until ctx ends.
func coordinate(ctx context.Context, b *bus.Bus, set coordinatorSettings, log zerolog.Logger) error {
	c := newControl(b, set, log)
	s, err := b.CoordinatorService(bus.ServiceConfig{Name: "xmig-coordinator", Version: serviceVersion,
		Meta: map[string]string{"server": set.Node, "version": thisBuild().String(), "sync": set.Sync}, Log: log})
	if err != nil {
		return err
	}
	defer s.Close()
	err = bus.Serve(s, verbSubmit, func(ctx context.Context, r submitRequest) (jobs.Record, error) {
		return c.Submit(ctx, r.Spec)
	})
	if err != nil {
		return err
	}
	err = bus.Serve(s, verbCancel, func(ctx context.Context, r cancelRequest) (jobs.Record, error) {
		return c.Cancel(ctx, r.Job, r.By)
	})
	if err != nil {
		return err
	}
	if err := errors.Join(serveFleet(s, c.Coordinator), serveAlerts(s, c)); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.follow(ctx) })
	g.Go(func() error { return actAlone(ctx, b, c.lead, set) })
	g.Go(func() error { return serveHTTP(ctx, c, log) })
	return g.Wait()
}

// actAlone has lead decide while this server holds the coordinator's lease, so
// that of several servers one acts and the others answer.
func actAlone(ctx context.Context, b *bus.Bus, lead func(context.Context) error, set coordinatorSettings) error {
	me := bus.Holder{Node: set.Node, Instance: ulid.Make().String()}
	for {
		held, lease, err := b.Leases().Hold(ctx, coordinatorLease, me, bus.MayLive)
		if err == nil {
			err = lead(held)
			release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
			lease.Release(release)
			cancel()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, jobs.ErrConflict) && !errors.Is(err, jobs.ErrAway) && !errors.Is(err, bus.ErrLeaseLost) && jobs.ClassOf(err) != jobs.Lost {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// lead takes the office, which ends every earlier one, and decides.
func lead(ctx context.Context, b *bus.Bus, c *coordinator.Coordinator, set coordinatorSettings) error {
	o, err := b.TakeOffice(ctx, set.Node)
	if err != nil {
		return err
	}
	return c.Lead(ctx, o)
}

const (
	coordinatorLease = "coordinator"
	// askAgain is how often a server asks whether the acting one is gone.
	askAgain = time.Second
	// releaseTime is for one write; a lease that is not given back runs out.
	releaseTime = 2 * time.Second
)

func newDecider(b *bus.Bus, set coordinatorSettings, log zerolog.Logger) *coordinator.Coordinator {
	limits := coordinator.DefaultLimits()
	if set.MaxOut > 0 {
		limits.Out = set.MaxOut
	}
	if set.MaxIn > 0 {
		limits.In = set.MaxIn
	}
	limits.Cluster = set.MaxAll
	for _, h := range set.Hours {
		limits.Hours = append(limits.Hours, coordinator.Hours(h))
	}
	var run coordinator.Hooks
	if set.Hooks != "" {
		run = hooks{dir: set.Hooks, log: log}
	}
	return &coordinator.Coordinator{
		Hooks:   run,
		Records: b.Records(), Claims: b.Owners(), Hosts: hostsOnBus{b}, Nodes: nodesOnBus{b}, Events: b,
		Marks: marks(b), Policies: policies(b), Wishes: wishes(b),
		Name: set.Node, Limits: limits, Clock: time.Now, Log: log,
		NewID: func() string { return ulid.Make().String() },
		IDTime: func(id string) (time.Time, error) {
			parsed, err := ulid.Parse(id)
			return parsed.Timestamp(), err
		},
	}
}

// hostsOnBus and nodesOnBus are what the coordinator asks for, over the bus.
type hostsOnBus struct{ *bus.Bus }

func (h hostsOnBus) WatchHosts(ctx context.Context, tell func(string, *jobs.Host)) error {
	return h.Bus.WatchHosts(ctx, func(ch bus.HostChange) {
		if ch.Gone {
			tell(ch.Node, nil)
			return
		}
		tell(ch.Node, &ch.Host)
	})
}

type nodesOnBus struct{ *bus.Bus }

func (n nodesOnBus) Examine(ctx context.Context, job jobs.Job) ([]jobs.Blocker, error) {
	r, err := bus.Call[node.CheckRequest, node.CheckReply](ctx, n.Node(job.Source), verbCheckMove, node.CheckRequest{Job: job})
	return r.Blockers, err
}

// Cancel asks the worker that drives a job to take it back.
func (n nodesOnBus) Cancel(ctx context.Context, r jobs.Record, by string) error {
	_, err := bus.Call[node.CancelRequest, struct{}](ctx, n.Node(r.Source), verbCancel, node.CancelRequest{Job: r.ID, By: by})
	if err != nil {
		return fmt.Errorf("job %s: ask %s to take it back: %w", r.ID, r.Source, err)
	}
	return nil
}

// serviceVersion is that of the verbs; nats micro wants a semantic one.
const serviceVersion = "1.0.0"

// cancel asks whoever has the job now: the coordinator until it is handed to
// its source node, then that node.
func cancel(ctx context.Context, b *bus.Bus, c *coordinator.Coordinator, r cancelRequest) (jobs.Record, error) {
	rec, err := b.Records().Load(ctx, r.Job)
	if err != nil {
		return jobs.Record{}, err
	}
	if rec.State != jobs.Running {
		return c.Cancel(ctx, rec.ID, r.By)
	}
	if err := c.Nodes.Cancel(ctx, rec, r.By); err != nil {
		return jobs.Record{}, err
	}
	return rec, nil
}
