package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/test/cluster"
)

// storm is a fleet whose hosts all send and receive at once, and what befalls it.
type storm struct {
	*testing.T
	c      *cluster.Cluster
	dice   *rand.Rand
	at     map[*cluster.Guest]*cluster.Host
	guests []*cluster.Guest
	last   map[string]string // VM → its last job that succeeded
	ended  map[jobs.State]int
	struck map[string]int  // by what
	faults map[int]bool    // which moves of all are struck
	mend   []func()        // what heals the struck, at the round's end at the latest
	seen   chan jobs.Event // the event stream
}

// stormSize: moves in all by XMIG_STORM, 18 in a plain run.
func stormSize(t *testing.T) (hosts, guests, moves int, seed uint64) {
	hosts, guests, moves, seed = 3, 6, 18, 1
	if s := os.Getenv("XMIG_STORM"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 10 {
			t.Fatalf("XMIG_STORM=%q: want a number of moves, 10 or more", s)
		}
		hosts, guests, moves = 6, 24, n
	}
	if s := os.Getenv("XMIG_STORM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("XMIG_STORM_SEED=%q: want a number", s)
		}
		seed = n
	}
	return hosts, guests, moves, seed
}

// TestStorm: every host sends and receives at once, and every tenth move is
// struck in a step that the seed says. All end in a named state, none is lost;
// at the end every guest is where its last job says, whole and once.
func TestStorm(t *testing.T) {
	hosts, n, moves, seed := stormSize(t)
	s := &storm{T: t, c: cluster.New(t, cluster.Settings{Hosts: hosts}), dice: rand.New(rand.NewPCG(seed, 0)), at: map[*cluster.Guest]*cluster.Host{},
		last: map[string]string{}, ended: map[jobs.State]int{}, struck: map[string]int{}, faults: map[int]bool{}}
	for _, i := range s.dice.Perm(moves)[:max(1, moves/10)] {
		s.faults[i] = true
	}
	for i := range n {
		g := cluster.GuestSpec{Name: fmt.Sprintf("vm%02d", i), MemoryMiB: 8, Disks: []int64{4 << 20}, Rate: 64 << 10}
		if i%2 == 1 {
			g.Type = "pvh" // goes live
		}
		h := s.c.Hosts[i%hosts]
		vm := s.c.Guest(h, g)
		s.at[vm], s.guests = h, append(s.guests, vm)
	}
	stop := s.listen()
	defer stop()
	begin := time.Now()
	for done := 0; done < moves; {
		done += s.round(done, min(n, moves-done))
	}
	t.Logf("%d moves in %s, seed %d: %v; struck: %v", moves, time.Since(begin).Round(time.Second), seed, s.ended, s.struck)
	s.judge(moves)
}

