package jobs

import (
	"context"
	"errors"
)

// fakeDestination is the end at D, behind the bus: of an error only class,
// code and text arrive.
type fakeDestination struct {
	host
	session string // attempt whose lane and writers are open
	restore string // attempt whose restore runs or ran
	pass    uint32 // the last one written
	held    bool   // memory and space
	volumes bool   // what the job made
	config  bool
	answer  Answer
}

func (d *fakeDestination) call(ctx context.Context, verb string, do func() error) error {
	err := d.b.call(ctx, "D."+verb, do)
	if err == nil || errors.Is(err, errDead) || ctx.Err() != nil {
		return err
	}
	var cause error
	if errors.Is(err, ErrAway) {
		cause = ErrAway
	}
	return &Error{Class: ClassOf(err), Code: CodeOf(err), Err: &wired{text: err.Error(), cause: cause}}
}

type wired struct {
	text  string
	cause error
}

func (w *wired) Error() string { return w.text }
func (w *wired) Unwrap() error { return w.cause }

func (d *fakeDestination) Check(ctx context.Context, _ Job) (a Answer, err error) {
	err = d.call(ctx, "Check", func() error { a = d.answer; return nil })
	return a, err
}

func (d *fakeDestination) Reserve(ctx context.Context, job Job) error {
	return d.call(ctx, "Reserve", func() error {
		switch {
		case d.journal.Has(ABORTED, job.Epoch):
			return RetryLater(CodeAborted, "epoch %d was aborted", job.Epoch)
		case d.journal.Has(BEGIN, job.Epoch):
			return nil
		case d.journal.Highest() >= job.Epoch && job.Kind == KindMigrate:
			return NotOurs("epoch %d is not new, the journal is at %d", job.Epoch, d.journal.Highest())
		}
		d.closeSession()
		for _, p := range d.journal {
			if p.Fact == BEGIN && !d.journal.Has(GO, p.Epoch) {
				d.say(Job{Epoch: p.Epoch, Attempt: p.Attempt}, ABORTED)
			}
		}
		if d.guest == VMPaused {
			d.guest = ""
		}
		d.held = true
		d.say(job, BEGIN)
		return nil
	})
}

// closeSession ends lane and writers; a restore that waits fails, a copy that
// is whole stays.
func (d *fakeDestination) closeSession() {
	d.session, d.restore, d.pass = "", "", 0
}

func (d *fakeDestination) Prepare(ctx context.Context, job Job) (t Ticket, err error) {
	err = d.call(ctx, "Prepare", func() error {
		d.closeSession()
		d.volumes, d.session = true, job.Attempt
		t = Ticket(job.Attempt)
		return nil
	})
	return t, err
}

func (d *fakeDestination) Receive(ctx context.Context, job Job) error {
	return d.call(ctx, "Receive", func() error {
		if d.session != job.Attempt {
			return RetryLater(CodeLane, "no session of attempt %s", job.Attempt)
		}
		d.restore = job.Attempt
		return nil
	})
}

func (d *fakeDestination) Ready(ctx context.Context, job Job, s Seal) (e Evidence, err error) {
	err = d.call(ctx, "Ready", func() error {
		if e = d.evidence(); d.journal.Has(READY, job.Epoch) {
			return nil
		}
		switch {
		case d.session != job.Attempt:
			return RetryLater(CodeLane, "no session of attempt %s", job.Attempt)
		case d.pass != s.Pass || s.Roots["xvda"] != Digest{byte(d.disk)}:
			return RetryLater(CodeCorrupt, "what was written is not what was sealed")
		case d.journal.Has(ABORTED, job.Epoch):
			return RetryLater(CodeAborted, "epoch %d was aborted", job.Epoch)
		case s.Memory == nil && s.Run:
			d.guest, d.memory = VMPaused, d.disk // built from its config, not started
		case s.Memory != nil && s.Memory.Digest != Digest{byte(d.memory)}:
			return RetryLater(CodeCorrupt, "the memory image is not the one that was sent")
		}
		d.say(job, READY)
		e = d.evidence()
		return nil
	})
	return e, err
}

func (d *fakeDestination) seen(job Job) CopySeen {
	switch {
	case d.guest == "" && job.Plan.Guest.State == VMHalted:
		return CopyHalted
	case d.guest == "":
		return CopyNone
	case d.guest == VMPaused:
		return CopyPaused
	}
	return CopyRuns
}

func (d *fakeDestination) Go(ctx context.Context, job Job, p Permission) (ran Ran, e Evidence, err error) {
	err = d.call(ctx, "Go", func() error {
		ran = Ran{DomID: 7, At: d.clock()}
		if e = d.evidence(); d.journal.Has(RUNNING, job.Epoch) {
			return nil
		}
		seen := d.seen(job)
		if err := MayGo(d.journal, job.Epoch, job.Attempt, d.node, p, seen); err != nil {
			return RetryLater(CodeAborted, "resume: %w", err)
		}
		d.say(job, GO)
		switch seen {
		case CopyPaused:
			d.start()
		case CopyNone:
			if !p.Boot {
				return Failed(CodeInternal, "GO was given and no domain is there")
			}
			d.memory = d.disk // booted
			d.start()
		}
		d.say(job, RUNNING)
		e = d.evidence()
		return nil
	})
	if err != nil {
		return Ran{}, Evidence{}, err
	}
	return ran, e, nil
}

func (d *fakeDestination) Abort(ctx context.Context, job Job, over AbortScope) (e Evidence, err error) {
	err = d.call(ctx, "Abort", func() error {
		d.closeSession()
		if job.Kind == KindMigrate {
			seen := d.seen(job)
			if err := MayAbortByWord(d.journal, job.Epoch, seen, d.node, job.Word); err != nil {
				return Failed(CodeAborted, "abort: %w", err)
			}
			d.say(job, ABORTED)
			if d.guest == VMPaused && d.journal.Highest() == job.Epoch {
				d.guest = ""
			}
		}
		if over == JobOver {
			d.held, d.volumes = false, false
		}
		e = d.evidence()
		return nil
	})
	if err != nil {
		return Evidence{}, err
	}
	return e, nil
}

func (d *fakeDestination) Settle(ctx context.Context, job Job) error {
	return d.call(ctx, "Settle", func() error {
		if job.Kind == KindMigrate && !d.journal.Has(RUNNING, job.Epoch) {
			return RetryLater(CodeAborted, "not seen running")
		}
		d.config, d.held, d.volumes = job.Kind == KindMigrate, false, false // the volumes are the VM's now
		return nil
	})
}

func (d *fakeDestination) Evidence(ctx context.Context, _ VMRef) (e Evidence, err error) {
	err = d.call(ctx, "Evidence", func() error { e = d.evidence(); return nil })
	return e, err
}

func (d *fakeDestination) Discard(ctx context.Context, job Job) error {
	return d.call(ctx, "Discard", func() error {
		d.say(job, ABORTED)
		d.guest = ""
		return nil
	})
}
