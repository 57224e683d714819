package main

import (
	"context"

	"xmig/bus"
	"xmig/jobs/coordinator"
)

// Verbs about hosts and VMs, as `xmig server` answers them.
const (
	verbDrain       = "drain"        // coordinator.DrainRequest → coordinator.DrainAnswer
	verbCancelDrain = "cancel-drain" // cancelDrainRequest → coordinator.Mark
	verbCordon      = "cordon"       // cordonRequest → coordinator.Mark
	verbUncordon    = "uncordon"     // cordonRequest → coordinator.Mark
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

// serveFleet answers those verbs.
func serveFleet(s *bus.Service, c *coordinator.Coordinator) error {
	if err := bus.Serve(s, verbDrain, c.Drain); err != nil {
		return err
	}
	err := bus.Serve(s, verbCancelDrain, func(ctx context.Context, r cancelDrainRequest) (coordinator.Mark, error) {
		return c.CancelDrain(ctx, r.Host, r.Kind, r.By)
	})
	if err != nil {
		return err
	}
	err = bus.Serve(s, verbCordon, func(ctx context.Context, r cordonRequest) (coordinator.Mark, error) {
		return c.Cordon(ctx, r.Host, r.By, r.Reason)
	})
	if err != nil {
		return err
	}
	return bus.Serve(s, verbUncordon, func(ctx context.Context, r cordonRequest) (coordinator.Mark, error) {
		return c.Uncordon(ctx, r.Host, r.By)
	})
}
