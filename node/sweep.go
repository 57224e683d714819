package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"xmig/jobs"
	"xmig/node/storage"
)

// sweep cleans what jobs that are over left at this host: their source could
// not tell it when they ended. It runs at the start and then once in a while.
func (n *Node) sweep(ctx context.Context) error {
	for {
		if err := errors.Join(n.sweepOnce(ctx), n.sweepLate(ctx), n.sweepShadows(ctx)); err != nil && ctx.Err() == nil {
			n.log.Warn().Err(err).Msg("leftovers could not be cleaned; trying again")
		}
		if sleep(ctx, 3*n.cfg.Heartbeat) != nil {
			return nil
		}
	}
}

func (n *Node) sweepOnce(ctx context.Context) error {
	all, err := n.sessions()
	if err != nil {
		return err
	}
	var errs []error
	for _, job := range all {
		if err := n.sweepJob(ctx, job); err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", job.ID, err))
		}
	}
	errs = append(errs, n.sweepHolds(ctx))
	return errors.Join(errs...)
}

// sweepHolds gives back the space of checks that were cut off: what is held
// for a job that has a session is held on purpose, and the session comes first.
func (n *Node) sweepHolds(ctx context.Context) error {
	n.dst.reserved.Lock()
	defer n.dst.reserved.Unlock()
	holders, err := n.volumes.Holders(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, job := range holders {
		if _, err := os.Stat(n.sessionPath(job)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, n.volumes.ReleaseHold(ctx, job))
		}
	}
	return errors.Join(errs...)
}

// sweepLate gives up what was resolved without this host: looked for at the
// start, and after a job was taken from this worker.
func (n *Node) sweepLate(ctx context.Context) error {
	if !n.unresolved.Swap(false) {
		return nil
	}
	late, err := n.resolvedWithout(ctx)
	errs := []error{err}
	for _, rec := range late {
		if err := n.giveUpLate(ctx, rec); err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", rec.ID, err))
		}
	}
	if err = errors.Join(errs...); err != nil {
		n.unresolved.Store(true)
	}
	return err
}

// sweepJob does for one job what its source would ask for, if it could. A job
// that was resolved without this host, which was taken for lost, is over: what
// was promised here before is void.
func (n *Node) sweepJob(ctx context.Context, job jobs.Job) error {
	rec, err := n.bus.Records().Load(ctx, job.ID)
	void := err == nil && rec.State.Final() && rec.State != jobs.Succeeded
	if !void {
		if err := n.carryOn(ctx, job); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	job.Word = rec.Word
	// Before the line the source decides; behind it the job settles. A record
	// that is final and did not succeed has gone back for good.
	switch {
	case rec.State == jobs.Succeeded: // a late call made the session anew
		return n.dst.Settle(ctx, job)
	case rec.State.Final():
		n.log.Info().Str("job", job.ID).Str("vm", job.VM.Name).Str("state", string(rec.State)).Msg("cleaning what the job left here")
		_, err = n.dst.Abort(ctx, job, jobs.JobOver)
	}
	return err
}

// carryOn resumes a guest that was given GO by a worker before this one: the
// way forward survives the source's death.
func (n *Node) carryOn(ctx context.Context, job jobs.Job) error {
	_, entries, err := n.open(job.VM)
	if err != nil {
		return err
	}
	said := promises(entries)
	if !said.Has(jobs.GO, job.Epoch) {
		return n.goByKey(ctx, job, said)
	}
	if said.Has(jobs.RUNNING, job.Epoch) || said.Has(jobs.ABORTED, job.Epoch) {
		return nil
	}
	_, _, err = n.dst.Go(ctx, job, jobs.Permission{})
	return err
}

// letGo ends what this host holds for a job: volumes as end says (taken back
// or handed over), space, memory, boot files and staged config.
func (n *Node) letGo(ctx context.Context, job jobs.Job, end func(context.Context, string) ([]storage.Outcome, error)) error {
	done, err := end(ctx, job.ID)
	if err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "volumes of job %s on %s: %w", job.ID, n.cfg.Name, err)
	}
	for _, o := range done {
		n.log.Info().Str("job", job.ID).Str("volume", o.Path).Str("did", string(o.Did)).Msg("let go of volume")
	}
	err = errors.Join(n.volumes.ReleaseHold(ctx, job.ID), n.dropBootFiles(job), removeIfThere(n.stagedPath(job)), n.forgetSession(job.ID))
	if err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "let go of job %s on %s: %w", job.ID, n.cfg.Name, err)
	}
	return nil
}

// closeSoon ends a session after the answer that ended it is on its way: the
// answer may travel over the session's own lane.
func (d *destination) closeSoon(job jobs.Job) {
	a, err := d.arrival(job)
	if err != nil {
		return // closed, or a later attempt's
	}
	d.soon.Go(func() {
		_ = sleep(d.n.life, answerTime) // the worker's end is a reason not to wait
		d.closeSession(job.VM.UUID, func(b *arrival) bool { return a == b })
	})
}

// answerTime is enough for an answer to leave this process.
const answerTime = 2 * time.Second
