package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"xmig/jobs"
)

// Owners keeps one key per VM: who owns it, in which epoch, and which one job
// may move it. It is a jobs.Owners.
type Owners struct {
	k bucket

	mu  sync.Mutex
	gen uint64 // of the bucket, as last read; 0: not yet
}

// Owners of this bus.
func (b *Bus) Owners() *Owners { return &Owners{k: b.bucket(bucketVMs)} }

// storedOwner is the value of a key. Generation is the making of the bucket
// that the writer knew (R12): a key of another making decides nothing.
type storedOwner struct {
	Write      string     `json:"write"`
	Generation uint64     `json:"generation"`
	Owner      jobs.Owner `json:"owner"`
}

// Owner reads a VM's key from the store's leader. A read is no proof; Swap is.
func (o *Owners) Owner(ctx context.Context, vm string) (jobs.Owner, error) {
	if err := checkVM(vm); err != nil {
		return jobs.Owner{}, err
	}
	e, err := o.k.latest(ctx, vm)
	if err == nil && e.gone {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return jobs.Owner{}, fmt.Errorf("owner of vm %s: %w", vm, err)
	}
	return o.decode(ctx, e)
}

func (o *Owners) decode(ctx context.Context, e entry) (jobs.Owner, error) {
	var v storedOwner
	if err := Decode(e.value, &v); err != nil {
		return jobs.Owner{}, fmt.Errorf("owner key %s: %w", e.key, err)
	}
	if v.Owner.VM != e.key {
		return jobs.Owner{}, jobs.Failed(jobs.CodeInternal, "owner key %s holds vm %s", e.key, v.Owner.VM)
	}
	gen, err := o.generation(ctx, v.Generation)
	if err != nil {
		return jobs.Owner{}, err
	}
	if err := jobs.KeyCounts(v.Generation, gen); err != nil {
		return jobs.Owner{}, jobs.Failed(jobs.CodeConflict, "vm %s: %w", e.key, err)
	}
	v.Owner.Revision = e.revision
	return v.Owner, nil
}

// generation gives the bucket's, read again when want is another than known.
func (o *Owners) generation(ctx context.Context, want uint64) (uint64, error) {
	o.mu.Lock()
	known := o.gen
	o.mu.Unlock()
	if known != 0 && known == want {
		return known, nil
	}
	gen, err := o.k.b.generation(ctx)
	if err != nil {
		return 0, err
	}
	o.mu.Lock()
	o.gen = gen
	o.mu.Unlock()
	return gen, nil
}

func (o *Owners) encode(ctx context.Context, own jobs.Owner) ([]byte, error) {
	o.mu.Lock()
	gen := o.gen
	o.mu.Unlock()
	if gen == 0 {
		var err error
		if gen, err = o.generation(ctx, 0); err != nil {
			return nil, err
		}
	}
	return Encode(storedOwner{Write: rand.Text(), Generation: gen, Owner: own})
}

// See makes the key of a VM that no key knew, owned by node in epoch 0, and
// returns the key as it is.
func (o *Owners) See(ctx context.Context, vm jobs.VMRef, node string) (jobs.Owner, error) {
	return o.see(ctx, vm, node, "")
}

func (o *Owners) see(ctx context.Context, vm jobs.VMRef, node, claim string) (jobs.Owner, error) {
	if err := errors.Join(checkVM(vm.UUID), checkNode(node)); err != nil {
		return jobs.Owner{}, err
	}
	for {
		own, err := o.Owner(ctx, vm.UUID)
		if !errors.Is(err, jobs.ErrNotFound) {
			return own, err
		}
		own = jobs.Owner{VM: vm.UUID, Name: vm.Name, Node: node, Claim: claim}
		// A first key must carry the generation of now, not one remembered.
		if _, err := o.generation(ctx, 0); err != nil {
			return own, err
		}
		value, err := o.encode(ctx, own)
		if err != nil {
			return own, err
		}
		own.Revision, err = o.k.create(ctx, vm.UUID, value)
		if !errors.Is(err, jobs.ErrConflict) {
			return own, err
		}
	}
}

// Claim makes job the one that may move the VM, which must be owned by node.
// Claiming again changes nothing. ErrConflict names the holder.
func (o *Owners) Claim(ctx context.Context, vm jobs.VMRef, node, job string) (jobs.Owner, error) {
	// The first key of a VM is made with the claim in it: one write, not two.
	first, err := o.see(ctx, vm, node, job)
	if err != nil || first.Claim == job {
		return first, err
	}
	return o.change(ctx, vm.UUID, func(cur jobs.Owner) (jobs.Owner, action, error) {
		switch {
		case cur.Claim == job:
			return cur, leave, nil
		case cur.Claim != "":
			return cur, leave, jobs.Failed(jobs.CodeConflict, "vm %s is being moved by job %s: %w", cur.Name, cur.Claim, jobs.ErrConflict)
		case cur.Node != node:
			return cur, leave, jobs.Failed(jobs.CodeConflict, "vm %s is owned by %s, not by %s: %w", cur.Name, cur.Node, node, jobs.ErrConflict)
		}
		cur.Claim = job
		return cur, write, nil
	})
}

