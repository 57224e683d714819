package jobs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// examine plans a move of the guest by spec, with the destination's answer.
func examine(t testing.TB, spec Spec, g Guest, a Answer) (Plan, []Blocker) {
	t.Helper()
	b := newBench(spec.Mode)
	b.s.guests, b.d.answer = g, a
	if g.State == VMHalted {
		b.s.guest = ""
	}
	rec := b.stored()
	rec.Spec = spec
	plan, blockers, err := Examine(context.Background(), &b.s, &b.d, rec.Job())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.s.journal)+len(b.d.journal) > 0 || b.d.held {
		t.Errorf("examining changed something: %v %v", b.s.journal, b.d.journal)
	}
	return plan, blockers
}

func guestOf(state VMState, memory int64, disks ...Disk) Guest {
	return Guest{VM: VM{VMRef: VMRef{testVM, "web01"}, State: state, Memory: memory, Disks: disks}}
}

func TestMode(t *testing.T) {
	small := Disk{Name: "xvda", Path: "/dev/vg0/a", Size: 400 << 20} // a second to read again, if no rate is known
	for _, c := range []struct {
		name     string
		spec     func(*Spec)
		guest    Guest
		link     int64
		mode     Mode
		predict  time.Duration
		blockers string // codes
	}{
		{"auto", nil, guestOf(VMRunning, 1792<<20, small), 0, Live, 3 * time.Second, ""},
		{"auto, too long even live", nil, guestOf(VMRunning, 17920<<20), 0, Live, 11 * time.Second, "downtime"},
		{"auto, no live", nil, pv(guestOf(VMRunning, 112<<20, small)), 0, Suspend, 3 * time.Second, ""},
		{"auto, no live, paused by a person", nil, pv(guestOf(VMPaused, 112<<20, small)), 0, Suspend, 3 * time.Second, ""},
		{"auto, halted", nil, guestOf(VMHalted, 112<<20, small), 0, Cold, 0, ""},
		{"halted, whatever was asked", func(s *Spec) { s.Mode = Live }, guestOf(VMHalted, 0, small), 0, Cold, 0, ""},
		{"cold as asked", func(s *Spec) { s.Mode = Cold }, guestOf(VMRunning, 64<<30, small), 0, Cold, 2 * time.Second, ""},
		{"live as asked", func(s *Spec) { s.Mode = Live }, guestOf(VMRunning, 0), 0, Live, time.Second, ""},
		{"live cannot be", func(s *Spec) { s.Mode = Live }, pv(guestOf(VMRunning, 0)), 0, Live, time.Second, "mode"},
		{"suspend as asked", func(s *Spec) { s.Mode = Suspend }, guestOf(VMRunning, 112<<20, small), 0, Suspend, 3 * time.Second, ""},
		{"a faster link", nil, pv(guestOf(VMRunning, 1<<30)), 1 << 30, Suspend, 2 * time.Second, ""},
		{"too long", nil, pv(guestOf(VMRunning, 1120<<20)), 0, Suspend, 11 * time.Second, "downtime"},
		{"too long, and the link makes it fit", nil, pv(guestOf(VMRunning, 1120<<20)), 1 << 30, Suspend, 2093750 * time.Microsecond, ""},
		{"too long, and taken", func(s *Spec) { s.OnTimeout = TimeoutSuspend }, pv(guestOf(VMRunning, 1120<<20)), 0, Suspend, 11 * time.Second, ""},
		{"too long, and held later", func(s *Spec) { s.OnTimeout = TimeoutHold }, pv(guestOf(VMRunning, 1120<<20)), 0, Suspend, 11 * time.Second, "downtime"},
		{"live cannot be and too long", func(s *Spec) { s.Mode = Live }, pv(guestOf(VMRunning, 0, Disk{Name: "a", Path: "/a", Size: 4000 << 20})), 0, Live, 11 * time.Second, "mode downtime"},
	} {
		plan, blockers := examine(t, good(c.spec), c.guest, Answer{LinkRate: c.link})
		codes := ""
		for _, b := range blockers {
			codes += " " + b.Code
			if b.Host != sNode || b.Text == "" || b.Next == "" {
				t.Errorf("%s: blocker %+v", c.name, b)
			}
		}
		if plan.Mode != c.mode || plan.Predicted != c.predict || strings.TrimSpace(codes) != c.blockers || plan.Why == "" {
			t.Errorf("%s: mode %s (%s), predicted %s, blockers %q", c.name, plan.Mode, plan.Why, plan.Predicted, codes)
		}
	}
}

