package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// What can be done to an installation beside killing its daemons. None of it
// fails a test when there is nothing to hit: it says so.

// Freeze stops the daemon as it stands, as a machine does that swaps or hangs.
func (p *Process) Freeze() { p.send(syscall.SIGSTOP) }

// Thaw lets a frozen daemon go on.
func (p *Process) Thaw() { p.send(syscall.SIGCONT) }

func (p *Process) send(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v", p.Name, err)
	}
}

// Signal hits those processes of the host that are no daemon and whose command
// line begins with the first word and has all others, its toolstack's commands
// and what belongs to them, and tells whether there was one.
func (h *Host) Signal(sig syscall.Signal, begin string, words ...string) (hit bool) {
	h.c.t.Helper()
	all, err := running(h.Dir)
	if err != nil {
		h.c.t.Fatal(err)
	}
	for pid, line := range all {
		meant := strings.HasPrefix(line, begin)
		for _, w := range words {
			meant = meant && strings.Contains(line+" ", w)
		}
		if !meant {
			continue
		}
		err := syscall.Kill(pid, sig)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			h.c.t.Fatal(err)
		}
		hit = hit || err == nil
	}
	return hit
}

// Freeze stops all that runs on the host, its guests too, as a machine does
// that hangs.
func (h *Host) Freeze() {
	h.c.t.Helper()
	for stopped := map[int]bool{}; ; {
		all, err := running(h.Dir)
		if err != nil {
			h.c.t.Fatal(err)
		}
		before := len(stopped)
		for pid := range all {
			stopped[pid] = true
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				h.c.t.Fatal(err)
			}
		}
		if len(stopped) == before { // none was started while we looked
			return
		}
	}
}

// Thaw lets it go on.
func (h *Host) Thaw() {
	h.c.t.Helper()
	all, err := running(h.Dir)
	if err != nil {
		h.c.t.Fatal(err)
	}
	for pid := range all {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			h.c.t.Fatal(err)
		}
	}
}

// PowerOff ends all that runs on the host at once: its worker, its toolstack's
// commands and its guests. The next boot is another one.
func (h *Host) PowerOff() {
	h.c.t.Helper()
	if h.Node.Alive() {
		h.Node.Kill()
	}
	if err := errors.Join(xlsim.StopHost(h.Dir), endAll(h.Dir)); err != nil {
		h.c.t.Fatalf("power off %s: %v", h.Name, err)
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "boot-id"), []byte(rand.Text()), 0o600); err != nil {
		h.c.t.Fatal(err)
	}
}

// PowerOn boots the host: the guests that its autostart links name, as
// xendomains does, and its worker.
func (h *Host) PowerOn() {
	h.c.t.Helper()
	links, err := filepath.Glob(filepath.Join(h.configs(), "auto", "*"))
	if err != nil {
		h.c.t.Fatal(err)
	}
	for _, l := range links {
		h.XL("create", l)
	}
	h.Node.Start()
}

// Reinstall gives the host a new system and empty disks under its old name: all
// that it had is gone. Its worker is to be started.
func (h *Host) Reinstall() {
	h.c.t.Helper()
	h.PowerOff()
	if err := errors.Join(os.RemoveAll(h.Dir), os.RemoveAll(h.State)); err != nil {
		h.c.t.Fatalf("reinstall %s: %v", h.Name, err)
	}
	h.install()
}

// smallDisk is what a host's state directory holds with Settings.Harmed.
const smallDisk = 24 << 20

// mountSmall gives the host's state directory a disk of its own that can be filled.
func (h *Host) mountSmall() {
	if err := os.MkdirAll(h.State, 0o700); err != nil {
		h.c.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", h.State, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", smallDisk)); err != nil {
		h.c.t.Skipf("SKIPPED: no disk of its own for %s (needs root: %v); full disks were not tested", h.State, err)
	}
	h.c.t.Cleanup(func() {
		if err := syscall.Unmount(h.State, syscall.MNT_DETACH); err != nil {
			h.c.t.Errorf("unmount %s: %v", h.State, err)
		}
	})
}

// FillDisk leaves no room on the worker's disk; FreeDisk gives it back.
func (h *Host) FillDisk() {
	h.c.t.Helper()
	f, err := os.OpenFile(h.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.c.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		h.c.t.Fatalf("fill the disk of %s: %v", h.Name, err)
	}
}

func (h *Host) FreeDisk() {
	h.c.t.Helper()
	if err := os.Remove(h.filler()); err != nil {
		h.c.t.Fatal(err)
	}
}

func (h *Host) filler() string { return filepath.Join(h.State, "filler") }

// SlowStep has a step of a move take about d longer, by what it does: a command
// of one end's toolstack, or bytes. It returns the flags that the move needs
// for that. With 0 all is as quick as ever.
func (c *Cluster) SlowStep(step jobs.StepName, d time.Duration, here, there *Host) (flags []string) {
	c.t.Helper()
	switch step {
	case jobs.Check:
		there.Slow("info", d)
	case jobs.Reserve:
		there.Slow("list", d)
	case jobs.SealStep:
		there.Slow("list", d)
		there.Slow("create", d) // of a cold move
		there.Change(func(h *xlsim.HostSpec) { h.ReadyDelay = d })
	case jobs.Prepare:
		here.Slow("xenstore-ls", d)
	case jobs.Seed, jobs.Converge:
		if d > 0 {
			flags = []string{"--bwlimit", fmt.Sprint(int64(3 << 20 / d.Seconds()))}
		}
	case jobs.Stream:
		here.Slow("shutdown", d) // of a cold move
		here.Change(func(h *xlsim.HostSpec) {
			h.SaveRate = 0
			if d > 0 {
				h.SaveRate = int64(32 << 20 / d.Seconds())
			}
		})
	case jobs.HandOver:
		here.Slow("list", d)
	case jobs.Resume:
		there.Slow("unpause", d)
	case jobs.Settle:
		here.Slow("destroy", d)
	}
	return flags
}