// Unclaim takes the job's claim off the key; another's stays.
func (o *Owners) Unclaim(ctx context.Context, vm, job string) error {
	_, err := o.change(ctx, vm, func(cur jobs.Owner) (jobs.Owner, action, error) {
		if cur.Claim != job {
			return cur, leave, nil
		}
		cur.Claim = ""
		return cur, write, nil
	})
	if errors.Is(err, jobs.ErrNotFound) {
		return nil
	}
	return err
}

// Swap changes the key from exactly from to to: node, epoch and attempt are
// compared, the write is bound to the revision that was compared, and an
// unknown outcome is asked for again until it is known or ctx ends. If the
// key is to already, that is a success. A Swap to itself writes, and so
// proves through the store's quorum that the key still says so.
//
// The claim is changed only if from and to differ in it; it is not compared.
func (o *Owners) Swap(ctx context.Context, from, to jobs.Owner) (jobs.Owner, error) {
	if from.VM != to.VM {
		return jobs.Owner{}, jobs.Failed(jobs.CodeInternal, "swap from vm %s to vm %s", from.VM, to.VM)
	}
	if err := errors.Join(checkVM(to.VM), checkNode(to.Node)); err != nil {
		return jobs.Owner{}, err
	}
	return o.change(ctx, to.VM, func(cur jobs.Owner) (jobs.Owner, action, error) {
		if change, err := jobs.Swaps(cur, from, to); err != nil || !change {
			return cur, leave, err
		}
		next := cur
		next.Node, next.Epoch, next.Attempt = to.Node, to.Epoch, to.Attempt
		if to.Name != "" {
			next.Name = to.Name
		}
		if to.Claim != from.Claim {
			next.Claim = to.Claim
		}
		return next, write, nil
	})
}

type action int

const (
	leave action = iota
	write
)

// change reads, decides and writes, again and again while others are faster:
// decide judges by content, so a change of the claim in between does no harm.
func (o *Owners) change(ctx context.Context, vm string, decide func(jobs.Owner) (jobs.Owner, action, error)) (jobs.Owner, error) {
	for {
		cur, err := o.Owner(ctx, vm)
		if err != nil {
			return jobs.Owner{}, err
		}
		next, act, err := decide(cur)
		if err != nil || act == leave {
			return cur, err
		}
		value, err := o.encode(ctx, next)
		if err != nil {
			return cur, err
		}
		next.Revision, err = o.k.swap(ctx, vm, value, cur.Revision)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, jobs.ErrConflict) {
			return cur, fmt.Errorf("vm %s: %w", cur.Name, err)
		}
	}
}

// Restore writes the key of a VM after the store was lost: only where there
// is none, or one of an earlier making. The caller picks the epoch by R12.
func (o *Owners) Restore(ctx context.Context, own jobs.Owner) (jobs.Owner, error) {
	if err := errors.Join(checkVM(own.VM), checkNode(own.Node)); err != nil {
		return own, err
	}
	cur, err := o.Owner(ctx, own.VM)
	var at uint64
	switch {
	case err == nil && cur.Is(own):
		return cur, nil
	case err == nil:
		return cur, jobs.Failed(jobs.CodeConflict, "vm %s has a key, of %s in epoch %d: %w", own.Name, cur.Node, cur.Epoch, jobs.ErrConflict)
	case errors.Is(err, jobs.ErrNotFound), errors.Is(err, jobs.ErrOldStore):
		e, rerr := o.k.latest(ctx, own.VM)
		if rerr != nil && !errors.Is(rerr, jobs.ErrNotFound) {
			return own, rerr
		}
		at = e.revision
	default:
		return own, err
	}
	if _, err := o.generation(ctx, 0); err != nil {
		return own, err
	}
	value, err := o.encode(ctx, own)
	if err != nil {
		return own, err
	}
	own.Revision, err = o.k.swap(ctx, own.VM, value, at)
	return own, err
}

// List returns all keys, by name. Those that cannot be read are errors beside the others.
func (o *Owners) List(ctx context.Context) ([]jobs.Owner, error) {
	list, err := o.k.all(ctx, "*")
	if err != nil {
		return nil, err
	}
	var out []jobs.Owner
	var errs []error
	for _, e := range list {
		own, err := o.decode(ctx, e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, own)
	}
	slices.SortFunc(out, func(a, b jobs.Owner) int { return strings.Compare(a.Name+a.VM, b.Name+b.VM) })
	return out, errors.Join(errs...)
}
