package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ResolvedSource is the source as a resolution reaches it, from outside.
type ResolvedSource interface {
	Back(ctx context.Context, job Job, known Known) error
	Finish(ctx context.Context, job Job, destination Journal) error
	// Discard destroys the copy here, running or not, because the person's word
	// in job keeps the other one. The host makes sure first that that one runs.
	Discard(ctx context.Context, job Job) error
	Evidence(ctx context.Context, vm VMRef) (Evidence, error)
}

// ResolvedDestination is the destination as a resolution reaches it.
type ResolvedDestination interface {
	Go(ctx context.Context, job Job, p Permission) (Ran, Evidence, error)
	Abort(ctx context.Context, job Job, over AbortScope) (Evidence, error)
	Settle(ctx context.Context, job Job) error
	Discard(ctx context.Context, job Job) error
	Evidence(ctx context.Context, vm VMRef) (Evidence, error)
}

// Resolver carries a resolution out: it looks, decides by Resolve and does one
// act, again and again until nothing is left. It may die anywhere and be run
// anew by anybody; two at once do no harm, for each act is one that the hosts'
// own rules, or the person's word, let happen.
type Resolver struct {
	Source      ResolvedSource
	Destination ResolvedDestination
	Store       Store
	Owners      Owners
	Clock       func() time.Time
	Tell        func(Resolution)                   // each act, before it is done
	Driven      func(context.Context, Record) bool // the job's worker is there
	Patience    time.Duration                      // how long one act may be tried
	Sleep       func(context.Context, time.Duration) error
}

// silence is how long a host may take to say what it has.
const silence = 10 * time.Second

// Look gathers the case of a record, with a person's word if there is one.
func (r *Resolver) Look(ctx context.Context, rec Record, word *Word) (Case, error) {
	if rec.Spec.Kind == KindSync {
		return Case{}, Failed(CodeUsage, "job %s copies a device: there is no guest to be resolved; cancel it", rec.ID)
	}
	if word != nil {
		rec.Word = word
	}
	c := Case{State: rec.State, Driven: r.Driven(ctx, rec) && rec.State != Indeterminate}
	var err error
	if c.Source, err = heard(ctx, rec.VM, r.Source.Evidence); err != nil {
		return c, err
	}
	if c.Destination, err = heard(ctx, rec.VM, r.Destination.Evidence); err != nil {
		return c, err
	}
	var journals []Journal
	for _, e := range []*Evidence{c.Source, c.Destination} {
		if e != nil {
			journals = append(journals, e.Journal)
		}
	}
	c.Job = rec.Unsettled(journals...)
	key, err := r.Owners.Owner(ctx, rec.VM.UUID)
	if err != nil {
		return c, fmt.Errorf("owner key of vm %s: %w; if the bus was lost, `xmig recover` makes it anew", rec.VM.Name, err)
	}
	c.Key = &key
	return c, nil
}

// heard asks a host; nil: it does not answer. A host that answers and cannot
// tell, because its journal is damaged for example, is an error: nothing may be
// decided as if it had promised nothing.
func heard(ctx context.Context, vm VMRef, ask func(context.Context, VMRef) (Evidence, error)) (*Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	e, err := ask(ctx, vm)
	switch {
	case err == nil:
		return &e, nil
	case errors.Is(err, ErrAway):
		return nil, nil
	}
	return nil, err
}

// Run resolves a job and returns its record and the last thing that was
// decided: ActEnd if it is resolved now.
func (r *Resolver) Run(ctx context.Context, rec Record, word *Word) (Record, Resolution, error) {
	var did Resolution
	for range 2 * longest {
		c, err := r.Look(ctx, rec, word)
		if err != nil {
			return rec, did, err
		}
		did = Resolve(c)
		r.Tell(did)
		if did.Act != ActEnd && did.Stops() {
			if c.State.Final() && c.Key.Claim == rec.ID { // whoever ended it died before the claim came off
				err = r.Owners.Unclaim(ctx, rec.VM.UUID, rec.ID)
			}
			return rec, did, err
		}
		err = r.insist(ctx, func(ctx context.Context) error { return r.act(ctx, c, did) })
		if err != nil {
			return rec, did, fmt.Errorf("%s: %w", did.Act, err)
		}
		if did.Act == ActEnd {
			rec, err = r.end(ctx, rec, c, did.State)
			return rec, did, err
		}
		if rec, err = r.Store.Load(ctx, rec.ID); err != nil {
			return rec, did, err
		}
	}
	return rec, did, Failed(CodeInternal, "job %s: %d acts, and no end: the last was %s", rec.ID, 2*longest, did.Act)
}

// insist repeats what may get better, within reason.
func (r *Resolver) insist(ctx context.Context, do func(context.Context) error) error {
	end := r.Clock().Add(r.Patience)
	for backoff := 200 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		err := do(ctx)
		if err == nil || ClassOf(err) != Retry || r.Clock().After(end) {
			return err
		}
		if serr := r.Sleep(ctx, backoff); serr != nil {
			return errors.Join(err, serr)
		}
	}
}

