package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Create makes the volume that q describes, or takes what may be taken: what this
// job made or adopted before, the shadow of this very disk (as Adopt does), an
// existing block device that is free and fits. Everything else that is in
// the way is an error. A file is sparse, its zeros are certain (ReadsZero); a
// logical volume holds what its space held before.
func (h *Host) Create(ctx context.Context, q Request) (Volume, error) {
	v, err := h.obtain(ctx, q, false)
	if err != nil {
		return Volume{}, fmt.Errorf("disk %s: %w", q.Disk, err)
	}
	return v, nil
}

// Adopt makes the shadow of q's disk the active volume again, as the seed of
// the way back: its content is an older state of that disk. It gets its name back
// and is grown to q.Size. Without such a shadow the error is ErrNoShadow.
func (h *Host) Adopt(ctx context.Context, q Request) (Volume, error) {
	v, err := h.obtain(ctx, q, true)
	if err != nil {
		return Volume{}, fmt.Errorf("disk %s: %w", q.Disk, err)
	}
	return v, nil
}

func (q Request) check() error {
	var errs []error
	for _, f := range []struct{ name, value string }{{"job", q.Job}, {"VM", q.VM}, {"disk", q.Disk}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("request for %q names no %s", q.Path, f.name))
		}
	}
	if q.Size < 0 {
		errs = append(errs, fmt.Errorf("request for %q has size %d", q.Path, q.Size))
	}
	if strings.HasSuffix(q.Path, shadowSuffix) {
		errs = append(errs, fmt.Errorf("%s is the name of a shadow: %w", q.Path, ErrUnfit))
	}
	return errors.Join(errs...)
}

// obtain is Create, or with onlyShadow Adopt.
func (h *Host) obtain(ctx context.Context, q Request, onlyShadow bool) (Volume, error) {
	if err := q.check(); err != nil {
		return Volume{}, err
	}
	if q.Size == 0 {
		return Volume{}, fmt.Errorf("%s: a disk of size 0: %w", q.Path, ErrUnfit)
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return Volume{}, err
	}
	defer unlock()
	r, known, err := h.current(ctx, q)
	if err != nil {
		return Volume{}, err
	}
	switch {
	case known && r.Role == RoleShadow:
		err = h.adopt(ctx, r, q)
	case known:
		err = h.renew(ctx, r, q)
	case onlyShadow:
		err = fmt.Errorf("%s: %w", q.Path, ErrNoShadow)
	default:
		err = h.createNew(ctx, q)
	}
	if err != nil {
		return Volume{}, err
	}
	v, err := h.Inspect(ctx, q.Path)
	if err == nil && v.idle() {
		err = fmt.Errorf("%s: lvm2 was told to activate it and did not: see volume_list in lvm.conf: %w", q.Path, ErrUnfit)
	}
	return v, err
}

// current returns the record of q's volume if it is there for q's job to use. A
// volume that is recorded but not there is an error and no reason to make
// another: its file system may not be mounted, its volume group not active.
func (h *Host) current(ctx context.Context, q Request) (Record, bool, error) {
	r, known, err := h.lookup(q.Path)
	if err != nil || !known {
		return r, false, err
	}
	if err := r.admits(q); err != nil {
		return r, false, err
	}
	op := r.Pending
	if op != pendingNone {
		if r, err = h.finish(ctx, r); err != nil {
			return r, false, err
		}
		if op == pendingRemove || op == pendingSettle {
			return r, false, nil // that change ended the record
		}
	}
	err = h.there(ctx, r, q)
	return r, err == nil, err
}

// admits tells why a recorded volume is not q's job's to use: it is another
// disk's, or another job's.
func (r Record) admits(q Request) error {
	if !r.sameDisk(q.VM, q.Disk) || (r.Role != RoleShadow && r.Job != q.Job) {
		return fmt.Errorf("%s is taken: %s: %w", q.Path, r.holder(), ErrTaken)
	}
	return nil
}

// there makes sure that a recorded volume is.
func (h *Host) there(ctx context.Context, r Record, q Request) error {
	p, err := h.pool(ctx, r)
	if err != nil {
		return err
	}
	pos, err := p.Find(ctx, r)
	if err == nil && pos == Absent {
		err = fmt.Errorf("%s is recorded (%s) but not there: bring it back, or give it up by retiring the job or pruning the shadow: %w", q.Path, r.holder(), ErrLost)
	}
	return err
}

// adopt turns the shadow r into the active volume of q's job.
func (h *Host) adopt(ctx context.Context, r Record, q Request) error {
	v, err := inspect(ctx, r.kept())
	if err != nil {
		return err
	}
	if err := fits(v, r, q); err != nil {
		return err
	}
	if err := notInUse(ctx, v); err != nil {
		return err
	}
	if r.kept() != r.Place {
		if err := vacant(ctx, r, r.Place); err != nil {
			return err
		}
	}
	r.Before = r.Tag()
	r.Role, r.Pending, r.Job, r.Time = RoleAdopted, pendingAdopt, q.Job, h.config.Now().UTC()
	r.Host, r.KeepUntil, r.Size = "", time.Time{}, max(v.Size, q.Size)
	_, err = h.carry(ctx, r)
	return err
}

