package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/jobs/coordinator"
)

type hostDrainCmd struct {
	Hosts []string `arg:"" name:"host" help:"The hosts to empty, one after the other."`

	Reason   string        `placeholder:"TEXT" help:"Why, for those who read it later."`
	Deadline time.Duration `default:"1h" help:"Start nothing more after this time; what moves is finished, nothing is ever killed, and the drain is held."`
	Whole    bool          `help:"Begin only if every VM has a place to go."`
	Canary   bool          `help:"Move the smallest VM alone first; if it does not arrive nobody follows."`
	DryRun   bool          `help:"Print who would go where, what that moves and how long each VM would stand still; change nothing."`
	Cancel   bool          `help:"End the drain: what was moved stays where it is, what is not handed over yet is taken back."`
	how      `prefix:""`

	Wait    bool          `xor:"wait" help:"Wait for the end (the default)."`
	Detach  bool          `xor:"wait" help:"Return at once; the drain goes on."`
	WaitFor time.Duration `placeholder:"TIME" help:"Wait no longer than this; then exit 4 while the drain goes on."`
}

func (hostDrainCmd) Help() string {
	return `Keeps new VMs off a host and moves all that are there to others: proven before the
first move that they fit, in parallel within the limits. A VM that cannot move is
named with the reason and does not stop the others. Exit code 0 only when the host
is empty; 3 when VMs are left on it. Asking again attaches to a drain that is under
way, and gives one that is held another try. The host stays closed afterwards:
restore brings its VMs home, uncordon only opens it. Of several hosts each is begun
when the one before it is empty and its VMs are well.

Examples:

    xmig host drain hv1 --dry-run
    xmig host drain hv1 --reason upgrade
    xmig host drain hv1 hv2 hv3 --deadline 4h --detach
    xmig host drain hv1 --cancel`
}

