package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/node"
)

type checkCmd struct {
	Name string `arg:"" name:"vm|host" help:"A VM's name or UUID, or a host."`

	To          string        `placeholder:"HOST" help:"Where the VM would move (default: every host that is there)."`
	Mode        string        `enum:"auto,live,suspend,cold" default:"auto" help:"How it would move: ${enum}."`
	MaxDowntime time.Duration `default:"5s" help:"Longest blackout allowed, such as 800ms or 2m."`
	Map         mapping       `placeholder:"disk=A:B,bridge=A:B,shared=A" help:"What is called otherwise at the destination, and which disks both hosts see."`
}

func (checkCmd) Help() string {
	return `Changes nothing anywhere. Exit code 0: nothing stands against it; 3: something does.
A VM is checked against one host, or against every other host: then one that
can take it is enough. A host is asked for its inventory: does it answer, does
its xl, is the inventory whole.

Examples:

    xmig check web01 --to hv2
    xmig check web01 --mode suspend --max-downtime 1m
    xmig check hv2
    xmig check web01 -o json`
}

func (c *checkCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := living(ctx, g, b)
	if err != nil {
		return err
	}
	isHost := slices.ContainsFunc(hosts, func(h jobs.Host) bool { return h.Node == c.Name })
	if c.To == "" && (isHost || !knownVM(hosts, c.Name) && jobs.ValidNode(c.Name)) {
		return c.host(ctx, g, t, b, isHost)
	}
	spec := jobs.Spec{VM: c.Name, To: c.To, Mode: jobs.Mode(c.Mode), MaxDowntime: c.MaxDowntime, Map: jobs.Mapping(c.Map), By: whoAmI()}.WithDefaults()
	if err := spec.Validate(); err != nil {
		return err
	}
	answers, err := examine(ctx, g, b, hosts, spec)
	if err != nil {
		return err
	}
	return printAnswers(g, t, answers)
}

func knownVM(hosts []jobs.Host, name string) bool {
	return slices.ContainsFunc(hosts, func(h jobs.Host) bool { _, ok := h.Find(name); return ok })
}

// hostAnswer is what a host says of itself now.
type hostAnswer struct {
	Host     jobs.Host      `json:"host"`
	Blockers []jobs.Blocker `json:"blockers,omitempty"`
}

// host asks a host itself: presence may be half a minute old.
func (c *checkCmd) host(ctx context.Context, g *globals, t *terminal, b *bus.Bus, present bool) error {
	ask, cancel := g.ask(ctx)
	defer cancel()
	h, err := bus.Call[struct{}, jobs.Host](ask, b.Node(c.Name), verbInventory, struct{}{})
	a := hostAnswer{Host: h}
	switch {
	case err != nil && !present && errors.Is(err, jobs.ErrAway):
		return jobs.Failed(jobs.CodeNotFound, "no VM and no host named %s answers; `xmig host ls` and `xmig vm ls` list what is there", c.Name)
	case err != nil:
		a.Host.Node = c.Name
		a.Blockers = []jobs.Blocker{{Host: c.Name, Code: string(jobs.CodeOf(err)), Text: err.Error(), Next: "look at the log of `xmig node` there"}}
	case h.Problem != "":
		a.Blockers = []jobs.Blocker{{Host: c.Name, Code: "inventory", Text: h.Problem, Next: "run `xl list` and `xl info` there"}}
	case h.Xen == "":
		a.Blockers = []jobs.Blocker{{Host: c.Name, Code: "toolstack", Text: "xl does not tell a Xen version", Next: "run `xl info` there"}}
	}
	for _, v := range h.VMs {
		if v.Problem != "" {
			a.Blockers = append(a.Blockers, jobs.Blocker{Host: c.Name, Code: "vm", Text: "vm " + v.Name + ": " + v.Problem})
		}
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, a); err != nil {
			return err
		}
	} else if len(a.Blockers) == 0 {
		fmt.Fprintf(t.Out, "%s is in order: Xen %s, %d VMs, %s of %s memory free\n", h.Node, h.Xen, len(h.VMs), show.Bytes(h.FreeMemory), show.Bytes(h.Memory))
	}
	if len(a.Blockers) == 0 {
		return nil
	}
	for _, bl := range a.Blockers {
		fmt.Fprintf(t.Err, "xmig: %s\n", bl)
	}
	return &exitError{code: exitBlocked}
}

// moveAnswer is what both ends say to one move.
type moveAnswer struct {
	VM       string         `json:"vm"`
	From     string         `json:"from"`
	To       string         `json:"to"`
	Plan     jobs.Plan      `json:"plan"`
	Blockers []jobs.Blocker `json:"blockers,omitempty"`
}

// examineTime is how long two hosts may take to look at everything: they ask
// their toolstacks and read from disks that may be busy.
const examineTime = 3 * time.Minute

// examine asks the source of a VM for all that stands against moving it: to
// spec.To, or else to every other host.
func examine(ctx context.Context, g *globals, b *bus.Bus, hosts []jobs.Host, spec jobs.Spec) ([]moveAnswer, error) {
	source, vm, err := findVM(hosts, spec.VM, spec.From)
	if err != nil {
		return nil, err
	}
	var targets []string
	at := map[string]jobs.Host{}
	for _, h := range hosts {
		if at[h.Node] = h; spec.To == "" && h.Node != source {
			targets = append(targets, h.Node)
		}
	}
	if spec.To != "" {
		if _, err := hostIn(hosts, spec.To); err != nil {
			return nil, err
		}
		targets = []string{spec.To}
	}
	if len(targets) == 0 {
		return nil, jobs.Failed(jobs.CodeNotFound, "vm %s: there is no host beside %s; start `xmig node` on another", spec.VM, source)
	}
	var out []moveAnswer
	for _, to := range targets {
		spec.To, spec.From = to, source
		if err := spec.Validate(); err != nil {
			return nil, err
		}
		job := jobs.Job{ID: ulid.Make().String(), Kind: jobs.KindMigrate, VM: vm.VMRef, Source: source, Destination: to, Spec: spec}
		job.Spec.Map = spec.Map.With(coordinator.Mapping(vm, at[source], at[to], spec.Map))
		ask, cancel := context.WithTimeout(ctx, max(g.Timeout, examineTime))
		r, err := bus.Call[node.CheckRequest, node.CheckReply](ask, b.Node(source), verbCheckMove, node.CheckRequest{Job: job})
		cancel()
		if err != nil {
			return nil, err
		}
		out = append(out, moveAnswer{VM: vm.Name, From: source, To: to, Plan: r.Plan, Blockers: r.Blockers})
	}
	return out, nil
}

// printAnswers prints plans and blockers; blocked if some VM can go nowhere.
func printAnswers(g *globals, t *terminal, all []moveAnswer) error {
	free := map[string]bool{}
	for _, a := range all {
		free[a.VM] = free[a.VM] || len(a.Blockers) == 0
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, all); err != nil {
			return err
		}
	} else {
		for _, a := range all {
			fmt.Fprint(t.Out, show.Plan(a.VM, a.From, a.To, a.Plan, a.Blockers))
		}
	}
	for _, ok := range free {
		if !ok {
			return &exitError{code: exitBlocked}
		}
	}
	return nil
}