// pv is a guest that cannot be moved live.
func pv(g Guest) Guest {
	g.NoLive = "no shadow paging"
	return g
}

// TestLadder: who falls from live to suspend is told why, also where the longer
// blackout is refused; a destination's word counts like the source's.
func TestLadder(t *testing.T) {
	for what, no := range map[string]struct {
		guest Guest
		a     Answer
	}{
		"source":      {pv(guestOf(VMRunning, 1120<<20)), Answer{}},
		"destination": {guestOf(VMRunning, 1120<<20), Answer{NoLive: "no shadow paging"}},
	} {
		plan, blockers := examine(t, good(nil), no.guest, no.a)
		if plan.Mode != Suspend || plan.Why != "it cannot be moved live: no shadow paging" {
			t.Errorf("%s: %s: %s", what, plan.Mode, plan.Why)
		}
		if len(blockers) != 1 || blockers[0].Text != "predicted blackout 11s in suspend mode exceeds --max-downtime 5s; it cannot be moved live: no shadow paging" {
			t.Errorf("%s: %v", what, blockers)
		}
	}
}

// TestPassFits: a delta pass that would keep a guest standing is not begun.
func TestPassFits(t *testing.T) {
	for _, c := range []struct {
		sent, memory int64
		elapsed      time.Duration
		pass         time.Duration
		want         bool
	}{
		{10 << 20, 100 << 20, time.Second, 7 * time.Second, true},
		{10 << 20, 100 << 20, time.Second, 8 * time.Second, false},
		{90 << 20, 100 << 20, 9 * time.Second, time.Second, false},
		{100 << 20, 100 << 20, time.Second, 0, false},
		{150 << 20, 100 << 20, time.Second, 0, false},
		{0, 100 << 20, time.Second, 0, false},
		{10, 100 << 20, 0, 0, false},
	} {
		if got := PassFits(Flow{c.sent, c.elapsed}, c.memory, []PassReport{{Elapsed: c.pass}}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestPassFitsAlone: memory that is slow because passes take the wire is no
// reason for another one.
func TestPassFitsAlone(t *testing.T) {
	seed := PassReport{Elapsed: 10 * time.Second, Disks: []DiskReport{{Wire: 200 << 20}}} // 20 MiB/s
	f := Flow{Sent: 4 << 20, Elapsed: 4 * time.Second}                                    // 1 MiB/s
	if PassFits(f, 64<<20, []PassReport{seed, {Elapsed: 10 * time.Second}}) {
		t.Error("a pass of 10 s was begun where 60 MiB are left of memory that could travel at 20 MiB/s")
	}
	if !PassFits(f, 64<<20, []PassReport{seed, {Elapsed: 2 * time.Second}}) {
		t.Error("a pass of 2 s was not")
	}
}

// TestPassDue: passes take a quarter of the time at most, but for the last ones.
func TestPassDue(t *testing.T) {
	f := Flow{Sent: 10 << 20, Elapsed: time.Second} // 9 s are left of 100 MiB
	for _, c := range []struct {
		pass, idle time.Duration
		want       bool
	}{
		{time.Second, 0, false},
		{time.Second, 2 * time.Second, false},
		{time.Second, 3 * time.Second, true},
		{4 * time.Second, 0, true},
		{0, 0, true},
	} {
		if got := PassDue(f, 100<<20, []PassReport{{Elapsed: c.pass}}, c.idle); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// flowing is a source whose memory flows until some delta passes were made.
type flowing struct {
	*fakeSource
	passes chan PassKind
	broken error // of the second pass
	ctx    context.Context
}

func (s *flowing) Stop(ctx context.Context, job Job, flow func(Flow)) (Stopped, error) {
	s.ctx = ctx
	for made := 0; made < 2; {
		flow(Flow{Sent: 1 << 20, Elapsed: time.Second})
		select {
		case <-s.passes:
			made++
		case <-time.After(time.Millisecond): // the next news
		case <-ctx.Done():
			return Stopped{}, context.Cause(ctx)
		}
	}
	flow(Flow{Sent: job.Plan.Guest.Memory, Elapsed: time.Minute})
	return s.fakeSource.Stop(ctx, job, flow)
}

func (s *flowing) Pass(ctx context.Context, job Job, n uint32, kind PassKind) (PassReport, error) {
	rep, err := s.fakeSource.Pass(ctx, job, n, kind)
	if s.ctx != nil && kind == DeltaPass {
		s.passes <- kind
		if s.broken != nil && n > 3 {
			return rep, s.broken
		}
	}
	return rep, err
}

// TestDeltasWhileMemoryFlows: passes go on while it does, one that breaks ends
// the flow, and none begins that would outlast it.
func TestDeltasWhileMemoryFlows(t *testing.T) {
	for _, broken := range []error{nil, RetryLater(CodeLane, "the lane is gone")} {
		b := newBench(Live)
		src := &flowing{fakeSource: &b.s, passes: make(chan PassKind, 9), broken: broken}
		rec := b.stored()
		rec.Plan = Plan{Mode: Live, Guest: b.s.guests}
		rec.Epoch, rec.Attempt = 5, 1
		job := rec.Job()
		b.d.session, b.s.lane = job.Attempt, job.Attempt
		m := &Migration{src: src, dst: &b.d, rec: &rec, clock: time.Now}
		if err := errors.Join(m.seed(t.Context()), m.converge(t.Context())); err != nil {
			t.Fatal(err)
		}
		err := m.stream(t.Context())
		var kinds []PassKind
		for _, p := range rec.Report.Passes {
			kinds = append(kinds, p.Kind)
		}
		if broken != nil {
			if !errors.Is(err, broken) || src.ctx.Err() == nil || b.s.guest != VMRunning {
				t.Errorf("%v, the flow ended: %v, guest %s", err, src.ctx.Err(), b.s.guest)
			}
		} else if err != nil || !slices.Equal(kinds, []PassKind{SeedPass, DeltaPass, DeltaPass, DeltaPass}) || b.s.guest != VMSuspended {
			t.Errorf("%v, passes %v, guest %s", err, kinds, b.s.guest)
		}
	}
}

// TestDowntimeAdvice: whoever follows the advice is not refused again.
func TestDowntimeAdvice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := good(func(s *Spec) {
			s.MaxDowntime = time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "budget"))
		})
		p := planFor(spec, guestOf(VMRunning, rapid.Int64Range(0, 64<<30).Draw(t, "memory"), Disk{Name: "a", Path: "/a", Size: rapid.Int64Range(0, 1<<40).Draw(t, "size")}))
		p.decideMode(spec, Answer{})
		b := p.modeBlockers(spec, sNode, "")
		if fits := p.Predicted <= spec.MaxDowntime; fits != (len(b) == 0) {
			t.Fatalf("predicted %s of %s: %v", p.Predicted, spec.MaxDowntime, b)
		} else if fits {
			return
		}
		allow, err := time.ParseDuration(strings.TrimPrefix(b[0].Next, "allow --max-downtime "))
		if err != nil {
			t.Fatalf("%q: %v", b[0].Next, err)
		}
		spec.MaxDowntime = allow
		if again := p.modeBlockers(spec, sNode, ""); len(again) > 0 {
			t.Fatalf("%s was advised for %s, and is refused: %v", allow, p.Predicted, again)
		}
	})
}

