package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Shadow keeps the volume of a disk whose VM has moved to q.Host. A file or a
// logical volume gets a name that no configuration knows; any other block device
// keeps its name and is only recorded. It belongs behind the hand-over and may be repeated until it succeeds.
func (h *Host) Shadow(ctx context.Context, q Request) (Volume, error) {
	v, err := h.shadow(ctx, q)
	if err != nil {
		return Volume{}, fmt.Errorf("keep disk %s as shadow: %w", q.Disk, err)
	}
	return v, nil
}

func (h *Host) shadow(ctx context.Context, q Request) (Volume, error) {
	if err := q.check(); err != nil {
		return Volume{}, err
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return Volume{}, err
	}
	defer unlock()
	r, known, err := h.lookup(q.Path)
	if err != nil {
		return Volume{}, err
	}
	if known && !r.sameDisk(q.VM, q.Disk) {
		return Volume{}, fmt.Errorf("%s is taken: %s: %w", q.Path, r.holder(), ErrTaken)
	}
	if known && r.Pending != pendingNone {
		ended := r.Pending == pendingRemove || r.Pending == pendingSettle
		if r, err = h.finish(ctx, r); err != nil {
			return Volume{}, err
		}
		known = !ended
	}
	if known && r.Role == RoleShadow {
		return h.shadowAgain(ctx, r, q)
	}
	v, err := inspect(ctx, q.Path)
	if err != nil {
		return Volume{}, err
	}
	if err := notInUse(ctx, v); err != nil {
		return Volume{}, err
	}
	id, err := h.tagID(ctx, v, r)
	if err != nil {
		return Volume{}, err
	}
	next := Record{
		Version: recordVersion, ID: id, Place: v.place(), Kind: v.Kind, Role: RoleShadow, Pending: pendingShadow,
		Job: q.Job, VM: q.VM, Disk: q.Disk, Time: h.config.Now().UTC(), Host: q.Host, KeepUntil: q.KeepUntil.UTC(),
		Size: v.Size, Identity: v.ID,
	}
	if known && r.Place != next.Place {
		// The same device under another of its names: one device, one record.
		next.Place, next.Kind = r.Place, r.Kind
	}
	if next.kept() != next.Place {
		if err := vacant(ctx, next, next.kept()); err != nil {
			return Volume{}, err
		}
	}
	if next, err = h.carry(ctx, next); err != nil {
		return Volume{}, err
	}
	return shadowVolume(ctx, next)
}

// tagID returns the ID for a new record of v: the one on its tag if it has one
// (a registry that was lost), else a new one. r is the record that v has, if any.
func (h *Host) tagID(ctx context.Context, v Volume, r Record) (string, error) {
	id, err := tagged(ctx, v)
	if err != nil {
		return "", err
	}
	if id == "" {
		return newID(), nil
	}
	all, err := h.records()
	if err != nil {
		return "", err
	}
	for _, other := range all {
		if other.ID == id && other.Place != r.Place {
			return "", fmt.Errorf("%s bears the tag of %s, %s: %w", v.Path, other.Place, other.holder(), ErrTaken)
		}
	}
	return id, nil
}

// tagged returns the ID on the tag of v, "" if it has none or can have none.
func tagged(ctx context.Context, v Volume) (string, error) {
	switch v.Kind {
	case KindLVM:
		l, err := lvm{}.logical(ctx, v.lv)
		return lvTagged(l.tags), err
	case KindBlock:
		return "", nil
	}
	f, err := os.Open(v.Real)
	if err != nil {
		return "", err
	}
	defer f.Close()
	tag, err := readTag(f)
	if errors.Is(err, errNoTags) {
		return "", nil
	}
	if err != nil || tag == nil {
		return "", err
	}
	return tag.ID, nil
}

// shadowAgain is a repeated Shadow. A file at the old name beside the shadow is
// another volume of the same disk: which of the two to keep is not ours to say.
func (h *Host) shadowAgain(ctx context.Context, r Record, q Request) (Volume, error) {
	if r.kept() != r.Place {
		if err := vacant(ctx, r, r.Place); err != nil {
			return Volume{}, fmt.Errorf("%s is kept already (%s), and: %w", r.kept(), r.holder(), err)
		}
	}
	v, err := shadowVolume(ctx, r)
	if err != nil {
		return Volume{}, err
	}
	if r.Job == q.Job && r.Host == q.Host && r.KeepUntil.Equal(q.KeepUntil) {
		return v, nil
	}
	r.Job, r.Host, r.KeepUntil = q.Job, q.Host, q.KeepUntil.UTC()
	r.Time, r.Pending = h.config.Now().UTC(), pendingShadow // the tag must follow
	if r, err = h.carry(ctx, r); err != nil {
		return Volume{}, err
	}
	return shadowVolume(ctx, r)
}

// shadowVolume describes the shadow r where it is now.
func shadowVolume(ctx context.Context, r Record) (Volume, error) {
	v, err := inspect(ctx, r.kept())
	if err != nil {
		return Volume{}, err
	}
	v, err = described(v, r)
	if err == nil && v.Tag == nil {
		err = fmt.Errorf("%s is not the volume that was kept (%s): %w", r.kept(), r.holder(), ErrTaken)
	}
	v.Path = r.Place
	return v, err
}

// Volumes returns every record, ordered by place: what xmig has to do with here.
func (h *Host) Volumes(ctx context.Context) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return h.records()
}

// Shadows returns the records of shadows, ordered by place. Shadows and seeds of
// a way back in progress (role adopted) are different things: these may be pruned.
func (h *Host) Shadows(ctx context.Context) ([]Record, error) {
	all, err := h.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, r := range all {
		if r.Role == RoleShadow {
			out = append(out, r)
		}
	}
	return out, nil
}

// PruneShadow removes the shadow of the volume at place (either of its names):
// file or logical volume, or for another block device only the record. Before the shadow's KeepUntil
// it does so only if now, the caller's word, is not earlier.
func (h *Host) PruneShadow(ctx context.Context, place string, now time.Time) error {
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, known, err := h.lookup(place)
	if err != nil {
		return fmt.Errorf("prune shadow: %w", err)
	}
	if !known {
		return nil // pruned already
	}
	if r.Role != RoleShadow {
		return fmt.Errorf("prune shadow: %s is none: %s: %w", place, r.holder(), ErrTaken)
	}
	if now.Before(r.KeepUntil) {
		return fmt.Errorf("prune shadow: %s is to be kept until %s: %s: %w", place, r.KeepUntil.Format(time.RFC3339), r.holder(), ErrBusy)
	}
	if err := h.unused(ctx, r); err != nil {
		return fmt.Errorf("prune shadow: %w", err)
	}
	p, err := h.pool(ctx, r)
	if err != nil {
		return fmt.Errorf("prune shadow: %w", err)
	}
	pos, err := p.Find(ctx, r)
	if err != nil {
		return fmt.Errorf("prune shadow: %w", err)
	}
	if pos != Absent && (r.Pending == pendingShadow || r.Pending == pendingReturn) {
		// The tag may be missing yet, without which nothing is removed.
		if r, err = h.finish(ctx, r); err != nil {
			return fmt.Errorf("prune shadow: %w", err)
		}
	}
	r.Pending = pendingRemove
	if _, err := h.carry(ctx, r); err != nil {
		return fmt.Errorf("prune shadow: %w", err)
	}
	return nil
}
