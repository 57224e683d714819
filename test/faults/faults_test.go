package faults

import (
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// fault is a row: what is done to a move of a guest from here to there.
type fault struct {
	name  string
	short bool // in the short table too
	guest cluster.GuestSpec
	do    func(s *scene)
}

// scene is a row at work.
type scene struct {
	*testing.T
	c           *cluster.Cluster
	vm          *cluster.Guest
	here, there *cluster.Host // where the guest is, and where it shall go
	job         string        // whose leftovers may be named; empty: no job came to be
	told        []cluster.Result
}

// twoAtATime: more clusters than processors only make each of them slow.
var twoAtATime = make(chan struct{}, 2)

func TestFaults(t *testing.T) {
	golden := openGolden(t)
	for _, f := range table() {
		if testing.Short() && !f.short {
			continue
		}
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			twoAtATime <- struct{}{}
			defer func() { <-twoAtATime }()
			s := &scene{T: t, c: cluster.New(t, cluster.Settings{})}
			s.here, s.there = s.c.Hosts[0], s.c.Hosts[1]
			if f.guest.Name == "" {
				f.guest.Name = "web01"
			}
			s.vm = s.c.Guest(s.here, f.guest)
			s.c.AwaitSeen(s.vm, s.here)
			f.do(s)
			s.c.Proven(s.vm, s.here, s.job)
			golden.hold(t, f.name, s.c.Dir, s.told)
		})
	}
}

// table is all rows.
func table() []fault {
	var all []fault
	for _, part := range [][]fault{requests(), places(), spoiled(), killed(), cutOff(), resolvedByHand(), mended()} {
		all = append(all, part...)
	}
	return all
}

// refused runs a command line that must fail, and keeps what it says.
func (s *scene) refused(args ...string) cluster.Result {
	s.Helper()
	r := s.c.Command(args...)
	if r.Code == 0 {
		s.Errorf("xmig %s: exit code 0, it must fail: %s", strings.Join(args, " "), r.Stdout)
	}
	s.told = append(s.told, r)
	return r
}

// move is the command line of the row's move.
func (s *scene) move(more ...string) []string { return s.c.MoveArgs(s.vm, s.here, s.there, more...) }

// moves waits for a job that must carry on to its good end, whatever was done.
func (s *scene) moves(job string) jobs.Record {
	s.Helper()
	rec := s.c.AwaitEnd(job)
	s.job = job
	if rec.State != jobs.Succeeded {
		s.Fatalf("the job did not carry on:\n%s%s", s.c.Command("job", "show", job).Stdout, s.c.Command("job", "logs", job).Stdout)
	}
	s.here, s.there = s.there, s.here
	return rec
}
