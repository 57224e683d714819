package storage

import (
	"context"
	"errors"
	"fmt"
)

// Retire undoes what job did to volumes here: what it made is removed, what it
// adopted goes back to what it was. It touches nothing that is not by record, tag
// and identity the job's, goes on to the next volume after an error, and may be
// repeated. After Settle there is nothing left for it to do.
func (h *Host) Retire(ctx context.Context, job string) ([]Outcome, error) {
	// A return to shadow that was cut off bears the shadow's old job already:
	// whoever retires anything completes it.
	theirs := func(r Record) bool {
		return r.Pending == pendingReturn || (r.Role != RoleShadow && r.Job == job)
	}
	return h.each(ctx, job, "retire", theirs, h.retire)
}

// Settle hands what job made or adopted to the guest: the tags and records go.
// It belongs behind the hand-over; from then on Retire of the job finds nothing.
func (h *Host) Settle(ctx context.Context, job string) ([]Outcome, error) {
	theirs := func(r Record) bool { return r.Role != RoleShadow && r.Job == job }
	return h.each(ctx, job, "settle", theirs, h.settle)
}

// each applies do to the volumes that are theirs: what job made or adopted. Shadows
// are not among them: the job that left one behind has no say in what becomes of it.
func (h *Host) each(ctx context.Context, job, what string, theirs func(Record) bool, do func(context.Context, Record) (Did, error)) ([]Outcome, error) {
	if job == "" {
		return nil, fmt.Errorf("%s: no job named", what)
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := h.records()
	if err != nil {
		return nil, err
	}
	var out []Outcome
	var errs []error
	for _, r := range all {
		if !theirs(r) {
			continue
		}
		did, err := do(ctx, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s disk %s of vm %s: %w", what, r.Disk, r.VM, err))
			continue
		}
		out = append(out, Outcome{Path: r.Place, Did: did})
	}
	return out, errors.Join(errs...)
}

func (h *Host) retire(ctx context.Context, r Record) (Did, error) {
	switch r.Pending {
	case pendingSettle: // handed over: the guest's, whatever is asked now
		_, err := h.finish(ctx, r)
		return DidRelease, err
	case pendingReturn:
		_, err := h.finish(ctx, r)
		return DidReturn, err
	}
	p, err := h.pool(ctx, r)
	if err != nil {
		return "", err
	}
	pos, err := p.Find(ctx, r)
	if err != nil {
		return "", err
	}
	if pos != Absent {
		if err := h.unused(ctx, r); err != nil {
			return "", err
		}
	}
	did := DidRemove
	switch {
	case r.Role == RoleMade:
		if pos == Absent && r.Pending == pendingNone {
			did = vanished(ctx, r)
		}
		r.Pending = pendingRemove // of what is still ours: a draft, directories
	case pos == Absent:
		did, r.Pending = vanished(ctx, r), pendingSettle
	case r.Before == nil:
		did, r.Pending = DidUntag, pendingSettle
	default:
		did, r = DidReturn, returned(r)
	}
	_, err = h.carry(ctx, r)
	return did, err
}

// vanished says what is under the name of r now that its volume is not.
func vanished(ctx context.Context, r Record) Did {
	if vacant(ctx, r, r.Place) != nil {
		return DidLeave
	}
	return DidVanish
}

// returned is the shadow that r, adopted, was before.
func returned(r Record) Record {
	b := r.Before
	r.Role, r.Pending, r.Before = RoleShadow, pendingReturn, nil
	r.Job, r.Time, r.Host, r.KeepUntil = b.Job, b.Time, b.Host, b.KeepUntil
	return r
}

func (h *Host) settle(ctx context.Context, r Record) (Did, error) {
	switch r.Pending {
	case pendingCreate, pendingAdopt, pendingRemove:
		// After the hand-over every volume is complete; this one is not, so
		// something is wrong that must not be tidied away.
		return "", fmt.Errorf("%s: its %s was never finished: %w", r.Place, r.Pending, ErrUnfit)
	}
	r.Pending = pendingSettle
	_, err := h.carry(ctx, r)
	return DidRelease, err
}

// unused fails with ErrBusy if the volume of r is in use.
func (h *Host) unused(ctx context.Context, r Record) error {
	path := r.Place
	if r.kept() != r.Place {
		p, err := h.pool(ctx, r)
		if err != nil {
			return err
		}
		switch pos, err := p.Find(ctx, r); {
		case err != nil:
			return err
		case pos == Absent:
			return nil
		case pos == Shadowed:
			path = r.kept()
		}
	}
	v, err := inspect(ctx, path)
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrNotDisk) {
		return nil
	}
	if err != nil {
		return err
	}
	return notInUse(ctx, v)
}
