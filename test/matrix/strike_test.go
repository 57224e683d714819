package matrix

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/test/cluster"
)

const (
	// slow is what the struck step is made to take: well above the way of the
	// news of its begin.
	slow = 1500 * time.Millisecond
	// span is in how much of it a strike within the step may come.
	span     = slow / 2
	patience = 3 * time.Minute
	// heartbeat is as rare as the lease's time allows: each has three commands of
	// a host's toolstack run, which is most of what an idle cluster costs.
	heartbeat = cluster.TTL / 3
	// shutdownWait is how long a guest is waited for that may have been asked to
	// shut down: its `xl shutdown` was killed, and whether it had asked nobody knows.
	shutdownWait = 20 * time.Second
)

// scene is a course at work: one guest that goes back and forth.
type scene struct {
	*testing.T
	c           *cluster.Cluster
	vm          *cluster.Guest
	here, there *cluster.Host
	job         string
}

func newScene(t *testing.T, trials []trial) *scene {
	guest := cluster.GuestSpec{Name: "web01"}
	if slices.ContainsFunc(trials, func(tr trial) bool { return tr.mode == jobs.Live }) {
		guest.Type = "pvh"
	}
	s := &scene{T: t, c: cluster.New(t, cluster.Settings{Harmed: true, Node: []string{"--heartbeat", heartbeat.String(), "--shutdown-wait", shutdownWait.String()}})}
	s.here, s.there = s.c.Hosts[0], s.c.Hosts[1]
	s.vm = s.c.Guest(s.here, guest)
	return s
}

// play plays one trial.
func (s *scene) play(o *outcome) {
	c, dice := o.cell, o.dice()
	s.c.AwaitSeen(s.vm, s.here)
	s.submit(c)
	reached := s.await(c)
	if c.moment == within {
		time.Sleep(time.Duration(dice.Int64N(int64(span)))) // any time in the step is right; the seed says which
	}
	at := time.Now()
	mend, struck := s.hit(c.target, c.manner, c.process)
	if o.also != nil {
		time.Sleep(o.also.behind)
		mend = s.hitToo(o.also, mend)
	}
	s.mend(o.trial, mend)
	rec := s.settled(o)
	o.late = !reached || !struck || c.moment == within && ended(rec, c.step, at)
	if rec.State == jobs.Succeeded {
		s.here, s.there = s.there, s.here
	}
	s.c.AwaitHosts()
	s.c.Proven(s.vm, s.here, s.job)
	o.took, o.attempts, o.blackout = time.Since(at), rec.Attempt, rec.Report.Blackout
	if !s.Failed() {
		o.result = string(rec.State) + ", runs on " + map[bool]string{true: "destination", false: "source"}[rec.State == jobs.Succeeded]
	}
}

// slowFrom has the steps that are made slow by what earlier steps do too: only when
// the one before them begins.
var slowFrom = map[jobs.StepName]jobs.StepName{jobs.SealStep: jobs.Stream, jobs.HandOver: jobs.SealStep}

// submit has the guest moved, in a step that takes a while.
func (s *scene) submit(c cell) {
	s.Helper()
	if c.step == jobs.Seed || c.step == jobs.Converge {
		s.forgetCopies()
	}
	flags := []string{"--mode", string(c.mode)}
	from, waits := slowFrom[c.step]
	if !waits {
		flags = append(flags, s.c.SlowStep(c.step, slow, s.here, s.there)...)
	}
	s.job = s.c.Submit(s.vm, s.here, s.there, flags...)
	if waits && s.reach(from, "step.begin") {
		s.c.SlowStep(c.step, slow, s.here, s.there)
	}
	if c.mode == jobs.Live && c.step == jobs.Settle && s.reach(jobs.Resume, "step.begin") {
		// The destination tells what it has before the source lets go, and xl with it.
		s.there.Slow("list", slow)
	}
}

