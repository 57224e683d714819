package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type vmCmd struct {
	Ls   vmLsCmd   `cmd:"" help:"List the VMs of all hosts."`
	Show vmShowCmd `cmd:"" help:"Show all of one VM: its disks, where it is seen, who owns it."`

	Pin   vmPinCmd   `cmd:"" help:"Keep drains from moving VMs."`
	Unpin vmUnpinCmd `cmd:"" help:"Let drains move VMs again."`
	Apart vmApartCmd `cmd:"" help:"Keep VMs of a group on different hosts."`
}

func (vmCmd) Help() string {
	return `Examples:

    xmig vm ls
    xmig vm ls --host hv1
    xmig vm show web01`
}

type vmLsCmd struct {
	Host string `placeholder:"HOST" help:"Only those of this host."`
}

func (vmLsCmd) Help() string {
	return `Examples:

    xmig vm ls --host hv1 -o json`
}

func (c *vmLsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	if c.Host != "" {
		h, err := hostIn(hosts, c.Host)
		if err != nil {
			return err
		}
		hosts = []jobs.Host{h}
	}
	if g.Output == "json" {
		all := []seenVM{}
		for _, h := range hosts {
			for _, v := range h.VMs {
				all = append(all, seenVM{Host: h.Node, VM: v})
			}
		}
		return printJSON(t.Out, all)
	}
	_, err = fmt.Fprint(t.Out, show.VMs(hosts))
	return err
}

// seenVM is a VM with the host that sees it.
type seenVM struct {
	Host string `json:"host"`
	jobs.VM
	Owner *jobs.Owner `json:"owner,omitempty"`
}

type vmShowCmd struct {
	Name string `arg:"" name:"vm" help:"The VM's name or UUID."`
	Host string `placeholder:"HOST" help:"The host, if several know a VM of that name."`
}

func (vmShowCmd) Help() string {
	return `Examples:

    xmig vm show web01
    xmig vm show web01 --host hv1 -o json`
}

func (c *vmShowCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	host, vm, err := findVM(hosts, c.Name, c.Host)
	if err != nil {
		return err
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	seen := seenVM{Host: host, VM: vm}
	own, err := b.Owners().Owner(ask, vm.UUID)
	switch {
	case err == nil:
		seen.Owner = &own
	case !errors.Is(err, jobs.ErrNotFound):
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, seen)
	}
	_, err = fmt.Fprint(t.Out, show.VM(host, vm, seen.Owner))
	return err
}

// findVM finds the one host that has the VM; from narrows it down.
func findVM(hosts []jobs.Host, name, from string) (string, jobs.VM, error) {
	var at []string
	var found jobs.VM
	for _, h := range hosts {
		if v, ok := h.Find(name); ok && (from == "" || h.Node == from) {
			at, found = append(at, h.Node), v
		}
	}
	switch len(at) {
	case 1:
		return at[0], found, nil
	case 0:
		where := "no host that is there has it"
		if from != "" {
			where = "host " + from + " does not have it"
		}
		return "", jobs.VM{}, jobs.Failed(jobs.CodeNotFound, "vm %s: %s; `xmig vm ls` lists what there is", name, where)
	}
	return "", jobs.VM{}, jobs.Failed(jobs.CodeConflict, "vm %s is on several hosts: %s; name one of them", name, strings.Join(at, ", "))
}
