package main

import (
	"context"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type hostCmd struct {
	Ls   hostLsCmd   `cmd:"" help:"List the hosts that are there."`
	Show hostShowCmd `cmd:"" help:"Show all of one host, with its VMs."`
	Set  hostSetCmd  `cmd:"" help:"Change how fast a host may send, while it runs."`
}

func (hostCmd) Help() string {
	return `A host is there while its worker, xmig node, says so.

Examples:

    xmig host ls
    xmig host show hv1
    xmig host ls -o json`
}

type hostLsCmd struct{}

func (hostLsCmd) Help() string {
	return `Hosts whose xl is the simulated one are marked SIMULATED.

Examples:

    xmig host ls`
}

func (hostLsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, list(hosts))
	}
	_, err = fmt.Fprint(t.Out, show.Hosts(hosts, time.Now()))
	return err
}

type hostShowCmd struct {
	Name string `arg:"" name:"host" help:"The host's name."`
}

func (hostShowCmd) Help() string {
	return `Examples:

    xmig host show hv1
    xmig host show hv1 -o json`
}

func (c *hostShowCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Node != c.Name {
			continue
		}
		if g.Output == "json" {
			return printJSON(t.Out, h)
		}
		_, err = fmt.Fprint(t.Out, show.Host(h, time.Now()))
		return err
	}
	return jobs.Failed(jobs.CodeNotFound, "host %s is not there; `xmig host ls` lists those that are", c.Name)
}

// living lists the hosts that are there.
func living(ctx context.Context, g *globals, b *bus.Bus) ([]jobs.Host, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	return b.Hosts(ask)
}
