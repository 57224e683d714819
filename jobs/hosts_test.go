package jobs

import (
	"context"
	"slices"
	"time"
)

// Two hosts in memory. They keep journals by the real rules and look before
// they act, as the ends of node do; what a disk or a guest holds is a number
// that grows with every write, so that a copy is whole if the numbers agree.

const (
	testJob = "01J0000000000000000000000A"
	testVM  = "11111111-2222-3333-4444-555555555555"
)

// factStopping is node's own: from here on this attempt may have stopped the guest.
const factStopping = Fact("STOPPING")

// host is what both ends have.
type host struct {
	b       *bench
	node    string
	journal Journal
	guest   VMState // "": no domain
	disk    int     // writes on the disk
	memory  int     // writes the guest knows of
}

func (h *host) say(job Job, f Fact) {
	if !h.journal.Has(f, job.Epoch) {
		h.journal = append(h.journal, Promise{Fact: f, Epoch: job.Epoch, Attempt: job.Attempt})
	}
}

// clock is the host's own: the destination's is an hour behind, which must not
// show in any figure.
func (h *host) clock() time.Time {
	if h == &h.b.d.host {
		return h.b.now.Add(-time.Hour)
	}
	return h.b.now
}

func (h *host) evidence() Evidence {
	e := Evidence{Node: h.node, Journal: slices.Clone(h.journal), At: h.clock()}
	if h.guest != "" {
		e.Domains = []Seen{{DomID: 1, Name: "web01", State: h.guest}}
	}
	return e
}

// start has the guest run, which must be right.
func (h *host) start() {
	other := &h.b.s.host
	if other == h {
		other = &h.b.d.host
	}
	switch {
	case other.guest == VMRunning:
		h.b.harm("the guest was started on %s while it runs on %s", h.node, other.node)
	case h.disk != h.b.written || h.memory != h.b.written:
		h.b.harm("the guest was started on %s with disk %d and memory %d; %d was written", h.node, h.disk, h.memory, h.b.written)
	}
	h.guest = VMRunning
}

// fakeSource is the end at S. Its lane is lost with the worker.
type fakeSource struct {
	host
	lane    string // attempt whose lane is open
	guests  Guest
	blocked []Blocker
	took    func(PassKind) time.Duration // how long a pass takes; nil: a second
}

func (s *fakeSource) call(ctx context.Context, verb string, do func() error) error {
	return s.b.call(ctx, "S."+verb, do)
}

func (s *fakeSource) Inspect(ctx context.Context, _ Job) (g Guest, b []Blocker, err error) {
	err = s.call(ctx, "Inspect", func() error {
		g, b = s.guests, s.blocked
		if s.guest == "" {
			g.State = VMHalted
		}
		return nil
	})
	return g, b, err
}

func (s *fakeSource) Begin(ctx context.Context, job Job) error {
	return s.call(ctx, "Begin", func() error {
		if top := s.journal.Highest(); job.Kind == KindMigrate && !s.journal.Has(BEGIN, job.Epoch) && top >= job.Epoch {
			return NotOurs("epoch %d is not new, the journal is at %d", job.Epoch, top)
		}
		s.say(job, BEGIN)
		return nil
	})
}

func (s *fakeSource) Connect(ctx context.Context, job Job, t Ticket) error {
	return s.call(ctx, "Connect", func() error {
		s.lane = ""
		if string(t) != s.b.d.session {
			return RetryLater(CodeLane, "no such lane")
		}
		s.lane = job.Attempt
		return nil
	})
}

// through reports whether the lane reaches a session of this attempt.
func (s *fakeSource) through(job Job) error {
	if s.lane != job.Attempt || s.b.d.session != job.Attempt {
		s.lane = ""
		return RetryLater(CodeLane, "no lane to %s is open", job.Destination)
	}
	return nil
}

func (s *fakeSource) Pass(ctx context.Context, job Job, n uint32, kind PassKind) (rep PassReport, err error) {
	err = s.call(ctx, "Pass."+string(kind), func() error {
		if err := s.through(job); err != nil {
			return err
		}
		if kind == FinalPass && s.guest == VMRunning && job.Kind == KindMigrate {
			s.b.harm("a final pass while the guest runs")
		}
		s.b.d.disk, s.b.d.pass = s.disk, n
		took := time.Second
		if s.took != nil {
			took = s.took(kind)
		}
		s.b.now = s.b.now.Add(took)
		rep = PassReport{Number: n, Kind: kind, Elapsed: took, Disks: []DiskReport{{Name: "xvda", Size: 1 << 30, Sent: 1 << 20, Wire: 1 << 20, Root: Digest{byte(s.disk)}}}}
		return nil
	})
	return rep, err
}

