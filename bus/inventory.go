package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"xmig/jobs"
)

// What a host tells is in two keys: its inventory, which is written when it has
// changed much, and the heartbeat, which tells all that is other than in the
// inventory that it names. So a heartbeat that is lost is made good by the next,
// and whoever lacks the inventory reads it from the store.

// storedHost is a heartbeat: all of the host, or what is other than in its inventory.
type storedHost struct {
	Write string     `json:"write"`
	Host  *jobs.Host `json:"host,omitempty"`
	Delta *hostDelta `json:"delta,omitempty"`
}

// storedInventory is all of a host, as the heartbeats after it refer to.
type storedInventory struct {
	Write string    `json:"write"`
	Host  jobs.Host `json:"host"`
}

// hostDelta is a host by what is other than in its inventory.
type hostDelta struct {
	Base       uint64             `json:"base"` // revision of the inventory
	Instance   string             `json:"instance"`
	Home       string             `json:"home"`
	Seen       time.Time          `json:"seen"`
	FreeMemory int64              `json:"free_memory_bytes"`
	Rest       *jobs.Host         `json:"rest,omitempty"` // without VMs and shadows; nil: as in the inventory
	VMs        *edit[jobs.VM]     `json:"vms,omitempty"`
	Shadows    *edit[jobs.Shadow] `json:"shadows,omitempty"`
}

// edit makes one list of another: runs of it, and new elements between them.
type edit[T any] struct {
	Runs []run `json:"runs"`
	New  []T   `json:"new,omitempty"`
}

// run is Count elements of the old list from From on, or with From -1 the next
// Count new ones.
type run struct {
	From  int `json:"f"`
	Count int `json:"n"`
}

func deltaOf(base, now jobs.Host) hostDelta {
	d := hostDelta{Instance: now.Instance, Home: now.Home, Seen: now.Seen, FreeMemory: now.FreeMemory,
		VMs:     editOf(base.VMs, now.VMs, func(v jobs.VM) string { return v.UUID + v.Name }),
		Shadows: editOf(base.Shadows, now.Shadows, func(s jobs.Shadow) string { return s.VM + s.Disk })}
	if rest := restOf(now); !reflect.DeepEqual(rest, restOf(base)) {
		d.Rest = &rest
	}
	return d
}

// restOf is what a delta does not tell in other fields.
func restOf(h jobs.Host) jobs.Host {
	h.VMs, h.Shadows, h.Seen, h.FreeMemory = nil, nil, time.Time{}, 0
	return h
}

func (d hostDelta) apply(base jobs.Host) (h jobs.Host, err error) {
	h = base
	if d.Rest != nil {
		h = *d.Rest
	}
	h.Seen, h.FreeMemory = d.Seen, d.FreeMemory
	if h.VMs, err = d.VMs.apply(base.VMs); err != nil {
		return h, fmt.Errorf("vms: %w", err)
	}
	if h.Shadows, err = d.Shadows.apply(base.Shadows); err != nil {
		return h, fmt.Errorf("shadows: %w", err)
	}
	return h, nil
}

// editOf tells how to make now of base; nil if they are equal. Elements of one
// key may differ: all of each is compared.
func editOf[T any](base, now []T, key func(T) string) *edit[T] {
	if reflect.DeepEqual(base, now) {
		return nil
	}
	at := make(map[string][]int, len(base))
	for i, b := range base {
		at[key(b)] = append(at[key(b)], i)
	}
	e := &edit[T]{Runs: []run{}}
	for _, n := range now {
		from := -1
		for _, i := range at[key(n)] {
			if reflect.DeepEqual(base[i], n) {
				from = i
				break
			}
		}
		if from < 0 {
			e.New = append(e.New, n)
		}
		if k := len(e.Runs) - 1; k >= 0 && e.Runs[k].continues(from) {
			e.Runs[k].Count++
			continue
		}
		e.Runs = append(e.Runs, run{from, 1})
	}
	return e
}

func (r run) continues(from int) bool {
	if r.From < 0 || from < 0 {
		return r.From == from
	}
	return from == r.From+r.Count
}

func (e *edit[T]) apply(base []T) ([]T, error) {
	if e == nil {
		return base, nil
	}
	var out []T
	left := e.New
	for _, r := range e.Runs {
		from, at := base, r.From
		if at == -1 {
			from, at = left, 0
		}
		if at < 0 || r.Count < 1 || at > len(from) || r.Count > len(from)-at {
			return nil, fmt.Errorf("%w: %d of %d elements from %d on", errCodec, r.Count, len(from), r.From)
		}
		out = append(out, from[at:at+r.Count]...)
		if r.From == -1 {
			left = left[r.Count:]
		}
	}
	return out, nil
}

// inventory is one as it is stored.
type inventory struct {
	revision uint64
	host     jobs.Host
}

// inventories are those that a reader has seen. It reads one from the store
// when a heartbeat names a later one.
type inventories struct {
	b     *Bus
	k     bucket
	mu    sync.Mutex
	known map[string]inventory
}

func (b *Bus) inventories() *inventories {
	return &inventories{b: b, k: b.bucket(bucketInventory), known: map[string]inventory{}}
}

