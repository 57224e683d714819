package storage

import (
	"context"
	"fmt"
)

// pool returns the pool of a recorded volume.
func (h *Host) pool(ctx context.Context, r Record) (Pool, error) {
	switch r.Kind {
	case KindFile:
		return newFiles(r.Place, h.at)
	case KindBlock:
		return newDevice(ctx, r.Place)
	case KindLVM:
		if n, ok := lvNameOf(r.Place); ok {
			return &group{name: n.group, lvm: lvm{lock: h.locked}, at: h.at}, nil
		}
	}
	return nil, fmt.Errorf("%s: this program knows no volumes of kind %q", r.Place, r.Kind)
}

// carry makes one change durable: the intent (r says what shall be, Pending how),
// the effect, and r without Pending or, where the change ends the record, no record.
func (h *Host) carry(ctx context.Context, r Record) (Record, error) {
	h.at(string(r.Pending) + ": before intent")
	if err := h.volumes.put(r.Place, r); err != nil {
		return r, err
	}
	h.at(string(r.Pending) + ": after intent")
	return h.finish(ctx, r)
}

// finish completes the change that r says is pending. It may be what an earlier
// process began.
func (h *Host) finish(ctx context.Context, r Record) (Record, error) {
	if r.Pending == pendingNone {
		return r, nil
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	p, err := h.pool(ctx, r)
	if err != nil {
		return r, err
	}
	op, ends := r.Pending, false
	switch op {
	case pendingCreate:
		err = p.Make(ctx, r, func(id Identity) error {
			r.Identity = id
			return h.volumes.put(r.Place, r)
		})
	case pendingAdopt:
		if err = p.Move(ctx, r, Active); err == nil {
			err = p.Resize(ctx, r)
		}
	case pendingReturn, pendingShadow:
		err = p.Move(ctx, r, Shadowed)
	case pendingRemove:
		err, ends = p.Remove(ctx, r), true
	case pendingSettle:
		err, ends = p.Release(ctx, r), true
	default:
		err = fmt.Errorf("this program knows no change %q", op)
	}
	if err != nil {
		return r, fmt.Errorf("%s %s: %w", op, r.Place, err)
	}
	h.at(string(op) + ": after effect")
	if ends {
		err = h.volumes.remove(r.Place)
	} else {
		r.Pending = pendingNone
		err = h.volumes.put(r.Place, r)
	}
	h.at(string(op) + ": after commit")
	return r, err
}
