package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type jobCmd struct {
	Ls     jobLsCmd     `cmd:"" help:"List jobs, the newest last."`
	Show   jobShowCmd   `cmd:"" help:"Show all of one job: disks, passes, blackout, what went wrong, what is left over."`
	Watch  jobWatchCmd  `cmd:"" help:"Follow a job to its end; the exit code is the job's."`
	Cancel jobCancelCmd `cmd:"" help:"Ask for a job to be taken back; after the hand-over it cannot be."`
	Retry  jobRetryCmd  `cmd:"" help:"Submit a job that did not succeed once more."`
	Prune  jobPruneCmd  `cmd:"" help:"Forget jobs that ended."`
	Logs   jobLogsCmd   `cmd:"" help:"Print the stored events of a job."`

	Pause   jobPauseCmd   `cmd:"" help:"Hold a job: it does not start, or its guest is not stopped."`
	Resume  jobResumeCmd  `cmd:"" help:"Let a paused job go on."`
	Cutover jobCutoverCmd `cmd:"" help:"Stop and hand over the guest of a job that waits for this word."`
	Set     jobSetCmd     `cmd:"" help:"Change the priority or the bandwidth of a job."`
}

func (jobCmd) Help() string {
	return `A job is named by its id, by any beginning of it that no other job has, or by
its VM: then it is the newest one of that VM.

Examples:

    xmig job ls --active
    xmig job show 01JDB3
    xmig job watch 01JDB3
    xmig job cancel 01JDB3
    xmig job logs 01JDB3 --follow`
}

type jobLsCmd struct {
	Active bool   `help:"Only jobs that have not ended."`
	VM     string `name:"vm" placeholder:"NAME" help:"Only jobs of this VM."`
	State  string `placeholder:"STATE" help:"Only jobs in this state, such as rolled_back."`
	Dead   bool   `help:"Only jobs that somebody must look at: that gave up and were not tried again, that are indeterminate, or that their worker never answers for; with what to do."`
}

func (jobLsCmd) Help() string {
	return `Examples:

    xmig job ls
    xmig job ls --vm web01 -o json
    xmig job ls --dead
    xmig job ls --state indeterminate`
}

