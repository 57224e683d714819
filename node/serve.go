package node

import (
	"context"

	"xmig/bus"
	"xmig/jobs"
)

// CancelRequest asks a source node to take a job back.
type CancelRequest struct {
	Job string `json:"job"`
	By  string `json:"by"`
}

// CheckRequest asks a source node for all that stands against a move.
type CheckRequest struct {
	Job jobs.Job `json:"job"`
}

// CheckReply is what both ends say, and the plan that would be followed.
type CheckReply struct {
	Plan     jobs.Plan      `json:"plan"`
	Blockers []jobs.Blocker `json:"blockers,omitempty"`
}

// serve answers calls until the bus connection ends.
func (n *Node) serve(ctx context.Context) error {
	s, err := n.bus.NodeService(n.cfg.Name, bus.ServiceConfig{Name: "xmig-node", Version: "1.0.0",
		Meta: map[string]string{"node": n.cfg.Name, "version": Version}, Log: n.log})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, s.Close)
	over, err := n.lanes.Service(bus.ServiceConfig{Name: "xmig-lane", Version: "1.0.0", Log: n.log})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, over.Close)
	for _, way := range []*bus.Service{s, over} {
		if err := bus.ServeDestination(way, n.dst); err != nil {
			return err
		}
	}
	if err := bus.Serve(s, "cancel", func(_ context.Context, r CancelRequest) (struct{}, error) {
		return struct{}{}, n.cancel(r.Job, r.By)
	}); err != nil {
		return err
	}
	if err := bus.Serve(s, "inventory", func(ctx context.Context, _ struct{}) (jobs.Host, error) {
		h := n.inventory(ctx)
		h.Home = n.snapshot().Home
		return h, nil
	}); err != nil {
		return err
	}
	return bus.Serve(s, "check-move", func(ctx context.Context, r CheckRequest) (CheckReply, error) {
		plan, blockers, err := jobs.Examine(ctx, n.src, n.bus.Destination(r.Job.Destination), r.Job)
		return CheckReply{Plan: plan, Blockers: blockers}, err
	})
}
