package main

import (
	"context"
	"fmt"

	"xmig/jobs/coordinator"
)

type hostCordonCmd struct {
	Hosts  []string `arg:"" name:"host" help:"The hosts to close."`
	Reason string   `placeholder:"TEXT" help:"Why, for those who read it later."`
}

func (hostCordonCmd) Help() string {
	return `No VM is placed on a closed host, and none that was sent there starts its way.
What is there stays and runs on; what is on its way already arrives.

Examples:

    xmig host cordon hv1 --reason noise`
}

func (c *hostCordonCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return orderHosts(ctx, g, t, verbCordon, c.Hosts, c.Reason, "closed: no VM is placed there")
}

type hostUncordonCmd struct {
	Hosts []string `arg:"" name:"host" help:"The hosts to open."`
}

func (hostUncordonCmd) Help() string {
	return `VMs may be placed on the host again. Those that a drain moved away stay where they
are; xmig host restore brings them home.

Examples:

    xmig host uncordon hv1`
}

func (c *hostUncordonCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return orderHosts(ctx, g, t, verbUncordon, c.Hosts, "", "open")
}

func orderHosts(ctx context.Context, g *globals, t *terminal, verb string, hosts []string, reason, done string) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	var all []coordinator.Mark
	for _, h := range hosts {
		m, err := call[cordonRequest, coordinator.Mark](ctx, g, b, verb, cordonRequest{Host: h, By: whoAmI(), Reason: reason})
		if err != nil {
			return err
		}
		if all = append(all, m); g.Output != "json" {
			fmt.Fprintf(t.Out, "%s: %s\n", h, done)
		}
	}
	if g.Output == "json" {
		return printJSON(t.Out, all)
	}
	return nil
}
