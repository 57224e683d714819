package node

import (
	"context"
	"errors"

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

// serve answers calls, on the bus and over lanes, until stop is called; stop
// waits for those at work and may be called after an error too.
func (n *Node) serve() (stop func(), err error) {
	var ways []*bus.Service
	stop = func() {
		for _, s := range ways {
			s.Close()
		}
	}
	s, err := n.bus.NodeService(n.cfg.Name, bus.ServiceConfig{Name: "xmig-node", Version: "1.0.0",
		Meta: map[string]string{"node": n.cfg.Name, "version": Version}, Log: n.log})
	if err != nil {
		return stop, err
	}
	ways = append(ways, s)
	over, err := n.lanes.Service(bus.ServiceConfig{Name: "xmig-lane", Version: "1.0.0", Log: n.log})
	if err != nil {
		return stop, err
	}
	ways = append(ways, over)
	return stop, errors.Join(
		bus.ServeDestination(s, n.dst),
		bus.ServeDestination(over, n.dst),
		bus.ServeResolution(s, n.src, n),
		bus.Serve(s, "accounts", func(ctx context.Context, _ struct{}) ([]jobs.Account, error) { return n.accounts(ctx) }),
		bus.Serve(s, "shadows", func(ctx context.Context, _ struct{}) ([]jobs.KeptDisk, error) { return n.shadows(ctx) }),
		bus.Serve(s, "prune-shadow", n.pruneShadow),
		bus.Serve(s, "examine-host", func(ctx context.Context, _ struct{}) (Examined, error) { return n.examine(ctx), nil }),
		bus.Serve(s, "cancel", func(_ context.Context, r CancelRequest) (struct{}, error) {
			return struct{}{}, n.cancel(r.Job, r.By)
		}),
		bus.Serve(s, "inventory", func(ctx context.Context, _ struct{}) (jobs.Host, error) {
			h := n.inventory(ctx)
			h.Home = n.snapshot().Home
			return h, nil
		}),
		bus.Serve(s, "check-move", func(ctx context.Context, r CheckRequest) (CheckReply, error) {
			plan, blockers, err := jobs.Examine(ctx, n.src, n.bus.Destination(r.Job.Destination), r.Job)
			return CheckReply{Plan: plan, Blockers: blockers}, err
		}),
	)
}
