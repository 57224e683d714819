package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmig/jobs"
	"xmig/node/storage"
)

// sweep cleans what jobs that are over left at this host: their source could
// not tell it when they ended. It runs at the start and then once in a while.
func (n *Node) sweep(ctx context.Context) error {
	for {
		if err := n.sweepOnce(ctx); err != nil && ctx.Err() == nil {
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
		rec, err := n.bus.Records().Load(ctx, job.ID)
		if err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", job.ID, err))
			continue
		}
		// Before the line the source decides; behind it the job settles. A
		// record that is final and did not succeed has gone back for good.
		if rec.State.Final() && rec.State != jobs.Succeeded {
			n.log.Info().Str("job", job.ID).Str("vm", job.VM.Name).Str("state", string(rec.State)).Msg("cleaning what the job left here")
			last := rec.Job()
			last.Epoch, last.Attempt = job.Epoch, job.Attempt
			if _, err := n.dst.Abort(ctx, last, jobs.JobOver); err != nil {
				errs = append(errs, fmt.Errorf("job %s: %w", job.ID, err))
			}
		}
	}
	return errors.Join(errs...)
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
func (d *destination) closeSoon(vm string) {
	d.mu.Lock()
	a := d.open[vm]
	d.mu.Unlock()
	if a == nil {
		return
	}
	go func() { // ends by itself, or with the worker
		_ = sleep(d.n.life, 2*time.Second)
		d.mu.Lock()
		if d.open[vm] == a {
			delete(d.open, vm)
		}
		d.mu.Unlock()
		a.closeWriters()
	}()
}
