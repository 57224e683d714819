package main

import (
	"context"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type eventsCmd struct {
	Job    string        `placeholder:"JOB" help:"Only those of this job, by its whole id."`
	Host   string        `placeholder:"HOST" help:"Only those of this host: seen and lost, cordons, drains."`
	VM     string        `name:"vm" placeholder:"UUID" help:"Only those of this VM beside its jobs."`
	Since  time.Duration `placeholder:"TIME" help:"Only what happened in this time, such as 2h (default: all that is kept)."`
	Follow bool          `short:"f" help:"Wait for more."`
}

func (eventsCmd) Help() string {
	return `What happened, oldest first: jobs with their steps, hosts that came and went, and
who ordered what. Kept for 30 days unless the server was told otherwise.

Examples:

    xmig events --since 1h
    xmig events --host hv1
    xmig events --follow -o json`
}

func (c *eventsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	f := bus.EventFilter{Job: c.Job, Host: c.Host, VM: c.VM}
	if c.Since > 0 {
		f.Since = time.Now().Add(-c.Since)
	}
	if c.Follow {
		f.Follow = bus.Forever
	}
	for e, err := range b.Events(ctx, f) {
		if ctx.Err() != nil {
			return nil // Ctrl-C is the way out of --follow
		}
		if err != nil {
			return err
		}
		if err := printEvent(g, t, e); err != nil {
			return err
		}
	}
	return nil
}

func printEvent(g *globals, t *terminal, e jobs.Event) error {
	if g.Output == "json" {
		return printLine(t.Out, e)
	}
	_, err := fmt.Fprintln(t.Out, show.EventLine(e))
	return err
}
