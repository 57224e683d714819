package faults

import (
	"fmt"
	"os"
	"strings"

	"xmig/jobs"
	"xmig/test/cluster"
	"xmig/xen/xlsim"
)

// resolved: what no worker can drive on ends by one command of a person.
func resolvedByHand() []fault {
	return []fault{
		{name: "copy gone behind GO", short: true, do: copyGone},
		{name: "source host lost behind the line", short: true, do: sourceLost},
		{name: "source host lost behind the line and nobody says so", do: sourceLostUntold},
		{name: "destination host lost behind the line", short: true, do: destinationLost},
		{name: "nothing to resolve", do: func(s *scene) {
			s.here.Slow("list", firstSlow)
			job := s.submit()
			s.c.AwaitStep(job, jobs.Seed)
			if r := s.c.Command("resolve", job); r.Code != 4 {
				s.Errorf("exit code %d of a job that is driven, want 4:\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			s.here.Slow("list", 0)
			s.moves(job)
			if r := s.c.Command("resolve", job); r.Code != 0 {
				s.Errorf("exit code %d of a job that succeeded:\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
		}},
	}
}

// resolve runs the command that must end a job, first as a dry run.
func (s *scene) resolve(job string, state jobs.State, flags ...string) {
	s.Helper()
	before := s.c.Record(job)
	dry := s.c.Command(append([]string{"resolve", job, "--dry-run"}, flags...)...)
	if now := s.c.Record(job); now.State != before.State || dry.Code != 0 {
		s.Errorf("--dry-run: exit code %d, and the job is %s, it was %s:\n%s%s", dry.Code, now.State, before.State, dry.Stdout, dry.Stderr)
	}
	r := s.c.Command(append([]string{"resolve", job}, flags...)...)
	if rec := s.c.Record(job); r.Code != 0 || rec.State != state {
		s.Fatalf("resolve: exit code %d, the job is %s, want %s:\n%s%s", r.Code, rec.State, state, r.Stdout, r.Stderr)
	}
	s.Logf("%s%s", dry.Stdout, r.Stdout)
	s.job = job
}

// copyGone: the destination's copy is destroyed right after it was let go, so
// that nobody can tell whether it ran. It is booted there.
func copyGone(s *scene) {
	s.there.Slow("unpause", longest)
	job := s.submit()
	s.promised(s.there, "GO")
	s.there.XL("destroy", s.vm.Name)
	rec := s.c.AwaitEnd(job)
	s.there.Slow("unpause", 0)
	if rec.State != jobs.Indeterminate {
		s.Fatalf("the copy vanished behind GO, and the job is %s: %+v", rec.State, rec.Failure)
	}
	s.resolve(job, jobs.Succeeded)
	s.here, s.there = s.there, s.here
}

// sourceLost: the source's host dies behind the line, with its suspended copy.
// The destination lets its copy go by itself, and a person's word ends the job.
// When the host comes back all the same, it gives up what it has.
func sourceLost(s *scene) {
	job := s.overTheLine(s.here)
	s.runs(s.there)
	s.resolve(job, jobs.Succeeded, "--lost", s.here.Name)
	s.here.Node.Start()
	s.c.AwaitHosts()
	s.here, s.there = s.there, s.here
}

// sourceLostUntold: without a person's word the job waits for its source.
func sourceLostUntold(s *scene) {
	job := s.overTheLine(s.here)
	s.runs(s.there)
	s.c.AwaitPresence(s.there)
	s.c.Eventually(func() error {
		if r := s.c.Command("resolve", job); r.Code != 4 {
			return fmt.Errorf("exit code %d, want 4: it goes on when the source is back:\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
	s.here.Node.Start()
	s.moves(job)
}

// destinationLost: the destination's host dies when the VM is its, before it
// ran there. By a person's word the guest runs on at the source; the host that
// comes back takes away what it has.
func destinationLost(s *scene) {
	job := s.overTheLine(s.there)
	s.c.AwaitPresence(s.here)
	if r := s.c.Command("resolve", job); r.Code != 4 {
		s.Errorf("exit code %d, want 4: the source's worker waits for the destination:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.resolve(job, jobs.RolledBack, "--lost", s.there.Name)
	s.runs(s.here)
	s.there.Node.Start()
	s.c.AwaitHosts()
}

// overTheLine submits a move and has one of its hosts die, guests and all,
// when the owner key was swapped and nothing was let go.
func (s *scene) overTheLine(dies *cluster.Host) (job string) {
	s.Helper()
	s.there.Slow("list", firstSlow)
	job = s.submit()
	s.c.AwaitStep(job, jobs.SealStep)
	s.there.Slow("list", longest) // Go looks before it promises
	s.promised(s.here, "COMMITTING")
	s.c.AwaitStep(job, jobs.Resume)
	dies.Node.Kill()
	if err := xlsim.StopHost(dies.Dir); err != nil {
		s.Fatal(err)
	}
	s.there.Slow("list", 0)
	return job
}

// promised waits until a host has promised a fact about the guest.
func (s *scene) promised(h *cluster.Host, fact string) {
	s.Helper()
	path := h.State + "/journals/" + s.vm.UUID + ".journal"
	s.c.Eventually(func() error {
		text, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(text), fmt.Sprintf("%q:%q", "fact", fact)) {
			err = fmt.Errorf("%s has not promised %s: %s", h.Name, fact, text)
		}
		return err
	})
}
