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
	p.Predicted = Predict(p.Mode, p.Guest.Memory, p.Disks, p.Guest.ReadRate, link)
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

// begin wins an epoch of this attempt's own: {S,x} to {S,x+1,attempt} (R1).
// The claim stays the job's: the coordinator wrote it when it took the job in.
func (m *Migration) begin(ctx context.Context) (uint64, error) {
	job := m.rec.Job()
	for {
		key, err := m.owners.Owner(ctx, job.VM.UUID)
		if err != nil {
			return 0, err
		}
		if key.Attempt == job.Attempt && key.Node == job.Source {
			return key.Epoch, nil // won before a crash; nobody else writes this attempt
		}
		if key.Claim != job.ID {
			return 0, NotOurs("vm %s is claimed by job %s, not by %s", job.VM.Name, key.Claim, job.ID)
		}
		if key.Node != job.Source {
			if key, err = m.repair(ctx, key); err != nil {
				return 0, err
			}
		}
		to := key
		to.Epoch, to.Attempt = key.Epoch+1, job.Attempt
		won, err := m.owners.Swap(ctx, key, to)
		if err == nil {
			return won.Epoch, nil
		}
		if CodeOf(err) != CodeConflict {
			return 0, err
		}
	}
}

// repair makes the key follow the hosts (R11) where it names the destination
// although the guest runs at the source.
func (m *Migration) repair(ctx context.Context, key Owner) (Owner, error) {
	here, err := m.src.Evidence(ctx, m.rec.VM)
	if err != nil {
		return key, err
	}
	runs := false
	for _, d := range here.Domains {
		runs = runs || d.State == VMRunning
	}
	to, ok := Repair(key, m.rec.Source, key.Node, here.Journal, nil, runs || m.rec.Plan.Guest.State == VMHalted)
	if !ok {
		return key, Failed(CodeConflict, "vm %s: the owner key says %s, epoch %d, and what %s promised does not let it take the VM; ask `xl list` on both, then docs/operations.md",
			m.rec.VM.Name, key.Node, key.Epoch, m.rec.Source)
	}
	return m.owners.Swap(ctx, key, to)
}

// settleKey leaves the key with the destination and without a claim. The swap
// is missing where the hand-over went by RELEASED alone.
func (m *Migration) settleKey(ctx context.Context) error {
	job := m.rec.Job()
	key, err := m.owners.Owner(ctx, job.VM.UUID)
	if err != nil {
		return err
	}
	if key.Node == job.Source && key.Epoch <= job.Epoch+1 {
		to := key
		to.Node, to.Epoch, to.Attempt = job.Destination, max(key.Epoch, job.Epoch)+1, job.Attempt
		if _, err := m.owners.Swap(ctx, key, to); err != nil {
			return err
		}
	}
	return m.owners.Unclaim(ctx, job.VM.UUID, job.ID)
}

// pass makes one pass and notes it.
func (m *Migration) pass(ctx context.Context, kind PassKind) (PassReport, error) {
	n := uint32(1)
	if last := len(m.rec.Report.Passes); last > 0 {
		n = m.rec.Report.Passes[last-1].Number + 1
	}
	p, err := m.src.Pass(ctx, m.rec.Job(), n, kind)
	if err != nil {
		return p, err
	}
	m.rec.Report.addPass(p)
	return p, nil
}

func (m *Migration) predict(deltas []PassReport) time.Duration {
	if !m.rec.Plan.stops() {
		return 0
	}
	if len(deltas) == 0 {
		return m.rec.Plan.Predicted
	}
	return PredictFinal(m.rec.Plan.Mode, m.rec.Plan.Guest.Memory, deltas, 0)
}
