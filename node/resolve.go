package node

import (
	"context"
	"fmt"
	"slices"

	"xmig/jobs"
)

// What a resolution asks of a host beside the verbs of the hand-over, and what
// a host does by itself once it comes back to a job that was resolved without it.

// Discard destroys the copy here, running or not: a person's word keeps the
// other host's. It is promised before it is done, and only while the other
// copy runs, so that one is left.
func (n *Node) Discard(ctx context.Context, job jobs.Job) error {
	other := job.Destination
	if n.cfg.Name == job.Destination {
		other = job.Source
	}
	if job.Word == nil || job.Word.Keep != other {
		return jobs.Failed(jobs.CodeUsage, "vm %s on %s: nobody chose the copy on %s", job.VM.Name, n.cfg.Name, other)
	}
	there, err := n.bus.Destination(other).Evidence(ctx, job.VM)
	if err != nil {
		return fmt.Errorf("vm %s: is it on %s? %w", job.VM.Name, other, err)
	}
	if !slices.ContainsFunc(there.Domains, func(d jobs.Seen) bool { return d.State == jobs.VMRunning }) {
		return jobs.Failed(jobs.CodeConflict, "vm %s does not run on %s any more: its copy on %s is kept", job.VM.Name, other, n.cfg.Name)
	}
	return n.hold(ctx, job.VM, func(h *held) error {
		fact := jobs.DISCARDED
		if n.cfg.Name == job.Destination {
			fact = jobs.ABORTED
		}
		if err := h.say(job, fact, byWord(job)); err != nil {
			return err
		}
		copies, err := n.copies(ctx, job.VM)
		if err != nil {
			return err
		}
		for _, c := range copies {
			n.log.Warn().Str("job", job.ID).Str("vm", job.VM.Name).Str("by", job.Word.By).Str("kept", other).Int("domain", c.ID).Msg("destroying the copy that a person did not choose")
		}
		return n.destroyCopies(ctx, h, copies)
	})
}

// byWord goes with a promise that rests on a person's word, for whoever reads
// the journal later.
func byWord(job jobs.Job) any {
	if job.Word == nil {
		return nil
	}
	return map[string]any{"word": job.Word}
}

// Discard and Finish make the ends what a resolution reaches.
func (s *source) Discard(ctx context.Context, job jobs.Job) error      { return s.n.Discard(ctx, job) }
func (d *destination) Discard(ctx context.Context, job jobs.Job) error { return d.n.Discard(ctx, job) }

// goByKey lets the copy of an attempt go that the owner key gives to this
// host: its source swapped the key behind COMMITTING only, and may be lost since.
func (n *Node) goByKey(ctx context.Context, job jobs.Job, said jobs.Journal) error {
	if job.Kind != jobs.KindMigrate || !said.Has(jobs.READY, job.Epoch) || said.Has(jobs.GO, job.Epoch) || said.Has(jobs.ABORTED, job.Epoch) {
		return nil
	}
	key, err := n.bus.Owners().Owner(ctx, job.VM.UUID)
	if err != nil {
		return err
	}
	committed, ok := job.Handed(key)
	if !ok {
		return nil
	}
	n.log.Info().Str("job", job.ID).Str("vm", job.VM.Name).Msg("the owner key gives the VM to this host: letting it go")
	_, _, err = n.dst.Go(ctx, job, jobs.Permission{Key: &key, Source: committed})
	return err
}

// resolvedWithout lists the jobs of this host that ended without it: it was
// silent or taken for lost, and the VM is elsewhere now.
func (n *Node) resolvedWithout(ctx context.Context) (late []jobs.Record, err error) {
	all, err := n.bus.Records().List(ctx)
	for _, rec := range all {
		if rec.Source == n.cfg.Name && rec.State == jobs.Succeeded && rec.Spec.Kind == jobs.KindMigrate && len(rec.Leftover) > 0 {
			late = append(late, rec)
		}
	}
	return late, err
}

// giveUpLate gives up the copy, config and disks of a job that was resolved
// without this host: as Finish would have, by the other host's own word (R13).
func (n *Node) giveUpLate(ctx context.Context, rec jobs.Record) error {
	_, entries, err := n.open(rec.VM)
	if err != nil {
		return err
	}
	said := promises(entries)
	job := rec.Unsettled(said)
	if !said.Has(jobs.BEGIN, job.Epoch) || said.Has(jobs.DONE, job.Epoch) {
		return nil
	}
	there, err := n.bus.Destination(rec.Destination).Evidence(ctx, rec.VM)
	if err != nil {
		return err
	}
	return n.src.Finish(ctx, job, there.Journal)
}