func (c *jobLsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	if c.Dead && (c.Active || c.State != "" || c.VM != "") {
		return usage("--dead lists all that somebody must look at: give it alone")
	}
	if c.State != "" && !slices.Contains(jobs.States(), jobs.State(c.State)) {
		return usage("state %q: want one of %v", c.State, jobs.States())
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	ask, cancel := g.ask(ctx)
	defer cancel()
	all, err := b.Records().List(ask)
	if err != nil && all == nil {
		return err
	}
	if c.Dead { // of all of them: whether one was tried again is seen in others
		return errors.Join(err, lsDead(ask, g, t, b, all))
	}
	all = c.only(all)
	if g.Output == "json" {
		if perr := printJSON(t.Out, list(all)); perr != nil {
			return perr
		}
		return err
	}
	fmt.Fprint(t.Out, show.Jobs(all, time.Now()))
	return err // of records that could not be read
}

// list gives [] for nothing: programs count what they get.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

type jobShowCmd struct {
	ID string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
}

func (jobShowCmd) Help() string {
	return `Examples:

    xmig job show 01JDB3
    xmig job show web01
    xmig job show web01 -o json`
}

func (c *jobShowCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, rec, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	if g.Output == "json" {
		return printJSON(t.Out, rec)
	}
	_, err = fmt.Fprint(t.Out, show.Report(rec))
	return err
}

type jobWatchCmd struct {
	ID      string        `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	WaitFor time.Duration `placeholder:"TIME" help:"Watch no longer than this, such as 10m; then exit 4 while the job goes on."`
}

func (jobWatchCmd) Help() string {
	return `On a terminal bars, elsewhere a line per step; with -o json the record after
each change, one per line.

Examples:

    xmig job watch 01JDB3
    xmig job watch 01JDB3 --wait-for 10m -o json`
}

func (c *jobWatchCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, rec, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	if g.Output == "json" {
		// The stream ends with the last record: no document may follow it.
		quiet := *t
		quiet.Out = discard{}
		return await(ctx, g, &quiet, b, []string{rec.ID}, c.WaitFor, asJSON(t))
	}
	return await(ctx, g, t, b, []string{rec.ID}, c.WaitFor, liveLines(g, t))
}

// discard takes what a stream of lines has told already.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type jobCancelCmd struct {
	ID string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
}

func (jobCancelCmd) Help() string {
	return `The job is taken back and the VM runs on at its source. Behind the hand-over
nothing is taken back: the job is finished.

Examples:

    xmig job cancel 01JDB3`
}

func (c *jobCancelCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, rec, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	if rec.State.Final() {
		return jobs.Failed(jobs.CodeConflict, "job %s has ended: %s", rec.ID, rec.State)
	}
	if rec.HandedOver {
		return jobs.Failed(jobs.CodeConflict, "job %s: %s was handed over to %s already; to bring it back, submit it to %s", rec.ID, rec.VM.Name, rec.Destination, rec.Source)
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	now, err := bus.Call[cancelRequest, jobs.Record](ask, b.Coordinator(), verbCancel, cancelRequest{Job: rec.ID, By: whoAmI()})
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, now)
	}
	_, err = fmt.Fprintf(t.Out, "%s: asked to be taken back; watch it: xmig job watch %s\n", now.ID, now.ID)
	return err
}

type jobLogsCmd struct {
	ID     string `arg:"" name:"job" help:"The job's id, the beginning of it, or its VM: then the newest of it."`
	Follow bool   `short:"f" help:"Wait for more until the job has ended."`
}

func (jobLogsCmd) Help() string {
	return `Examples:

    xmig job logs 01JDB3
    xmig job logs 01JDB3 -o json`
}

func (c *jobLogsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, rec, err := openJob(ctx, g, c.ID)
	if err != nil {
		return err
	}
	defer b.Close()
	f := bus.EventFilter{Job: rec.ID}
	if c.Follow && !rec.State.Final() {
		f.Follow = bus.Forever
	}
	for e, err := range b.Events(ctx, f) {
		if ctx.Err() != nil {
			return nil // Ctrl-C is the way out of --follow
		}
		if err != nil {
			return err
		}
		if g.Output == "json" {
			err = printLine(t.Out, e)
		} else {
			_, err = fmt.Fprintln(t.Out, show.EventLine(e))
		}
		if err != nil || f.Follow == bus.Forever && e.State.Final() && e.State != "" {
			return err
		}
	}
	return nil
}

// openJob connects and finds the job that name means.
func openJob(ctx context.Context, g *globals, name string) (*bus.Bus, jobs.Record, error) {
	b, err := g.connect(ctx)
	if err != nil {
		return nil, jobs.Record{}, err
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	rec, err := findJob(ask, b, name)
	if err != nil {
		b.Close()
		return nil, jobs.Record{}, err
	}
	return b, rec, nil
}

// idForm is that of an id or its beginning; some names of VMs have it too.
var idForm = regexp.MustCompile(`^[0-9A-Za-z]{1,26}$`)

// findJob finds a job by its id, by the beginning of it, or by its VM: then it
// is the VM's newest.
func findJob(ctx context.Context, b *bus.Bus, name string) (jobs.Record, error) {
	if idForm.MatchString(name) {
		if rec, err := b.Records().Load(ctx, name); !errors.Is(err, jobs.ErrNotFound) {
			return rec, err
		}
	}
	all, err := b.Records().List(ctx)
	for _, r := range slices.Backward(all) {
		if r.VM.Name == name || r.VM.UUID == name {
			return r, nil
		}
	}
	if err != nil {
		return jobs.Record{}, err
	}
	return jobs.Record{}, jobs.Failed(jobs.CodeNotFound, "no job and no job of a VM is called %s; `xmig job ls` lists what there is", name)
}
