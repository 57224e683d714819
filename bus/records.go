package bus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"xmig/jobs"
)

// Records keeps job records. It is a jobs.Store.
type Records struct{ k bucket }

// Records of this bus.
func (b *Bus) Records() *Records { return &Records{b.bucket(bucketJobs)} }

// storedRecord is the value of a record's key. Write is random: it tells our
// own write from another that says the same.
type storedRecord struct {
	Write  string      `json:"write"`
	Record jobs.Record `json:"record"`
}

// jobIDLen is the length of a ULID; anything shorter is a prefix of one.
const jobIDLen = 26

// Create stores a new record under its source and id. ErrConflict: it is there.
func (r *Records) Create(ctx context.Context, rec jobs.Record) (jobs.Record, error) {
	return r.put(ctx, rec, func(ctx context.Context, key string, value []byte) (uint64, error) {
		return r.k.create(ctx, key, value)
	})
}

// Save writes rec if the stored one is still at rec.Revision, and returns it
// with its new one. ErrConflict: it is not; ErrAway: nobody knows.
func (r *Records) Save(ctx context.Context, rec jobs.Record) (jobs.Record, error) {
	if rec.Revision == 0 {
		return rec, jobs.Failed(jobs.CodeInternal, "job %s: saved before it was created", rec.ID)
	}
	return r.put(ctx, rec, func(ctx context.Context, key string, value []byte) (uint64, error) {
		return r.k.swap(ctx, key, value, rec.Revision)
	})
}

func (r *Records) put(ctx context.Context, rec jobs.Record, write func(context.Context, string, []byte) (uint64, error)) (jobs.Record, error) {
	if err := errors.Join(checkNode(rec.Source), checkToken("job", rec.ID)); err != nil {
		return rec, err
	}
	value, err := Encode(storedRecord{Write: rand.Text(), Record: rec})
	if err != nil {
		return rec, fmt.Errorf("job %s: %w", rec.ID, err)
	}
	rev, err := write(ctx, recordKey(rec.Source, rec.ID), value)
	if err != nil {
		return rec, fmt.Errorf("job %s: %w", rec.ID, err)
	}
	rec.Revision = rev
	return rec, nil
}

// Load finds a record by its id, or by the beginning of one that no other has.
func (r *Records) Load(ctx context.Context, id string) (jobs.Record, error) {
	id = strings.ToUpper(id)
	if err := checkToken("job", id); err != nil {
		return jobs.Record{}, err
	}
	if len(id) < jobIDLen {
		return r.find(ctx, id)
	}
	e, err := r.k.latest(ctx, "*."+id)
	switch {
	case errors.Is(err, jobs.ErrNotFound), err == nil && e.gone:
		return jobs.Record{}, jobs.Failed(jobs.CodeNotFound, "job %s: %w", id, jobs.ErrNotFound)
	case err != nil:
		return jobs.Record{}, fmt.Errorf("job %s: %w", id, err)
	}
	return r.decode(e)
}

func (r *Records) find(ctx context.Context, prefix string) (jobs.Record, error) {
	list, err := r.k.all(ctx, "*.*")
	if err != nil {
		return jobs.Record{}, fmt.Errorf("job %s: %w", prefix, err)
	}
	var found []entry
	var ids []string
	for _, e := range list {
		if _, id, _ := strings.Cut(e.key, "."); strings.HasPrefix(id, prefix) {
			found, ids = append(found, e), append(ids, id)
		}
	}
	switch len(found) {
	case 0:
		return jobs.Record{}, jobs.Failed(jobs.CodeNotFound, "job %s: %w", prefix, jobs.ErrNotFound)
	case 1:
		return r.decode(found[0])
	}
	slices.Sort(ids)
	return jobs.Record{}, jobs.Failed(jobs.CodeUsage, "job %s: %d jobs begin so: %s; name more of it", prefix, len(ids), strings.Join(ids[:min(3, len(ids))], ", "))
}

func (r *Records) decode(e entry) (jobs.Record, error) {
	var v storedRecord
	if err := Decode(e.value, &v); err != nil {
		return jobs.Record{}, fmt.Errorf("record %s: %w", e.key, err)
	}
	if recordKey(v.Record.Source, v.Record.ID) != e.key {
		return jobs.Record{}, jobs.Failed(jobs.CodeInternal, "record %s holds job %s of %s", e.key, v.Record.ID, v.Record.Source)
	}
	v.Record.Revision = e.revision
	return v.Record, nil
}

// List returns all records, the oldest first. One that cannot be read is an
// error beside the others, which are still returned.
func (r *Records) List(ctx context.Context) ([]jobs.Record, error) {
	list, err := r.k.all(ctx, "*.*")
	if err != nil {
		return nil, err
	}
	var out []jobs.Record
	var errs []error
	for _, e := range list {
		rec, err := r.decode(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, rec)
	}
	slices.SortFunc(out, func(a, b jobs.Record) int { return cmp.Compare(a.ID, b.ID) })
	return out, errors.Join(errs...)
}

// Watch tells every record that is there and then every change, until ctx
// ends. It waits for a bus that is away. tell must not block for long.
func (r *Records) Watch(ctx context.Context, tell func(jobs.Record)) error {
	return r.watch(ctx, "*.*", tell)
}

// WatchOne is Watch for one job, by its whole id.
func (r *Records) WatchOne(ctx context.Context, id string, tell func(jobs.Record)) error {
	if err := checkToken("job", id); err != nil {
		return err
	}
	return r.watch(ctx, "*."+id, tell)
}

func (r *Records) watch(ctx context.Context, pattern string, tell func(jobs.Record)) error {
	return r.k.watch(ctx, pattern, func(e entry) {
		if e.gone {
			return // pruned
		}
		rec, err := r.decode(e)
		if err != nil {
			r.k.b.log.Error().Err(err).Msg("record that cannot be read")
			return
		}
		tell(rec)
	})
}

// WatchAll is Watch that also tells when a record was pruned: nil.
func (r *Records) WatchAll(ctx context.Context, tell func(id string, rec *jobs.Record)) error {
	return r.k.watch(ctx, "*.*", func(e entry) {
		if e.gone {
			_, id, _ := strings.Cut(e.key, ".")
			tell(id, nil)
			return
		}
		rec, err := r.decode(e)
		if err != nil {
			r.k.b.log.Error().Err(err).Msg("record that cannot be read")
			return
		}
		tell(rec.ID, &rec)
	})
}

// Prune removes a record that is final and still as rec has it.
func (r *Records) Prune(ctx context.Context, rec jobs.Record) error {
	if !rec.State.Final() {
		return jobs.Failed(jobs.CodeUsage, "job %s is %s: only final jobs are pruned", rec.ID, rec.State)
	}
	if err := r.k.remove(ctx, recordKey(rec.Source, rec.ID), rec.Revision); err != nil {
		return fmt.Errorf("job %s: %w", rec.ID, err)
	}
	return nil
}
