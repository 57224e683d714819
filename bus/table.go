package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"xmig/jobs"
)

// Table keeps values of one kind in the fleet bucket, each under a key of its
// own: <kind>.<key>. What T is decides who uses it; a value changes only by
// compare-and-swap.
type Table[T any] struct {
	k    bucket
	kind string
}

// NewTable gives the table of one kind, a token such as host.
func NewTable[T any](b *Bus, kind string) *Table[T] { return &Table[T]{b.bucket(bucketFleet), kind} }

type storedRow[T any] struct {
	Write string `json:"write"`
	Value T      `json:"value"`
}

func (t *Table[T]) key(key string) (string, error) {
	return t.kind + "." + key, checkToken(t.kind, key)
}

// Load reads a row from the store's leader; one that is not there has
// Revision 0 and the zero value.
func (t *Table[T]) Load(ctx context.Context, key string) (jobs.Row[T], error) {
	row := jobs.Row[T]{Key: key}
	k, err := t.key(key)
	if err != nil {
		return row, err
	}
	e, err := t.k.latest(ctx, k)
	switch {
	case errors.Is(err, jobs.ErrNotFound), err == nil && e.gone:
		return row, nil
	case err != nil:
		return row, fmt.Errorf("%s %s: %w", t.kind, key, err)
	}
	return t.decode(e)
}

// Save writes the row if the stored one is still at row.Revision (0: if there
// is none), and returns it with its new one. ErrConflict: it is not.
func (t *Table[T]) Save(ctx context.Context, row jobs.Row[T]) (jobs.Row[T], error) {
	k, err := t.key(row.Key)
	if err != nil {
		return row, err
	}
	value, err := Encode(storedRow[T]{Write: rand.Text(), Value: row.Value})
	if err != nil {
		return row, fmt.Errorf("%s %s: %w", t.kind, row.Key, err)
	}
	var rev uint64
	if row.Revision == 0 {
		rev, err = t.k.create(ctx, k, value)
	} else {
		rev, err = t.k.swap(ctx, k, value, row.Revision)
	}
	if err != nil {
		return row, fmt.Errorf("%s %s: %w", t.kind, row.Key, err)
	}
	row.Revision = rev
	return row, nil
}

// Remove deletes a row that is still at its revision.
func (t *Table[T]) Remove(ctx context.Context, row jobs.Row[T]) error {
	k, err := t.key(row.Key)
	if err != nil {
		return err
	}
	if err := t.k.remove(ctx, k, row.Revision); err != nil {
		return fmt.Errorf("%s %s: %w", t.kind, row.Key, err)
	}
	return nil
}

// List returns all rows. One that cannot be read is an error beside the others.
func (t *Table[T]) List(ctx context.Context) ([]jobs.Row[T], error) {
	all, err := t.k.all(ctx, t.kind+".*")
	if err != nil {
		return nil, err
	}
	var out []jobs.Row[T]
	var errs []error
	for _, e := range all {
		row, err := t.decode(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, row)
	}
	return out, errors.Join(errs...)
}

// Watch tells every row that is there and then every change, until ctx ends;
// gone: it was removed. It waits for a bus that is away.
func (t *Table[T]) Watch(ctx context.Context, tell func(row jobs.Row[T], gone bool)) error {
	return t.k.watch(ctx, t.kind+".*", func(e entry) {
		if e.gone {
			tell(jobs.Row[T]{Key: strings.TrimPrefix(e.key, t.kind+"."), Revision: e.revision}, true)
			return
		}
		row, err := t.decode(e)
		if err != nil {
			t.k.b.log.Error().Err(err).Msg("row that cannot be read")
			return
		}
		tell(row, false)
	})
}

func (t *Table[T]) decode(e entry) (jobs.Row[T], error) {
	row := jobs.Row[T]{Key: strings.TrimPrefix(e.key, t.kind+"."), Revision: e.revision}
	var v storedRow[T]
	if err := Decode(e.value, &v); err != nil {
		return row, fmt.Errorf("row %s: %w", e.key, err)
	}
	row.Value = v.Value
	return row, nil
}