// act does one thing; all of them may be done again.
func (r *Resolver) act(ctx context.Context, c Case, did Resolution) error {
	job := c.Job
	known := Known{Key: c.Key, Word: job.Word}
	if c.Destination != nil {
		known.Destination = c.Destination.Journal
	}
	switch did.Act {
	case ActBar:
		return r.swap(ctx, job.begun(), job.aborted())
	case ActHandOver:
		return r.swap(ctx, job.begun(), job.handed())
	case ActKey:
		to, ok := c.repaired()
		if !ok {
			return Failed(CodeBlocked, "vm %s: the owner key says %s, epoch %d, and what the hosts promised does not let it be repaired (R11)", job.VM.Name, c.Key.Node, c.Key.Epoch)
		}
		return r.swap(ctx, *c.Key, to)
	case ActGo:
		_, _, err := r.Destination.Go(ctx, job, c.permission())
		return err
	case ActAbort:
		_, err := r.Destination.Abort(ctx, job, AttemptOver)
		return err
	case ActBack:
		return r.Source.Back(ctx, job, known)
	case ActFinish:
		if err := r.Destination.Settle(ctx, job); err != nil {
			return err
		}
		return r.Source.Finish(ctx, job, known.Destination)
	case ActDiscard:
		if did.At == job.Source {
			return r.Source.Discard(ctx, job)
		}
		return r.Destination.Discard(ctx, job)
	case ActEnd:
		return r.letGo(ctx, c, did.State, known)
	}
	return Failed(CodeInternal, "job %s: nobody knows how to do %q", job.ID, did.Act)
}

// permission is all that lets D go.
func (c Case) permission() Permission {
	p := Permission{Key: c.Key, Word: c.Job.Word, Boot: true}
	if c.Source != nil {
		p.Source = c.Source.Journal
	} else if c.Key != nil {
		p.Source, _ = c.Job.Handed(*c.Key)
	}
	return p
}

// swap changes the key, unless it is so already.
func (r *Resolver) swap(ctx context.Context, from, to Owner) error {
	_, err := r.Owners.Swap(ctx, from, to)
	if errors.Is(err, ErrConflict) {
		return nil // somebody was faster; the next look decides
	}
	return err
}

// letGo does the last acts of either end once more: a crash may have cut them
// off behind their promise. A host that does not answer does it when it is back.
func (r *Resolver) letGo(ctx context.Context, c Case, s State, known Known) error {
	if s == Succeeded {
		if c.Destination != nil {
			if err := r.Destination.Settle(ctx, c.Job); err != nil {
				return err
			}
		}
		if c.Source != nil {
			return r.Source.Finish(ctx, c.Job, known.Destination)
		}
		return nil
	}
	if c.Source != nil {
		if err := r.Source.Back(ctx, c.Job, known); err != nil {
			return err
		}
	}
	if c.Destination != nil {
		_, err := r.Destination.Abort(ctx, c.Job, JobOver)
		return err
	}
	return nil
}

// end makes the record final and takes the claim off.
func (r *Resolver) end(ctx context.Context, rec Record, c Case, s State) (Record, error) {
	for {
		rec, err := r.Store.Load(ctx, rec.ID)
		if err != nil {
			return rec, err
		}
		if !rec.State.Final() {
			if err := rec.To(s); err != nil {
				return rec, err
			}
			rec.Word, rec.Epoch, rec.HandedOver, rec.Held = c.Job.Word, c.Job.Epoch, s == Succeeded, nil
			rec.Ended, rec.Updated = r.Clock(), r.Clock()
			rec.Leftover = c.leftover(s)
			if rec.Failure == nil && s != Succeeded {
				rec.Failure = &Failure{Step: rec.Step, Class: Final, Code: CodeAborted, Text: "resolved by hand", At: rec.Ended, Attempt: rec.Attempt}
			}
			saved, err := r.Store.Save(ctx, rec)
			if errors.Is(err, ErrConflict) {
				continue // whoever changed it did not know; look again
			}
			if err != nil {
				return rec, err
			}
			rec = saved
		}
		return rec, r.Owners.Unclaim(ctx, rec.VM.UUID, rec.ID)
	}
}

// leftover names what a host that did not answer has still to let go.
func (c Case) leftover(s State) (left []string) {
	if c.Source == nil && s == Succeeded {
		left = append(left, fmt.Sprintf("%s: copy, config and disks that were given away; its worker parks them when it is back", c.Job.Source))
	}
	if c.Destination == nil && s != Succeeded {
		left = append(left, fmt.Sprintf("%s: what the job made there; its worker takes it away when it is back", c.Job.Destination))
	}
	return left
}
