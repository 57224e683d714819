package coordinator

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// orphanAge is when a claim whose job has no record is taken for that of a
// submission that died: well beyond submitFor, in which it would have written it.
const orphanAge = time.Minute

// submitFor bounds the time from a claim to its record.
const submitFor = 15 * time.Second

// Submit takes a request in: the VM is found and claimed, the record written.
// It answers when the record is durable. The same request again gets the job
// that the first one got, as long as that is under way.
func (c *Coordinator) Submit(ctx context.Context, spec jobs.Spec) (jobs.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, submitFor)
	defer cancel()
	return c.submit(ctx, c.NewID(), spec)
}

// submit takes a request in under an id that was chosen before: asked again
// with the same one it changes nothing. What watching told is enough to find
// the VM; only where it speaks against the request the bus is asked itself.
func (c *Coordinator) submit(ctx context.Context, id string, spec jobs.Spec) (jobs.Record, error) {
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return jobs.Record{}, err
	}
	hosts, live := c.view.livingHosts(ctx)
	if live {
		rec, err := c.accept(ctx, id, spec, hosts)
		if err == nil || errors.Is(err, jobs.ErrAway) || ctx.Err() != nil {
			return rec, err
		}
		if err := c.readHosts(ctx); err != nil {
			return jobs.Record{}, err
		}
		hosts, _ = c.view.livingHosts(ctx)
	} else {
		var err error
		if hosts, err = c.Hosts.Hosts(ctx); err != nil {
			return jobs.Record{}, err
		}
	}
	return c.accept(ctx, id, spec, hosts)
}

// readEvery bounds how often all hosts are read because somebody asked for what
// nobody has: a large fleet's inventory is many megabytes.
const readEvery = time.Second

// readHosts brings what is known of hosts up to date, for all who ask at once.
func (c *Coordinator) readHosts(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.Clock().Sub(c.read) < readEvery {
		return nil
	}
	hosts, err := c.Hosts.Hosts(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		c.view.host(h.Node, &h)
	}
	c.read = c.Clock()
	return nil
}

func (c *Coordinator) accept(ctx context.Context, id string, spec jobs.Spec, hosts []jobs.Host) (jobs.Record, error) {
	vm, source, err := subject(spec, hosts)
	if err != nil {
		return jobs.Record{}, err
	}
	now := c.Clock()
	rec := jobs.Record{ID: id, Spec: spec, VM: vm, Source: source, Destination: spec.To, State: jobs.Queued, Created: now, Updated: now}
	if spec.Kind == jobs.KindMigrate {
		same, err := c.claim(ctx, rec)
		if err != nil {
			return jobs.Record{}, err
		}
		if same != nil {
			c.Log.Info().Str("job", same.ID).Str("vm", vm.Name).Str("by", spec.By).Msg("asked for again; the job that is under way is meant")
			return *same, nil
		}
	}
	saved, err := c.Records.Create(ctx, rec)
	if errors.Is(err, jobs.ErrConflict) {
		return c.Records.Load(ctx, id) // it was made before
	}
	if err != nil {
		// It may have been written all the same; then the record finds its
		// claim gone when its turn comes, and fails saying so.
		c.unclaim(context.WithoutCancel(ctx), rec)
		return jobs.Record{}, fmt.Errorf("submit vm %s: %w", vm.Name, err)
	}
	c.view.record(saved)
	c.emit(ctx, saved, jobs.Queued, because("submitted by "+spec.By, spec.Reason))
	return saved, nil
}

// subject finds what is to be moved, and from where.
func subject(spec jobs.Spec, hosts []jobs.Host) (jobs.VMRef, string, error) {
	for _, name := range []string{spec.From, spec.To} {
		if name != "" && !slices.ContainsFunc(hosts, func(h jobs.Host) bool { return h.Node == name }) {
			return jobs.VMRef{}, "", jobs.Failed(jobs.CodeNotFound, "host %s is not there; `xmig host ls` lists those that are", name)
		}
	}
	if spec.Kind == jobs.KindSync {
		return device(spec), spec.From, nil
	}
	var at []string
	var found jobs.VM
	for _, h := range hosts {
		if vm, ok := h.Find(spec.VM); ok && (spec.From == "" || h.Node == spec.From) {
			at, found = append(at, h.Node), vm
		}
	}
	switch {
	case len(at) == 0 && spec.From != "":
		return jobs.VMRef{}, "", jobs.Failed(jobs.CodeNotFound, "vm %s: host %s does not have it; `xmig vm ls` lists what there is", spec.VM, spec.From)
	case len(at) == 0:
		return jobs.VMRef{}, "", jobs.Failed(jobs.CodeNotFound, "vm %s: no host that is there has it; `xmig vm ls` lists what there is", spec.VM)
	case len(at) > 1:
		slices.Sort(at)
		return jobs.VMRef{}, "", jobs.Failed(jobs.CodeConflict, "vm %s is on several hosts: %s; name one with --from", spec.VM, strings.Join(at, ", "))
	case at[0] == spec.To:
		return jobs.VMRef{}, "", jobs.Failed(jobs.CodeUsage, "vm %s is on %s already: source and destination are the same host", found.Name, spec.To)
	}
	return found.VMRef, at[0], nil
}

