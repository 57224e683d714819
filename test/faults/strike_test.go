package faults

import (
	"fmt"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/test/cluster"
	"xmig/xen/xlsim"
)

// killed: a worker dies by SIGKILL in each step, at each end, and is started
// again; the job carries on by itself.
func killed() (rows []fault) {
	short := map[jobs.StepName]bool{jobs.Seed: true, jobs.SealStep: true, jobs.HandOver: true}
	for _, step := range jobs.Steps() {
		rows = append(rows,
			fault{name: fmt.Sprintf("source killed in %s", step), short: short[step], do: func(s *scene) {
				s.strike(step, func() { s.here.Node.Kill() }, func() { s.here.Node.Start() })
			}},
			fault{name: fmt.Sprintf("destination killed in %s", step), short: step == jobs.Stream || step == jobs.Settle, do: func(s *scene) {
				s.strike(step, func() { s.there.Node.Kill() }, func() { s.there.Node.Start() })
			}})
	}
	// Cold moves stop and start the guest by other means.
	for _, step := range []jobs.StepName{jobs.Stream, jobs.SealStep} {
		rows = append(rows,
			fault{name: fmt.Sprintf("source killed in %s of a cold move", step), short: step == jobs.Stream, do: func(s *scene) {
				s.strike(step, func() { s.here.Node.Kill() }, func() { s.here.Node.Start() }, "--mode", "cold")
			}},
			fault{name: fmt.Sprintf("destination killed in %s of a cold move", step), do: func(s *scene) {
				s.strike(step, func() { s.there.Node.Kill() }, func() { s.there.Node.Start() }, "--mode", "cold")
			}})
	}
	rows = append(rows, killedLive()...)
	for _, step := range []jobs.StepName{jobs.Seed, jobs.HandOver} {
		rows = append(rows, fault{name: fmt.Sprintf("server killed in %s", step), short: step == jobs.HandOver, do: func(s *scene) {
			s.strike(step, func() { s.c.Server.Kill() }, func() { s.c.Server.Start() })
		}})
	}
	return append(rows,
		fault{name: "source dead for a while in stream", do: func(s *scene) {
			s.strike(jobs.Stream, func() { s.here.Node.Kill() }, func() {
				s.runs(s.here) // xl's own doing: nobody else is there
				s.c.AwaitPresence(s.there)
				s.here.Node.Start()
			})
		}},
		fault{name: "destination dead for a while in seal", do: func(s *scene) {
			s.strike(jobs.SealStep, func() { s.there.Node.Kill() }, func() {
				s.runs(s.here) // it is not held for a host that is not there
				s.c.AwaitPresence(s.here)
				s.there.Node.Start()
			})
		}})
}

// killedLive: in a live move there are more processes that can die, and each of
// them where the guest runs, stands, or is about to be given away.
func killedLive() (rows []fault) {
	pvh := cluster.GuestSpec{Type: "pvh"}
	for _, step := range []jobs.StepName{jobs.Stream, jobs.SealStep, jobs.HandOver, jobs.Resume, jobs.Settle} {
		for _, who := range []struct {
			name string
			hit  func(s *scene)
			mend func(s *scene)
		}{
			{"source", func(s *scene) { s.here.Node.Kill() }, func(s *scene) { s.here.Node.Start() }},
			{"destination", func(s *scene) { s.there.Node.Kill() }, func(s *scene) { s.there.Node.Start() }},
			{"stub", func(s *scene) { s.here.Kill("xl-stub ") }, func(*scene) {}},
			{"xl", func(s *scene) { s.here.Kill("xlsim ", " xl migrate ") }, func(*scene) {}},
			{"receiving xl", func(s *scene) { s.there.Kill("xlsim ", " xl migrate-receive") }, func(*scene) {}},
		} {
			rows = append(rows, fault{name: fmt.Sprintf("%s killed in %s of a live move", who.name, step), guest: pvh,
				short: step == jobs.Stream && who.name != "stub" || step == jobs.HandOver && who.name == "stub",
				do:    func(s *scene) { s.strike(step, func() { who.hit(s) }, func() { who.mend(s) }, "--mode", "live") }})
		}
	}
	return rows
}

