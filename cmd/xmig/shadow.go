package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/node"
)

type shadowCmd struct {
	Ls    shadowLsCmd    `cmd:"" help:"List the disk copies that hosts keep of VMs that moved away."`
	Prune shadowPruneCmd `cmd:"" help:"Remove shadows, to give their space back."`
}

func (shadowCmd) Help() string {
	return `A disk that moved away stays where it was, as shadow: the way back needs only
what changed since. When the time of submit's --keep-source is over its host
removes it by itself, if the VM is seen where it went.

Examples:

    xmig shadow ls
    xmig shadow prune web01 --host hv1`
}

type shadowLsCmd struct {
	Host string `placeholder:"HOST" help:"Only those of this host."`
}

func (shadowLsCmd) Help() string {
	return `Examples:

    xmig shadow ls
    xmig shadow ls --host hv1 -o json`
}

func (c *shadowLsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	all, err := shadowsOf(ctx, g, b, c.Host)
	if err != nil && all == nil {
		return err
	}
	if g.Output == "json" {
		if perr := printJSON(t.Out, list(all)); perr != nil {
			return perr
		}
		return err
	}
	if _, perr := fmt.Fprint(t.Out, show.Shadows(all, time.Now())); perr != nil {
		return perr
	}
	return err // of hosts that do not answer
}

// shadowsOf asks the hosts for theirs; what one does not tell is an error
// beside what the others do.
func shadowsOf(ctx context.Context, g *globals, b *bus.Bus, host string) (all []jobs.KeptDisk, err error) {
	hosts, err := living(ctx, g, b)
	if err != nil {
		return nil, err
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	var errs []error
	if host != "" {
		h, err := hostIn(hosts, host)
		if err != nil {
			return nil, err
		}
		hosts = []jobs.Host{h}
	}
	for _, h := range hosts {
		of, err := bus.Call[struct{}, []jobs.KeptDisk](ask, b.Node(h.Node), verbShadows, struct{}{})
		errs, all = append(errs, err), append(all, of...)
	}
	return all, errors.Join(errs...)
}

type shadowPruneCmd struct {
	What  []string `arg:"" optional:"" name:"vm" help:"VMs (name or UUID) or paths of disks; without any, all whose time is over."`
	Host  string   `placeholder:"HOST" help:"Only on this host."`
	Force bool     `help:"Also those that are wanted still, or that may be the last copy; the VMs must be named then."`
}

func (shadowPruneCmd) Help() string {
	return `Hosts prune by themselves; this is for space that is needed now. A disk that is
in use is never removed, with --force neither.

Examples:

    xmig shadow prune
    xmig shadow prune web01 --host hv1
    xmig shadow prune /dev/vg0/web01 --host hv1 --force`
}

func (c *shadowPruneCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Force && len(c.What) == 0 {
		return usage("--force without a VM or a path would remove every shadow: name what to remove")
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	all, err := shadowsOf(ctx, g, b, c.Host)
	if err != nil {
		return err
	}
	var gone []jobs.KeptDisk
	var errs []error
	for _, s := range all {
		named := slices.ContainsFunc(c.What, func(w string) bool { return w == s.VM.Name || w == s.VM.UUID || w == s.Place || w == s.Path })
		if len(c.What) > 0 && !named || len(c.What) == 0 && s.Needs != "" {
			continue
		}
		ask, cancel := g.ask(ctx)
		_, err := bus.Call[node.PruneRequest, jobs.KeptDisk](ask, b.Node(s.Host), verbPruneShadow, node.PruneRequest{Place: s.Place, Force: c.Force, By: whoAmI()})
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, s)
	}
	switch {
	case g.Output == "json":
		err = printJSON(t.Out, list(gone))
	case len(gone) == 0 && len(errs) == 0:
		_, err = fmt.Fprintln(t.Out, "nothing to prune; `xmig shadow ls` lists what is kept and why")
	default:
		for _, s := range gone {
			fmt.Fprintf(t.Out, "%s: removed %s (%s)\n", s.Host, s.Path, show.Bytes(s.Size))
		}
	}
	return errors.Join(append(errs, err)...)
}
