package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// group is the pool of logical volumes in one volume group. A volume is made with
// its tag in one command, so that none is ever without, and activated once the
// registry knows its UUID. A shadow has another name, is inactive, and stays so
// over a reboot. A new volume holds whatever its space held before.
type group struct {
	name string
	lvm  lvm
	at   func(point string) // Host.at
	seen *groupState        // once asked for; a pool serves one call of Host
}

func (p *group) Kind() Kind   { return KindLVM }
func (p *group) Name() string { return "volume group " + p.name }
func (p *group) Key() string  { return "vg " + p.name }

func (p *group) state(ctx context.Context) (groupState, error) {
	if p.seen == nil {
		s, err := p.lvm.state(ctx, p.name)
		if err != nil {
			return s, err
		}
		p.seen = &s
	}
	return *p.seen, nil
}

func (p *group) Free(ctx context.Context) (int64, error) {
	s, err := p.state(ctx)
	return s.free, err
}

func (p *group) Cost(ctx context.Context, size int64) (int64, error) {
	s, err := p.state(ctx)
	if err != nil {
		return 0, err
	}
	return roundUp(size, s.extent), nil
}

// Taken counts a volume that is there without a record too: it is adopted or in
// the way, but takes nothing more.
func (p *group) Taken(ctx context.Context, r Record) (int64, error) {
	all, err := p.lvm.logicals(ctx, p.name)
	if err != nil {
		return 0, err
	}
	for _, l := range all {
		if isOwnLV(r, l) || r.ID == "" && l.name.path() == r.Place {
			return l.size, nil
		}
	}
	return 0, nil
}

// own returns the volume of r; ok is false if it is not there or not r's any more.
func (p *group) own(ctx context.Context, r Record) (l logical, ok bool, err error) {
	all, err := p.lvm.logicals(ctx, p.name)
	if err != nil {
		return logical{}, false, err
	}
	i := slices.IndexFunc(all, func(l logical) bool { return isOwnLV(r, l) })
	if i < 0 {
		return logical{}, false, nil
	}
	return all[i], true, nil
}

// mustOwn is own where nothing can be done without the volume.
func (p *group) mustOwn(ctx context.Context, r Record) (logical, error) {
	l, ok, err := p.own(ctx, r)
	if err == nil && !ok {
		err = fmt.Errorf("%s: neither it nor %s is the volume that the registry names: %w", r.Place, r.kept(), ErrMissing)
	}
	return l, err
}

func (p *group) Find(ctx context.Context, r Record) (Position, error) {
	l, ok, err := p.own(ctx, r)
	switch {
	case err != nil || !ok:
		return Absent, err
	case l.name.path() == r.Place:
		return Active, nil
	case l.name.path() == r.kept():
		return Shadowed, nil
	}
	return Absent, nil // somebody gave it a third name
}

func (p *group) Make(ctx context.Context, r Record, learn func(Identity) error) error {
	l, ok, err := p.own(ctx, r)
	if err != nil {
		return err
	}
	if !ok {
		r.Identity = Identity{} // of one that an earlier run made, and that is gone
		if err := learn(r.Identity); err != nil {
			return err
		}
		if l, err = p.create(ctx, r); err != nil {
			return err
		}
	}
	p.at("create: made")
	if err := learn(Identity{Stable: l.stable}); err != nil {
		return err
	}
	p.at("create: known")
	return p.activate(ctx, l)
}

// create makes the volume of r. It neither wipes signatures nor zeroes: both ask
// questions and open the device, and all of it will be written anyway.
func (p *group) create(ctx context.Context, r Record) (logical, error) {
	n, _ := lvNameOf(r.Place)
	s, err := p.state(ctx)
	if err != nil {
		return logical{}, err
	}
	size := roundUp(r.Size, s.extent)
	if size > s.free {
		return logical{}, fmt.Errorf("%s has %s free, needs %s: %w", p.Name(), bytesText(s.free), bytesText(size), ErrNoSpace)
	}
	args := []string{"--activate", "n", "--wipesignatures", "n", "--zero", "n", "--extents", strconv.FormatInt(size/s.extent, 10), "--name", n.volume}
	for _, t := range lvTags(r) {
		args = append(args, "--addtag", t)
	}
	if err := p.lvm.change(ctx, "lvcreate", append(args, n.group)...); err != nil {
		return logical{}, cmp.Or(vacant(ctx, r, r.Place), err) // a name that is taken says it best
	}
	return p.mustOwn(ctx, r)
}