// cutOff: the bus is away from both hosts, longer than any lease or presence
// lasts, in each step.
func cutOff() (rows []fault) {
	for _, step := range jobs.Steps() {
		rows = append(rows, fault{name: fmt.Sprintf("bus away in %s", step), short: step == jobs.Stream, do: func(s *scene) {
			s.strike(step, func() { s.c.CutBus(cluster.Refused) }, func() { s.outlast(step); s.c.HealBus() })
		}})
	}
	return append(rows, fault{name: "bus silent in seed", do: func(s *scene) {
		s.strike(jobs.Seed, func() { s.c.CutBus(cluster.Silent) }, func() { s.outlast(jobs.Seed); s.c.HealBus() })
	}})
}

// outlast waits while the bus is away: until the bus has forgotten both hosts,
// and, where the guest is held, until it runs at its destination all the same.
func (s *scene) outlast(step jobs.StepName) {
	s.Helper()
	s.c.AwaitPresence()
	switch step {
	case jobs.Stream, jobs.SealStep, jobs.HandOver, jobs.Resume:
		s.runs(s.there)
	}
}

// runs waits until the guest runs on a host while things are not yet mended.
func (s *scene) runs(at *cluster.Host) {
	s.Helper()
	s.c.Eventually(func() error {
		domains, err := xlsim.Domains(at.Dir)
		if err == nil && (len(domains) != 1 || strings.ContainsAny(domains[0].State[2:], "ps")) {
			err = fmt.Errorf("the guest is held: it does not run on %s (%+v); see %s and %s", at.Name, domains, s.here.Node.Log, s.there.Node.Log)
		}
		return err
	})
}

const (
	// firstSlow is how long a step is made to take: well above the way of the
	// news of its begin. Where it was too short, the strike is made again.
	firstSlow = 500 * time.Millisecond
	slower    = 3
	longest   = 5 * time.Second
)

// strike has the job's step take a while, strikes while it is under way, has
// things mended, and waits for the job's good end. A strike that came too late
// is made again on the way back, with a step that takes longer.
func (s *scene) strike(step jobs.StepName, hit, mend func(), flags ...string) {
	s.Helper()
	for slow := firstSlow; ; slow *= slower {
		job := s.submit(append(s.slow(step, slow), flags...)...)
		s.c.AwaitStep(job, step)
		hit()
		at := time.Now()
		s.slow(step, 0)
		mend()
		rec := s.moves(job)
		if !ended(rec, step, at) {
			s.Logf("struck %s made to take %s; then %s, %d attempts, blackout %s", step, slow, time.Since(at).Round(time.Millisecond), rec.Attempt, rec.Report.Blackout.Round(time.Millisecond))
			return
		}
		if slow > longest {
			s.Fatalf("step %s was over before the strike even when it was made to take %s: nothing is proven; %s", step, slow, s.c.Command("job", "logs", job).Stdout)
		}
		s.c.Proven(s.vm, s.here, job)
		s.c.AwaitSeen(s.vm, s.here)
	}
}

// ended tells whether the step had ended well before at, by the worker's clock.
func ended(rec jobs.Record, step jobs.StepName, at time.Time) bool {
	for _, r := range rec.Report.Steps {
		if r.Step == step && r.Failed == "" && r.Begin.Add(r.Elapsed).Before(at) {
			return true
		}
	}
	return false
}

// slow has a step take about d longer; it returns the flags that the move needs
// for that.
func (s *scene) slow(step jobs.StepName, d time.Duration) (flags []string) {
	s.Helper()
	return s.c.SlowStep(step, d, s.here, s.there)
}