func (s *fakeSource) Stop(ctx context.Context, job Job, _ func(Flow)) (out Stopped, err error) {
	if s.guest == "" {
		return Stopped{}, s.call(ctx, "Stop", func() error { return nil })
	}
	err = s.call(ctx, "Stop", func() error {
		if s.journal.Has(BACK, job.Epoch) || s.journal.Has(COMMITTING, job.Epoch) {
			return RetryLater(CodeAborted, "epoch %d is over", job.Epoch)
		}
		s.say(job, factStopping)
		if job.Plan.Mode == Cold {
			s.guest = ""
		} else if err := s.suspend(job); err != nil {
			return err // xl found no pipe: the guest runs on
		}
		out = Stopped{At: s.b.now, Ran: true}
		return nil
	})
	return out, err
}

// suspend has the guest stand, with its memory on the way (live) or over there.
func (s *fakeSource) suspend(job Job) error {
	if err := s.through(job); err != nil {
		return err
	}
	if s.b.d.restore != job.Attempt {
		return RetryLater(CodeLane, "nobody takes the memory")
	}
	s.guest = VMSuspended
	if job.Plan.Mode == Suspend {
		s.guest = VMPaused
		s.b.d.guest, s.b.d.memory = VMPaused, s.memory
	}
	return nil
}

func (s *fakeSource) Drain(ctx context.Context, job Job) (mem *Memory, err error) {
	err = s.call(ctx, "Drain", func() error {
		if s.guest == "" || !job.Plan.SendsMemory() {
			return nil
		}
		if err := s.through(job); err != nil {
			return err
		}
		mem = &Memory{Bytes: 1 << 20, Digest: Digest{byte(s.memory)}}
		s.b.d.guest, s.b.d.memory = VMPaused, s.memory
		return nil
	})
	return mem, err
}

// workerDies: the transport of a live migration ends with the worker until the
// source has committed, and xl then resumes the guest by itself.
func (s *fakeSource) workerDies() {
	if s.guest == VMSuspended && !s.journal.Has(COMMITTING, s.journal.Highest()) {
		s.start()
	}
}

func (s *fakeSource) Seal(ctx context.Context, job Job, _ Seal) error {
	return s.call(ctx, "Seal", func() error { s.say(job, SEALED); return nil })
}

func (s *fakeSource) Commit(ctx context.Context, job Job, d Journal) error {
	return s.call(ctx, "Commit", func() error {
		if err := MayCommit(s.journal, d, job.Epoch, SourceSees{Runs: s.guest == VMRunning}); err != nil {
			return RetryLater(CodeAborted, "commit: %w", err)
		}
		s.say(job, COMMITTING)
		return nil
	})
}

func (s *fakeSource) Release(ctx context.Context, job Job) error {
	return s.call(ctx, "Release", func() error {
		if err := MayRelease(s.journal, job.Epoch); err != nil {
			return Failed(CodeAborted, "release: %w", err)
		}
		s.say(job, RELEASED)
		return nil
	})
}

func (s *fakeSource) Back(ctx context.Context, job Job, k Known) error {
	return s.call(ctx, "Back", func() error {
		s.lane = ""
		if job.Kind == KindSync {
			return nil
		}
		if err := MayGoBack(s.journal, job.Epoch, s.node, k); err != nil {
			return Failed(CodeAborted, "back: %w", err)
		}
		if !s.journal.Has(BEGIN, job.Epoch) {
			return nil
		}
		s.say(job, BACK)
		if s.journal.Has(factStopping, job.Epoch) && s.journal.Highest() == job.Epoch && s.guest != VMRunning {
			if s.guest == "" {
				s.memory = s.disk // booted
			}
			s.start()
		}
		return nil
	})
}

func (s *fakeSource) Finish(ctx context.Context, job Job, d Journal) error {
	return s.call(ctx, "Finish", func() error {
		if err := MayFinishByWord(s.journal, d, job.Epoch, job.Destination, job.Word); err != nil {
			return RetryLater(CodeAborted, "finish: %w", err)
		}
		s.say(job, DONE)
		if s.guest == VMRunning {
			s.b.harm("a running guest was to be destroyed")
		}
		s.guest, s.lane = "", ""
		return nil
	})
}

func (s *fakeSource) Promised(ctx context.Context, _ VMRef) (j Journal, err error) {
	err = s.call(ctx, "Promised", func() error { j = slices.Clone(s.journal); return nil })
	return j, err
}

func (s *fakeSource) Evidence(ctx context.Context, _ VMRef) (e Evidence, err error) {
	err = s.call(ctx, "Evidence", func() error { e = s.evidence(); return nil })
	return e, err
}

func (s *fakeSource) Discard(ctx context.Context, job Job) error {
	return s.call(ctx, "Discard", func() error {
		s.say(job, DISCARDED)
		s.guest = ""
		return nil
	})
}
