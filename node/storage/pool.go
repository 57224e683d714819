package storage

import "context"

// Position is where a volume of ours is found.
type Position uint8

// The positions. A block device has one name and is Active in both roles.
const (
	Absent   Position = iota // neither name leads to the volume
	Active                   // under the name that guests' configurations use
	Shadowed                 // under the shadow's name
)

// Pool is a place where volumes of one kind live and get their space from: a
// file system, a single device, a volume group, later a thin pool, a zpool.
// Its methods act on what a record describes. All look before they act: each may
// be called again after a crash in the middle of it. None touches a volume
// that is not the record's.
type Pool interface {
	Kind() Kind
	// Name is for people: "file system /srv (ext4)". Two pools with the same Key share their space.
	Name() string
	Key() string
	// Free returns the bytes that new volumes may take, holds not counted.
	Free(ctx context.Context) (int64, error)
	// Cost returns the bytes a volume of size takes at most: rounded up to extents, say.
	Cost(ctx context.Context, size int64) (int64, error)
	// Taken returns the bytes that the volume of r has taken from the pool already.
	Taken(ctx context.Context, r Record) (int64, error)

	// Find tells where the volume of r is, by its identity and not by its name alone.
	Find(ctx context.Context, r Record) (Position, error)
	// Make creates the volume under its active name. learn stores what identifies
	// the volume; it must have returned before the volume gets that name.
	Make(ctx context.Context, r Record, learn func(Identity) error) error
	// Resize grows the active volume of r to at least r.Size. It never shrinks.
	Resize(ctx context.Context, r Record) error
	// Move gives the volume the name of position to, and the tag of r.
	Move(ctx context.Context, r Record, to Position) error
	// Release takes the tag away and leaves the volume.
	Release(ctx context.Context, r Record) error
	// Remove destroys the volume of r, under whatever name it has, and what an
	// unfinished Make left.
	Remove(ctx context.Context, r Record) error
}
