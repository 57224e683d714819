package jobs

import (
	"fmt"
	"slices"
	"strings"
)

// When the bus was lost, who owns which VM is told by the hosts alone: their
// journals and what they have. Recover is rule R12 for any number of hosts.

// Account is what one host knows of a VM.
type Account struct {
	VM       VMRef    `json:"vm"`
	Evidence Evidence `json:"evidence"`
	Has      bool     `json:"has"`                // a domain, or a config that it would boot from
	Arrivals []Job    `json:"arrivals,omitempty"` // moves onto this host that are not over
	Peers    []string `json:"peers,omitempty"`    // hosts that its journal, its moves and its shadows name
}

// Recovered is what becomes of one VM's key. A VM that no journal knows needs
// none: its first move makes it.
type Recovered struct {
	Owner Owner `json:"owner"`
	// Unsettled are the moves that were under way; each is settled by the rules
	// (Resolve) once the key is there.
	Unsettled []Job `json:"unsettled,omitempty"`
}

// recoverGap keeps recovered epochs apart from those that a swap of the lost
// store may still write: an attempt's own, and the one behind it.
const recoverGap = 2

// Recover decides who owns a VM by what all hosts say. The error says why it
// cannot be told.
func Recover(all []Account) (Recovered, error) {
	r := Recovered{}
	var highest uint64
	var running []string
	for _, a := range all {
		r.Owner.VM, r.Owner.Name = a.VM.UUID, a.VM.Name
		highest = max(highest, a.Evidence.Journal.Highest())
		if a.Evidence.has(VMRunning) {
			running = append(running, a.Evidence.Node)
		}
		r.Unsettled = append(r.Unsettled, a.Arrivals...)
	}
	if highest == 0 {
		return r, nil
	}
	r.Owner.Epoch = highest + recoverGap
	slices.SortFunc(r.Unsettled, func(a, b Job) int { return int(int64(a.Epoch) - int64(b.Epoch)) })
	no := func(why string, args ...any) (Recovered, error) {
		return r, Failed(CodeBlocked, "vm %s: %s", r.Owner.Name, fmt.Sprintf(why, args...))
	}
	if len(running) > 1 {
		return no("it runs on %s: both have written; end the one that does not count (`xl shutdown`), then recover again", strings.Join(running, " and "))
	}
	owner, taken := last(all, Journal.lastGo)
	if len(running) == 1 {
		at := accountOf(all, running[0])
		if taken > 0 && owner.Evidence.Node != running[0] && taken > at.Evidence.Journal.lastGo() && !at.tookBack(taken) {
			return no("it runs on %s, and %s took it over in epoch %d; end it on %s, or see that %s lets it go", running[0], owner.Evidence.Node, taken, running[0], owner.Evidence.Node)
		}
		r.Owner.Node = running[0]
		return r, nil
	}
	if taken == 0 { // it never left the host where it was first seen
		owner, _ = last(all, Journal.lastGiving)
	}
	if n := len(r.Unsettled); owner == nil && n > 0 { // what is under way knows where it comes from
		for i := range all {
			if all[i].Evidence.Node == r.Unsettled[n-1].Source {
				owner = &all[i]
			}
		}
	}
	if owner == nil {
		for _, a := range all {
			if a.Has {
				if owner != nil {
					return no("both %s and %s have it, and neither's journal says whose it is; take its config away from one", owner.Evidence.Node, a.Evidence.Node)
				}
				owner = &a
			}
		}
	}
	if owner == nil {
		return no("no host has it any more; if it is gone for good, remove its journals")
	}
	if e := owner.Evidence.Journal.lastFact(DONE); e > owner.Evidence.Journal.lastGo() {
		return no("%s gave it up in epoch %d, and the host that took it is not among those that answer", owner.Evidence.Node, e)
	}
	r.Owner.Node = owner.Evidence.Node
	return r, nil
}

// last is the account with the highest epoch by of, nil for none.
func last(all []Account, of func(Journal) uint64) (at *Account, epoch uint64) {
	for i, a := range all {
		if e := of(a.Evidence.Journal); e > epoch {
			at, epoch = &all[i], e
		}
	}
	return at, epoch
}

func accountOf(all []Account, node string) Account {
	for _, a := range all {
		if a.Evidence.Node == node {
			return a
		}
	}
	return Account{}
}

// tookBack: the host went back in this epoch, by a rule or a person's word.
func (a Account) tookBack(e uint64) bool { return a.Evidence.Journal.Has(BACK, e) }

// lastGiving is the highest epoch in which this host was the source.
func (j Journal) lastGiving() uint64 {
	return max(j.lastFact(SEALED), j.lastFact(COMMITTING), j.lastFact(BACK), j.lastFact(DONE))
}

func (j Journal) lastFact(f Fact) (e uint64) {
	for _, p := range j {
		if p.Fact == f {
			e = max(e, p.Epoch)
		}
	}
	return e
}

// Missing lists the hosts that others' accounts name and that gave none. What
// they promised may be newer than anything known: nothing is recovered without.
func Missing(accounts []Account, answered, without []string) (missing []string) {
	for _, a := range accounts {
		for _, p := range a.Peers {
			if p != "" && !slices.Contains(answered, p) && !slices.Contains(without, p) && !slices.Contains(missing, p) {
				missing = append(missing, p)
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// RecordOf makes the record of a move anew that was under way when the bus was
// lost: indeterminate, so that nobody drives it on but a resolution.
func RecordOf(job Job) Record {
	r := Record{ID: job.ID, Spec: job.Spec, VM: job.VM, Source: job.Source, Destination: job.Destination,
		State: Indeterminate, Epoch: job.Epoch, Plan: job.Plan, Attempt: 1}
	if _, n, ok := strings.Cut(job.Attempt, "."); ok {
		_, _ = fmt.Sscanf(n, "%d", &r.Attempt) // 1 where it does not parse: journals name the attempt
	}
	return r
}