func TestPlannedDisks(t *testing.T) {
	g := guestOf(VMRunning, 0,
		Disk{Name: "xvda", Path: "/dev/vg0/web01", Size: 10, Allocated: 5},
		Disk{Name: "xvdb", Path: "/srv/data.img", Size: 20},
		Disk{Name: "xvdc", Path: ""}, // an empty drive
		Disk{Name: "xvdd", Path: "/iso/install.iso", Size: 30, ReadOnly: true})
	g.BootFiles = []BootFile{{Key: "kernel", Path: "/boot/k"}, {Key: "ramdisk", Path: "/boot/r", Send: true}}
	plan, _ := examine(t, good(func(s *Spec) { s.Map.Disks = map[string]string{"/dev/vg0": "/dev/fast"} }), g,
		Answer{Config: "/etc/xen/web01.cfg", Lacks: []string{"/boot/k", "/boot/other"}})
	want := []DiskMove{
		{Name: "xvda", From: "/dev/vg0/web01", To: "/dev/fast/web01", Size: 10, Allocated: 5},
		{Name: "xvdb", From: "/srv/data.img", To: "/srv/data.img", Size: 20},
		{Name: "xvdd", From: "/iso/install.iso", To: "/iso/install.iso", Size: 30, ReadOnly: true},
	}
	if !slices.Equal(plan.Disks, want) {
		t.Errorf("disks %+v", plan.Disks)
	}
	if plan.Config != "/etc/xen/web01.cfg" || !plan.Guest.BootFiles[0].Send || plan.Guest.BootFiles[1].Send {
		t.Errorf("config %s, boot files %+v", plan.Config, plan.Guest.BootFiles)
	}
	plan, _ = examine(t, syncSpec(nil), guestOf(VMHalted, 0, Disk{Name: "device", Path: "/dev/a", Size: 10}), Answer{})
	if len(plan.Disks) != 1 || plan.Disks[0].From != "/dev/a" || plan.Disks[0].To != "/dev/b" || plan.Mode != Cold {
		t.Errorf("sync: %+v", plan)
	}
}

