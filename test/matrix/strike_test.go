package matrix

import (
	"context"
	"math/rand/v2"
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
	slow     = 1500 * time.Millisecond
	patience = 3 * time.Minute
)

// scene is a cell at work.
type scene struct {
	*testing.T
	c           *cluster.Cluster
	vm          *cluster.Guest
	here, there *cluster.Host
	job         string
}

// strike plays one cell.
func strike(t *testing.T, c cell, dice *rand.Rand, o *outcome) {
	s := &scene{T: t, c: cluster.New(t, cluster.Settings{Harmed: true})}
	s.here, s.there = s.c.Hosts[0], s.c.Hosts[1]
	s.vm = s.c.Guest(s.here, cluster.GuestSpec{Name: "web01"})
	s.c.AwaitSeen(s.vm, s.here)
	s.job = s.c.Submit(s.vm, s.here, s.there, s.c.SlowStep(c.step, slow, s.here, s.there)...)
	o.late = !s.await(c)
	if c.moment == within {
		time.Sleep(time.Duration(dice.Int64N(int64(slow) / 2))) // any time in the step is right; the seed says which
	}
	begin := time.Now()
	mend, struck := s.hit(c)
	o.late = o.late || !struck
	s.c.SlowStep(c.step, 0, s.here, s.there)
	mend()
	rec := s.settled(o)
	at := s.here
	if rec.State == jobs.Succeeded {
		at = s.there
	}
	s.c.AwaitHosts()
	s.c.Proven(s.vm, at, s.job)
	o.took, o.attempts, o.blackout = time.Since(begin), rec.Attempt, rec.Report.Blackout
	if !t.Failed() {
		o.result = string(rec.State) + ", runs on " + map[bool]string{true: "source", false: "destination"}[at == s.here]
	}
}

// await waits for the cell's moment, by the story that the job's worker tells;
// false: the job ended before.
func (s *scene) await(c cell) bool {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	want, step := "step.begin", c.step
	switch {
	case c.moment == after && c.step == jobs.HandOver:
		want = "handover"
	case c.moment == after:
		want = "step.end"
	case c.moment == before:
		want = "step.end"
		steps := jobs.Steps()
		step = steps[slices.Index(steps, c.step)-1]
		if step == jobs.HandOver {
			want = "handover"
		}
	}
	for e, err := range s.c.Bus().Events(ctx, bus.EventFilter{Job: s.job, Follow: bus.Forever}) {
		switch {
		case err != nil:
			s.Fatalf("events: %v", err)
		case e.What == want && e.Step == step:
			return true
		case e.State.Final():
			return false
		}
	}
	s.Fatalf("%s never came within %s", c, patience)
	return false
}

// hit strikes, and returns what mends it; not struck: there was nothing any more.
func (s *scene) hit(c cell) (mend func(), struck bool) {
	s.Helper()
	hosts := map[target]*cluster.Host{sourceWorker: s.here, sourceXL: s.here, sourceLink: s.here, sourceHost: s.here,
		destinationWorker: s.there, destinationXL: s.there, destinationLink: s.there, destinationHost: s.there, lane: s.there}
	h := hosts[c.target]
	switch c.target {
	case sourceWorker, destinationWorker:
		return s.hitWorker(h, c.manner), true
	case controlBus:
		return s.hitBus(c.manner), true
	case sourceXL, destinationXL:
		return s.hitCommand(h, commands[c.target][c.step], c.manner)
	case sourceHost, destinationHost:
		h.PowerOff()
		return h.PowerOn, true
	case lane:
		return s.hitLink(h.Lane, c.manner), true
	}
	return s.hitLink(h.Link, c.manner), true
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

func (s *scene) hitLink(l *cluster.Link, how manner) (mend func()) {
	l.Cut(map[manner]cluster.How{cut: cluster.Refused, mute: cluster.Silent}[how])
	return func() { s.outlast(); l.Heal() }
}

// hitCommand kills or freezes the command once it is at work; one that was
// quicker is not struck.
func (s *scene) hitCommand(h *cluster.Host, word string, how manner) (mend func(), struck bool) {
	sig := syscall.SIGKILL
	if how == freeze {
		sig = syscall.SIGSTOP
	}
	for end := time.Now().Add(slow); !struck && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		struck = h.SignalCommand(word, sig)
	}
	if how == freeze && struck {
		return func() { s.outlast(); h.SignalCommand(word, syscall.SIGCONT) }, true
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
			s.Fatalf("resolve: exit code %d, and the job is %s", r.Code, rec.State)
		}
	}
	if !rec.State.Final() {
		logs, _ := filepath.Glob(filepath.Join(s.c.Dir, "*.log")) // the pattern is right
		s.Fatalf("the job is %s; see %s", rec.State, strings.Join(logs, ", "))
	}
	return rec
}