func (c *hostDrainCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := c.how.validate(); err != nil {
		return err
	}
	if c.Deadline <= 0 {
		return usage("--deadline %s: want more than nothing", c.Deadline)
	}
	if c.Cancel {
		return cancelDrains(ctx, g, t, b, coordinator.Emptying, c.Hosts)
	}
	if c.DryRun {
		return printPlans(ctx, g, t, b, coordinator.Emptying, c.Hosts, c.how.spec())
	}
	var ids []string
	for i, h := range c.Hosts {
		r := coordinator.DrainRequest{Host: h, Kind: coordinator.Emptying, By: whoAmI(), Reason: c.Reason, Deadline: c.Deadline, Whole: c.Whole, Canary: c.Canary, How: c.how.spec()}
		if i > 0 {
			r.After = c.Hosts[i-1]
		}
		id, err := beginDrain(ctx, g, t, b, r)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if c.Detach {
		return nil
	}
	return awaitDrains(ctx, g, t, b, c.Hosts, ids, c.WaitFor)
}

type hostRestoreCmd struct {
	Host string `arg:"" name:"host" help:"The host whose VMs shall come home."`

	Reason   string        `placeholder:"TEXT" help:"Why, for those who read it later."`
	Deadline time.Duration `default:"1h" help:"Start nothing more after this time; VMs that are not home by then stay where they are."`
	DryRun   bool          `help:"Print who would come home, and what that moves; change nothing."`
	Cancel   bool          `help:"End the restore: what is home stays, what is not handed over yet is taken back."`
	how      `prefix:""`

	Wait    bool          `xor:"wait" help:"Wait for the end (the default)."`
	Detach  bool          `xor:"wait" help:"Return at once; the restore goes on."`
	WaitFor time.Duration `placeholder:"TIME" help:"Wait no longer than this; then exit 4 while the restore goes on."`
}

func (hostRestoreCmd) Help() string {
	return `Opens a drained host and moves the VMs back that a drain moved away. Their old disks
are still there for --keep-source of that drain, so that only what was written
since travels. What does not fit is reported and stays where it is; exit code 3.
To open the host without moving anything: xmig host uncordon.

Examples:

    xmig host restore hv1 --dry-run
    xmig host restore hv1
    xmig host restore hv1 --cancel`
}

func (c *hostRestoreCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := c.how.validate(); err != nil {
		return err
	}
	if c.Deadline <= 0 {
		return usage("--deadline %s: want more than nothing", c.Deadline)
	}
	hosts := []string{c.Host}
	if c.Cancel {
		return cancelDrains(ctx, g, t, b, coordinator.Homing, hosts)
	}
	if c.DryRun {
		return printPlans(ctx, g, t, b, coordinator.Homing, hosts, c.how.spec())
	}
	id, err := beginDrain(ctx, g, t, b, coordinator.DrainRequest{Host: c.Host, Kind: coordinator.Homing, By: whoAmI(), Reason: c.Reason, Deadline: c.Deadline, How: c.how.spec()})
	if err != nil || c.Detach {
		return err
	}
	return awaitDrains(ctx, g, t, b, hosts, []string{id}, c.WaitFor)
}

// beginDrain asks for a drain or attaches to the one that is under way.
func beginDrain(ctx context.Context, g *globals, t *terminal, b *bus.Bus, r coordinator.DrainRequest) (string, error) {
	a, err := call[coordinator.DrainRequest, coordinator.DrainAnswer](ctx, g, b, verbDrain, r)
	if err != nil {
		return "", err
	}
	d := a.Mark.Drain
	if a.Attached {
		fmt.Fprintf(t.Err, "xmig: attached to the %s of %s by %s since %s\n", d.Kind, r.Host, d.By, show.At(d.Begun))
	}
	if g.Output != "json" {
		fmt.Fprintf(t.Out, "%s of %s: %s\n", d.Kind, r.Host, d.ID)
	}
	return d.ID, nil
}

func cancelDrains(ctx context.Context, g *globals, t *terminal, b *bus.Bus, kind coordinator.DrainKind, hosts []string) error {
	for _, h := range hosts {
		m, err := call[cancelDrainRequest, coordinator.Mark](ctx, g, b, verbCancelDrain, cancelDrainRequest{Host: h, Kind: kind, By: whoAmI()})
		if err != nil {
			return err
		}
		if g.Output == "json" {
			err = printJSON(t.Out, m)
		} else {
			_, err = fmt.Fprintf(t.Out, "%s of %s: cancelled; its VMs run on where they are\n", kind, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printPlans prints what a drain or restore would do; blocked if some VM has
// no place to go.
func printPlans(ctx context.Context, g *globals, t *terminal, b *bus.Bus, kind coordinator.DrainKind, hosts []string, spec jobs.Spec) error {
	var plans []coordinator.Plan
	fits := true
	for _, h := range hosts {
		p, err := call[planRequest, coordinator.Plan](ctx, g, b, verbPlan, planRequest{Host: h, Kind: kind, How: spec})
		if err != nil {
			return err
		}
		fits = fits && p.Fits()
		plans = append(plans, p)
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, plans); err != nil {
			return err
		}
	} else {
		for _, p := range plans {
			fmt.Fprint(t.Out, show.Plans(p))
		}
	}
	if !fits {
		return &exitError{code: exitBlocked}
	}
	return nil
}

type planCmd struct {
	Drain   planDrainCmd   `cmd:"" help:"Who would go where if hosts were emptied now."`
	Restore planRestoreCmd `cmd:"" help:"Who would come home to a host now."`
}

func (planCmd) Help() string {
	return `Changes nothing anywhere.

Examples:

    xmig plan drain hv1
    xmig plan restore hv1 -o json`
}

type planDrainCmd struct {
	Hosts []string `arg:"" name:"host" help:"The hosts, each as if it were the only one."`
	how   `prefix:""`
}

func (planDrainCmd) Help() string {
	return `Exit code 0: every VM has a place to go; 3: some have not, and it says why.

Examples:

    xmig plan drain hv1
    xmig plan drain hv1 -o json`
}

func (c *planDrainCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return planAlone(ctx, g, t, coordinator.Emptying, c.Hosts, c.how)
}

type planRestoreCmd struct {
	Host string `arg:"" name:"host" help:"The host."`
	how  `prefix:""`
}

func (planRestoreCmd) Help() string {
	return `Examples:

    xmig plan restore hv1`
}

func (c *planRestoreCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	return planAlone(ctx, g, t, coordinator.Homing, []string{c.Host}, c.how)
}

func planAlone(ctx context.Context, g *globals, t *terminal, kind coordinator.DrainKind, hosts []string, h how) error {
	if err := h.validate(); err != nil {
		return err
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	return printPlans(ctx, g, t, b, kind, hosts, h.spec())
}

// errDrainsRest ends the watching of drains that have come to rest.
var errDrainsRest = errors.New("all drains have come to rest")

// awaitDrains follows drains until each has ended, or is held: then a person
// must look. It says every change on a line of its own.
func awaitDrains(ctx context.Context, g *globals, t *terminal, b *bus.Bus, hosts, ids []string, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errWaitOver)
		defer cancel()
	}
	watch, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	last := map[string]coordinator.Mark{}
	err := marks(b).Watch(watch, func(row jobs.Row[coordinator.Mark], _ bool) {
		m := row.Value
		for i, h := range hosts {
			if h != row.Key || m.Drain == nil || m.Drain.ID != ids[i] {
				continue
			}
			if g.Output != "json" {
				for _, line := range show.DrainNews(last[h], m) {
					fmt.Fprintln(t.Out, line)
				}
			}
			last[h] = m
		}
		if atRest(hosts, last) {
			stop(errDrainsRest)
		}
	})
	if ctx.Err() != nil {
		why := "detached"
		if errors.Is(context.Cause(ctx), errWaitOver) {
			why = "waited " + show.Span(limit)
		}
		fmt.Fprintf(t.Err, "xmig: %s; it goes on: xmig host show %s\n", why, hosts[0])
		return &exitError{code: exitStillRunning}
	}
	if !errors.Is(err, errDrainsRest) {
		return err
	}
	return reportDrains(g, t, hosts, last)
}

// atRest: nothing changes any more without a person, or without something
// that a person would want to hear of.
func atRest(hosts []string, last map[string]coordinator.Mark) bool {
	for _, h := range hosts {
		d := last[h].Drain
		if d == nil || !d.State.Ended() && d.State != coordinator.DrainHeld {
			return false
		}
	}
	return true
}

func reportDrains(g *globals, t *terminal, hosts []string, last map[string]coordinator.Mark) error {
	codes := []int{exitDone}
	var all []coordinator.Mark
	for _, h := range hosts {
		m := last[h]
		all = append(all, m)
		codes = append(codes, codeOfDrain(m))
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, all); err != nil {
			return err
		}
	}
	if c := worst(codes); c != exitDone {
		return &exitError{code: c}
	}
	return nil
}

// codeOfDrain is the exit code of a drain or restore as it stands.
func codeOfDrain(m coordinator.Mark) int {
	left := 0
	for _, mv := range m.Drain.Moves {
		if mv.State == coordinator.MoveStuck || mv.State == coordinator.MoveWaiting {
			left++
		}
	}
	switch {
	case m.Drain.State == coordinator.DrainCancelled:
		return exitCancelled
	case m.Drain.State == coordinator.DrainDone && left == 0:
		return exitDone
	}
	return exitBlocked
}
