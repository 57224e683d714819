package main

import (
	"context"
	"fmt"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type resolveCmd struct {
	ID     string        `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	DryRun bool          `help:"Only show what both hosts say and what would be done."`
	Lost   string        `placeholder:"HOST" help:"You vouch that this host is dead for good: nothing of the VM runs on it, nor ever will again."`
	Keep   string        `placeholder:"HOST" help:"The VM runs twice: keep the copy on this host and destroy the other."`
	Try    time.Duration `default:"1m" help:"How long one act may be tried."`
}

func (resolveCmd) Help() string {
	return `Ends a job that nobody can drive on: one that is indeterminate, or whose host is
lost. It shows what both hosts promised and have, says what is done and why, and
does it: only what no crash and no late message can turn into a second running
copy. One command is enough; where something is missing it says what.

--lost takes your word for what no journal can tell. If that host was merely
unplugged and comes back with the VM running, there are two. Fence it first: cut
its power, or see that it is off.

Examples:

    xmig resolve web01 --dry-run
    xmig resolve 01JDB3
    xmig resolve web01 --lost hv1
    xmig resolve web01 --keep hv2`
}

// resolved is what -o json prints.
type resolved struct {
	Record   jobs.Record       `json:"record"`
	Evidence jobs.Case         `json:"evidence"`
	Plan     []jobs.Resolution `json:"plan"`
	Done     bool              `json:"done"`
}

func (c *resolveCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Lost != "" && c.Keep != "" {
		return usage("--lost and --keep: a host that is lost has no copy to choose from; give one of them")
	}
	b, rec, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	var word *jobs.Word
	if c.Lost != "" || c.Keep != "" {
		word = &jobs.Word{By: whoAmI(), Lost: c.Lost, Keep: c.Keep}
	}
	table := g.Output == "table"
	n := 0
	r := resolverOn(b, rec, c.Try, func(did jobs.Resolution) {
		if n++; table && !c.DryRun {
			fmt.Fprint(t.Out, show.Act(n, did))
		}
	})
	look, err := r.Look(ctx, rec, word)
	if err != nil {
		return err
	}
	out := resolved{Record: rec, Evidence: look, Plan: jobs.Foresee(look)}
	if table {
		fmt.Fprint(t.Out, show.Evidence(rec, look))
	}
	last := out.Plan[len(out.Plan)-1]
	switch {
	case !c.DryRun:
		if out.Record, last, err = r.Run(ctx, rec, word); err != nil {
			return fmt.Errorf("job %s: %w; nothing is lost: resolve it again when that is mended", rec.ID, err)
		}
		out.Done = last.Act == jobs.ActEnd || out.Record.State.Final()
	case table:
		for i, act := range out.Plan {
			fmt.Fprint(t.Out, show.Act(i+1, act))
		}
	}
	if !table {
		if err := printJSON(t.Out, out); err != nil {
			return err
		}
	}
	return c.ended(out, last)
}

// ended is the exit code: 0 if the job is settled, or would be; 4 if it goes on
// by itself; 7 if a person is needed; 1 if the VM is lost.
func (c *resolveCmd) ended(out resolved, last jobs.Resolution) error {
	switch {
	case last.Act == jobs.ActEnd, out.Record.State.Final():
		return nil
	case last.Act == jobs.ActNothing:
		return &exitError{code: exitStillRunning}
	case last.Act == jobs.ActGone:
		return &exitError{code: exitFailed}
	}
	return &exitError{code: exitIndeterminate}
}

// resolverOn reaches a job's two hosts over the bus.
func resolverOn(b *bus.Bus, rec jobs.Record, patience time.Duration, tell func(jobs.Resolution)) *jobs.Resolver {
	return &jobs.Resolver{
		Source: b.Source(rec.Source), Destination: b.Destination(rec.Destination), Store: b.Records(), Owners: b.Owners(),
		Clock: time.Now, Tell: tell, Patience: patience, Sleep: pauseFor,
		Driven: func(ctx context.Context, rec jobs.Record) bool {
			hosts, err := b.Hosts(ctx)
			for _, h := range hosts {
				if h.Node == rec.Source {
					return true
				}
			}
			return err != nil // nobody knows: then it is left alone
		},
	}
}

// pauseFor waits, unless ctx ends before.
func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
