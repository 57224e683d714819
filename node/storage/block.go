package storage

import (
	"context"
	"errors"
	"fmt"
)

// device is the pool of one existing block device: it holds exactly one volume,
// which xmig neither makes nor removes.
type device struct{ volume Volume }

func (p *device) Kind() Kind                                   { return KindBlock }
func (p *device) Name() string                                 { return "block device " + named(p.volume.Path, p.volume.Real) }
func (p *device) Key() string                                  { return fmt.Sprintf("device %d", p.volume.Device) }
func (p *device) Free(context.Context) (int64, error)          { return p.volume.Size, nil }
func (p *device) Taken(context.Context, Record) (int64, error) { return 0, nil }

// Cost is the whole device, whatever the volume's size: it cannot be shared.
func (p *device) Cost(_ context.Context, size int64) (int64, error) {
	return max(size, p.volume.Size), nil
}

func (p *device) Find(ctx context.Context, r Record) (Position, error) { return findDevice(ctx, r) }

func (p *device) Make(_ context.Context, r Record, _ func(Identity) error) error {
	return fmt.Errorf("%s: block devices are not created: %w", r.Place, ErrUnfit)
}

func (p *device) Resize(_ context.Context, r Record) error {
	if p.volume.Size < r.Size {
		return tooSmall(p.volume, r.Size)
	}
	return nil
}

// Move has nothing to rename: for a device the registry is the tag. It only makes
// sure that the name still leads to the device that was meant.
func (p *device) Move(ctx context.Context, r Record, _ Position) error {
	pos, err := findDevice(ctx, r)
	if err == nil && pos == Absent {
		err = fmt.Errorf("%s is not the device it was when it was tagged: %w", r.Place, ErrMissing)
	}
	return err
}

func (p *device) Release(context.Context, Record) error { return nil }
func (p *device) Remove(context.Context, Record) error  { return nil }

func findDevice(ctx context.Context, r Record) (Position, error) {
	v, err := inspect(ctx, r.Place)
	switch {
	case errors.Is(err, ErrMissing), errors.Is(err, ErrNotDisk):
		return Absent, nil
	case err != nil:
		return Absent, err
	case v.Kind == KindFile || !sameDevice(v.ID, r.Identity):
		return Absent, nil
	}
	return Active, nil
}

// newDevice returns the pool of the recorded device at place. If that is not there
// now, its record can still be given up, and nothing else be done.
func newDevice(ctx context.Context, place string) (Pool, error) {
	v, err := inspect(ctx, place)
	absent := errors.Is(err, ErrMissing) || errors.Is(err, ErrNotDisk)
	switch {
	case err != nil && !absent:
		return nil, err
	case absent || v.Kind == KindFile:
		v = Volume{Path: place, Real: place, Kind: KindBlock}
	}
	return &device{v}, nil
}

func noDevice(q Request) error {
	return fmt.Errorf("%s: there is no such block device, and xmig does not create devices of this kind: make it, or map the disk to another path: %w", q.Path, ErrMissing)
}

func tooSmall(v Volume, need int64) error {
	return fmt.Errorf("%s has %s, the disk has %s; a volume may be larger, never smaller: %w", v.Path, bytesText(v.Size), bytesText(need), ErrUnfit)
}

func wrongSector(v Volume, want int) error {
	return fmt.Errorf("%s has sectors of %d bytes, the disk at the other end of %d: partition tables and file systems of the guest would not fit: %w", v.Path, v.SectorSize, want, ErrUnfit)
}