// forgetCopies has the seed send all of the disks.
func (s *scene) forgetCopies() {
	s.Helper()
	var kept []jobs.KeptDisk
	r := s.c.Command("shadow", "ls", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &kept); err != nil || r.Code != 0 {
		s.Fatalf("shadow ls: exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	for _, d := range kept {
		if r := s.c.Command("shadow", "prune", "--force", d.Path); r.Code != 0 {
			s.Fatalf("shadow prune %s: exit code %d: %s%s", d.Path, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// await waits for the cell's moment, by the story that the job's worker tells;
// false: the job ended before.
func (s *scene) await(c cell) bool {
	s.Helper()
	want, step := "step.begin", c.step
	if c.moment == before {
		steps := jobs.Steps()
		step = steps[slices.Index(steps, c.step)-1]
	}
	switch {
	case c.moment != within && step == jobs.HandOver:
		want = "handover"
	case c.moment != within:
		want = "step.end"
	}
	return s.reach(step, want)
}

// reach waits until the story says so; false: it never does.
func (s *scene) reach(step jobs.StepName, what string) bool {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for e, err := range s.c.Bus().Events(ctx, bus.EventFilter{Job: s.job, Follow: bus.Forever}) {
		switch {
		case err != nil:
			s.Fatalf("events: %v", err)
		case e.What == what && e.Step == step:
			return true
		case e.State.Final():
			return false
		}
	}
	s.Fatalf("%s of %s never came within %s; see %s", what, step, patience, s.logs())
	return false
}

// mend ends the slowness of the step and the harm. Where a frozen process may
// hold a simulated host's own lock, only after it has gone on.
func (s *scene) mend(tr trial, mend func()) {
	quick := func() {
		s.c.SlowStep(tr.step, 0, s.here, s.there)
		s.there.Slow("list", 0)
	}
	stands := func(t target, how manner) bool { return how == freeze && (t.isTool() || t.isHost()) }
	if stands(tr.target, tr.manner) || tr.also != nil && stands(tr.also.target, tr.also.manner) {
		mend()
		quick()
		return
	}
	quick()
	mend()
}

// hit strikes, and returns what mends it; not struck: there was nothing any more.
func (s *scene) hit(t target, how manner, process func() (process, bool)) (mend func(), struck bool) {
	s.Helper()
	h := s.here
	if slices.Contains([]target{destinationWorker, destinationStub, destinationXL, destinationLink, destinationHost, lane}, t) {
		h = s.there
	}
	switch {
	case t == sourceWorker || t == destinationWorker:
		return s.hitWorker(h, how), true
	case t == controlBus:
		return s.hitBus(how), true
	case t.isTool():
		p, _ := process()
		return s.hitProcess(h, p, how)
	case t.isHost():
		return s.hitHost(h, how), true
	case t == lane:
		return s.hitLinks(how, h.Lane), true
	}
	return s.hitLinks(how, h.Link), true
}

// hitToo strikes once more, and mends both at once.
func (s *scene) hitToo(o *second, mend func()) func() {
	also, _ := s.hit(o.target, o.manner, nil)
	return func() {
		mend()
		also()
	}
}

func (s *scene) hitWorker(h *cluster.Host, how manner) (mend func()) {
	switch how {
	case freeze:
		h.Node.Freeze()
		return func() { s.outlast(); h.Node.Thaw() }
	case full:
		h.FillDisk()
		return func() { s.outlast(); h.FreeDisk() }
	}
	h.Node.Kill()
	return h.Node.Start
}

func (s *scene) hitBus(how manner) (mend func()) {
	if how == freeze {
		s.c.Server.Freeze()
		return func() { s.outlast(); s.c.Server.Thaw() }
	}
	s.c.Server.Kill()
	return func() { s.outlast(); s.c.Server.Start() }
}

// hitHost: without power, as it stands, or without any link.
func (s *scene) hitHost(h *cluster.Host, how manner) (mend func()) {
	switch how {
	case kill:
		h.PowerOff()
		return h.PowerOn
	case freeze:
		h.Freeze()
		return func() { s.outlast(); h.Thaw() }
	}
	return s.hitLinks(how, h.Link, s.there.Lane) // the move's lane is a link of both
}

func (s *scene) hitLinks(how manner, links ...*cluster.Link) (mend func()) {
	for _, l := range links {
		l.Cut(map[manner]cluster.How{cut: cluster.Refused, mute: cluster.Silent}[how])
	}
	return func() {
		s.outlast()
		for _, l := range links {
			l.Heal()
		}
	}
}

// hitProcess kills or freezes a process of the toolstack once it is at work;
// one that was quicker is not struck.
func (s *scene) hitProcess(h *cluster.Host, p process, how manner) (mend func(), struck bool) {
	sig := syscall.SIGKILL
	if how == freeze {
		sig = syscall.SIGSTOP
	}
	for end := time.Now().Add(slow); !struck && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		struck = h.Signal(sig, p.begin, p.has)
	}
	if how == freeze && struck {
		return func() { s.outlast(); h.Signal(syscall.SIGCONT, p.begin, p.has) }, true
	}
	return func() {}, struck
}

// outlast waits until every lease and every presence of before is over.
func (s *scene) outlast() { time.Sleep(cluster.TTL + cluster.TTL/2) }

// settled waits for the job's end; where it is one that a person must resolve,
// one command does.
func (s *scene) settled(o *outcome) jobs.Record {
	s.Helper()
	rec := s.c.AwaitEnd(s.job)
	if rec.State == jobs.Indeterminate {
		o.resolved = true
		r := s.c.Command("resolve", s.job)
		s.Logf("%s%s", r.Stdout, r.Stderr)
		if rec = s.c.Record(s.job); r.Code != 0 || !rec.State.Final() {
			s.Fatalf("resolve: exit code %d, and the job is %s; see %s", r.Code, rec.State, s.logs())
		}
	}
	return rec
}

func (s *scene) logs() string {
	logs, _ := filepath.Glob(filepath.Join(s.c.Dir, "*.log")) // the pattern is right
	return strings.Join(logs, ", ")
}

// ended tells whether the step had ended well before at, by the worker's clock.
func ended(rec jobs.Record, step jobs.StepName, at time.Time) bool {
	return slices.ContainsFunc(rec.Report.Steps, func(r jobs.StepReport) bool {
		return r.Step == step && r.Failed == "" && r.Begin.Add(r.Elapsed).Before(at)
	})
}
