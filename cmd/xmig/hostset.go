package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type hostSetCmd struct {
	Names        []string    `arg:"" name:"host" help:"The hosts' names."`
	BWLimit      *rate       `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second that the host sends, all moves together, such as 100MiB/s; 0 for no limit."`
	BWLimitHours []rateHours `name:"bwlimit-hours" placeholder:"HOURS" help:"Another rate at some times, by the host's clock: ${rate_hours}. The first that holds counts. May be given several times."`
	AsConfigured bool        `help:"Back to what its worker was started with."`
}

func (hostSetCmd) Help() string {
	return `It holds at once, for moves under way too, and until it is changed again. A
--bwlimit alone holds at all times, whatever hours the worker was started with;
with --bwlimit-hours it is for all other times, and --bwlimit-hours alone leaves
those as they are configured. 'xmig host show' tells what holds.

Examples:

    xmig host set hv1 --bwlimit 100MiB/s
    xmig host set hv1 --bwlimit 0
    xmig host set hv1 hv2 --bwlimit-hours 'mon-fri 08:00-18:00 50MiB/s'
    xmig host set hv1 --as-configured`
}

func (c *hostSetCmd) throttle() (jobs.Throttle, error) {
	t := jobs.Throttle{Hours: plainHours(c.BWLimitHours), By: whoAmI(), At: time.Now()}
	if c.BWLimit != nil {
		limit := int64(*c.BWLimit)
		t.BWLimit = &limit
	}
	if t.Changes() == c.AsConfigured {
		return t, usage("want --bwlimit, --bwlimit-hours or both of them, or --as-configured alone")
	}
	return t, nil
}

func (c *hostSetCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	wished, err := c.throttle()
	if err != nil {
		return err
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	var errs []error
	for _, name := range c.Names {
		h, err := hostIn(hosts, name)
		if err == nil {
			err = throttle(ctx, b, h.Node, wished)
		}
		if err == nil {
			err = tellThrottle(t, h, wished)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func throttle(ctx context.Context, b *bus.Bus, host string, wished jobs.Throttle) error {
	table := bus.NewTable[jobs.Throttle](b, "throttle")
	row, err := table.Load(ctx, host)
	if err != nil {
		return err
	}
	row.Value = wished
	_, err = table.Save(ctx, row)
	return err
}

// tellThrottle says what the host will do. What it was configured with is known
// of it only while nothing else is wished.
func tellThrottle(t *terminal, h jobs.Host, wished jobs.Throttle) error {
	switch {
	case !wished.Changes():
		_, err := fmt.Fprintf(t.Out, "host %s sends as its worker was started\n", h.Node)
		return err
	case wished.BWLimit == nil:
		_, err := fmt.Fprintf(t.Out, "host %s sends %s; at other times as its worker was started\n", h.Node, show.RateHours(wished.Hours))
		return err
	case len(wished.Hours) == 0:
		_, err := fmt.Fprintf(t.Out, "host %s sends %s\n", h.Node, show.Limit(*wished.BWLimit))
		return err
	}
	_, err := fmt.Fprintf(t.Out, "host %s sends %s; at other times %s\n", h.Node, show.RateHours(wished.Hours), show.Limit(*wished.BWLimit))
	return err
}
