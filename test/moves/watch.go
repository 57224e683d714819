package moves

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
)

const tenth = 100 * time.Millisecond

// mover is a guest on its way between the two hosts of an installation.
type mover struct {
	Installation
	t           *testing.T
	guest       string
	here, there string
}

func begin(t *testing.T, open Open, guest string) *mover {
	t.Helper()
	in := open(t)
	hosts := in.Hosts()
	m := &mover{Installation: in, t: t, guest: guest, here: hosts[0], there: hosts[1]}
	if m.at(hosts[1]) {
		m.turn()
	}
	m.Proven(guest, m.here, "")
	return m
}

func (m *mover) turn() { m.here, m.there = m.there, m.here }

// at tells whether the bus knows the guest on a host.
func (m *mover) at(host string) bool {
	ctx, cancel := context.WithTimeout(m.t.Context(), m.Patience())
	defer cancel()
	hosts, err := m.Bus().Hosts(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, h := range hosts {
		if _, ok := h.Find(m.guest); ok && h.Node == host {
			return true
		}
	}
	return false
}

// submit has the move to the other host taken in.
func (m *mover) submit(flags ...string) string {
	m.t.Helper()
	said := m.Xmig(m.MoveArgs(m.guest, m.there, append(flags, "--detach", "-o", "json")...)...)
	var recs []jobs.Record
	if err := json.Unmarshal([]byte(said.Stdout), &recs); err != nil || said.Code != 0 || len(recs) != 1 {
		m.t.Fatalf("submit %s: exit code %d, %v: %s%s", m.guest, said.Code, err, said.Stdout, said.Stderr)
	}
	return recs[0].ID
}

// move moves the guest to the other host, and looks at everything.
func (m *mover) move(flags ...string) jobs.Record {
	m.t.Helper()
	job := m.submit(flags...)
	m.follow(job, func(jobs.Event) bool { return false })
	rec := m.record(job)
	if rec.State != jobs.Succeeded {
		m.t.Fatalf("the move ended %s: %s", rec.State, m.Xmig("job", "show", job).Stdout)
	}
	m.Proven(m.guest, m.there, job)
	m.turn()
	return rec
}

func (m *mover) record(job string) jobs.Record {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), m.Patience())
	defer cancel()
	rec, err := m.Bus().Records().Load(ctx, job)
	if err != nil {
		m.t.Fatal(err)
	}
	return rec
}

// follow tells each event of a job until it is final, or until told is true.
func (m *mover) follow(job string, told func(jobs.Event) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), m.Patience())
	defer cancel()
	for e, err := range m.Bus().Events(ctx, bus.EventFilter{Job: job, Follow: bus.Forever}) {
		if err != nil {
			m.t.Fatalf("job %s: events: %v", job, err)
		}
		if told(e) || e.State.Final() || e.State == jobs.Indeterminate {
			return
		}
	}
	m.t.Fatalf("job %s did not end within %s: %s", job, m.Patience(), m.Xmig("job", "show", job).Stdout)
}

// sweep makes one move and kills the end's worker once in each of the wanted
// steps. It returns those that were really hit.
func (m *mover) sweep(end End, want []jobs.StepName, flags ...string) (hit []jobs.StepName) {
	m.t.Helper()
	victim := m.here
	if end == DestinationEnd {
		victim = m.there
	}
	killed := map[jobs.StepName]time.Time{}
	m.Aim(victim)
	job := m.submit(flags...)
	m.follow(job, func(e jobs.Event) bool {
		if e.What != "step.begin" || !slices.Contains(want, e.Step) || !killed[e.Step].IsZero() {
			return false
		}
		m.Kill(victim)
		killed[e.Step] = m.Now(m.here)
		m.Revive(victim)
		m.Aim(victim)
		return false
	})
	rec := m.record(job)
	for _, step := range want {
		if at := killed[step]; !at.IsZero() && !over(rec, step, at) {
			hit = append(hit, step)
		}
	}
	m.t.Logf("%s %s → %s, %s killed in %v: %s after %d attempts, blackout %s", m.guest, rec.Source, rec.Destination, end, hit, rec.State, rec.Attempt, rec.Report.Blackout.Round(tenth))
	switch rec.State {
	case jobs.Succeeded:
		m.Proven(m.guest, m.there, job)
		m.turn()
	case jobs.RolledBack, jobs.FailedState: // too many deaths for one move; the guest runs on
		m.Proven(m.guest, m.here, job)
	default:
		m.t.Fatalf("the move ended %s: %s", rec.State, m.Xmig("job", "show", job).Stdout)
	}
	return hit
}

// over tells whether the step had ended well before at, by the source's clock.
func over(rec jobs.Record, step jobs.StepName, at time.Time) bool {
	return slices.ContainsFunc(rec.Report.Steps, func(r jobs.StepReport) bool {
		return r.Step == step && r.Failed == "" && r.Begin.Add(r.Elapsed).Before(at)
	})
}

// strike makes a move, strikes it once in the step, and looks at everything
// when it has ended.
func (m *mover) strike(s Strike) jobs.State {
	m.t.Helper()
	s.End = cmp.Or(s.End, SourceEnd)
	victim := m.here
	if s.End == DestinationEnd {
		victim = m.there
	}
	if s.Before != nil {
		s.Before([2]string{m.here, m.there})
	}
	struck := false
	var mended, home time.Time // by the source's clock; home: the guest was let go
	job := m.submit("--mode", string(cmp.Or(s.Mode, jobs.Suspend)))
	m.follow(job, func(e jobs.Event) bool {
		switch {
		case e.What == "home":
			home = e.Time
		case !struck && e.What == "step.begin" && e.Step == s.Step:
			struck = true
			mended = m.hit(s, victim, job)
		}
		return false
	})
	rec := m.record(job)
	if s.Cancel && !home.IsZero() {
		m.t.Logf("%s was not held any more %s after the cancel in %s, all was cleared up after %s", m.guest, home.Sub(mended).Round(tenth), s.Step, rec.Ended.Sub(mended).Round(tenth))
	}
	if rec.State == jobs.Indeterminate && s.Resolve { // one command must do
		said := m.Xmig("resolve", job)
		m.t.Logf("resolve: exit code %d: %s%s", said.Code, said.Stdout, said.Stderr)
		rec = m.record(job)
	}
	m.t.Logf("%s %s → %s, %s struck in %s: %s after %d attempts, blackout %s", m.guest, rec.Source, rec.Destination, s.End, s.Step, rec.State, rec.Attempt, rec.Report.Blackout.Round(tenth))
	if !struck {
		m.t.Fatalf("the job never came to step %s: nothing is proven", s.Step)
	}
	if rec.State == jobs.Succeeded {
		m.turn()
	} else if rec.State == jobs.Indeterminate {
		m.t.Fatalf("nobody knows where %s runs: %s", m.guest, m.Xmig("job", "show", job).Stdout)
	}
	m.Proven(m.guest, m.here, job)
	if s.After != nil {
		s.After(m.here)
	}
	return rec.State
}

// hit does what a strike consists of, and returns from when on nothing is in
// the way any more.
func (m *mover) hit(s Strike, victim, job string) (from time.Time) {
	m.t.Helper()
	if s.Hit != nil {
		s.Hit(victim)
	}
	if s.Cancel {
		from = m.Now(m.here)
		said := m.Xmig("job", "cancel", job)
		m.t.Logf("cancel in %s: exit code %d: %s%s", s.Step, said.Code, said.Stdout, said.Stderr)
	}
	if s.Mend != nil {
		s.Mend(victim)
		if s.Cancel {
			from = m.Now(m.here)
		}
	}
	return from
}
