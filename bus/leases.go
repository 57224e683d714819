package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmig/jobs"
)

// Leases says who acts: one holder per key, for as long as it renews. A lease
// guards the starting of things only; it is no fence. Fence is one.
type Leases struct{ k bucket }

// Leases of this bus. How long one lasts is the bucket's TTL, set by Setup.
func (b *Bus) Leases() *Leases { return &Leases{b.bucket(bucketLeases)} }

// Holder is who holds a lease. Node is the host, Instance one run of a worker.
type Holder struct {
	Node     string    `json:"node"`
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
}

type storedLease struct {
	Write  string `json:"write"`
	Holder Holder `json:"holder"`
}

// Predecessor says what is known of an earlier holder on the same node.
type Predecessor int

const (
	// MayLive: another holder is respected until its lease runs out.
	MayLive Predecessor = iota
	// IsDead: the caller has the host's own lock, so no other instance on this
	// node lives; its lease is taken over at once.
	IsDead
)

// ErrLeaseLost is the cause of a held context that ended because the lease
// could not be renewed in time, or somebody else has it.
var ErrLeaseLost = errors.New("lease lost")

// HeldError: somebody else has the lease.
type HeldError struct {
	Key string
	By  Holder
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lease %s is held by %s since %s", e.Key, e.By.Node, e.By.Since.Format(time.TimeOnly))
}

// Unwrap lets callers ask for jobs.ErrConflict.
func (e *HeldError) Unwrap() error { return jobs.ErrConflict }

// Lease is one that is held.
type Lease struct {
	l     *Leases
	key   string
	value []byte
	end   context.CancelCauseFunc
	done  chan struct{}

	mu       sync.Mutex
	revision uint64
	fence    uint64
}

// Hold takes the lease and renews it in the background until Release or ctx
// ends. The context it returns ends with ErrLeaseLost as its cause when the
// lease can no longer be trusted. *HeldError: somebody else has it.
func (l *Leases) Hold(ctx context.Context, key string, h Holder, p Predecessor) (context.Context, *Lease, error) {
	if err := checkToken("lease", key); err != nil {
		return nil, nil, err
	}
	if h.Since.IsZero() {
		h.Since = time.Now()
	}
	value, err := Encode(storedLease{Write: rand.Text(), Holder: h})
	if err != nil {
		return nil, nil, err
	}
	ttl, err := l.ttl(ctx)
	if err != nil {
		return nil, nil, err
	}
	start := time.Now()
	rev, err := l.take(ctx, key, value, h, p)
	if err != nil {
		return nil, nil, err
	}
	held, end := context.WithCancelCause(ctx)
	le := &Lease{l: l, key: key, value: value, end: end, done: make(chan struct{}), revision: rev, fence: rev}
	go func() {
		defer close(le.done)
		why := keepTrust(held, ttl, start, le.renew)
		if errors.Is(why, ErrLeaseLost) {
			l.k.b.counts.leasesLost.Add(1)
		}
		end(why)
	}()
	return held, le, nil
}

func (l *Leases) take(ctx context.Context, key string, value []byte, h Holder, p Predecessor) (uint64, error) {
	rev, err := l.k.create(ctx, key, value)
	for errors.Is(err, jobs.ErrConflict) {
		var e entry
		if e, err = l.k.latest(ctx, key); err != nil {
			return 0, fmt.Errorf("lease %s: %w", key, err)
		}
		if e.gone { // it ran out this moment
			rev, err = l.k.create(ctx, key, value)
			continue
		}
		var cur storedLease
		if err := Decode(e.value, &cur); err != nil {
			return 0, fmt.Errorf("lease %s: %w", key, err)
		}
		same := cur.Holder.Node == h.Node
		if !same || p != IsDead && cur.Holder.Instance != h.Instance {
			return 0, &HeldError{Key: key, By: cur.Holder}
		}
		rev, err = l.k.swap(ctx, key, value, e.revision)
	}
	if err != nil {
		return 0, fmt.Errorf("lease %s: %w", key, err)
	}
	return rev, nil
}