// TestExamineAsksBoth: every blocker of both hosts in one answer; an end that
// does not answer is an error, not a blocker.
func TestExamineAsksBoth(t *testing.T) {
	b := newBench(Suspend)
	b.s.blocked = []Blocker{{Host: sNode, Code: "a"}}
	b.d.answer.Blockers = []Blocker{{Host: dNode, Code: "b"}, {Host: dNode, Code: "c"}}
	rec := b.stored()
	_, blockers, err := Examine(context.Background(), &b.s, &b.d, rec.Job())
	if err != nil || len(blockers) != 3 {
		t.Errorf("%v, %v", blockers, err)
	}
	for _, verb := range []string{"S.Inspect", "D.Check"} {
		b := newBench(Suspend).meets(once(onVerb(verb)).says(errSilent))
		if _, _, err := Examine(context.Background(), &b.s, &b.d, rec.Job()); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// TestConvergeStep: what the verdicts come to, by --on-timeout.
func TestConvergeStep(t *testing.T) {
	for _, c := range []struct {
		name    string
		on      OnTimeout
		elapsed []time.Duration // of the deltas; the last one repeats
		budget  time.Duration
		state   State
		deltas  int
	}{
		{"fits after one", TimeoutAbort, []time.Duration{time.Second}, 5 * time.Second, Succeeded, 1},
		{"shrinks until it fits", TimeoutAbort, []time.Duration{20 * time.Second, 10 * time.Second, 5 * time.Second, 2 * time.Second}, 5 * time.Second, Succeeded, 4},
		{"does not shrink: abort", TimeoutAbort, []time.Duration{9 * time.Second}, 5 * time.Second, FailedState, 3},
		{"does not shrink: suspend all the same", TimeoutSuspend, []time.Duration{9 * time.Second}, 5 * time.Second, Succeeded, 3},
		{"does not shrink: held until it does", TimeoutHold, []time.Duration{9 * time.Second, 9 * time.Second, 9 * time.Second, 9 * time.Second, 9 * time.Second, time.Second}, 5 * time.Second, Succeeded, 6},
	} {
		b := newBench(Suspend)
		rec := b.stored()
		rec.Spec.OnTimeout, rec.Spec.MaxDowntime = c.on, c.budget
		b.put(rec)
		deltas := 0
		b.s.took = func(kind PassKind) time.Duration {
			if kind != DeltaPass {
				return time.Second
			}
			deltas++
			return c.elapsed[min(deltas, len(c.elapsed))-1]
		}
		rec = b.drive(t)
		if b.check(t, rec); rec.State != c.state || deltas != c.deltas {
			t.Errorf("%s: %s after %d deltas: %+v", c.name, rec.State, deltas, rec.Failure)
		}
		if rec.State == FailedState && (rec.Failure.Code != CodeDowntime || !strings.Contains(rec.Failure.Text, "predicted blackout 10.57s after 3 delta passes exceeds --max-downtime 5s")) {
			t.Errorf("%s: %+v", c.name, rec.Failure)
		}
	}
}

// TestReportIsBounded: however long a job goes on, its record stays small and
// keeps the first pass and the newest.
func TestReportIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Report
		n := rapid.IntRange(1, 100).Draw(t, "passes")
		for i := 1; i <= n; i++ {
			r.addPass(PassReport{Number: uint32(i), Disks: []DiskReport{{Wire: 10, Sent: 3}, {Wire: 1, Sent: 4}}})
			r.addStep(StepReport{Step: Seed, Attempt: i})
		}
		if len(r.Passes) > MaxPasses || r.Passes[0].Number != 1 || r.Passes[len(r.Passes)-1].Number != uint32(n) || r.Wire != int64(11*n) {
			t.Fatalf("%d passes from %d to %d, wire %d", len(r.Passes), r.Passes[0].Number, r.Passes[len(r.Passes)-1].Number, r.Wire)
		}
		for i := 2; i < len(r.Passes); i++ {
			if r.Passes[i].Number != r.Passes[i-1].Number+1 {
				t.Fatalf("pass %d follows %d", r.Passes[i].Number, r.Passes[i-1].Number)
			}
		}
		if len(r.Steps) > 4*len(Steps()) || r.Steps[len(r.Steps)-1].Attempt != n {
			t.Fatalf("%d steps, the last of attempt %d", len(r.Steps), r.Steps[len(r.Steps)-1].Attempt)
		}
	})
}

func TestPassReport(t *testing.T) {
	p := PassReport{Disks: []DiskReport{{Name: "xvdb", Wire: 5, Sent: 2}, {Name: "xvda", Wire: 7, Sent: 3}}}
	job := Job{Plan: Plan{Disks: []DiskMove{{Name: "xvda"}, {Name: "xvdb"}}}}
	if p.Wire() != 12 || p.Changed() != 5 {
		t.Errorf("wire %d, changed %d", p.Wire(), p.Changed())
	}
	if got := p.InOrder(job); got.Disks[0].Name != "xvda" || got.Disks[1].Name != "xvdb" {
		t.Errorf("order %v", got.Disks)
	}
}

func TestFind(t *testing.T) {
	h := Host{VMs: []VM{{VMRef: VMRef{"u1", "a"}}, {VMRef: VMRef{"u2", "u1"}}}}
	for name, want := range map[string]string{"a": "u1", "u2": "u2", "u1": "u1"} {
		if v, ok := h.Find(name); !ok || v.UUID != want {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if _, ok := h.Find("b"); ok {
		t.Error("found what is not there")
	}
}