// device names the device that a sync job writes to, in the place of a VM: the
// same one for each job onto it, so that its node lets one in at a time
// (UUID version 5 of RFC 9562).
func device(spec jobs.Spec) jobs.VMRef {
	name := spec.To + ":" + spec.SyncTo
	h := sha1.Sum([]byte("xmig device " + name))
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return jobs.VMRef{UUID: fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16]), Name: name}
}

// claim makes the job the VM's only mover. A claim that was left behind, by a
// job that is final or by a submission that died, is taken off first. Where a job
// has the VM that was asked for in the same words, it is given: whoever asks twice,
// because the answer was lost or two people saw the same alarm, means one move.
func (c *Coordinator) claim(ctx context.Context, rec jobs.Record) (same *jobs.Record, err error) {
	for {
		key, err := c.Claims.Claim(ctx, rec.VM, rec.Source, rec.ID)
		if err == nil || !errors.Is(err, jobs.ErrConflict) || key.Claim == "" {
			return nil, err
		}
		holder, lerr := c.Records.Load(ctx, key.Claim)
		switch {
		case lerr == nil && holder.State.Final():
		case lerr == nil && holder.ID == rec.ID:
			return nil, nil
		case lerr == nil && holder.Cancel == nil && holder.Source == rec.Source && holder.Spec.SameRequest(rec.Spec):
			return &holder, nil
		case lerr == nil:
			return nil, jobs.Failed(jobs.CodeConflict, "vm %s is being moved by job %s since %s (%s); watch it with `xmig job watch %s`",
				rec.VM.Name, holder.ID, holder.Created.Format(time.DateTime), holder.State, holder.ID)
		case errors.Is(lerr, jobs.ErrNotFound):
			if born, terr := c.IDTime(key.Claim); terr == nil && c.Clock().Sub(born) < orphanAge {
				return nil, jobs.RetryLater(jobs.CodeConflict, "vm %s is being submitted as job %s right now; try again in a minute", rec.VM.Name, key.Claim)
			}
		default:
			return nil, lerr
		}
		if err := c.Claims.Unclaim(ctx, rec.VM.UUID, key.Claim); err != nil {
			return nil, err
		}
	}
}

// Cancel ends a job that its source node has not taken up yet. One that runs
// is that node's to take back.
func (c *Coordinator) Cancel(ctx context.Context, id, by string) (jobs.Record, error) {
	rec, err := c.Records.Load(ctx, id)
	if err != nil {
		return rec, err
	}
	switch {
	case rec.State.Final():
		return rec, jobs.Failed(jobs.CodeConflict, "job %s has ended: %s", rec.ID, rec.State)
	case rec.State != jobs.Queued && rec.State != jobs.Planned:
		return rec, jobs.RetryLater(jobs.CodeConflict, "job %s is %s on %s by now; cancel it again", rec.ID, rec.State, rec.Source)
	}
	if err := rec.To(jobs.Cancelled); err != nil {
		return rec, err
	}
	now := c.Clock()
	rec.Updated, rec.Ended, rec.Held = now, now, nil
	rec.Failure = &jobs.Failure{Class: jobs.Final, Code: jobs.CodeCancelled, Text: "cancelled by " + by, At: now}
	saved, err := c.Records.Save(ctx, rec)
	if err != nil {
		return rec, fmt.Errorf("cancel: %w", err)
	}
	c.view.record(saved)
	c.emit(ctx, saved, jobs.Cancelled, "cancelled by "+by)
	c.unclaim(ctx, saved)
	return saved, nil
}
