package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// errDead is what a worker that was killed gets from everything it still calls.
var errDead = errors.New("the worker is dead")

// fault is what happens at a call.
type fault struct {
	at    func(call string, n int) bool // n counts all calls, from 1
	after bool                          // the call takes effect, and only its answer is bad
	left  int                           // how often; below zero: always
	err   error                         // what the caller gets; nil: what it would have got
	then  func()                        // what else happens
	hangs bool                          // the call waits for the end of its context
}

func atCall(k int) func(string, int) bool    { return func(_ string, n int) bool { return n == k } }
func onVerb(v string) func(string, int) bool { return func(c string, _ int) bool { return c == v } }
func inPart(p string) func(string, int) bool {
	return func(c string, _ int) bool { return strings.HasPrefix(c, p) }
}
func anyCall(string, int) bool                 { return true }
func (f *fault) hits(call string, n int) bool  { return f.left != 0 && f.at(call, n) }
func once(at func(string, int) bool) *fault    { return &fault{at: at, left: 1} }
func always(at func(string, int) bool) *fault  { return &fault{at: at, left: -1} }
func (f *fault) says(err error) *fault         { f.err = err; return f }
func (f *fault) later() *fault                 { f.after = true; return f }
func (f *fault) does(what func()) *fault       { f.then = what; return f }
func (f *fault) when(after bool) *fault        { f.after = after; return f }
func (f *fault) hanging() *fault               { f.hangs = true; return f }
func (f *fault) times(n int) *fault            { f.left = n; return f }
func (b *bench) meets(faults ...*fault) *bench { b.faults = append(b.faults, faults...); return b }

// bench is a job, its two hosts, the bus and a clock.
type bench struct {
	s       fakeSource
	d       fakeDestination
	now     time.Time
	written int  // writes of the guest
	off     bool // the guest is halted when its job begins

	record   Record // as stored
	revision uint64
	key      Owner
	away     time.Time // the bus does not answer before
	limits   Limits

	calls  []string
	faults []*fault
	dead   bool                    // the present life is over, without a word
	ended  bool                    // it was stopped
	cancel context.CancelCauseFunc // of the worker's present life
	sleeps int                     // in this life
	lives  int
	stop   time.Duration // after which a life is stopped, if above zero
	events []string
	harms  []string
	err    error // of the last life
}

// sleepsOfALife is how often a worker waits before somebody stops it: more than
// any patience needs, so that only what is tried for ever gets so far.
const sleepsOfALife = 200

