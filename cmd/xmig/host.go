package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/jobs/coordinator"
)

type hostCmd struct {
	Ls       hostLsCmd       `cmd:"" help:"List the hosts that are there, and those that are closed or drained."`
	Show     hostShowCmd     `cmd:"" help:"Show all of one host, with its VMs and what was decided about it."`
	Cordon   hostCordonCmd   `cmd:"" help:"Keep new VMs off hosts."`
	Uncordon hostUncordonCmd `cmd:"" help:"Let VMs onto hosts again."`
	Drain    hostDrainCmd    `cmd:"" help:"Empty hosts: move all their VMs to others."`
	Restore  hostRestoreCmd  `cmd:"" help:"Bring the VMs home that a drain moved away."`
	Set      hostSetCmd      `cmd:"" help:"Change how fast a host may send, while it runs."`
}

func (hostCmd) Help() string {
	return `A host is there while its worker, xmig node, says so.

Examples:

    xmig host ls
    xmig host show hv1
    xmig host drain hv1 --dry-run
    xmig host restore hv1`
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
	all, err := marked(ctx, g, b)
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, markedHosts(hosts, all))
	}
	_, err = fmt.Fprint(t.Out, show.Hosts(hosts, all, time.Now()))
	return err
}

// markedHost is a host with what was decided about it.
type markedHost struct {
	jobs.Host
	State string            `json:"state"`
	Mark  *coordinator.Mark `json:"mark,omitempty"`
}

// marked reads what was decided about hosts.
func marked(ctx context.Context, g *globals, b *bus.Bus) (map[string]coordinator.Mark, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	rows, err := marks(b).List(ask)
	all := map[string]coordinator.Mark{}
	for _, r := range rows {
		all[r.Key] = r.Value
	}
	return all, err
}

// markedHosts puts both together; a host that is closed and not there is told too.
func markedHosts(hosts []jobs.Host, all map[string]coordinator.Mark) []markedHost {
	out := []markedHost{}
	seen := map[string]bool{}
	for _, h := range hosts {
		m, ok := all[h.Node]
		seen[h.Node] = true
		mh := markedHost{Host: h, State: show.HostState(&h, m)}
		if ok {
			mh.Mark = &m
		}
		out = append(out, mh)
	}
	for _, node := range slices.Sorted(maps.Keys(all)) {
		if m := all[node]; !seen[node] && (m.Cordon != nil || m.Active()) {
			out = append(out, markedHost{Host: jobs.Host{Node: node}, State: show.HostState(nil, m), Mark: &m})
		}
	}
	return out
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
	h, err := hostIn(hosts, c.Name)
	if err != nil {
		return err
	}
	all, err := marked(ctx, g, b)
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, markedHosts([]jobs.Host{h}, all)[0])
	}
	_, err = fmt.Fprint(t.Out, show.Host(h, time.Now()), show.Marks(all[h.Node], time.Now()))
	return err
}

// hostIn finds a host among those that are there.
func hostIn(hosts []jobs.Host, name string) (jobs.Host, error) {
	for _, h := range hosts {
		if h.Node == name {
			return h, nil
		}
	}
	return jobs.Host{}, jobs.Failed(jobs.CodeNotFound, "host %s is not there; `xmig host ls` lists those that are", name)
}

// living lists the hosts that are there.
func living(ctx context.Context, g *globals, b *bus.Bus) ([]jobs.Host, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	return b.Hosts(ask)
}
