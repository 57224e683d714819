package main

import (
	"context"
	"fmt"

	"xmig/jobs/coordinator"
)

type vmPinCmd struct {
	VMs    []string `arg:"" name:"vm" help:"Names or UUIDs of the VMs."`
	Reason string   `placeholder:"TEXT" help:"Why, for those who read it later."`
}

func (vmPinCmd) Help() string {
	return `No drain and no rule moves a pinned VM: a drain names it and moves the others.
xmig submit still moves it.

Examples:

    xmig vm pin db01 --reason licence`
}

func (c *vmPinCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return setPolicies(ctx, g, t, c.VMs, coordinator.PolicyRequest{Pin: true, Reason: c.Reason}, "pinned: no drain moves it")
}

type vmUnpinCmd struct {
	VMs []string `arg:"" name:"vm" help:"Names or UUIDs of the VMs."`
}

func (vmUnpinCmd) Help() string {
	return `Examples:

    xmig vm unpin db01`
}

func (c *vmUnpinCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return setPolicies(ctx, g, t, c.VMs, coordinator.PolicyRequest{Unpin: true}, "drains may move it")
}

type vmApartCmd struct {
	VMs   []string `arg:"" name:"vm" help:"Names or UUIDs of the VMs."`
	Group string   `placeholder:"NAME" help:"Their group; empty: none any more."`
}

func (vmApartCmd) Help() string {
	return `VMs of one group are never placed on one host. Those that share one already stay;
they part when one of them moves.

Examples:

    xmig vm apart db01 db02 db03 --group db
    xmig vm apart db03 --group ""`
}

func (c *vmApartCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	done := "is in no group"
	if c.Group != "" {
		done = "never shares a host with others of the group " + c.Group
	}
	return setPolicies(ctx, g, t, c.VMs, coordinator.PolicyRequest{Apart: &c.Group}, done)
}

func setPolicies(ctx context.Context, g *globals, t *terminal, vms []string, r coordinator.PolicyRequest, done string) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	var all []coordinator.Policy
	for _, vm := range vms {
		r.VM, r.By = vm, whoAmI()
		p, err := call[coordinator.PolicyRequest, coordinator.Policy](ctx, g, b, verbPolicy, r)
		if err != nil {
			return err
		}
		if all = append(all, p); g.Output != "json" {
			fmt.Fprintf(t.Out, "%s: %s\n", p.VM.Name, done)
		}
	}
	if g.Output == "json" {
		return printJSON(t.Out, all)
	}
	return nil
}