// ttl reads how long the server keeps a lease that nobody renews.
func (l *Leases) ttl(ctx context.Context) (time.Duration, error) {
	return l.k.ttl(ctx)
}

func (k bucket) ttl(ctx context.Context) (time.Duration, error) {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	s, err := k.b.js.Stream(ctx, "KV_"+k.name)
	if err != nil {
		return 0, k.b.explain(began, missing(k.name, err))
	}
	if ttl := s.CachedInfo().Config.MaxAge; ttl > 0 {
		return ttl, nil
	}
	return 0, jobs.Failed(jobs.CodeUsage, "bucket %s keeps its keys for ever; start `xmig server` once to have it mended", k.name)
}

func (le *Lease) renew(ctx context.Context) error {
	le.mu.Lock()
	rev := le.revision
	le.mu.Unlock()
	rev, err := le.l.k.swap(ctx, le.key, le.value, rev)
	if err != nil {
		return err
	}
	le.mu.Lock()
	le.revision = rev
	le.mu.Unlock()
	return nil
}

// Fence is a number that is higher than that of every earlier holder.
func (le *Lease) Fence() uint64 { return le.fence }

// Release gives the lease back, so that another need not wait for its end.
func (le *Lease) Release(ctx context.Context) error {
	le.end(context.Canceled)
	<-le.done
	le.mu.Lock()
	defer le.mu.Unlock()
	if err := le.l.k.remove(ctx, le.key, le.revision); err != nil && !errors.Is(err, jobs.ErrConflict) {
		return fmt.Errorf("lease %s: %w", le.key, err)
	}
	return nil // gone to somebody else: nothing of ours is left
}

// Lookup tells who holds key. ErrNotFound: nobody.
func (l *Leases) Lookup(ctx context.Context, key string) (Holder, error) {
	if err := checkToken("lease", key); err != nil {
		return Holder{}, err
	}
	e, err := l.k.latest(ctx, key)
	if err == nil && e.gone {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return Holder{}, fmt.Errorf("lease %s: %w", key, err)
	}
	var v storedLease
	if err := Decode(e.value, &v); err != nil {
		return Holder{}, fmt.Errorf("lease %s: %w", key, err)
	}
	return v.Holder, nil
}

// keepTrust renews every third of ttl and returns when trust is over: why,
// or ctx's cause. Trust runs from the *start* of the last renewal that
// succeeded, by the monotonic clock, and a third of ttl less than the server
// keeps the key: nobody else can have the lease while it is trusted, however
// long the answer was under way and however the two clocks are set.
func keepTrust(ctx context.Context, ttl time.Duration, start time.Time, renew func(context.Context) error) error {
	window := ttl - ttl/3
	for {
		trusted, cancel := context.WithDeadlineCause(ctx, start.Add(window),
			fmt.Errorf("%w: not renewed for %s", ErrLeaseLost, window))
		next, err := nextRenewal(trusted, ttl, start, renew)
		cause := context.Cause(trusted)
		cancel()
		switch {
		case errors.Is(err, jobs.ErrConflict):
			return fmt.Errorf("%w: %w", ErrLeaseLost, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case cause != nil:
			return cause
		}
		start = next
	}
}

// nextRenewal waits for the time of the next renewal and tries until one
// succeeds; it returns when that one started.
func nextRenewal(ctx context.Context, ttl time.Duration, start time.Time, renew func(context.Context) error) (time.Time, error) {
	if !pause(ctx, time.Until(start.Add(ttl/3))) {
		return start, context.Cause(ctx)
	}
	for {
		began := time.Now()
		err := renew(ctx)
		if err == nil {
			return began, nil
		}
		if errors.Is(err, jobs.ErrConflict) || !pause(ctx, ttl/30) {
			return start, err
		}
	}
}
