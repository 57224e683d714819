package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xmig/jobs"
	"xmig/test/cluster"
	"xmig/xen/xlsim"
)

// mended: what a person mends afterwards, each by one command.
func mended() []fault {
	return []fault{
		{name: "bus lost", short: true, do: busLost},
		{name: "bus lost while a guest is held", short: true, do: func(s *scene) { s.busLostIn(jobs.SealStep) }},
		{name: "bus lost while a guest is copied", do: func(s *scene) { s.busLostIn(jobs.Seed) }},
		{name: "bus lost behind the line", do: func(s *scene) { s.busLostIn(jobs.Resume) }},
		{name: "shadow whose time is over", short: true, do: shadowOver},
		{name: "shadow that may be the last copy", do: shadowLast},
		{name: "job tried again", do: triedAgain},
		{name: "what doctor finds", short: true, do: doctorFinds},
	}
}

// loseBus ends the server and all workers, takes away all that the bus stored,
// and starts all of them again.
func (s *scene) loseBus() {
	s.Helper()
	for _, h := range s.c.Hosts {
		if h.Node.Alive() {
			h.Node.Kill()
		}
	}
	s.c.Server.Kill()
	if err := os.RemoveAll(filepath.Join(s.c.Dir, "server")); err != nil {
		s.Fatal(err)
	}
	s.c.Server.Start()
	for _, h := range s.c.Hosts {
		h.Node.Start()
	}
	s.c.AwaitHosts()
}

// recover runs the command, which must end with this exit code.
func (s *scene) recover(code int, flags ...string) cluster.Result {
	s.Helper()
	r := s.c.Command(append([]string{"recover"}, flags...)...)
	if r.Code != code {
		s.Fatalf("recover %v: exit code %d, want %d:\n%s%s", flags, r.Code, code, r.Stdout, r.Stderr)
	}
	s.Logf("recover %v:\n%s%s", flags, r.Stdout, r.Stderr)
	return r
}

// busLost: a VM that has moved moves home after the bus was lost. A worker
// that stayed up finds its place on the new bus by itself.
func busLost(s *scene) {
	s.moves(s.submit())
	s.c.Proven(s.vm, s.here, s.job)
	s.c.Server.Kill()
	if err := os.RemoveAll(filepath.Join(s.c.Dir, "server")); err != nil {
		s.Fatal(err)
	}
	s.c.Server.Start()
	s.c.AwaitHosts()
	s.c.AwaitSeen(s.vm, s.here)
	s.there.Node.Stop()
	s.c.AwaitPresence(s.here)
	if r := s.recover(3); !strings.Contains(r.Stderr, s.there.Name) {
		s.Errorf("a host that a journal names is not there, and recover does not name it: %s", r.Stderr)
	}
	s.there.Node.Start()
	s.c.AwaitHosts()
	s.recover(0, "--dry-run")
	s.recover(0)
	if r := s.recover(0); !strings.Contains(r.Stdout, "as it was") {
		s.Errorf("a second recover changes something: %s", r.Stdout)
	}
	s.moves(s.submit())
}

// busLostIn: the bus and every worker die in a step. Recover settles the move
// by what the hosts promised; the VM runs on one host and moves again.
func (s *scene) busLostIn(step jobs.StepName) {
	flags := s.slow(step, longest)
	job := s.submit(flags...)
	s.c.AwaitStep(job, step)
	s.loseBus()
	s.slow(step, 0)
	s.recover(0)
	rec := s.c.Record(job)
	s.job = job
	if !rec.State.Final() {
		s.Fatalf("the job is %s after recover:\n%s", rec.State, s.c.Command("job", "show", job).Stdout)
	}
	if rec.State == jobs.Succeeded {
		s.here, s.there = s.there, s.here
	}
	s.c.Proven(s.vm, s.here, s.job)
	s.c.AwaitSeen(s.vm, s.here)
	s.moves(s.submit())
}

// shadowOver: the source removes what nobody wants any more by itself.
func shadowOver(s *scene) {
	s.moves(s.submit("--keep-source", "1s"))
	s.c.Eventually(func() error {
		if left := s.shadows(); len(left) > 0 {
			return fmt.Errorf("shadows are kept: %+v", left)
		}
		return nil
	})
	if files, _ := filepath.Glob(s.vm.Disk(s.there, 0) + "*"); len(files) > 0 {
		s.Errorf("the shadow is gone, and its file is not: %v", files)
	}
}