// renew is a repeated Create: the volume is there already, perhaps too small for
// what the job needs by now, or taken down by a reboot.
func (h *Host) renew(ctx context.Context, r Record, q Request) error {
	v, err := inspect(ctx, q.Path)
	if err != nil {
		return err
	}
	if err := fits(v, r, q); err != nil {
		return err
	}
	if v.Size >= q.Size && !v.idle() {
		return nil
	}
	r.Size = max(r.Size, q.Size)
	if err := h.volumes.put(r.Place, r); err != nil {
		return err
	}
	p, err := h.pool(ctx, r)
	if err != nil {
		return err
	}
	return p.Resize(ctx, r)
}

// createNew is Create where no record names the volume.
func (h *Host) createNew(ctx context.Context, q Request) error {
	r := Record{
		Version: recordVersion, ID: newID(), Role: RoleMade, Pending: pendingCreate,
		Job: q.Job, VM: q.VM, Disk: q.Disk, Time: h.config.Now().UTC(), Size: q.Size,
	}
	real, fi, err := resolve(q.Path)
	if err != nil {
		return err
	}
	v, err := inspect(ctx, q.Path)
	switch {
	case fi == nil && errors.Is(err, ErrMissing):
		r, err = h.room(ctx, r, real, q)
	case err == nil:
		r, err = h.take(ctx, r, v, q)
	}
	if err != nil {
		return err
	}
	_, err = h.carry(ctx, r)
	return err
}

// take makes of r the record of v, which is there by somebody else's doing, if
// q's job may have it.
func (h *Host) take(ctx context.Context, r Record, v Volume, q Request) (Record, error) {
	if v.Kind == KindFile && q.Existing != TakeExisting {
		return r, fmt.Errorf("%s exists and was not made by job %s: move it away, or map the disk to another path: %w", named(q.Path, v.Real), q.Job, ErrTaken)
	}
	r.Place, r.Kind, r.Role, r.Pending, r.Identity, r.Size = v.place(), v.Kind, RoleAdopted, pendingAdopt, v.ID, max(v.Size, q.Size)
	if err := fits(v, r, q); err != nil {
		return r, err
	}
	if err := notInUse(ctx, v); err != nil {
		return r, err
	}
	id, err := tagged(ctx, v)
	switch {
	case err != nil || id == "":
		return r, err
	case v.Kind == KindLVM && q.Existing != TakeExisting:
		// Of a registry that was lost, or of another host that sees the same group.
		return r, fmt.Errorf("%s bears a tag of xmig that no record here knows (%s%s): look whose it is, then take its tags off (lvchange --deltag): %w", r.Place, lvTagID, id, ErrTaken)
	}
	r.ID, err = h.tagID(ctx, v, Record{})
	return r, err
}

// CanCreate tells why Create could not make a volume where none is, whatever space
// there is: there is no room for one, or one is kept there that is another's or lost.
func (h *Host) CanCreate(ctx context.Context, q Request) error {
	r, known, err := h.lookup(q.Path)
	if err != nil {
		return err
	}
	if known {
		if err := r.admits(q); err != nil {
			return err
		}
	}
	if known && r.Pending == pendingNone {
		if err := h.there(ctx, r, q); err != nil {
			return err
		}
	}
	real, _, err := resolve(q.Path)
	if err != nil {
		return err
	}
	_, err = h.room(ctx, Record{}, real, q)
	return err
}

// room checks that a volume can be made at real, which q names, and returns r
// with what is known by that: place, kind and the directories that are missing.
func (h *Host) room(ctx context.Context, r Record, real string, q Request) (Record, error) {
	n, logical := lvNameAt(q.Path, real)
	switch {
	case logical && hasLVM():
		r.Place, r.Kind = n.path(), KindLVM
		return r, roomInGroup(ctx, n, q)
	case logical:
		return r, fmt.Errorf("%s: there is no such block device, and lvm2, which could make one, is not installed here: install it, or map the disk to another path: %w", q.Path, ErrMissing)
	case real == "/dev" || strings.HasPrefix(real, "/dev/"):
		return r, noDevice(q)
	}
	r.Place, r.Kind = real, KindFile
	if err := sameSector(Volume{Path: q.Path, SectorSize: fileSector}, q); err != nil {
		return r, err
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err == nil && fi.IsDir() {
			break
		}
		if err == nil {
			return r, fmt.Errorf("%s: %s is not a directory: %w", q.Path, dir, ErrUnfit)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("%s: %w", q.Path, err)
		}
		r.Dirs = append([]string{dir}, r.Dirs...)
	}
	if len(r.Dirs) > 0 && q.Parents != MakeParents {
		return r, fmt.Errorf("%s: directory %s does not exist: make it, or map the disk to another path: %w", q.Path, filepath.Dir(real), ErrMissing)
	}
	return r, nil
}

// fits checks what cannot be mended: other sectors, a volume that is too small
// and not for xmig to grow.
func fits(v Volume, r Record, q Request) error {
	if err := sameSector(v, q); err != nil {
		return err
	}
	if v.Size < q.Size && !r.grows() {
		return tooSmall(v, q.Size)
	}
	return nil
}

func sameSector(v Volume, q Request) error {
	if q.SectorSize != 0 && q.SectorSize != v.SectorSize {
		return wrongSector(v, q.SectorSize)
	}
	return nil
}

// vacant fails if something is at path, a name of the volume of r.
func vacant(ctx context.Context, r Record, path string) error {
	var err error
	if r.Kind == KindLVM {
		_, err = inspect(ctx, path) // also where no device is
	} else {
		_, err = os.Lstat(path)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s exists and is not xmig's: move it away: %w", path, ErrTaken)
}
