package main

import (
	"context"
	"fmt"

	"xmig/jobs"
	"xmig/jobs/coordinator"
)

type jobPauseCmd struct {
	ID     string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	Reason string `placeholder:"TEXT" help:"Why, for those who read it later."`
}

func (jobPauseCmd) Help() string {
	return `A job that waits does not start. One that runs makes its copy, then sends nothing
more until it is resumed, and its guest is not stopped. Behind the hand-over nothing
is paused. To slow down what is under way: xmig job set --bwlimit.

Examples:

    xmig job pause 01JDB3 --reason backup`
}

func (c *jobPauseCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return wish(ctx, g, t, c.ID, coordinator.WishRequest{Pause: true, Reason: c.Reason}, "paused")
}

type jobResumeCmd struct {
	ID string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
}

func (jobResumeCmd) Help() string {
	return `Examples:

    xmig job resume 01JDB3`
}

func (c *jobResumeCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return wish(ctx, g, t, c.ID, coordinator.WishRequest{Resume: true}, "goes on")
}

type jobCutoverCmd struct {
	ID string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
}

func (jobCutoverCmd) Help() string {
	return `For a job that was submitted with --cutover: its guest is stopped and handed over as
soon as the predicted blackout fits.

Examples:

    xmig job cutover web01`
}

func (c *jobCutoverCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return wish(ctx, g, t, c.ID, coordinator.WishRequest{Cutover: true}, "is handed over as soon as it fits")
}

type jobSetCmd struct {
	ID       string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	Priority int    `placeholder:"N" help:"Its place among jobs that wait; a higher number starts first."`
	BWLimit  *rate  `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second, such as 50MiB/s; 0: no limit. Obeyed from the next pass on at the latest."`
}

func (jobSetCmd) Help() string {
	return `Examples:

    xmig job set 01JDB3 --priority 90
    xmig job set 01JDB3 --bwlimit 50MiB/s`
}

func (c *jobSetCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	r := coordinator.WishRequest{Priority: c.Priority}
	if c.BWLimit != nil {
		limit := int64(*c.BWLimit)
		r.BWLimit = &limit
	}
	if r.Priority == 0 && r.BWLimit == nil {
		return usage("nothing to set: give --priority or --bwlimit")
	}
	return wish(ctx, g, t, c.ID, r, "changed")
}

func wish(ctx context.Context, g *globals, t *terminal, name string, r coordinator.WishRequest, done string) error {
	b, rec, err := openJob(ctx, g, name)
	if err != nil {
		return err
	}
	defer b.Close()
	r.Job, r.By = rec.ID, whoAmI()
	w, err := call[coordinator.WishRequest, jobs.Wish](ctx, g, b, verbWish, r)
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, w)
	}
	_, err = fmt.Fprintf(t.Out, "%s: %s\n", rec.ID, done)
	return err
}