func (s *scene) shadows() (all []jobs.KeptDisk) {
	s.Helper()
	r := s.c.Command("shadow", "ls", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || r.Code != 0 {
		s.Fatalf("shadow ls: exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	return all
}

// shadowLast: while the VM is not seen where it went, its shadow may be the
// last copy and stays, however long its time is over; and a person may say so.
func shadowLast(s *scene) {
	s.moves(s.submit("--keep-source", "4s"))
	s.here.Node.Stop() // the VM's host is not seen any more
	s.c.AwaitPresence(s.there)
	s.c.Eventually(func() error {
		all := s.shadows()
		if len(all) != len(s.vm.Disks) {
			s.Fatalf("%d shadows of %d disks while the VM is not seen anywhere", len(all), len(s.vm.Disks))
		}
		if !slices.ContainsFunc(all, func(d jobs.KeptDisk) bool { return strings.Contains(d.Needs, "last copy") }) {
			return fmt.Errorf("nothing is said of the last copy: %+v", all)
		}
		return nil
	})
	if r := s.c.Command("shadow", "prune", s.vm.Disk(s.there, 0)); r.Code != 3 {
		s.Errorf("prune of what may be the last copy: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := s.c.Command("shadow", "prune", "--force", s.vm.Disk(s.there, 0)); r.Code != 0 || len(s.shadows()) != len(s.vm.Disks)-1 {
		s.Errorf("prune --force: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.here.Node.Start()
	s.c.AwaitHosts()
}

func triedAgain(s *scene) {
	s.there.Change(func(h *xlsim.HostSpec) { h.Faults = faultsOf("restore", 3) })
	job := s.submit()
	if rec := s.c.AwaitEnd(job); rec.State == jobs.Succeeded {
		s.Fatalf("restore fails, and the job is %s", rec.State)
	}
	r := s.c.Command("job", "retry", job, "--detach", "-o", "json")
	var again jobs.Record
	if err := json.Unmarshal([]byte(r.Stdout), &again); err != nil || r.Code != 0 || again.Spec.RetryOf != job {
		s.Fatalf("retry: exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	s.moves(again.ID)
	if r := s.c.Command("job", "retry", again.ID); r.Code != 3 {
		s.Errorf("retry of a job that succeeded: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := s.c.Command("job", "prune", job); r.Code != 0 || s.c.Command("job", "show", job).Code != 2 {
		s.Errorf("prune: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// doctorFinds: nothing on a sound cluster; and what spoils it, each by its name.
func doctorFinds(s *scene) {
	s.moves(s.submit())
	s.c.Proven(s.vm, s.here, s.job)
	s.c.Eventually(func() error {
		if r := s.c.Command("doctor"); r.Code != 0 {
			return fmt.Errorf("doctor finds on a sound cluster: %s%s", r.Stdout, r.Stderr)
		}
		return nil
	})
	other := s.c.Guest(s.there, cluster.GuestSpec{Name: "web02--incoming", State: cluster.Paused})
	image := filepath.Join(s.here.Dir, "save", s.vm.Name)
	if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
		s.Fatal(err)
	}
	s.write(image, "an image")
	staged := filepath.Join(s.there.State, "staged", "01J0000000000000000000000A.cfg")
	s.write(staged, "name = 'x'")
	r := s.c.Command("doctor", "-o", "json")
	var found []jobs.Finding
	if err := json.Unmarshal([]byte(r.Stdout), &found); err != nil || r.Code != 1 {
		s.Fatalf("doctor: exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	for _, want := range []string{s.there.Name + " bad migrating", s.here.Name + " bad saved_image", s.there.Name + " warn staged"} {
		if !slices.ContainsFunc(found, func(f jobs.Finding) bool {
			return fmt.Sprintf("%s %s %s", f.Host, f.Level, f.Code) == want && f.Next != ""
		}) {
			s.Errorf("doctor does not find %q: %s", want, r.Stdout)
		}
	}
	s.gone(other)
	for _, path := range []string{image, staged} {
		if err := os.Remove(path); err != nil {
			s.Fatal(err)
		}
	}
}
