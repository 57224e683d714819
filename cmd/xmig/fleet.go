package main

import (
	"context"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
)

// Verbs about hosts, VMs and waiting jobs, as `xmig server` answers them.
const (
	verbDrain       = "drain"        // coordinator.DrainRequest → coordinator.DrainAnswer
	verbCancelDrain = "cancel-drain" // cancelDrainRequest → coordinator.Mark
	verbCordon      = "cordon"       // cordonRequest → coordinator.Mark
	verbUncordon    = "uncordon"     // cordonRequest → coordinator.Mark
	verbPlan        = "plan"         // planRequest → coordinator.Plan
	verbOptions     = "options"      // submitRequest → optionsReply
	verbWish        = "wish"         // coordinator.WishRequest → jobs.Wish
	verbPolicy      = "policy"       // coordinator.PolicyRequest → coordinator.Policy
)

type cancelDrainRequest struct {
	Host string                `json:"host"`
	Kind coordinator.DrainKind `json:"kind"`
	By   string                `json:"by"`
}

type cordonRequest struct {
	Host   string `json:"host"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

type planRequest struct {
	Host string                `json:"host"`
	Kind coordinator.DrainKind `json:"kind"`
	How  jobs.Spec             `json:"how"`
}

type optionsReply struct {
	Options []coordinator.Option `json:"options"`
}

// serveFleet answers those verbs.
func serveFleet(s *bus.Service, c *coordinator.Coordinator) error {
	for _, serve := range []func() error{
		func() error { return bus.Serve(s, verbDrain, c.Drain) },
		func() error { return bus.Serve(s, verbWish, c.Wish) },
		func() error { return bus.Serve(s, verbPolicy, c.SetPolicy) },
		func() error {
			return bus.Serve(s, verbCancelDrain, func(ctx context.Context, r cancelDrainRequest) (coordinator.Mark, error) {
				return c.CancelDrain(ctx, r.Host, r.Kind, r.By)
			})
		},
		func() error {
			return bus.Serve(s, verbCordon, func(ctx context.Context, r cordonRequest) (coordinator.Mark, error) {
				return c.Cordon(ctx, r.Host, r.By, r.Reason)
			})
		},
		func() error {
			return bus.Serve(s, verbUncordon, func(ctx context.Context, r cordonRequest) (coordinator.Mark, error) {
				return c.Uncordon(ctx, r.Host, r.By)
			})
		},
		func() error {
			return bus.Serve(s, verbPlan, func(ctx context.Context, r planRequest) (coordinator.Plan, error) {
				return c.Plan(ctx, r.Host, r.Kind, r.How)
			})
		},
		func() error {
			return bus.Serve(s, verbOptions, func(ctx context.Context, r submitRequest) (optionsReply, error) {
				all, err := c.Options(ctx, r.Spec)
				return optionsReply{all}, err
			})
		},
	} {
		if err := serve(); err != nil {
			return err
		}
	}
	return nil
}

// marks is the table of what was decided about hosts.
func marks(b *bus.Bus) *bus.Table[coordinator.Mark] { return bus.NewTable[coordinator.Mark](b, "host") }

func policies(b *bus.Bus) *bus.Table[coordinator.Policy] {
	return bus.NewTable[coordinator.Policy](b, "vm")
}

func wishes(b *bus.Bus) *bus.Table[jobs.Wish] { return bus.NewTable[jobs.Wish](b, "job") }

// call asks the coordinator for one thing.
func call[Req, Resp any](ctx context.Context, g *globals, b *bus.Bus, verb string, req Req) (Resp, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	return bus.Call[Req, Resp](ask, b.Coordinator(), verb, req)
}

// how are the flags that every VM's move of a drain takes.
type how struct {
	Mode        string        `enum:"auto,live,suspend,cold" default:"auto" help:"How running VMs move: ${enum}. Halted ones move cold."`
	MaxDowntime time.Duration `default:"5s" help:"Longest blackout allowed for each VM, such as 800ms or 2m."`
	OnTimeout   string        `enum:"abort,hold,suspend" default:"abort" help:"What to do when a blackout does not get short enough: ${enum}."`
	BWLimit     rate          `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second of each move, such as 100MiB/s (default: no limit)."`
	KeepSource  time.Duration `default:"24h" help:"How long to keep the disks at the source: the way back costs little while they are there."`
}

func (h how) spec() jobs.Spec {
	return jobs.Spec{Mode: jobs.Mode(h.Mode), MaxDowntime: h.MaxDowntime, OnTimeout: jobs.OnTimeout(h.OnTimeout), BWLimit: int64(h.BWLimit), KeepSource: h.KeepSource}
}

func (h how) validate() error {
	if h.MaxDowntime <= 0 || h.KeepSource <= 0 {
		return usage("--max-downtime and --keep-source: want more than nothing")
	}
	return nil
}