// errNoInventory: the inventory that a heartbeat names is not in the store.
var errNoInventory = errors.New("its inventory is not there; it is asked for it, and its next heartbeat tells it")

// preload reads all that there are, in one go.
func (v *inventories) preload(ctx context.Context) error {
	all, err := v.k.all(ctx, "*")
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := v.take(e); err != nil {
			v.b.log.Error().Err(err).Msg("inventory that cannot be read")
		}
	}
	return nil
}

func (v *inventories) take(e entry) error {
	var s storedInventory
	if err := Decode(e.value, &s); err != nil {
		return fmt.Errorf("inventory of %s: %w", e.key, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known[e.key].revision < e.revision {
		v.known[e.key] = inventory{e.revision, s.Host}
	}
	return nil
}

func (v *inventories) get(node string) inventory {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[node]
}

func (v *inventories) forget(node string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.known, node)
}

// host is what a heartbeat tells. One whose inventory was written anew since
// is told by that: it is what the same worker said later.
func (v *inventories) host(ctx context.Context, e entry) (jobs.Host, error) {
	var s storedHost
	if err := Decode(e.value, &s); err != nil {
		return jobs.Host{}, fmt.Errorf("presence of %s: %w", e.key, err)
	}
	if s.Host != nil {
		return *s.Host, nil
	}
	d := s.Delta
	if d == nil {
		return jobs.Host{}, fmt.Errorf("presence of %s: %w: neither a host nor a change of one", e.key, errCodec)
	}
	if v.get(e.key).revision < d.Base {
		stored, err := v.k.latest(ctx, e.key)
		if err == nil && !stored.gone {
			err = v.take(stored)
		}
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return jobs.Host{}, err
		}
	}
	inv := v.get(e.key)
	switch {
	case inv.revision == d.Base && d.Base > 0:
		h, err := d.apply(inv.host)
		if err != nil {
			return h, fmt.Errorf("presence of %s: %w", e.key, err)
		}
		return h, nil
	case inv.revision > d.Base && inv.host.Instance == d.Instance:
		return inv.host, nil
	}
	v.b.askInventory(e.key)
	return jobs.Host{Node: e.key, Instance: d.Instance, Home: d.Home, Seen: d.Seen}, fmt.Errorf("presence of %s: %w", e.key, errNoInventory)
}

// verbTellAll asks a node to write its inventory anew. Nothing is answered:
// the store has it soon after.
const verbTellAll = "tell-all"

func (b *Bus) askInventory(node string) {
	if err := b.nc.Publish(b.names.nodeVerb(node, verbTellAll), nil); err != nil {
		b.log.Debug().Err(err).Str("node", node).Msg("not asked for its inventory; the next reader asks")
	}
}

// written is the inventory that a node's heartbeats refer to, at its writer.
type written struct {
	inventory     // revision 0: none
	size      int // bytes of it
	spent     int // bytes of changes told since
	putOff    int // heartbeats until it is tried again, after one that failed
}

// putOff: a bus that is too slow for an inventory is not asked to take one with
// each heartbeat. The heartbeat matters more, and without an inventory tells all.
const putOff = 10

// heartbeat encodes what p tells now. A new inventory is written first where
// there is none, where somebody asks for one, or where the changes told since
// have cost as much as one does: so all together costs at most twice what
// telling all would, and next to nothing where nothing changes.
func (p *Presence) heartbeat(ctx context.Context, h jobs.Host) ([]byte, error) {
	h.Seen = time.Now()
	if p.wrote.revision != 0 {
		d := deltaOf(p.wrote.host, h)
		value, err := p.encode(d)
		if err != nil {
			return nil, err
		}
		if d.Rest != nil || d.VMs != nil || d.Shadows != nil {
			p.wrote.spent += len(value)
		}
		if p.wrote.spent <= p.wrote.size {
			return value, nil
		}
	}
	if p.wrote.putOff--; p.wrote.putOff <= 0 {
		write, cancel := bounded(ctx, p.a.Every)
		err := p.writeInventory(write, h)
		cancel()
		if err == nil {
			return p.encode(deltaOf(p.wrote.host, h))
		}
		p.wrote = written{putOff: putOff}
		p.k.b.log.Warn().Err(err).Msg("inventory not written; telling all with the heartbeat")
	}
	return Encode(storedHost{Write: rand.Text(), Host: &h})
}

func (p *Presence) encode(d hostDelta) ([]byte, error) {
	d.Base = p.wrote.revision
	return Encode(storedHost{Write: rand.Text(), Delta: &d})
}

// writeInventory stores the inventory. Only who has the name comes here, so
// another's stands there only if it lost the name meanwhile, as this one may have.
func (p *Presence) writeInventory(ctx context.Context, h jobs.Host) error {
	value, err := Encode(storedInventory{Write: rand.Text(), Host: h})
	if err != nil {
		return err
	}
	was := p.wrote.revision
	if was == 0 {
		e, err := p.inventory.latest(ctx, p.node)
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return err
		}
		was = e.revision
	}
	rev, err := p.inventory.swap(ctx, p.node, value, was)
	if err != nil {
		return err
	}
	p.wrote = written{inventory: inventory{rev, h}, size: len(value)}
	return nil
}