func newBench(mode Mode) *bench {
	b := &bench{now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	b.limits = Limits{Attempts: 3, Patience: 2 * time.Minute, Backoff: time.Second, MaxBackoff: 8 * time.Second,
		HoldMargin: time.Minute, BusPatience: 5 * time.Second, SaveWait: time.Minute}
	b.s = fakeSource{host: host{b: b, node: sNode, guest: VMRunning}}
	b.d = fakeDestination{host: host{b: b, node: dNode}, answer: Answer{Config: "/etc/xen/web01.cfg"}}
	b.s.guests = Guest{VM: VM{VMRef: VMRef{testVM, "web01"}, State: VMRunning, Memory: 64 << 20, Disks: []Disk{{Name: "xvda", Path: "/dev/vg0/web01", Size: 1 << 20}}}}
	b.key = Owner{VM: testVM, Name: "web01", Node: sNode, Epoch: 4, Attempt: "", Claim: testJob, Revision: 1}
	spec := Spec{VM: "web01", Mode: mode}.WithDefaults()
	b.put(Record{ID: testJob, Spec: spec, VM: VMRef{testVM, "web01"}, Source: sNode, Destination: dNode, State: Planned})
	return b
}

// halted has a guest that does not run when its job begins.
func halted() *bench {
	b := newBench(Auto)
	b.s.guest, b.off = "", true
	return b
}

func (b *bench) put(r Record) {
	b.revision++
	b.record = clone(r)
	b.record.Revision = b.revision
}

// stored is the record as the store has it.
func (b *bench) stored() Record { return clone(b.record) }

// clone shares nothing that a runner changes.
func clone(r Record) Record {
	r.Done, r.Leftover = slices.Clone(r.Done), slices.Clone(r.Leftover)
	r.Report.Steps, r.Report.Passes = slices.Clone(r.Report.Steps), slices.Clone(r.Report.Passes)
	r.Held, r.Cancel, r.Failure, r.Report.Sealed = copyOf(r.Held), copyOf(r.Cancel), copyOf(r.Failure), copyOf(r.Report.Sealed)
	if r.Report.Sealed != nil {
		r.Report.Sealed.Roots = maps.Clone(r.Report.Sealed.Roots)
	}
	return r
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func (b *bench) harm(format string, args ...any) {
	b.harms = append(b.harms, fmt.Sprintf("call %d: "+format, append([]any{len(b.calls)}, args...)...))
}

// call is how everything outside the runner is asked: the guest writes in the
// meantime, and the faults strike.
func (b *bench) call(ctx context.Context, name string, do func() error) error {
	if b.dead {
		return errDead
	}
	b.calls = append(b.calls, name)
	for _, h := range []*host{&b.s.host, &b.d.host} {
		if h.guest == VMRunning {
			b.written++
			h.disk, h.memory = b.written, b.written
		}
	}
	strike := func(after bool) error {
		for _, f := range b.faults {
			if f.after == after && f.hits(name, len(b.calls)) {
				f.left--
				if f.then != nil {
					f.then()
				}
				if f.hangs {
					<-ctx.Done()
				}
				if f.err != nil {
					return f.err
				}
			}
		}
		return nil
	}
	if err := strike(false); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if err := do(); err != nil {
		return err
	}
	return strike(true)
}

// onBus is a call that needs the control bus.
func (b *bench) onBus(ctx context.Context, name string, do func() error) error {
	return b.call(ctx, name, func() error {
		if b.now.Before(b.away) {
			return fmt.Errorf("%s: %w", name, ErrAway)
		}
		return do()
	})
}

func (b *bench) kill() { b.dead = true }

// crash kills the worker at a call, before or after its effect.
func (b *bench) crash(at func(string, int) bool, after bool) *bench {
	return b.meets(once(at).when(after).says(errDead).does(b.kill))
}

func (b *bench) Load(ctx context.Context, _ string) (r Record, err error) {
	err = b.onBus(ctx, "bus.Load", func() error { r = b.stored(); return nil })
	return r, err
}

func (b *bench) Save(ctx context.Context, r Record) (Record, error) {
	err := b.onBus(ctx, "bus.Save", func() error {
		if r.Revision != b.revision {
			return fmt.Errorf("job %s: %w", r.ID, ErrConflict)
		}
		if b.record.State.Final() {
			b.harm("a final record was changed from %s to %s", b.record.State, r.State)
		}
		b.put(r)
		r.Revision = b.revision
		return nil
	})
	return r, err
}

func (b *bench) Owner(ctx context.Context, _ string) (o Owner, err error) {
	err = b.onBus(ctx, "bus.Owner", func() error { o = b.key; return nil })
	return o, err
}

func (b *bench) Swap(ctx context.Context, from, to Owner) (o Owner, err error) {
	err = b.onBus(ctx, "bus.Swap", func() error {
		o = b.key
		switch {
		case b.key.Is(from):
			claim := b.key.Claim
			b.key = to
			b.key.Claim, b.key.Revision = claim, o.Revision+1
			o = b.key
			return nil
		case b.key.Is(to):
			return nil
		}
		return Failed(CodeConflict, "vm %s is owned by %s in epoch %d: %w", o.Name, o.Node, o.Epoch, ErrConflict)
	})
	return o, err
}

func (b *bench) Unclaim(ctx context.Context, _, job string) error {
	return b.onBus(ctx, "bus.Unclaim", func() error {
		if b.key.Claim == job {
			b.key.Claim = ""
		}
		return nil
	})
}

func (b *bench) Emit(_ context.Context, e Event) {
	b.events = append(b.events, strings.TrimRight(strings.Join([]string{e.What, string(e.Step), string(e.State), e.Text}, " "), " "))
}

func (b *bench) sleep(ctx context.Context, d time.Duration) error {
	switch {
	case b.dead:
		return errDead
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	b.now = b.now.Add(d)
	if b.sleeps++; b.sleeps >= sleepsOfALife {
		b.cancel(ErrShutdown)
		return ErrShutdown
	}
	return nil
}

// live runs a worker until it returns.
func (b *bench) live() {
	b.lives++
	b.dead, b.sleeps, b.s.lane = false, 0, ""
	b.s.workerDies()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	b.cancel = cancel
	if b.stop > 0 {
		defer time.AfterFunc(b.stop, func() { cancel(ErrShutdown) }).Stop()
	}
	r := &Runner{Source: &b.s, Destination: &b.d, Store: b, Owners: b, Events: b, Node: sNode, Limits: b.limits,
		Clock: func() time.Time { b.now = b.now.Add(time.Millisecond); return b.now }, Sleep: b.sleep,
		Guard: func(ctx context.Context) error { return b.call(ctx, "Guard", func() error { return nil }) }}
	rec, err := r.Run(ctx, b.stored())
	b.err, b.ended = err, errors.Is(context.Cause(ctx), ErrShutdown)
	if b.err == nil && !b.dead && rec.State != b.record.State {
		b.harm("Run says %s without an error, the store %s", rec.State, b.record.State)
	}
}

// drive has one worker after the other take the job up until it is over. One
// that waited too often was stopped, and then nothing goes wrong any more.
func (b *bench) drive(t interface {
	Helper()
	Fatalf(string, ...any)
}) Record {
	t.Helper()
	for b.lives < 12 {
		if rec := b.stored(); rec.State.Final() || rec.State == Indeterminate {
			return rec
		}
		b.live()
		if b.sleeps >= sleepsOfALife {
			b.faults = nil
		}
	}
	t.Fatalf("the job does not end: %v\n%s", b.err, b.story())
	return Record{}
}

// story is what happened, for a test that fails.
func (b *bench) story() string {
	calls := b.calls[max(0, len(b.calls)-80):]
	r := b.stored()
	return fmt.Sprintf("record %s at %s, attempt %d, epoch %d, failures %d, leftover %q\nfailure %+v\nkey %+v\nS %q %v\nD %q %v\ncalls %s\nevents:\n%s",
		r.State, r.Step, r.Attempt, r.Epoch, r.Failures, r.Leftover, r.Failure, b.key, b.s.guest, b.s.journal, b.d.guest, b.d.journal,
		strings.Join(calls, " "), strings.Join(b.events[max(0, len(b.events)-40):], "\n"))
}

// sweep is what D's worker does by itself when it reads of a job that is over:
// where the record names what is left, and nowhere else.
func (b *bench) sweep(rec Record) {
	b.faults, b.dead = nil, false
	job := rec.Job()
	job.Epoch = b.d.journal.epochOfJob(rec.ID)
	if _, err := b.d.Abort(context.Background(), job, JobOver); err != nil {
		b.harm("sweep: %v", err)
	}
}

// check holds the end against what both hosts show: exactly one copy runs, the
// record says where, the key too, and what is left is named.
func (b *bench) check(t testing.TB, rec Record) {
	t.Helper()
	if faults := b.wrong(rec); len(faults) > 0 {
		t.Errorf("%s\n%s", strings.Join(faults, "\n"), b.story())
	}
}

func (b *bench) wrong(rec Record) []string {
	wrong := slices.Clone(b.harms)
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	expect(rec.State.Final(), "the record is %s", rec.State)
	moved, cut := rec.State == Succeeded, b.dead || b.ended
	if len(rec.Leftover) > 0 && !moved {
		b.sweep(rec)
	}
	here, there := b.s.guest, b.d.guest
	if b.off {
		expect(here == "" && there == "", "a halted guest is %q at S, %q at D", here, there)
		expect(b.s.journal.Has(DONE, rec.Epoch) == moved, "the record is %s, DONE is another matter", rec.State)
	} else {
		expect(moved && here == "" && there == VMRunning || !moved && here == VMRunning && there == "", "%s: %q at S, %q at D", rec.State, here, there)
	}
	expect(b.d.config == moved, "config at D: %v", b.d.config)
	expect(rec.HandedOver == moved, "handed over: %v", rec.HandedOver)
	node := sNode
	if moved {
		node = dNode
	}
	expect(b.key.Node == node, "the key says %s, the guest is at %s", b.key.Node, node)
	// A claim of a job that is over counts for nothing, and the next submission drops it.
	expect(b.key.Claim == "" || cut, "the claim is held still")
	expect(b.key.Epoch >= max(b.s.journal.Highest(), b.d.journal.Highest()), "the key's epoch %d is below the journals'", b.key.Epoch)
	expect(!b.d.held && !b.d.volumes, "left at D and not named: held %v, volumes %v", b.d.held, b.d.volumes)
	stopped := slices.ContainsFunc(b.s.journal, func(p Promise) bool { return p.Fact == factStopping })
	expect(rec.State != FailedState || !stopped, "failed is for guests that were never stopped")
	expect(moved || rec.Failure != nil, "%s without a failure", rec.State)
	expect(!rec.Ended.IsZero() && rec.Held == nil, "ended %s, held %v", rec.Ended, rec.Held)
	var last uint64
	for _, p := range b.s.journal {
		if p.Fact == BEGIN {
			expect(p.Epoch > last, "epoch %d begins after %d", p.Epoch, last)
			last = p.Epoch
		}
	}
	return wrong
}
