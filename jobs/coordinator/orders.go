package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmig/jobs"
)

// What a person or a rule may order about a host. Any coordinator takes an
// order, by writing it down; the one that acts carries it out.

// Cordon keeps new VMs off a host. Asking again changes only who and why.
func (c *Coordinator) Cordon(ctx context.Context, host, by, reason string) (Mark, error) {
	if !jobs.ValidNode(host) {
		return Mark{}, jobs.Failed(jobs.CodeUsage, "host %q: a node name is 1 to 32 of a-z, 0-9 and -", host)
	}
	if err := c.known(ctx, host); err != nil {
		return Mark{}, err
	}
	m, err := c.changeMark(ctx, host, func(m *Mark) error {
		m.Cordon = &Order{By: by, Reason: reason, At: c.Clock()}
		return nil
	})
	if err == nil {
		c.tellHost(ctx, host, "cordoned", because("cordoned by "+by, reason))
	}
	return m, err
}

// Uncordon lets VMs onto a host again. One that is being drained stays closed.
func (c *Coordinator) Uncordon(ctx context.Context, host, by string) (Mark, error) {
	was := false
	m, err := c.changeMark(ctx, host, func(m *Mark) error {
		if m.Active() && m.Drain.Kind == Emptying {
			return jobs.Failed(jobs.CodeConflict, "host %s is being drained by %s; cancel that first: `xmig host drain %s --cancel`", host, m.Drain.By, host)
		}
		was = m.Cordon != nil
		m.Cordon = nil
		return nil
	})
	if err == nil && was {
		c.tellHost(ctx, host, "uncordoned", "opened by "+by)
	}
	return m, err
}

// Drain empties a host, or brings its VMs home. Asking again attaches to what
// is under way; one that is held gets a new deadline and another try.
func (c *Coordinator) Drain(ctx context.Context, r DrainRequest) (DrainAnswer, error) {
	if r.Kind == "" {
		r.Kind = Emptying
	}
	if r.Deadline == 0 {
		r.Deadline = DefaultDeadline
	}
	switch {
	case !jobs.ValidNode(r.Host):
		return DrainAnswer{}, jobs.Failed(jobs.CodeUsage, "host %q: a node name is 1 to 32 of a-z, 0-9 and -", r.Host)
	case r.Kind != Emptying && r.Kind != Homing:
		return DrainAnswer{}, jobs.Failed(jobs.CodeUsage, "%q: want drain or restore", r.Kind)
	case r.Deadline < 0:
		return DrainAnswer{}, jobs.Failed(jobs.CodeUsage, "deadline %s: below zero", r.Deadline)
	case r.After == r.Host:
		return DrainAnswer{}, jobs.Failed(jobs.CodeUsage, "host %s cannot wait for itself", r.Host)
	}
	if err := c.known(ctx, r.Host); err != nil {
		return DrainAnswer{}, err
	}
	var a DrainAnswer
	var err error
	a.Mark, err = c.changeMark(ctx, r.Host, func(m *Mark) error {
		a.Attached = false
		switch {
		case !m.Active():
			c.beginDrain(m, r)
		case m.Drain.Kind == Homing && r.Kind == Emptying && m.Drain.State == DrainHeld:
			c.beginDrain(m, r) // what could come home has; now all leave
		case m.Drain.Kind != r.Kind:
			return jobs.Failed(jobs.CodeConflict, "host %s: a %s by %s is under way since %s; cancel it first: `xmig host show %s`",
				r.Host, m.Drain.Kind, m.Drain.By, m.Drain.Begun.Format(time.DateTime), r.Host)
		default:
			a.Attached = true
			m.Drain.again(c.Clock(), r.Deadline)
		}
		return nil
	})
	if err == nil && !a.Attached {
		c.tellHost(ctx, r.Host, string(r.Kind)+".begun", because(fmt.Sprintf("%s asked for by %s", r.Kind, r.By), r.Reason))
	}
	return a, err
}

// beginDrain writes a new drain or restore over an ended one.
func (c *Coordinator) beginDrain(m *Mark, r DrainRequest) {
	now := c.Clock()
	m.Drain = &Drain{ID: c.NewID(), Kind: r.Kind, State: DrainWaiting, By: r.By, Reason: r.Reason, Whole: r.Whole, Canary: r.Canary,
		After: r.After, How: r.How, Begun: now, Deadline: now.Add(r.Deadline)}
	if r.Kind == Homing {
		m.Cordon = nil
		return
	}
	if m.Cordon == nil {
		m.Cordon = &Order{By: r.By, Reason: r.Reason, At: now, Drain: m.Drain.ID}
	}
}

// again is what asking twice does: nothing to a drain that works, and another
// try to one that is held.
func (d *Drain) again(now time.Time, deadline time.Duration) {
	if d.State != DrainHeld {
		return
	}
	d.State, d.Text, d.Deadline = DrainRunning, "", now.Add(deadline)
	if !d.Planned {
		d.State = DrainWaiting
	}
	for i := range d.Moves {
		if m := &d.Moves[i]; m.State == MoveStuck {
			m.State, m.Tries, m.Next = MoveWaiting, 0, time.Time{}
		}
	}
}

// CancelDrain ends a drain or restore: what was moved stays where it is, jobs
// before the hand-over are taken back, and the cordon that the drain gave goes.
func (c *Coordinator) CancelDrain(ctx context.Context, host string, kind DrainKind, by string) (Mark, error) {
	m, err := c.changeMark(ctx, host, func(m *Mark) error {
		if !m.Active() || m.Drain.Kind != kind {
			return jobs.Failed(jobs.CodeNotFound, "host %s: no %s is under way", host, kind)
		}
		m.Drain.State, m.Drain.Text, m.Drain.Ended = DrainCancelled, "cancelled by "+by, c.Clock()
		if m.Cordon != nil && m.Cordon.Drain == m.Drain.ID {
			m.Cordon = nil
		}
		return nil
	})
	if err == nil {
		c.tellHost(ctx, host, string(kind)+".cancelled", "cancelled by "+by)
	}
	return m, err
}

// changeMark changes a host's mark by compare-and-swap, again and again while
// others are faster.
func (c *Coordinator) changeMark(ctx context.Context, host string, change func(*Mark) error) (Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, submitFor)
	defer cancel()
	for {
		row, err := c.Marks.Load(ctx, host)
		if err != nil {
			return Mark{}, err
		}
		next := row.Value.clone()
		next.Node = host
		if err := change(&next); err != nil {
			return row.Value, err
		}
		row.Value = next
		saved, err := c.Marks.Save(ctx, row)
		if err == nil {
			c.view.mark(saved, false)
			return saved.Value, nil
		}
		if !errors.Is(err, jobs.ErrConflict) {
			return Mark{}, fmt.Errorf("host %s: %w", host, err)
		}
	}
}

// known refuses a host that is not there and that nobody ever marked.
func (c *Coordinator) known(ctx context.Context, host string) error {
	hosts, err := c.Hosts.Hosts(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hosts, func(h jobs.Host) bool { return h.Node == host }) {
		return nil
	}
	row, err := c.Marks.Load(ctx, host)
	if err == nil && row.Revision == 0 {
		err = jobs.Failed(jobs.CodeNotFound, "host %s is not there; `xmig host ls` lists those that are", host)
	}
	return err
}

func (c *Coordinator) tellHost(ctx context.Context, host, what, text string) {
	c.Events.Emit(ctx, jobs.Event{Time: c.Clock(), Node: host, What: what, Text: text})
}

// because puts a reason behind what happened.
func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}
