package faults

import (
	"fmt"
	"os"
	"sync"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// spoiled is content that changes where nobody but a fault would change it,
// and a toolstack that fails.
func spoiled() []fault {
	return []fault{
		{name: "corrupted chunk at the destination", short: true, do: func(s *scene) {
			s.spoil(func() string { return s.vm.Disk(s.there, 0) })
		}},
		{name: "digest mismatch at the source", do: func(s *scene) {
			s.spoil(func() string { return s.vm.Disk(s.here, 0) })
		}},
		{name: "xl restore fails once", do: func(s *scene) {
			s.there.Change(func(h *xlsim.HostSpec) { h.Faults = faultsOf("restore", 1) })
			s.moves(s.submit())
		}},
		{name: "xl restore fails always", short: true, do: func(s *scene) {
			s.there.Change(func(h *xlsim.HostSpec) { h.Faults = faultsOf("restore", 20) })
			s.refused(s.move()...)
		}},
		{name: "xl save fails always", do: func(s *scene) {
			s.here.Change(func(h *xlsim.HostSpec) { h.Faults = faultsOf("save", 20) })
			s.refused(s.move()...)
		}},
	}
}

func faultsOf(command string, times int) (all []xlsim.Fault) {
	for range times {
		all = append(all, xlsim.Fault{Command: command, Exit: 1, Text: "libxl: error: scripted: cannot " + command + "\n"})
	}
	return all
}

// unusedByte is in the free part of a simulated guest's disk, between its
// label and its first slot.
const unusedByte = 8192

// spoil keeps changing one byte of a disk while the guest stands still and its
// last pass is made and verified. That must be found; without the spoiler the
// next attempt succeeds.
func (s *scene) spoil(disk func() string) {
	s.Helper()
	s.there.Slow("list", firstSlow) // so that there is time between the last write and READY
	job := s.submit("--verify", "full")
	s.c.AwaitStep(job, jobs.Stream)
	end := s.spoiler(disk())
	rec := s.c.AwaitRecord(job, func(r jobs.Record) bool { return r.Failure != nil || r.State.Final() })
	end()
	s.there.Slow("list", 0)
	if rec.Failure == nil || rec.Failure.Code != jobs.CodeCorrupt || rec.Failure.Attempt != 1 {
		s.Errorf("content changed behind the last write, and that was not found: %s, failure %+v; see %s", rec.State, rec.Failure, s.there.Node.Log)
	}
	s.moves(job)
}

// spoiler changes a byte again and again until its end is asked for; then the
// byte is as it was.
func (s *scene) spoiler(path string) (end func()) {
	s.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		s.Fatal(err)
	}
	var was [1]byte
	if _, err := f.ReadAt(was[:], unusedByte); err != nil {
		s.Fatal(err)
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for n := byte(1); ; n++ {
			select {
			case <-stop:
				return
			default:
				_, _ = f.WriteAt([]byte{was[0] ^ n}, unusedByte) // judged by what the job finds
			}
		}
	})
	return func() {
		close(stop)
		done.Wait()
		if _, err := f.WriteAt(was[:], unusedByte); err != nil {
			s.Fatal(fmt.Errorf("mend %s: %w", path, err))
		}
		if err := f.Close(); err != nil {
			s.Fatal(err)
		}
	}
}
