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
// the way is an error. The file is sparse, its zeros are certain (ReadsZero).
func (h *Host) Create(ctx context.Context, q Request) (Volume, error) {
	v, err := h.obtain(ctx, q, false)
	if err != nil {
		return Volume{}, fmt.Errorf("disk %s: %w", q.Disk, err)
	}
	return v, nil
}

// Adopt makes the shadow of q's disk the active volume again, as the seed of
// the way back: its content is an older state of that disk. A file gets its name back
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
	return h.Inspect(ctx, q.Path)
}

// current returns the record of q's volume if it is there for q's job to use. A
// volume that is recorded but not there is an error and no reason to make
// another: its file system may not be mounted, its volume group not active.
func (h *Host) current(ctx context.Context, q Request) (Record, bool, error) {
	r, known, err := h.lookup(q.Path)
	if err != nil || !known {
		return r, false, err
	}
	if !r.sameDisk(q.VM, q.Disk) || (r.Role != RoleShadow && r.Job != q.Job) {
		return r, false, fmt.Errorf("%s is taken: %s: %w", q.Path, r.holder(), ErrTaken)
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
	p, err := h.pool(r)
	if err != nil {
		return r, false, err
	}
	pos, err := p.Find(ctx, r)
	if err == nil && pos == Absent {
		err = fmt.Errorf("%s is recorded (%s) but not there: bring it back, or give it up by retiring the job or pruning the shadow: %w", q.Path, r.holder(), ErrMissing)
	}
	return r, err == nil, err
}

// adopt turns the shadow r into the active volume of q's job.
func (h *Host) adopt(ctx context.Context, r Record, q Request) error {
	name := r.Place
	if r.Kind == KindFile {
		name = ShadowPath(r.Place)
	}
	v, err := inspect(name)
	if err != nil {
		return err
	}
	if err := fits(v, q); err != nil {
		return err
	}
	if err := notInUse(ctx, v); err != nil {
		return err
	}
	if r.Kind == KindFile {
		if err := vacant(r.Place); err != nil {
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
// what the job needs by now.
func (h *Host) renew(ctx context.Context, r Record, q Request) error {
	v, err := inspect(q.Path)
	if err != nil {
		return err
	}
	if err := fits(v, q); err != nil {
		return err
	}
	if v.Size >= q.Size {
		return nil
	}
	r.Size = q.Size
	if err := h.volumes.put(r.Place, r); err != nil {
		return err
	}
	p, err := h.pool(r)
	if err != nil {
		return err
	}
	return p.Resize(ctx, r)
}

// createNew is Create where no record names the volume.
func (h *Host) createNew(ctx context.Context, q Request) error {
	real, fi, err := resolve(q.Path)
	if err != nil {
		return err
	}
	r := Record{
		Version: recordVersion, ID: newID(), Place: real, Kind: KindFile, Role: RoleMade, Pending: pendingCreate,
		Job: q.Job, VM: q.VM, Disk: q.Disk, Time: h.config.Now().UTC(), Size: q.Size,
	}
	if fi == nil {
		if r.Dirs, err = h.room(real, q); err != nil {
			return err
		}
		_, err = h.carry(ctx, r)
		return err
	}
	v, err := inspect(q.Path)
	if err != nil {
		return err
	}
	if v.Kind == KindFile && q.Existing != TakeExisting {
		return fmt.Errorf("%s exists and was not made by job %s: move it away, or map the disk to another path: %w", named(q.Path, real), q.Job, ErrTaken)
	}
	if err := fits(v, q); err != nil {
		return err
	}
	if err := notInUse(ctx, v); err != nil {
		return err
	}
	if v.Kind == KindFile {
		if r.ID, err = h.tagID(v, Record{}); err != nil {
			return err
		}
	} else {
		// By the name as given: what it resolves to, /dev/dm-3, is not the same after a reboot.
		r.Place, r.Kind = filepath.Clean(q.Path), KindBlock
	}
	r.Role, r.Pending, r.Identity, r.Size = RoleAdopted, pendingAdopt, v.ID, max(v.Size, q.Size)
	_, err = h.carry(ctx, r)
	return err
}

// room checks that a file can be made at place and returns the directories that are missing.
func (h *Host) room(place string, q Request) ([]string, error) {
	if q.SectorSize != 0 && q.SectorSize != fileSector {
		return nil, wrongSector(Volume{Path: q.Path, SectorSize: fileSector}, q.SectorSize)
	}
	if place == "/dev" || strings.HasPrefix(place, "/dev/") {
		return nil, fmt.Errorf("%s: there is no such block device, and xmig does not create devices of this kind: make it, or map the disk: %w", q.Path, ErrMissing)
	}
	var missing []string
	for dir := filepath.Dir(place); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err == nil && fi.IsDir() {
			break
		}
		if err == nil {
			return nil, fmt.Errorf("%s: %s is not a directory: %w", q.Path, dir, ErrUnfit)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", q.Path, err)
		}
		missing = append([]string{dir}, missing...)
	}
	if len(missing) > 0 && q.Parents != MakeParents {
		return nil, fmt.Errorf("%s: directory %s does not exist: make it, or map the disk to another path: %w", q.Path, filepath.Dir(place), ErrMissing)
	}
	return missing, nil
}

// fits checks what cannot be mended: a device that is too small, other sectors.
func fits(v Volume, q Request) error {
	if q.SectorSize != 0 && q.SectorSize != v.SectorSize {
		return wrongSector(v, q.SectorSize)
	}
	if v.Kind == KindBlock && v.Size < q.Size {
		return tooSmall(v, q.Size)
	}
	return nil
}

// vacant fails if something is at path.
func vacant(path string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s exists and is not xmig's: move it away: %w", path, ErrTaken)
}
