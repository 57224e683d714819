package jobs

import (
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
	plan.decideMode(job.Spec, 0)
	job.Plan = plan
	answer, err := dst.Check(ctx, job)
	if err != nil {
		return plan, nil, err
	}
	plan.accept(answer)
	plan.decideMode(job.Spec, answer.LinkRate)
	blockers = append(blockers, answer.Blockers...)
	return plan, append(blockers, plan.downtimeBlockers(job.Spec, job.Source)...), nil
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
			Size: d.Size, Allocated: d.Allocated, ReadOnly: d.ReadOnly,
		})
	}
	return p
}

// accept takes over what the destination decided.
func (p *Plan) accept(a Answer) {
	p.Config = a.Config
	for i, f := range p.Guest.BootFiles {
		p.Guest.BootFiles[i].Send = slices.Contains(a.Lacks, f.Path)
	}
}

// stops reports whether the guest has to be stopped: a halted one need not.
func (p *Plan) stops() bool { return p.Guest.State != VMHalted }

// decideMode walks down the ladder live, suspend, cold and says why. It never
// shuts a running guest down unless asked to: cold must be named.
func (p *Plan) decideMode(spec Spec, link int64) {
	switch {
	case !p.stops():
		p.Mode, p.Why = Cold, "the guest is halted"
		return
	case spec.Mode == Auto:
		p.Mode, p.Why = Suspend, "memory is saved and restored through the lane; live is not offered by this version"
	default:
		p.Mode, p.Why = spec.Mode, "as asked"
	}
	p.Predicted = Predict(p.Mode, p.Guest.Memory, p.Disks, p.Guest.ReadRate, spec.carries(link))
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

// downtimeBlockers refuses what cannot be done and what cannot fit the budget.
func (p *Plan) downtimeBlockers(spec Spec, source string) (b []Blocker) {
	if p.Mode == Live {
		b = append(b, Blocker{Host: source, Code: "mode", Text: "live mode is not offered by this version",
			Next: "submit with --mode suspend, or --mode cold"})
	}
	if p.stops() && p.Predicted > spec.MaxDowntime && spec.OnTimeout != TimeoutSuspend {
		b = append(b, Blocker{Host: source, Code: "downtime",
			Text: fmt.Sprintf("predicted blackout %s in %s mode exceeds --max-downtime %s", p.Predicted.Round(10*time.Millisecond), p.Mode, spec.MaxDowntime),
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
