package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type recoverCmd struct {
	DryRun  bool          `help:"Only show what would be written."`
	Without []string      `placeholder:"HOST" help:"You vouch that this host is dead for good, or has nothing to do with any VM of the others."`
	Try     time.Duration `default:"1m" help:"How long one act of settling a move may be tried."`
}

func (recoverCmd) Help() string {
	return `For a bus that was lost, or put back from an older backup. Start the server and
the workers of all hosts; then this reads the journals of all hosts and writes
the owner keys anew, above every epoch that anybody ever promised in. A move
that was under way is settled by the rules: its record is made again, and
resolved. Nothing is written while a host that a journal names is missing.

It may be run at any time; where keys and hosts agree it changes nothing.

Examples:

    xmig recover --dry-run
    xmig recover
    xmig recover --without hv3`
}

// recovery is what became of one VM, for -o json.
type recovery struct {
	jobs.Recovered
	Was    *jobs.Owner `json:"was,omitempty"`
	Did    string      `json:"did"`
	Failed string      `json:"failed,omitempty"`
}

func (c *recoverCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	vms, err := c.accounts(ctx, g, b)
	if err != nil {
		return err
	}
	var done []recovery
	failed := false
	for _, accounts := range vms {
		r := c.recover(ctx, b, accounts)
		if r.Did == "" && r.Failed == "" {
			continue // it never moved
		}
		failed = failed || r.Failed != ""
		done = append(done, r)
		if g.Output == "table" {
			fmt.Fprintln(t.Out, r)
		}
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, list(done)); err != nil {
			return err
		}
	} else if len(done) == 0 {
		fmt.Fprintln(t.Out, "no VM has moved yet: no key is needed")
	}
	if failed {
		return &exitError{code: exitIndeterminate}
	}
	return nil
}

func (r recovery) String() string {
	if r.Failed != "" {
		return r.Failed
	}
	return fmt.Sprintf("vm %s: %s", r.Owner.Name, r.Did)
}

// accounts asks every host for all it knows, by VM. A host that is named and
// does not answer ends it: what it promised may be newer than all the rest.
func (c *recoverCmd) accounts(ctx context.Context, g *globals, b *bus.Bus) ([][]jobs.Account, error) {
	hosts, err := living(ctx, g, b)
	if err != nil {
		return nil, err
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	var answered []string
	var all []jobs.Account
	for _, h := range hosts {
		of, err := bus.Call[struct{}, []jobs.Account](ask, b.Node(h.Node), verbAccounts, struct{}{})
		if err != nil {
			return nil, fmt.Errorf("nothing was written: host %s: %w", h.Node, err)
		}
		answered, all = append(answered, h.Node), append(all, of...)
	}
	for _, name := range c.Without {
		if slices.Contains(answered, name) {
			return nil, usage("--without %s: that host answers; nothing was written", name)
		}
	}
	if missing := jobs.Missing(all, answered, c.Without); len(missing) > 0 {
		return nil, jobs.Failed(jobs.CodeBlocked, "nothing was written: journals name %s, which is not there, and what it promised may be newer; start `xmig node` on it, or, if it is lost for good, give --without %s",
			strings.Join(missing, " and "), missing[0])
	}
	slices.SortStableFunc(all, func(a, b jobs.Account) int { return strings.Compare(a.VM.UUID, b.VM.UUID) })
	var out [][]jobs.Account
	for _, of := range slices.Collect(chunkBy(all, func(a jobs.Account) string { return a.VM.UUID })) {
		for i := range of { // the host that has it knows its name
			for _, other := range of {
				if of[i].VM.Name == "" {
					of[i].VM.Name = other.VM.Name
				}
			}
		}
		out = append(out, of)
	}
	return out, nil
}

// chunkBy splits a sorted list where key changes.
func chunkBy[T any, K comparable](all []T, key func(T) K) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for begin := 0; begin < len(all); {
			end := begin + 1
			for end < len(all) && key(all[end]) == key(all[begin]) {
				end++
			}
			if !yield(all[begin:end]) {
				return
			}
			begin = end
		}
	}
}

