package storage

import "context"

// Range is a part of a volume, in bytes.
type Range struct{ Offset, Length int64 }

// Precision says how far an answer about changes may be trusted.
type Precision uint8

const (
	// Superset: everything that changed is in the ranges, and more may be.
	Superset Precision = iota
	// Exact: the ranges are what changed, to the tracker's block size.
	Exact
)

// Changes is what was written to a volume between two questions.
type Changes struct {
	Precision Precision
	Ranges    []Range // ascending, not overlapping; none: nothing changed
}

// Tracker says what changed on one volume between two passes over it. It never
// leaves a change out: a tracker in doubt answers with the whole volume as
// Superset, or with an error, which means the same.
//
// A write that was acknowledged to the guest before Changed is called is in that
// answer or in an earlier one; a write while it runs is in this or in the
// next. Hence the order of a pass: ask, then read the ranges. An answer is
// given once: a caller that could not copy all of it must keep it and add it to the
// next, or go over the whole volume.
type Tracker interface {
	Name() string
	// Start begins to watch. The seed pass starts after it has returned.
	Start(ctx context.Context) error
	// Changed answers for the time since Start or the last Changed.
	Changed(ctx context.Context) (Changes, error)
	// Stop removes every trace of the tracker from the volume. It may be called
	// again, and after a crash by a new process without Start.
	Stop(ctx context.Context) error
}
