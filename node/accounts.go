package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xmig/jobs"
	"xmig/node/journal"
)

// peers goes with BEGIN: the two hosts of the attempt, so that after the loss of
// the bus each journal names whom to ask.
type peers struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

func peersOf(job jobs.Job) peers { return peers{job.Source, job.Destination} }

// accounts is all that this host knows of every VM that it has, or has promised
// something about: what `xmig recover` rebuilds the owner keys from (R12).
func (n *Node) accounts(ctx context.Context) ([]jobs.Account, error) {
	vms, err := n.vms(ctx)
	if err != nil {
		return nil, jobs.RetryLater(jobs.CodeToolstack, "inventory of %s: %w", n.cfg.Name, err)
	}
	byUUID := map[string]*jobs.Account{}
	account := func(uuid string) *jobs.Account {
		a := byUUID[uuid]
		if a == nil {
			a = &jobs.Account{VM: jobs.VMRef{UUID: uuid}}
			byUUID[uuid] = a
		}
		return a
	}
	for _, v := range vms {
		a := account(v.UUID)
		a.VM, a.Has = v.VMRef, true
	}
	arrivals, err := n.sessions()
	if err != nil {
		return nil, err
	}
	for _, job := range arrivals {
		if job.Kind == jobs.KindMigrate {
			a := account(job.VM.UUID)
			a.VM, a.Arrivals, a.Peers = job.VM, append(a.Arrivals, job), append(a.Peers, job.Source, job.Destination)
		}
	}
	shadows, err := n.volumes.Shadows(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range shadows {
		a := account(s.VM)
		a.Peers = append(a.Peers, s.Host)
	}
	known, err := n.journalled()
	for _, uuid := range known {
		account(uuid)
	}
	errs := []error{err}
	out := make([]jobs.Account, 0, len(byUUID))
	for _, a := range byUUID {
		errs = append(errs, n.account(ctx, a))
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b jobs.Account) int { return strings.Compare(a.VM.Name+a.VM.UUID, b.VM.Name+b.VM.UUID) })
	return out, errors.Join(errs...)
}

// account fills in the promises, and whom they name.
func (n *Node) account(ctx context.Context, a *jobs.Account) error {
	h := &held{vm: a.VM, node: n.cfg.Name}
	var err error
	if _, h.entries, err = n.open(a.VM); err != nil {
		return err
	}
	for _, e := range h.entries {
		var who peers
		if e.Fact == string(jobs.BEGIN) {
			if _, err := h.told(jobs.BEGIN, e.Epoch, &who); err != nil {
				return err
			}
			a.Peers = append(a.Peers, who.Source, who.Destination)
		}
	}
	slices.Sort(a.Peers)
	a.Peers = slices.Compact(a.Peers)
	a.Evidence, err = n.evidence(ctx, a.VM)
	return err
}

// journalled lists the VMs that this host has a journal of.
func (n *Node) journalled() (uuids []string, err error) {
	files, err := os.ReadDir(n.journals())
	for _, f := range files {
		uuid, ok := strings.CutSuffix(f.Name(), ".journal")
		path, perr := journal.Path(n.journals(), uuid)
		if ok && perr == nil && filepath.Base(path) == f.Name() {
			uuids = append(uuids, uuid)
		}
	}
	return uuids, err
}