// recover does one VM.
func (c *recoverCmd) recover(ctx context.Context, b *bus.Bus, accounts []jobs.Account) recovery {
	r := recovery{}
	fail := func(err error) recovery {
		name := accounts[0].VM.Name
		if name == "" {
			name = accounts[0].VM.UUID
		}
		r.Failed = fmt.Sprintf("vm %s: not recovered: %v", name, err)
		return r
	}
	var err error
	if r.Recovered, err = jobs.Recover(accounts); err != nil {
		return fail(err)
	}
	if r.Owner.Node == "" {
		return r
	}
	var live []jobs.Job
	for _, job := range r.Unsettled {
		rec, err := b.Records().Load(ctx, job.ID)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			live = append(live, job)
		case err != nil:
			return fail(err)
		case !rec.State.Final():
			r.Did = fmt.Sprintf("job %s moves it, or `xmig resolve %s` ends it: left alone", rec.ID, rec.ID)
			return r
		}
	}
	r.Unsettled = live
	if err := c.key(ctx, b, &r); err != nil {
		return fail(err)
	}
	for _, job := range r.Unsettled {
		if err := c.settle(ctx, b, &r, job); err != nil {
			return fail(err)
		}
	}
	return r
}

// key writes the owner key, where there is none or one that is behind the hosts.
func (c *recoverCmd) key(ctx context.Context, b *bus.Bus, r *recovery) error {
	was, err := b.Owners().Owner(ctx, r.Owner.VM)
	if err == nil {
		r.Was = &was
		if was.Node == r.Owner.Node && was.Epoch+2 >= r.Owner.Epoch {
			r.Did = fmt.Sprintf("%s owns it, epoch %d: as it was", was.Node, was.Epoch)
			return nil
		}
		if was.Claim != "" {
			if rec, lerr := b.Records().Load(ctx, was.Claim); lerr == nil && !rec.State.Final() {
				return jobs.Failed(jobs.CodeConflict, "job %s moves it; resolve that first", was.Claim)
			}
		}
		r.Owner.Epoch = max(r.Owner.Epoch, was.Epoch+1)
	}
	r.Did = fmt.Sprintf("%s owns it, epoch %d", r.Owner.Node, r.Owner.Epoch)
	switch {
	case c.DryRun:
		r.Did += " (not written: --dry-run)"
		return nil
	case r.Was != nil:
		to := r.Owner
		to.Claim = was.Claim
		_, err = b.Owners().Swap(ctx, was, to)
	default:
		_, err = b.Owners().Restore(ctx, r.Owner)
	}
	return err
}

// settle makes the record of a move anew that was under way, and resolves it.
func (c *recoverCmd) settle(ctx context.Context, b *bus.Bus, r *recovery, job jobs.Job) error {
	r.Did += fmt.Sprintf("; job %s to %s was under way", job.ID, job.Destination)
	if c.DryRun {
		return nil
	}
	rec := jobs.RecordOf(job)
	rec.Created, rec.Updated = time.Now(), time.Now()
	rec.Failure = &jobs.Failure{Class: jobs.Final, Code: jobs.CodeAway, Text: "the bus was lost while it was under way", At: time.Now(), Attempt: rec.Attempt}
	rec, err := b.Records().Create(ctx, rec)
	if err != nil {
		return err
	}
	var told []string
	tell := func(did jobs.Resolution) { told = append(told, strings.TrimSpace(show.Act(len(told)+1, did))) }
	rec, did, err := resolverOn(b, rec, c.Try, tell).Run(ctx, rec, nil)
	if err != nil {
		return err
	}
	if did.Act != jobs.ActEnd {
		return fmt.Errorf("job %s: %s: %s; then `xmig resolve %s`", rec.ID, did.Why, did.Next, rec.ID)
	}
	r.Did += fmt.Sprintf(", and is %s now", rec.State)
	return nil
}
