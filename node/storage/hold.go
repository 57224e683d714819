package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// hold is the space that one job has been promised.
type hold struct {
	Version int       `json:"version"`
	Job     string    `json:"job"`
	Time    time.Time `json:"time"`
	Needs   []Need    `json:"needs"`
}

// Space returns the bytes that a new volume at path may take, and the name of the
// pool they come from: what is free less what is held and the reserve.
func (h *Host) Space(ctx context.Context, path string) (free int64, pool string, err error) {
	p, err := h.poolAt(ctx, path)
	if err != nil {
		return 0, "", err
	}
	holds, err := h.holds.all()
	if err != nil {
		return 0, "", err
	}
	free, err = h.left(ctx, p, holds)
	return max(free, 0), p.Name(), err
}

// Hold promises job the space it needs, all of it or none, until ReleaseHold; it
// survives this process. Bytes that the job's own volumes have taken meanwhile are not
// counted twice. A second Hold of the same job replaces the first. The
// error names each disk that does not fit (*SpaceError).
func (h *Host) Hold(ctx context.Context, job string, needs []Need) error {
	if job == "" {
		return errors.New("hold space: no job named")
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := h.holds.all()
	if err != nil {
		return err
	}
	var others []hold
	for _, o := range all {
		if o.Job != job {
			others = append(others, o)
		}
	}
	var errs []error
	spent := map[string]int64{} // by this call, per pool
	for _, n := range needs {
		errs = append(errs, h.fit(ctx, job, n, others, spent))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("hold space for job %s: %w", job, err)
	}
	return h.holds.put(job, hold{Version: recordVersion, Job: job, Time: h.config.Now().UTC(), Needs: needs})
}

// ReleaseHold gives back what job holds; it may hold nothing.
func (h *Host) ReleaseHold(ctx context.Context, job string) error {
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return h.holds.remove(job)
}

// Holders returns the jobs that hold space, so that holds of jobs that are over
// can be found and released.
func (h *Host) Holders(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := h.holds.all()
	if err != nil {
		return nil, err
	}
	jobs := []string{}
	for _, o := range all {
		jobs = append(jobs, o.Job)
	}
	slices.Sort(jobs)
	return jobs, nil
}

// fit checks one need of job against its pool.
func (h *Host) fit(ctx context.Context, job string, n Need, others []hold, spent map[string]int64) error {
	if n.Bytes < 0 {
		return fmt.Errorf("disk %s (%s): needs %d bytes", n.Disk, n.Path, n.Bytes)
	}
	p, err := h.poolAt(ctx, n.Path)
	if err != nil {
		return fmt.Errorf("disk %s: %w", n.Disk, err)
	}
	free, err := h.left(ctx, p, others)
	if err != nil {
		return fmt.Errorf("disk %s (%s): %w", n.Disk, n.Path, err)
	}
	free = max(free-spent[p.Key()], 0)
	need, err := h.outstanding(ctx, p, job, n)
	if err != nil {
		return err
	}
	if need > free {
		return &SpaceError{Disk: n.Disk, Path: n.Path, Pool: p.Name(), Free: free, Need: need}
	}
	spent[p.Key()] += need
	return nil
}

// left returns the free bytes of p less the reserve and what holds promise.
func (h *Host) left(ctx context.Context, p Pool, holds []hold) (int64, error) {
	free, err := p.Free(ctx)
	if err != nil {
		return 0, err
	}
	if p.Kind() == KindFile {
		free -= h.config.Reserve
	}
	for _, o := range holds {
		for _, n := range o.Needs {
			// A need whose pool cannot be told any more counts everywhere:
			// rather too little space than the same bytes twice.
			if its, err := h.poolAt(ctx, n.Path); err == nil && its.Key() != p.Key() {
				continue
			}
			bytes, err := h.outstanding(ctx, p, o.Job, n)
			if err != nil {
				return 0, err
			}
			free -= bytes
		}
	}
	return free, nil
}

// outstanding is what n will still take: its cost less what the volume has taken
// already, be it this job's or the shadow that it is going to adopt.
func (h *Host) outstanding(ctx context.Context, p Pool, job string, n Need) (int64, error) {
	cost, err := p.Cost(ctx, n.Bytes)
	if err != nil {
		return 0, err
	}
	r, known, err := h.lookup(n.Path)
	if err == nil && !known && p.Kind() == KindLVM {
		r, known = standing(job, n.Path)
	}
	if err != nil || !known || r.Kind != p.Kind() || (r.Role != RoleShadow && r.Job != job) {
		return cost, nil // a path that cannot be resolved now has taken nothing that we know of
	}
	taken, err := p.Taken(ctx, r)
	if err != nil {
		return 0, err
	}
	return max(cost-taken, 0), nil
}

// standing stands for the record of a logical volume that has none.
func standing(job, path string) (Record, bool) {
	real, _, err := resolve(path)
	if err != nil {
		return Record{}, false
	}
	lv, ok := lvNameAt(path, real)
	return Record{Kind: KindLVM, Place: lv.path(), Job: job}, ok
}

// poolAt returns the pool that a volume at path is in or would be in. A logical
// volume that is there by somebody else's doing is a pool of its own, as any
// device is: it takes nothing from its group, and one job can have it.
func (h *Host) poolAt(ctx context.Context, path string) (Pool, error) {
	real, fi, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if fi != nil && !fi.Mode().IsRegular() {
		v, err := inspect(ctx, path) // a device, or the error that says what it is
		if err != nil {
			return nil, err
		}
		r, known, err := h.lookup(path)
		if err != nil {
			return nil, err
		}
		if known && r.Kind == KindLVM && r.grows() {
			return &group{name: v.lv.group}, nil
		}
		return &device{v}, nil
	}
	if n, ok := lvNameAt(path, real); fi == nil && ok && hasLVM() {
		return &group{name: n.group}, nil
	}
	return newFiles(real, h.at)
}
