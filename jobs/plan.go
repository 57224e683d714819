package jobs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Examine asks both ends for every blocker of a move, and plans it. It changes
// nothing anywhere.
func Examine(ctx context.Context, src Source, dst Destination, job Job) (Plan, []Blocker, error) {
	guest, blockers, err := src.Inspect(ctx, job)
	if err != nil {
		return Plan{}, nil, err
	}
	plan := planFor(job.Spec, guest)
	plan.decideMode(job.Spec, Answer{})
	job.Plan = plan
	answer, err := dst.Check(ctx, job)
	if err != nil {
		return plan, nil, err
	}
	plan.accept(answer)
	noLive := plan.decideMode(job.Spec, answer)
	blockers = append(blockers, answer.Blockers...)
	return plan, append(blockers, plan.modeBlockers(job.Spec, job.Source, noLive)...), nil
}

// planFor maps the guest's disks to the destination.
func planFor(spec Spec, g Guest) Plan {
	p := Plan{Guest: g}
	for _, d := range g.Disks {
		if d.Path == "" {
			continue // an empty drive
		}
		to := spec.Map.Disk(d.Path)
		if spec.Kind == KindSync {
			to = spec.SyncTo
		}
		p.Disks = append(p.Disks, DiskMove{
			Name: d.Name, From: d.Path, To: to,
			Size: d.Size, Allocated: d.Allocated, Sector: d.Sector, ReadOnly: d.ReadOnly,
			Proof: d.Proof, Alias: d.Alias, Shared: spec.Kind == KindMigrate && !d.ReadOnly && spec.Map.IsShared(d.Path),
		})
	}
	return p
}

// accept takes over what the destination decided.
func (p *Plan) accept(a Answer) {
	p.Config = a.Config
	for i, d := range p.Disks {
		p.Disks[i].Shared = d.Shared || slices.Contains(a.Shared, d.Name)
	}
	for i, f := range p.Guest.BootFiles {
		p.Guest.BootFiles[i].Send = slices.Contains(a.Lacks, f.Path)
	}
}

// stops reports whether the guest has to be stopped: a halted one need not.
func (p *Plan) stops() bool { return p.Guest.State != VMHalted }

// SendsMemory: the guest's memory travels, it does not boot anew.
func (p *Plan) SendsMemory() bool { return p.Mode == Live || p.Mode == Suspend }

// decideMode takes the first rung of the ladder live, suspend that can be stood
// on, says why, and predicts its blackout. It never shuts a running guest down:
// that is no longer blackout but the loss of all that its memory holds, so cold
// must be named. It returns why the guest cannot be moved live.
func (p *Plan) decideMode(spec Spec, a Answer) (noLive string) {
	noLive = cmp.Or(p.Guest.NoLive, a.NoLive)
	switch {
	case !p.stops():
		p.Mode, p.Why = Cold, "the guest is halted"
		return noLive
	case spec.Mode != Auto:
		p.Mode, p.Why = spec.Mode, "as asked"
	case noLive == "":
		p.Mode, p.Why = Live, "its memory travels while it runs"
	default:
		p.Mode, p.Why = Suspend, "it cannot be moved live: "+noLive
	}
	spec.BWLimit = tighter(spec.BWLimit, p.Guest.SendLimit)
	p.Predicted = Predict(p.Mode, p.Guest.Memory, p.Disks, p.Guest.ReadRate, spec.carries(a.LinkRate))
	return noLive
}

// tighter is the lower one of two limits, of which 0 is none.
func tighter(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return max(a, b)
	}
	return min(a, b)
}

// carries is the rate that a job may use of a link, 0 if nothing bounds it and
// the link is not known.
func (s Spec) carries(link int64) int64 {
	if link <= 0 && s.BWLimit < AssumedLink {
		return s.BWLimit
	}
	if s.BWLimit > 0 && link > 0 {
		return min(link, s.BWLimit)
	}
	return link
}

// modeBlockers refuses what cannot be done and what cannot fit the budget.
func (p *Plan) modeBlockers(spec Spec, source, noLive string) (b []Blocker) {
	if p.Mode == Live && noLive != "" {
		b = append(b, Blocker{Host: source, Code: "mode", Text: "it cannot be moved live: " + noLive,
			Next: "submit with --mode suspend, or --mode cold"})
	}
	if p.stops() && p.Predicted > spec.MaxDowntime && spec.OnTimeout != TimeoutSuspend {
		text := fmt.Sprintf("predicted blackout %s in %s mode exceeds --max-downtime %s", p.Predicted.Round(10*time.Millisecond), p.Mode, spec.MaxDowntime)
		if p.Mode == Suspend && spec.Mode == Auto {
			text += "; " + p.Why
		}
		b = append(b, Blocker{Host: source, Code: "downtime", Text: text,
			Next: fmt.Sprintf("allow --max-downtime %s", (p.Predicted + time.Second).Round(time.Second))})
	}
	return b
}

// pass makes one pass and notes it.
func (m *Migration) pass(ctx context.Context, kind PassKind) (PassReport, error) {
	p, err := m.src.Pass(ctx, m.rec.Job(), m.passes()+1, kind)
	if err != nil {
		return p, err
	}
	m.rec.Report.addPass(p)
	return p, nil
}

// passes is the number of the last pass of the job, 0 for none.
func (m *Migration) passes() uint32 {
	if last := len(m.rec.Report.Passes); last > 0 {
		return m.rec.Report.Passes[last-1].Number
	}
	return 0
}

func (m *Migration) predict(deltas []PassReport) time.Duration {
	if !m.rec.Plan.stops() {
		return 0
	}
	if len(deltas) == 0 {
		return m.rec.Plan.Predicted
	}
	// The last delta tells how long the final pass will take. What the wire
	// carries shows in the passes that sent much: the seed, most often.
	return PredictFinal(m.rec.Plan.Mode, m.rec.Plan.Guest.Memory, m.rec.Report.Passes, m.rec.Spec.carries(0))
}
