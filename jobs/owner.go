package jobs

import "errors"

// Swaps decides a change of the owner key from exactly from to to, found as
// cur: by what it says, for revisions begin again where the store was made
// anew. Whoever carries it out binds the write to the revision that was
// compared as well. No write and no error: the key is to already.
func Swaps(cur, from, to Owner) (write bool, err error) {
	switch {
	case cur.Is(from):
		return true, nil
	case cur.Is(to):
		return false, nil
	}
	return false, Failed(CodeConflict, "vm %s is owned by %s in epoch %d (attempt %q), not by %s in epoch %d (attempt %q): %w",
		cur.Name, cur.Node, cur.Epoch, cur.Attempt, from.Node, from.Epoch, from.Attempt, ErrConflict)
}

// ErrOldStore: the key was written for a store that was lost since.
var ErrOldStore = errors.New("the key is of an earlier making of the store; `xmig recover` makes the keys anew")

// KeyCounts decides R12: a key that was written for another making of the store
// decides nothing. One that was under way when the store was lost may still
// arrive, and its revision may match by accident.
func KeyCounts(written, made uint64) error {
	if written != made {
		return ErrOldStore
	}
	return nil
}
