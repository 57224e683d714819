package jobs

import "slices"

// longest is more acts than any resolution takes.
const longest = 12

// Foresee lists the acts that resolve a case if each does what it is meant to.
func Foresee(c Case) (all []Resolution) {
	for range longest {
		r := Resolve(c)
		if all = append(all, r); r.Stops() {
			return all
		}
		c = c.after(r)
	}
	return all
}

// after is the case as an act leaves it.
func (c Case) after(r Resolution) Case {
	job := c.Job
	switch r.Act {
	case ActBar:
		c.Key = new(job.aborted())
	case ActHandOver:
		c.Key = new(job.handed())
	case ActGo:
		c.Destination = c.promised(c.Destination, VMRunning, GO, RUNNING)
	case ActAbort:
		c.Destination = c.promised(c.Destination, "", ABORTED)
	case ActBack:
		c.Source = c.promised(c.Source, VMRunning, BACK)
	case ActFinish:
		c.Source = c.promised(c.Source, "", DONE)
	case ActDiscard:
		if r.At == job.Source {
			c.Source = c.promised(c.Source, "", DISCARDED)
		} else {
			c.Destination = c.promised(c.Destination, "", ABORTED)
		}
	case ActKey:
		if to, ok := c.repaired(); ok {
			c.Key = &to
		}
	}
	return c
}

// promised is a host's evidence with more promises, and its guest as they leave it.
func (c Case) promised(e *Evidence, guest VMState, facts ...Fact) *Evidence {
	to := *e
	to.Journal = slices.Clone(to.Journal)
	for _, f := range facts {
		if !to.Journal.Has(f, c.Job.Epoch) {
			to.Journal = append(to.Journal, Promise{Fact: f, Epoch: c.Job.Epoch, Attempt: c.Job.Attempt})
		}
	}
	to.Domains = nil
	if guest != "" && c.Job.Plan.Guest.State != VMHalted {
		to.Domains = []Seen{{Name: c.Job.VM.Name, State: guest}}
	}
	return &to
}

// repaired is the key as R11 lets it follow the hosts.
func (c Case) repaired() (Owner, bool) {
	if c.Key == nil {
		return Owner{}, false
	}
	var s, d Journal
	ours := c.Job.Plan.Guest.State == VMHalted
	if c.Source != nil {
		s = c.Source.Journal
		// A guest that went back and has ended by itself since is the source's too.
		ours = ours || c.Source.has(VMRunning) || s.Has(BACK, s.Highest())
	}
	if c.Destination != nil {
		d = c.Destination.Journal
	}
	return Repair(*c.Key, c.Job.Source, c.Job.Destination, s, d, ours && c.Source != nil && !s.Has(DONE, c.Job.Epoch))
}