// listen has the events come to s.seen, until it is stopped.
func (s *storm) listen() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s.seen = make(chan jobs.Event, 1<<16) // more than a storm tells
	done := make(chan struct{})
	b := s.c.Bus()
	go func() {
		defer close(done)
		for e, err := range b.Events(ctx, bus.EventFilter{Follow: bus.Forever}) {
			if err != nil {
				return // the round's end finds that nothing was struck
			}
			select {
			case s.seen <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// round moves the first n guests on to the next host, all at once.
func (s *storm) round(first, n int) int {
	s.Helper()
	s.c.AwaitHosts()
	for _, g := range s.guests[:n] {
		s.c.AwaitSeen(g, s.at[g])
	}
	all, meant := map[string]*cluster.Guest{}, map[string]jobs.StepName{}
	for i, h := range s.c.Hosts {
		to := s.c.Hosts[(i+1)%len(s.c.Hosts)]
		var here []*cluster.Guest
		for _, g := range s.guests[:n] {
			if s.at[g] == h {
				here = append(here, g)
			}
		}
		for g, job := range s.submit(here, h, to) {
			all[job] = g
		}
	}
	if len(all) != n {
		s.Fatalf("%d moves were submitted, %d have a job", n, len(all))
	}
	steps := jobs.Steps()
	for i, job := range slices.Sorted(maps.Keys(all)) {
		if s.faults[first+i] {
			meant[job] = steps[s.dice.IntN(len(steps))]
		}
	}
	s.pass(all, meant)
	return n
}

// submit has the guests of one host move to another, in one command.
func (s *storm) submit(guests []*cluster.Guest, from, to *cluster.Host) map[*cluster.Guest]string {
	s.Helper()
	if len(guests) == 0 {
		return nil
	}
	args := s.c.MoveArgs(guests[0], from, to, "--detach", "-o", "json")
	for _, g := range guests[1:] {
		args = append(args, g.Name)
	}
	r := s.c.Command(args...)
	var recs []jobs.Record
	if err := json.Unmarshal([]byte(r.Stdout), &recs); err != nil || r.Code != 0 || len(recs) != len(guests) {
		s.Fatalf("xmig %v: exit code %d, %v: %s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
	out := map[*cluster.Guest]string{}
	for _, rec := range recs {
		for _, g := range guests {
			if g.UUID == rec.VM.UUID {
				out[g] = rec.ID
			}
		}
	}
	return out
}

// stormPatience is how long all the moves of a round may take to end.
const stormPatience = 8 * time.Minute

// pass waits until all jobs of a round have ended, and strikes meanwhile.
func (s *storm) pass(all map[string]*cluster.Guest, meant map[string]jobs.StepName) {
	s.Helper()
	defer s.heal()
	open := map[string]bool{}
	for job := range all {
		open[job] = true
	}
	for end := time.Now().Add(stormPatience); len(open) > 0; {
		select {
		case e := <-s.seen:
			if step, ok := meant[e.Job]; ok && e.What == "step.begin" && e.Step == step {
				delete(meant, e.Job)
				s.strike(s.c.Record(e.Job))
			}
		case <-time.After(500 * time.Millisecond): // records are the truth; events may be lost with a link
			for job := range open {
				if rec := s.c.Record(job); rec.State.Final() || rec.State == jobs.Indeterminate {
					delete(open, job)
					s.take(rec, all[job])
				}
			}
		}
		if time.Now().After(end) {
			for job := range open {
				rec := s.c.Record(job)
				s.Errorf("job %s of %s is %s at step %s, held %+v, failure %+v", job, rec.VM.Name, rec.State, rec.Step, rec.Held, rec.Failure)
			}
			s.Fatalf("%d jobs do not end", len(open))
		}
	}
}

// strike does harm to a move that begins a step.
func (s *storm) strike(rec jobs.Record) {
	s.Helper()
	hosts := map[string]*cluster.Host{}
	for _, h := range s.c.Hosts {
		hosts[h.Name] = h
	}
	from, to := hosts[rec.Source], hosts[rec.Destination]
	what := []string{"source's worker", "destination's worker", "source's link", "xl"}[s.dice.IntN(4)]
	if what == "xl" && !from.Signal(syscall.SIGKILL, "xlsim ", " xl ") && !to.Signal(syscall.SIGKILL, "xlsim ", " xl ") {
		what = "destination's worker" // no command of either was at work
	}
	switch what {
	case "source's worker":
		revive(from)
	case "destination's worker":
		revive(to)
	case "source's link":
		from.Link.Cut(cluster.Refused)
		heal := time.AfterFunc(cluster.TTL+cluster.TTL/2, from.Link.Heal) // longer than any lease
		s.mend = append(s.mend, func() { heal.Stop(); from.Link.Heal() })
	}
	s.struck[what]++
	s.Logf("%s struck at step %s: %s (%s to %s)", rec.VM.Name, rec.Step, what, rec.Source, rec.Destination)
}

func revive(h *cluster.Host) {
	if h.Node.Alive() {
		h.Node.Kill()
	}
	h.Node.Start()
}

func (s *storm) heal() {
	for _, f := range s.mend {
		f()
	}
	s.mend = nil
}

// take notes how a move ended, and where its guest is then.
func (s *storm) take(rec jobs.Record, g *cluster.Guest) {
	s.Helper()
	if rec.State == jobs.Indeterminate {
		s.heal() // both hosts must answer
		s.c.AwaitHosts()
		s.ended[jobs.Indeterminate]++
		r := s.c.Command("resolve", rec.ID)
		if rec = s.c.Record(rec.ID); r.Code != 0 || !rec.State.Final() {
			s.Fatalf("resolve: exit code %d, and job %s is %s: %s%s", r.Code, rec.ID, rec.State, r.Stdout, r.Stderr)
		}
	}
	s.ended[rec.State]++
	s.last[g.UUID] = rec.ID
	if rec.State != jobs.Succeeded {
		if rec.Failure == nil || rec.Failure.Text == "" {
			s.Errorf("job %s of %s is %s and says no reason", rec.ID, rec.VM.Name, rec.State)
		} else {
			s.Logf("%s %s: %s", rec.VM.Name, rec.State, rec.Failure.Text)
		}
		return
	}
	for _, h := range s.c.Hosts {
		if h.Name == rec.Destination {
			s.at[g] = h
		}
	}
}

// judge: as many records as moves, limits held, every guest proven.
func (s *storm) judge(moves int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := s.c.Bus().Records().List(ctx)
	if err != nil || len(all) != moves {
		s.Errorf("%d moves have %d records: %v", moves, len(all), err)
	}
	struck := 0
	for _, n := range s.struck {
		struck += n
	}
	if struck < max(1, len(s.faults)/2) {
		s.Errorf("of %d moves that were to be struck %d were: the steps are over before", len(s.faults), struck)
	}
	for _, g := range s.guests {
		s.c.Proven(g, s.at[g], s.last[g.UUID])
	}
	limitsHeld(s.T, s.c, coordinator.DefaultLimits())
}
