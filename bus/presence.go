package bus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"xmig/jobs"
)

// Announcement says how a node makes itself known.
type Announcement struct {
	Every    time.Duration    // default: a third of the bucket's TTL
	Snapshot func() jobs.Host // called for each announcement; must be quick
}

// NameTakenError: another worker with the same name is alive.
type NameTakenError struct{ Other jobs.Host }

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("node %s is run already, on host %s since %s, seen %s; stop that worker or give this one another --node-name",
		e.Other.Node, e.Other.Hostname, e.Other.Started.Format(time.DateTime), e.Other.Seen.Format(time.TimeOnly))
}

// Unwrap lets callers ask for jobs.ErrConflict.
func (e *NameTakenError) Unwrap() error { return jobs.ErrConflict }

// Presence is a node's own key among the hosts.
type Presence struct {
	k        bucket
	a        Announcement
	node     string
	instance string
	revision uint64
	asked    chan chan struct{} // announcements that somebody waits for

	inventory bucket
	wrote     written
	wanted    chan struct{} // holds one when somebody lacks the inventory
}

// Announce makes the node known and refuses a name that a living worker has:
// *NameTakenError. A worker with the same Home is this one before its restart.
// Run keeps the node known.
func (b *Bus) Announce(ctx context.Context, a Announcement) (*Presence, error) {
	h := a.Snapshot()
	if err := checkNode(h.Node); err != nil {
		return nil, err
	}
	k := b.bucket(bucketNodes)
	if a.Every == 0 {
		ttl, err := k.ttl(ctx)
		if err != nil {
			return nil, err
		}
		a.Every = ttl / 3
	}
	p := &Presence{k: k, a: a, node: h.Node, instance: h.Instance, asked: make(chan chan struct{}),
		inventory: b.bucket(bucketInventory), wanted: make(chan struct{}, 1)}
	for {
		err := p.enter(ctx, h)
		if !errors.Is(err, errAgain) {
			if err != nil {
				return nil, err
			}
			return p, nil
		}
	}
}

// errAgain: the key changed while it was looked at.
var errAgain = errors.New("again")

// enter takes the name, and tells all of the host with it: an inventory is
// written only by who has the name.
func (p *Presence) enter(ctx context.Context, h jobs.Host) error {
	h.Seen, p.wrote = time.Now(), written{}
	value, err := Encode(storedHost{Write: rand.Text(), Host: &h})
	if err != nil {
		return err
	}
	e, err := p.k.latest(ctx, p.node)
	switch {
	case errors.Is(err, jobs.ErrNotFound):
	case err != nil:
		return fmt.Errorf("presence of %s: %w", p.node, err)
	case e.gone:
	default:
		other, err := p.k.b.inventories().host(ctx, e)
		if err != nil && !errors.Is(err, errNoInventory) {
			return err
		}
		// A worker holds the lock of its state directory: another instance
		// with the same one is an earlier life of this worker, and over.
		restarted := h.Home != "" && other.Home == h.Home
		if other.Instance != p.instance && !restarted {
			return &NameTakenError{Other: other}
		}
	}
	if p.revision, err = p.k.swap(ctx, p.node, value, e.revision); errors.Is(err, jobs.ErrConflict) {
		return errAgain
	}
	return err
}

// Run announces the node again and again until ctx ends; then it takes the
// name back, so that a restart need not wait. It ends early only with
// *NameTakenError: another worker took the name, and this one must stop.
func (p *Presence) Run(ctx context.Context) error {
	tick := time.NewTicker(p.a.Every)
	defer tick.Stop()
	defer p.hear()()
	for {
		select {
		case <-ctx.Done():
			return p.leave(context.WithoutCancel(ctx))
		case <-p.wanted:
			p.wrote.revision, p.wrote.putOff = 0, 0 // written anew
			if err := p.beat(ctx); err != nil {
				return err
			}
		case <-tick.C:
			if err := p.beat(ctx); err != nil {
				return err
			}
		case done := <-p.asked:
			if err := p.beat(ctx); err != nil {
				return err
			}
			close(done)
		}
	}
}

