package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmig/jobs"
)

// WishRequest changes what is wished of a job; what is nil or empty stays.
type WishRequest struct {
	Job      string `json:"job"`
	By       string `json:"by"`
	Pause    bool   `json:"pause,omitempty"`
	Resume   bool   `json:"resume,omitempty"`
	Cutover  bool   `json:"cutover,omitempty"`
	Priority int    `json:"priority,omitempty"`
	BWLimit  *int64 `json:"bwlimit_bytes,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Wish writes down what is wished of a job. The decider obeys it while the job
// waits, and its source node from then on.
func (c *Coordinator) Wish(ctx context.Context, r WishRequest) (jobs.Wish, error) {
	rec, err := c.Records.Load(ctx, r.Job)
	if err != nil {
		return jobs.Wish{}, err
	}
	switch {
	case rec.State.Final():
		return jobs.Wish{}, jobs.Failed(jobs.CodeConflict, "job %s has ended: %s", rec.ID, rec.State)
	case rec.HandedOver:
		return jobs.Wish{}, jobs.Failed(jobs.CodeConflict, "job %s: %s was handed over to %s already; the rest is only finished", rec.ID, rec.VM.Name, rec.Destination)
	case r.Priority < 0, r.BWLimit != nil && *r.BWLimit < 0:
		return jobs.Wish{}, jobs.Failed(jobs.CodeUsage, "job %s: below zero", rec.ID)
	case r.Priority > 0 && rec.State != jobs.Queued:
		return jobs.Wish{}, jobs.Failed(jobs.CodeConflict, "job %s is %s: only one that waits has a place in the queue", rec.ID, rec.State)
	}
	for {
		row, err := c.Wishes.Load(ctx, rec.ID)
		if err != nil {
			return jobs.Wish{}, err
		}
		row.Value = r.over(row.Value, rec.ID, c.Clock())
		saved, err := c.Wishes.Save(ctx, row)
		if err == nil {
			c.view.wish(saved, false)
			c.emitAs(ctx, rec, "wish", r.String())
			return saved.Value, nil
		}
		if !errors.Is(err, jobs.ErrConflict) {
			return jobs.Wish{}, err
		}
	}
}

// over is the wish with the request put over it.
func (r WishRequest) over(w jobs.Wish, job string, now time.Time) jobs.Wish {
	w.Job, w.By, w.At = job, r.By, now
	switch {
	case r.Resume:
		w.Paused = nil
	case r.Pause:
		w.Paused = &jobs.Flag{Reason: because("paused by "+r.By, r.Reason), Since: now}
	}
	if r.Cutover {
		w.Cutover = &jobs.Flag{Reason: "asked for by " + r.By, Since: now}
	}
	if r.Priority > 0 {
		w.Priority = r.Priority
	}
	if r.BWLimit != nil {
		w.BWLimit = r.BWLimit
	}
	return w
}

func (r WishRequest) String() string {
	s := ""
	add := func(ok bool, format string, args ...any) {
		if ok {
			s += fmt.Sprintf(format, args...) + " "
		}
	}
	add(r.Pause, "paused")
	add(r.Resume, "resumed")
	add(r.Cutover, "cutover asked for")
	add(r.Priority > 0, "priority %d", r.Priority)
	if r.BWLimit != nil {
		add(true, "bwlimit %d bytes/s", *r.BWLimit)
	}
	return because(s+"by "+r.By, r.Reason)
}

// PolicyRequest changes what was decided about a VM.
type PolicyRequest struct {
	VM     string  `json:"vm"` // name or UUID
	By     string  `json:"by"`
	Pin    bool    `json:"pin,omitempty"`
	Unpin  bool    `json:"unpin,omitempty"`
	Apart  *string `json:"apart,omitempty"` // group; "": none any more
	Reason string  `json:"reason,omitempty"`
}

// SetPolicy writes down whether drains may move a VM, and whom it may not
// share a host with.
func (c *Coordinator) SetPolicy(ctx context.Context, r PolicyRequest) (Policy, error) {
	hosts, err := c.Hosts.Hosts(ctx)
	if err != nil {
		return Policy{}, err
	}
	var ref jobs.VMRef
	for _, h := range hosts {
		vm, ok := h.Find(r.VM)
		switch {
		case ok && ref.UUID != "" && ref.UUID != vm.UUID:
			return Policy{}, jobs.Failed(jobs.CodeConflict, "several VMs are called %s; name one by its UUID", r.VM)
		case ok:
			ref = vm.VMRef
		}
	}
	if ref.UUID == "" {
		return Policy{}, jobs.Failed(jobs.CodeNotFound, "vm %s: no host that is there has it; `xmig vm ls` lists what there is", r.VM)
	}
	for {
		row, err := c.Policies.Load(ctx, ref.UUID)
		if err != nil {
			return Policy{}, err
		}
		p := &row.Value
		p.VM = ref
		switch {
		case r.Unpin:
			p.Pin = nil
		case r.Pin:
			p.Pin = &Order{By: r.By, Reason: r.Reason, At: c.Clock()}
		}
		if r.Apart != nil {
			p.Apart = *r.Apart
		}
		saved, err := c.Policies.Save(ctx, row)
		if err == nil {
			c.view.policy(saved, false)
			c.Events.Emit(ctx, jobs.Event{Time: c.Clock(), Node: c.Name, VM: ref, What: "policy", Text: r.String()})
			return saved.Value, nil
		}
		if !errors.Is(err, jobs.ErrConflict) {
			return Policy{}, err
		}
	}
}

func (r PolicyRequest) String() string {
	s := "policy changed by "
	switch {
	case r.Unpin:
		s = "unpinned by "
	case r.Pin:
		s = "pinned by "
	case r.Apart != nil:
		s = fmt.Sprintf("kept apart in group %q by ", *r.Apart)
	}
	return because(s+r.By, r.Reason)
}

// Plan plans a drain or restore as things are; it changes nothing.
func (c *Coordinator) Plan(ctx context.Context, host string, kind DrainKind, how jobs.Spec) (Plan, error) {
	s, err := c.lookNow(ctx)
	if err != nil {
		return Plan{}, err
	}
	return PlanFor(s, c.Limits, host, kind, how)
}

// Options tells of every host whether a VM could go there now.
func (c *Coordinator) Options(ctx context.Context, spec jobs.Spec) ([]Option, error) {
	s, err := c.lookNow(ctx)
	if err != nil {
		return nil, err
	}
	spec = spec.WithDefaults()
	spec.To = ""
	vm, source, err := subject(spec, s.Hosts)
	if err != nil {
		return nil, err
	}
	return Options(s, c.Limits, vm.UUID, source, spec), nil
}

// lookNow is a snapshot of now: of what is watched, or read for the purpose.
func (c *Coordinator) lookNow(ctx context.Context) (Snapshot, error) {
	if _, live := c.view.livingHosts(ctx); !live {
		if err := c.catchUp(ctx, c.Records.List); err != nil {
			return Snapshot{}, err
		}
	}
	return c.view.snapshot(c.Clock()), nil
}
