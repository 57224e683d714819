package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"xmig/jobs"
	"xmig/node/journal"
	"xmig/xen"
)

// A fact of this host's own, beside those of the hand-over's rules.
const factDisarmed = jobs.Fact("DISARMED") // S: the autostart link was taken away; data has it

// held is a VM while this process holds its lock: what it says and does
// happens under it, and its effect commands keep it until they have ended (R2).
type held struct {
	vm      jobs.VMRef
	node    string
	entries []journal.Entry
	said    jobs.Journal
	log     *journal.Journal
	lock    *journal.Lock
	xl      xen.XL
}

// hold takes the VM's lock, reads its journal and runs f.
func (n *Node) hold(ctx context.Context, vm jobs.VMRef, f func(*held) error) error {
	lockPath, err := journal.LockPath(n.journals(), vm.UUID)
	if err != nil {
		return fmt.Errorf("vm %s on %s: %w", vm.Name, n.cfg.Name, err)
	}
	lock, err := journal.Acquire(ctx, lockPath)
	if err != nil {
		return jobs.RetryLater(jobs.CodeConflict, "vm %s on %s: %w", vm.Name, n.cfg.Name, err)
	}
	defer lock.Release()
	log, entries, err := n.open(vm)
	if err != nil {
		return err
	}
	return f(&held{vm: vm, node: n.cfg.Name, entries: entries, said: promises(entries), log: log, lock: lock,
		xl: n.xl.Held(lock.File(), n.cfg.Holder)})
}

func (n *Node) open(vm jobs.VMRef) (*journal.Journal, []journal.Entry, error) {
	path, err := journal.Path(n.journals(), vm.UUID)
	if err != nil {
		return nil, nil, fmt.Errorf("vm %s on %s: %w", vm.Name, n.cfg.Name, err)
	}
	log, err := journal.Open(path)
	if err != nil {
		return nil, nil, jobs.Failed(jobs.CodeInternal, "journal of vm %s on %s: %w", vm.Name, n.cfg.Name, err)
	}
	entries, err := log.Entries()
	if err != nil {
		return nil, nil, jobs.Failed(jobs.CodeInternal, "journal of vm %s on %s: %w", vm.Name, n.cfg.Name, err)
	}
	return log, entries, nil
}

func promises(entries []journal.Entry) jobs.Journal {
	j := make(jobs.Journal, 0, len(entries))
	for _, e := range entries {
		j = append(j, jobs.Promise{Fact: jobs.Fact(e.Fact), Epoch: e.Epoch, Attempt: e.Attempt, At: e.Time})
	}
	return j
}

// of says whose a rule's word is about.
func (h *held) of(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vm %s on %s: %w", h.vm.Name, h.node, err)
}

// say journals a fact once; it is on disk when say returns.
func (h *held) say(job jobs.Job, f jobs.Fact, data any) error {
	if h.said.Has(f, job.Epoch) {
		return nil
	}
	e := journal.Entry{Attempt: job.Attempt, Epoch: job.Epoch, Fact: string(f)}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("journal %s of vm %s: %w", f, h.vm.Name, err)
		}
		e.Data = raw
	}
	e, err := h.log.Append(e)
	if err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "journal %s of vm %s on %s: %w", f, h.vm.Name, h.node, err)
	}
	h.entries = append(h.entries, e)
	h.said = append(h.said, jobs.Promise{Fact: f, Epoch: e.Epoch, Attempt: e.Attempt, At: e.Time})
	return nil
}

// reread takes over what another process said under this lock: a stub.
func (h *held) reread() error {
	entries, err := h.log.Entries()
	if err != nil {
		return jobs.Failed(jobs.CodeInternal, "journal of vm %s on %s: %w", h.vm.Name, h.node, err)
	}
	h.entries, h.said = entries, promises(entries)
	return nil
}

// when tells the time at which a fact was said.
func (h *held) when(f jobs.Fact, epoch uint64) time.Time {
	for _, e := range h.entries {
		if e.Fact == string(f) && e.Epoch == epoch {
			return e.Time
		}
	}
	return time.Time{}
}

// told reads what went with a fact; false: it was never said.
func (h *held) told(f jobs.Fact, epoch uint64, data any) (bool, error) {
	for _, e := range h.entries {
		if e.Fact == string(f) && e.Epoch == epoch {
			if data == nil || len(e.Data) == 0 {
				return true, nil
			}
			if err := json.Unmarshal(e.Data, data); err != nil {
				return true, fmt.Errorf("journal %s of vm %s on %s: %w", f, h.vm.Name, h.node, err)
			}
			return true, nil
		}
	}
	return false, nil
}

// word is what the host has promised. A guest that stands still waits for no
// look at domains that nobody reads.
func (n *Node) word(vm jobs.VMRef) (jobs.Evidence, error) {
	e := jobs.Evidence{Node: n.cfg.Name, At: n.now(), Booted: n.booted}
	_, entries, err := n.open(vm)
	e.Journal = promises(entries)
	return e, err
}

// evidence is the host's word and what it sees; both ends answer with it.
func (n *Node) evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	e, err := n.word(vm)
	if err != nil {
		return e, err
	}
	copies, err := n.copies(ctx, vm)
	if err != nil {
		return e, err
	}
	for _, d := range copies {
		e.Domains = append(e.Domains, jobs.Seen{DomID: d.ID, Name: d.Name, State: stateOf(d)})
	}
	return e, nil
}