// hear has Run know that somebody asks for the inventory, until end is called.
func (p *Presence) hear() (end func()) {
	sub, err := p.k.b.nc.Subscribe(p.k.b.names.nodeVerb(p.node, verbTellAll), func(*nats.Msg) {
		select {
		case p.wanted <- struct{}{}:
		default: // asked already
		}
	})
	if err != nil {
		p.k.b.log.Warn().Err(err).Msg("nobody can ask for the inventory") // the connection is closed
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() } // fails only on a closed connection
}

// Now has Run announce the node out of turn, and waits for it: what changed is
// known before its author says that it is done. A bus that is away is not
// waited for beyond ctx; the next announcement tells the same.
func (p *Presence) Now(ctx context.Context) {
	done := make(chan struct{})
	select {
	case p.asked <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// beat announces the node once.
func (p *Presence) beat(ctx context.Context) error {
	h := p.a.Snapshot()
	value, err := p.heartbeat(ctx, h)
	if err != nil {
		return err
	}
	try, cancel := bounded(ctx, p.a.Every)
	defer cancel()
	rev, err := p.k.swap(try, p.node, value, p.revision)
	switch {
	case err == nil:
		p.revision = rev
	case errors.Is(err, jobs.ErrConflict):
		// Our key ran out while the bus was away, or a write of ours whose
		// answer was lost stands there, or somebody else's.
		for err = errAgain; errors.Is(err, errAgain); {
			err = p.enter(ctx, h)
		}
		var taken *NameTakenError
		if errors.As(err, &taken) {
			return jobs.NotOurs("%w", err)
		}
	}
	if err != nil && ctx.Err() == nil {
		p.k.b.counts.heartbeatsFailed.Add(1)
		p.k.b.log.Warn().Err(err).Msg("presence not announced")
	}
	return nil
}

func (p *Presence) leave(ctx context.Context) error {
	ctx, cancel := bounded(ctx, confirm)
	defer cancel()
	if err := p.k.remove(ctx, p.node, p.revision); err != nil {
		p.k.b.log.Debug().Err(err).Msg("presence runs out by itself")
		return nil
	}
	if p.wrote.revision != 0 {
		if err := p.inventory.remove(ctx, p.node, p.wrote.revision); err != nil {
			p.k.b.log.Debug().Err(err).Msg("inventory left behind; the next worker of this name writes over it")
		}
	}
	return nil
}

// Hosts lists the hosts that are alive, by name.
func (b *Bus) Hosts(ctx context.Context) ([]jobs.Host, error) {
	k, inv := b.bucket(bucketNodes), b.inventories()
	list, err := k.all(ctx, "*")
	if err == nil {
		err = inv.preload(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	var out []jobs.Host
	var errs []error
	for _, e := range list {
		h, err := inv.host(ctx, e)
		for tries := 0; errors.Is(err, errNoInventory) && tries < 3; tries++ {
			// It ended, or another worker took its name, between two reads.
			if e, err = k.latest(ctx, e.key); err == nil && !e.gone {
				h, err = inv.host(ctx, e)
			}
		}
		if e.gone || errors.Is(err, jobs.ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b jobs.Host) int { return cmp.Compare(a.Node, b.Node) })
	return out, errors.Join(errs...)
}

// HostChange is one host's news: its present state, or that it is gone.
type HostChange struct {
	Node string
	Host jobs.Host // zero if gone
	Gone bool
}

// WatchHosts tells every host that is alive and then every change, until ctx
// ends. A heartbeat whose inventory cannot be read tells nothing: the next does.
func (b *Bus) WatchHosts(ctx context.Context, tell func(HostChange)) error {
	inv := b.inventories()
	if err := inv.preload(ctx); err != nil {
		b.log.Debug().Err(err).Msg("inventories are read one by one")
	}
	return b.bucket(bucketNodes).watch(ctx, "*", func(e entry) {
		if e.gone {
			inv.forget(e.key)
			tell(HostChange{Node: e.key, Gone: true})
			return
		}
		read, cancel := context.WithTimeout(ctx, oneTry)
		defer cancel()
		h, err := inv.host(read, e)
		switch {
		case err == nil:
			tell(HostChange{Node: e.key, Host: h})
		case ctx.Err() == nil:
			b.log.Warn().Err(err).Msg("host that cannot be read")
		}
	})
}
