package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmig/bus"
	"xmig/jobs"
)

type jobRetryCmd struct {
	ID      string        `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	Detach  bool          `help:"Print the new job's id and return."`
	WaitFor time.Duration `placeholder:"TIME" help:"Wait no longer than this, such as 10m; then exit 4 while the job goes on."`
}

func (jobRetryCmd) Help() string {
	return `Submits a job that did not succeed once more, as it was asked for then; the new
job names the old one. Disks that it left at the destination are used again where
they can be. A job whose doorbell was given up (xmig job ls --dead) goes on itself.

Examples:

    xmig job retry web01
    xmig job retry 01JDB3 --detach`
}

func (c *jobRetryCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, old, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	switch {
	case old.State == jobs.Indeterminate:
		return jobs.Failed(jobs.CodeConflict, "job %s is indeterminate: `xmig resolve %s` first", old.ID, old.ID)
	case !old.State.Final():
		if revived, err := revive(ctx, g, b, old); revived || err != nil {
			return c.goesOn(ctx, g, t, b, old, err)
		}
		return jobs.Failed(jobs.CodeConflict, "job %s has not ended: it is %s", old.ID, old.State)
	case old.State == jobs.Succeeded:
		return jobs.Failed(jobs.CodeConflict, "job %s succeeded: nothing is left to try", old.ID)
	}
	spec := old.Spec
	spec.RetryOf, spec.By = old.ID, whoAmI()
	rec, err := submit(ctx, g, b, spec)
	if err != nil {
		return err
	}
	return c.goesOn(ctx, g, t, b, rec, nil)
}

// goesOn follows the job that was made, or revived.
func (c *jobRetryCmd) goesOn(ctx context.Context, g *globals, t *terminal, b *bus.Bus, rec jobs.Record, err error) error {
	switch {
	case err != nil:
		return err
	case c.Detach && g.Output == "json":
		return printJSON(t.Out, rec)
	case c.Detach:
		_, err := fmt.Fprintln(t.Out, rec.ID)
		return err
	}
	return await(ctx, g, t, b, []string{rec.ID}, c.WaitFor, liveLines(g, t))
}

type jobPruneCmd struct {
	IDs       []string      `arg:"" optional:"" name:"job" help:"Jobs to forget, by their ids; without any, all that are old enough."`
	OlderThan time.Duration `default:"720h" help:"Without ids: only jobs that ended longer ago than this."`
	DryRun    bool          `help:"Only print which."`
}

func (jobPruneCmd) Help() string {
	return `Forgets records of jobs that ended. One that names something left over is kept
until that is gone, unless it is named.

Examples:

    xmig job prune
    xmig job prune --older-than 24h --dry-run
    xmig job prune 01JDB3`
}

func (c *jobPruneCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	ask, cancel := g.ask(ctx)
	defer cancel()
	var old []jobs.Record
	var errs []error
	if len(c.IDs) > 0 {
		for _, id := range c.IDs {
			rec, err := findJob(ask, b, id)
			errs = append(errs, err)
			if err == nil {
				old = append(old, rec)
			}
		}
	} else {
		if old, err = b.Records().List(ask); err != nil && old == nil {
			return err
		}
		errs = append(errs, err)
		old = slices.DeleteFunc(old, func(r jobs.Record) bool {
			return !r.State.Final() || len(r.Leftover) > 0 || time.Since(r.Ended) < c.OlderThan
		})
	}
	var gone []string
	for _, r := range old {
		if !c.DryRun {
			if err := b.Records().Prune(ask, r); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		gone = append(gone, r.ID)
	}
	if g.Output == "json" {
		err = printJSON(t.Out, list(gone))
	} else {
		for _, id := range gone {
			fmt.Fprintln(t.Out, id)
		}
	}
	return errors.Join(append(errs, err)...)
}
