package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type submitCmd struct {
	VMs []string `arg:"" name:"vm" help:"Names or UUIDs of the VMs to move."`

	To          string        `placeholder:"HOST" help:"Where to (default: a host that can take it and has an older copy of its disks, or else the most free memory)."`
	From        string        `placeholder:"HOST" help:"Where the VM is now; needed only if several hosts know a VM of that name."`
	Mode        string        `enum:"auto,live,suspend,cold" default:"auto" help:"How: ${enum}. auto takes the first that this VM and both hosts can do, and says why; live is refused by this version."`
	MaxDowntime time.Duration `default:"5s" help:"Longest blackout allowed, such as 800ms or 2m; a move that would take longer is refused."`
	BWLimit     rate          `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second to send, such as 200MiB/s (default: no limit)."`
	Priority    int           `default:"50" help:"Jobs with a higher number start first."`
	OnTimeout   string        `enum:"abort,hold,suspend" default:"abort" help:"What to do when the blackout does not get short enough: ${enum}."`
	Verify      string        `enum:"delta,full,none" default:"delta" help:"What to compare at the end: ${enum}. full reads both disks again."`
	KeepSource  time.Duration `default:"24h" help:"How long to keep the disks at the source as shadow, such as 24h."`
	Map         mapping       `placeholder:"disk=A:B,bridge=A:B,shared=A" help:"What is called otherwise at the destination: paths of disks or of directories, bridges; and paths that both hosts see: what lies there is not copied."`
	Reason      string        `placeholder:"TEXT" help:"Why, for those who read the job later."`

	NotBefore moment  `placeholder:"TIME" help:"Start no earlier: 2026-12-01T02:00:00Z, or 2h for two hours from now."`
	Cutover   cutover `default:"now" placeholder:"now|manual|at=TIME" help:"When the guest may be stopped: as soon as it fits, when xmig job cutover says so, or from a time on; its copy is kept fresh until then."`

	DryRun  bool          `help:"Print the plan, or all blockers, and submit nothing."`
	Wait    bool          `xor:"wait" help:"Wait for the end and show the way there (the default)."`
	Detach  bool          `xor:"wait" help:"Print the job's id and return."`
	WaitFor time.Duration `placeholder:"TIME" help:"Wait no longer than this, such as 10m; then exit 4 while the job goes on."`
}

// Help shows what people want to do most.
func (submitCmd) Help() string {
	return `Ctrl-C ends the waiting, not the job: it says how to watch on. The same command
again attaches to the job that is under way; another one for the same VM is
refused, and names it.

Examples:

    # Move web01 to hv2 and watch it:
    xmig submit web01 --to hv2
    # Only ask what would happen:
    xmig submit web01 --to hv2 --dry-run
    # Save, copy, restore; the guest may stand still for a minute:
    xmig submit web01 --to hv2 --mode suspend --max-downtime 1m
    # Other paths and another bridge there, at most 200 MiB per second:
    xmig submit db01 --to hv3 --map disk=/dev/vg0:/dev/ssd,bridge=xenbr0:br0 --bwlimit 200MiB/s
    # Several at once, in a script:
    xmig submit web01 web02 --detach -o json`
}

func (c *submitCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if err := c.validate(); err != nil {
		return err
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.DryRun {
		return c.dryRun(ctx, g, t, b)
	}
	var ids []string
	var accepted []jobs.Record
	var refused []error
	for _, vm := range c.VMs {
		rec, err := submit(ctx, g, b, c.spec(vm))
		if err != nil {
			refused = append(refused, err)
			continue
		}
		ids, accepted = append(ids, rec.ID), append(accepted, rec)
	}
	for _, err := range refused {
		tell(t.Err, err) // each with all of its blockers
	}
	switch {
	case len(ids) == 0:
		err = nil
	case c.Detach:
		err = c.detached(g, t, accepted)
	default:
		err = await(ctx, g, t, b, ids, c.WaitFor, liveLines(g, t))
	}
	return both(err, refused)
}

// both gives the worst end of what was followed and what was refused.
func both(err error, refused []error) error {
	if len(refused) == 0 {
		return err
	}
	codes := []int{codeOf(err)}
	for _, r := range refused {
		codes = append(codes, codeOf(r))
	}
	return &exitError{code: worst(codes)}
}

// validate refuses what a spec would take for "not given": a zero that was
// meant must not become a default in silence.
func (c *submitCmd) validate() error {
	var errs []error
	for _, f := range []struct {
		flag  string
		given time.Duration
	}{{"max-downtime", c.MaxDowntime}, {"keep-source", c.KeepSource}} {
		if f.given <= 0 {
			errs = append(errs, usage("--%s %s: want more than nothing", f.flag, f.given))
		}
	}
	if c.Priority < 1 {
		errs = append(errs, usage("--priority %d: want 1 or more", c.Priority))
	}
	for _, vm := range c.VMs {
		errs = append(errs, c.spec(vm).Validate())
	}
	return errors.Join(errs...)
}

func (c *submitCmd) spec(vm string) jobs.Spec {
	return jobs.Spec{
		Kind: jobs.KindMigrate, VM: vm, From: c.From, To: c.To, Mode: jobs.Mode(c.Mode), MaxDowntime: c.MaxDowntime,
		BWLimit: int64(c.BWLimit), Priority: c.Priority, OnTimeout: jobs.OnTimeout(c.OnTimeout), Verify: jobs.Verify(c.Verify),
		KeepSource: c.KeepSource, Map: jobs.Mapping(c.Map), By: whoAmI(), Reason: c.Reason,
		NotBefore: c.NotBefore.Time, Cutover: c.Cutover.when, CutoverAt: c.Cutover.at,
	}.WithDefaults()
}

// submit has the coordinator accept a job.
func submit(ctx context.Context, g *globals, b *bus.Bus, spec jobs.Spec) (jobs.Record, error) {
	ctx, cancel := g.ask(ctx)
	defer cancel()
	return bus.Call[submitRequest, jobs.Record](ctx, b.Coordinator(), verbSubmit, submitRequest{Spec: spec})
}

func (c *submitCmd) detached(g *globals, t *terminal, accepted []jobs.Record) error {
	if g.Output == "json" {
		return printJSON(t.Out, accepted)
	}
	for _, r := range accepted {
		if _, err := fmt.Fprintln(t.Out, r.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c *submitCmd) dryRun(ctx context.Context, g *globals, t *terminal, b *bus.Bus) error {
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	var answers []moveAnswer
	for _, vm := range c.VMs {
		spec := c.spec(vm)
		if spec.To == "" {
			best, err := c.places(ctx, g, t, b, spec)
			if err != nil {
				return err
			}
			spec.To = best
		}
		found, err := examine(ctx, g, b, hosts, spec)
		if err != nil {
			return err
		}
		answers = append(answers, found...)
	}
	return printAnswers(g, t, answers)
}

// places prints every host as a place for the VM, and gives the best: only
// that one is asked for all that it knows. "" if none can take it.
func (c *submitCmd) places(ctx context.Context, g *globals, t *terminal, b *bus.Bus, spec jobs.Spec) (string, error) {
	r, err := call[submitRequest, optionsReply](ctx, g, b, verbOptions, submitRequest{Spec: spec})
	if err != nil {
		return "", err
	}
	if g.Output != "json" {
		fmt.Fprint(t.Out, show.Options(spec.VM, r.Options))
	}
	for _, o := range r.Options {
		if o.Against == nil {
			return o.Host, nil
		}
	}
	return "", nil // every host is asked then: its own answer has all of the reasons
}

// whoAmI is who asks, as far as this host knows.
func whoAmI() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
