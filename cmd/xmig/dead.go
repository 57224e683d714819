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
)

// deadJobs are those that somebody must look at: that gave up and whose VM no
// newer job has, that nobody knows the end of, and whose doorbell was given up.
func deadJobs(all []jobs.Record, bells map[string]bus.DeadBell) []show.DeadJob {
	newest := map[string]string{}
	for _, r := range all {
		if key := movable(r); r.ID > newest[key] {
			newest[key] = r.ID
		}
	}
	var out []show.DeadJob
	for _, r := range all {
		d := show.DeadJob{Record: r}
		bell, silent := bells[r.ID]
		switch {
		case r.State == jobs.Indeterminate:
			d.Next = "xmig resolve " + r.ID
		case !r.State.Final() && silent:
			d.Why = fmt.Sprintf("its doorbell rang %d times and was given up %s", bell.Tries, bell.At.Format(time.DateTime))
			d.Next = "xmig job retry " + r.ID
		case (r.State == jobs.FailedState || r.State == jobs.RolledBack) && newest[movable(r)] == r.ID:
			d.Next = "xmig job retry " + r.ID
		default:
			continue
		}
		if d.Why == "" && r.Failure != nil {
			d.Why = r.Failure.Text
		}
		out = append(out, d)
	}
	return out
}

// movable is what a job moves: its VM, or for a sync the job stands for itself.
func movable(r jobs.Record) string {
	if r.Spec.Kind == jobs.KindSync {
		return r.ID
	}
	return r.VM.UUID
}

// lsDead prints them.
func lsDead(ctx context.Context, g *globals, t *terminal, b *bus.Bus, all []jobs.Record) error {
	bells, err := b.DeadBells(ctx)
	dead := deadJobs(all, bells)
	if g.Output == "json" {
		return errors.Join(err, printJSON(t.Out, list(dead)))
	}
	_, werr := fmt.Fprint(t.Out, show.DeadJobs(dead, time.Now()))
	return errors.Join(err, werr)
}

// revive has the doorbell of a job ring again that was given up; false: it was not.
func revive(ctx context.Context, g *globals, b *bus.Bus, rec jobs.Record) (bool, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	err := b.Revive(ask, rec)
	if errors.Is(err, jobs.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// only keeps the jobs that the flags of `xmig job ls` name.
func (c *jobLsCmd) only(all []jobs.Record) []jobs.Record {
	return slices.DeleteFunc(all, func(r jobs.Record) bool {
		return c.Active && r.State.Final() || c.State != "" && string(r.State) != c.State ||
			c.VM != "" && r.VM.Name != c.VM && r.VM.UUID != c.VM
	})
}
