package main

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
	"xmig/node"
)

// coordinatorSettings are those of `xmig server` that the coordinator sees.
type coordinatorSettings struct {
	Node          string // this server's name, in leases
	MaxOut, MaxIn int    // migrations per host and way at a time; 0: default
}

// decider is the coordinator as the bus knows it: its verbs and its loop.
type decider interface {
	Submit(ctx context.Context, spec jobs.Spec) (jobs.Record, error)
	Cancel(ctx context.Context, id, by string) (jobs.Record, error)
	Run(ctx context.Context) error
}

// coordinate answers the coordinator's verbs on b and has it act until ctx ends.
func coordinate(ctx context.Context, b *bus.Bus, set coordinatorSettings, log zerolog.Logger) error {
	c, err := newDecider(b, set, log)
	if err != nil {
		return err
	}
	s, err := b.CoordinatorService(bus.ServiceConfig{Name: "xmig-coordinator", Version: serviceVersion,
		Meta: map[string]string{"server": set.Node}, Log: log})
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
		return cancel(ctx, b, c, r)
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// serviceVersion is that of the verbs; nats micro wants a semantic one.
const serviceVersion = "1.0.0"

// cancel asks whoever has the job now: the coordinator until it is handed to
// its source node, then that node.
func cancel(ctx context.Context, b *bus.Bus, c decider, r cancelRequest) (jobs.Record, error) {
	rec, err := b.Records().Load(ctx, r.Job)
	if err != nil {
		return jobs.Record{}, err
	}
	if rec.State != jobs.Running {
		return c.Cancel(ctx, rec.ID, r.By)
	}
	if _, err := bus.Call[node.CancelRequest, struct{}](ctx, b.Node(rec.Source), verbCancel, node.CancelRequest{Job: rec.ID, By: r.By}); err != nil {
		return jobs.Record{}, fmt.Errorf("job %s: ask %s to take it back: %w", rec.ID, rec.Source, err)
	}
	return rec, nil
}
