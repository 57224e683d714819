package main

import (
	"context"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type hostSetCmd struct {
	Name    string `arg:"" name:"host" help:"The host's name."`
	BWLimit *rate  `name:"bwlimit" required:"" placeholder:"RATE" help:"Most bytes per second that the host sends, all moves together, such as 100MiB/s; 0 for no limit."`
}

func (hostSetCmd) Help() string {
	return `It holds at once, for moves under way too, and until it is changed again.

Examples:

    xmig host set hv1 --bwlimit 100MiB/s
    xmig host set hv1 --bwlimit 0`
}

func (c *hostSetCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	if _, err := hostIn(hosts, c.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	table := bus.NewTable[jobs.Throttle](b, "throttle")
	row, err := table.Load(ctx, c.Name)
	if err != nil {
		return err
	}
	limit := int64(*c.BWLimit)
	row.Value = jobs.Throttle{BWLimit: &limit, By: whoAmI(), At: time.Now()}
	if _, err := table.Save(ctx, row); err != nil {
		return err
	}
	if limit == 0 {
		_, err = fmt.Fprintf(t.Out, "host %s sends without a limit\n", c.Name)
		return err
	}
	_, err = fmt.Fprintf(t.Out, "host %s sends at most %s\n", c.Name, show.Rate(float64(limit)))
	return err
}