// activate makes the device appear, also of a volume that is marked to be skipped.
func (p *group) activate(ctx context.Context, l logical) error {
	if l.active() {
		return nil
	}
	return p.lvm.change(ctx, "lvchange", "--activate", "y", "--ignoreactivationskip", l.name.arg())
}

func (p *group) Resize(ctx context.Context, r Record) error {
	l, err := p.mustOwn(ctx, r)
	if err != nil {
		return err
	}
	s, err := p.state(ctx)
	if err != nil {
		return err
	}
	if want := roundUp(r.Size, s.extent); l.size < want {
		if err := p.lvm.change(ctx, "lvextend", "--extents", strconv.FormatInt(want/s.extent, 10), l.name.arg()); err != nil {
			return err
		}
	}
	p.at("resize: grown")
	return p.activate(ctx, l)
}

func (p *group) Move(ctx context.Context, r Record, to Position) error {
	l, err := p.mustOwn(ctx, r)
	if err != nil {
		return err
	}
	target, skip := r.Place, "n"
	if to == Shadowed {
		target, skip = r.kept(), "y"
		if err := p.takeDown(ctx, l); err != nil {
			return err
		}
	}
	p.at("move: down")
	options := retagging(l.tags, lvTags(r))
	if l.skipped() != (skip == "y") && !l.joined() {
		options = append(options, "--setactivationskip", skip)
	}
	if len(options) > 0 {
		if err := p.lvm.change(ctx, "lvchange", append(options, l.name.arg())...); err != nil {
			return err
		}
	}
	p.at("move: tagged")
	if n, _ := lvNameOf(target); l.name != n {
		if err := p.lvm.change(ctx, "lvrename", n.group, l.name.volume, n.volume); err != nil {
			return cmp.Or(vacant(ctx, r, target), err)
		}
		l.name = n
	}
	p.at("move: named")
	if to == Shadowed {
		return nil
	}
	return p.activate(ctx, l)
}

// takeDown makes the device disappear, which lvm2 refuses while it is open. A
// snapshot or an origin stays: it would take volumes of others down with it.
func (p *group) takeDown(ctx context.Context, l logical) error {
	if !l.active() || l.joined() {
		return nil
	}
	return p.lvm.change(ctx, "lvchange", "--activate", "n", l.name.arg())
}

func (p *group) Release(ctx context.Context, r Record) error {
	l, ok, err := p.own(ctx, r)
	if err != nil || !ok {
		return err
	}
	options := retagging(l.tags, nil)
	if len(options) == 0 {
		return nil
	}
	return p.lvm.change(ctx, "lvchange", append(options, l.name.arg())...)
}

// Remove names the volume to lvm2 by its UUID and tag, not by its name: should
// somebody exchange volumes in between, it finds none. lvm2 refuses what is open.
func (p *group) Remove(ctx context.Context, r Record) error {
	pos, err := p.Find(ctx, r)
	if err != nil || pos == Absent {
		return err
	}
	l, err := p.mustOwn(ctx, r)
	if err != nil {
		return err
	}
	if err := removable(r, l); err != nil {
		return err
	}
	if l.origin() {
		return fmt.Errorf("%s has snapshots, which would go with it: remove them first: %w", l.name.path(), ErrBusy)
	}
	which := fmt.Sprintf(`lv_uuid="%s" && lv_tags={"%s"}`, l.uuid, lvTagID+r.ID)
	if err := p.lvm.change(ctx, "lvremove", "--select", which, p.name); err != nil {
		return err
	}
	if _, still, err := p.own(ctx, r); err != nil || still {
		return errors.Join(err, fmt.Errorf("%s is still there after lvremove: %w", l.name.path(), ErrBusy))
	}
	return nil
}
