package jobs

import (
	"context"
	"errors"
)

// What a job does to the VM's owner key, and what it knows of it and of the
// destination. None of it is stored: a worker that takes the job up asks again.

// learn keeps what the destination has promised.
func (m *Migration) learn(j Journal) {
	for _, p := range j {
		if !m.known.Destination.Has(p.Fact, p.Epoch) {
			m.known.Destination = append(m.known.Destination, p)
		}
	}
}

// listen learns what the destination says, if it says something.
func (m *Migration) listen(ctx context.Context) {
	if there, err := m.dst.Evidence(ctx, m.rec.VM); err == nil {
		m.learn(there.Journal)
	}
}

func (m *Migration) forget() { m.known, m.released, m.home = Known{}, false, false }

// begun is the key as this attempt's own swap wrote it: {S,e}.
func (j Job) begun() Owner {
	return Owner{VM: j.VM.UUID, Name: j.VM.Name, Node: j.Source, Epoch: j.Epoch, Attempt: j.Attempt, Claim: j.ID}
}

// handed is the key behind the line: {D,e+1}.
func (j Job) handed() Owner {
	to := j.begun()
	to.Node, to.Epoch = j.Destination, to.Epoch+1
	return to
}

// aborted is the key as the abort's swap writes it: {S,e+1,abort-of-e}.
func (j Job) aborted() Owner {
	to := j.begun()
	to.Epoch, to.Attempt = to.Epoch+1, AbortAttempt(to.Epoch)
	return to
}

// Handed reports whether the key gives this very attempt's VM to its
// destination. That swap is made behind COMMITTING only, so the source had
// promised it, whether or not it can be asked.
func (j Job) Handed(key Owner) (Journal, bool) {
	if !key.Is(j.handed()) {
		return nil, false
	}
	return Journal{{Fact: COMMITTING, Epoch: j.Epoch, Attempt: j.Attempt}}, true
}

// abortSwap bars the way over the line for good, if it comes first (R5b).
func (m *Migration) abortSwap(ctx context.Context) error {
	job := m.rec.Job()
	return m.swap(ctx, job.begun(), job.aborted())
}

// swap makes the key known where its outcome is. It waits for a bus that is
// away no longer than the source has patience.
func (m *Migration) swap(ctx context.Context, from, to Owner) error {
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	key, err := m.owners.Swap(ctx, from, to)
	if err == nil || errors.Is(err, ErrConflict) {
		m.known.Key = &key
	}
	return err
}

// begin wins an epoch of this attempt's own: {S,x} to {S,x+1,attempt} (R1).
// The claim stays the job's: the coordinator wrote it when it took the job in.
func (m *Migration) begin(ctx context.Context) (uint64, error) {
	job := m.rec.Job()
	for {
		key, err := m.owners.Owner(ctx, job.VM.UUID)
		if err != nil {
			return 0, err
		}
		if key.Attempt == job.Attempt && key.Node == job.Source {
			return key.Epoch, nil // won before a crash; nobody else writes this attempt
		}
		if key.Claim != job.ID {
			return 0, NotOurs("vm %s is claimed by job %s, not by %s", job.VM.Name, key.Claim, job.ID)
		}
		if key.Node == job.Source {
			to := key
			to.Epoch, to.Attempt = key.Epoch+1, job.Attempt
			var won Owner
			if won, err = m.owners.Swap(ctx, key, to); err == nil {
				return won.Epoch, nil
			}
		} else {
			err = m.repair(ctx, key)
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			return 0, err
		}
	}
}

// returnKey takes the key back where this job's own swap gave it away and the
// guest is here all the same (R11). Nobody could move the VM again otherwise.
func (m *Migration) returnKey(ctx context.Context) error {
	key, err := m.owners.Owner(ctx, m.rec.VM.UUID)
	if err != nil || key.Claim != m.rec.ID || key.Node != m.rec.Destination {
		return err
	}
	if err := m.repair(ctx, key); !errors.Is(err, ErrConflict) {
		return err
	}
	return RetryLater(CodeConflict, "vm %s: the owner key is being changed", m.rec.VM.Name)
}

// repair makes the key follow the hosts (R11) where it names the destination
// although the guest is the source's. Nobody used an epoch that neither the key
// nor the source's journal has: the claim has been this job's since it began.
func (m *Migration) repair(ctx context.Context, key Owner) error {
	here, err := m.src.Evidence(ctx, m.rec.VM)
	if err != nil {
		return err
	}
	// A guest that went back and has ended by itself since is the source's too.
	ours := m.rec.Plan.Guest.State == VMHalted || here.Journal.Has(BACK, here.Journal.Highest())
	for _, d := range here.Domains {
		ours = ours || d.State == VMRunning
	}
	to, ok := Repair(key, m.rec.Source, m.rec.Destination, here.Journal, m.known.Destination, ours)
	if !ok {
		return Failed(CodeBlocked, "vm %s: the owner key says %s, epoch %d, and what %s promised does not let it take the VM; `xmig resolve %s` shows why and mends it",
			m.rec.VM.Name, key.Node, key.Epoch, m.rec.Source, m.rec.ID)
	}
	return m.swap(ctx, key, to)
}

// settleKey leaves the key with the destination and without a claim. The swap
// is missing where the hand-over went by RELEASED alone.
func (m *Migration) settleKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	job := m.rec.Job()
	key, err := m.owners.Owner(ctx, job.VM.UUID)
	if err != nil {
		return err
	}
	if key.Claim == job.ID && key.Node == job.Source && key.Epoch <= job.Epoch+1 {
		to := key
		to.Node, to.Epoch, to.Attempt = job.Destination, max(key.Epoch, job.Epoch)+1, job.Attempt
		return m.swap(ctx, key, to)
	}
	return nil
}
