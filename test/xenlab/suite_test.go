package xenlab

import (
	"fmt"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/moves"
)

// brief skips a test in the brief suite, which CI has half an hour for.
func brief(t *testing.T, what string) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED with -short, and CI does not run the whole suite, which takes hours: " + what)
	}
}

// TestConformance holds the driver of package xen to what it promises, on the
// real xl of both hosts.
func TestConformance(t *testing.T) {
	brief(t, "each of the driver's commands on the real xl; moves go through most of them")
	for _, kind := range []string{"pvh", "pv"} {
		t.Run(kind, func(t *testing.T) { t.Log(open(t).lab("conform", kind)) })
	}
}

// TestVolumes runs storage's tests of logical volumes on a host's lvm2.
func TestVolumes(t *testing.T) {
	brief(t, "storage's tests on the real lvm2; each move makes, fills and retires volumes")
	t.Log(open(t).lab("volumes"))
}

func TestPreflight(t *testing.T) { moves.Preflight(t, installation, pvGuest) }

func TestThereAndBack(t *testing.T) {
	brief(t, "there and back by suspend and cold; the preflight and the kills move d1 by suspend")
	for _, mode := range []jobs.Mode{jobs.Suspend, jobs.Cold} {
		for _, guest := range []string{pvGuest, pvhGuest} {
			t.Run(guest+"_"+string(mode), func(t *testing.T) { moves.ThereAndBack(t, installation, guest, mode, 1) })
		}
	}
}

// TestLive moves the PVH guest, its memory flowing while it runs, ten times
// there and back.
func TestLive(t *testing.T) {
	brief(t, "ten live moves there and back in a row")
	moves.ThereAndBack(t, installation, pvhGuest, jobs.Live, 10)
}

// TestCancelled has the user cancel live moves in each step before the line,
// with xl's answer held, and with the memory's last bytes held. It judges no
// speed: whoever reads it does.
func TestCancelled(t *testing.T) {
	brief(t, "live moves that the user cancels, in each step before the line")
	t.Run("steps", func(t *testing.T) { moves.Cancelled(t, installation, pvhGuest, jobs.Live) })
	t.Run("READY held", func(t *testing.T) {
		s := open(t).trapped(pvhGuest, func(string) {})
		s.Mode = jobs.Live
		moves.CancelledIn(t, installation, pvhGuest, s)
	})
	t.Run("END held", func(t *testing.T) {
		l := open(t)
		defer l.alone()()
		defer l.lab("spare-gone") // not as a clean-up, when the lab's commands are ended already
		l.spare("qdisk")
		moves.CancelledIn(t, installation, spareGuest, moves.Strike{Step: jobs.SealStep, Mode: jobs.Live, Hit: func(host string) {
			for _, at := range l.Hosts() {
				if at == host {
					continue
				}
				if of := l.on(at, "xenstore-ls -f /local/domain/0/backend | grep -c c1- || true"); strings.TrimSpace(of) != "0" {
					t.Errorf("%s has attached disks although END is held", at)
				}
			}
		}})
	})
}

// TestHeld stops a move right where both copies are held, and compares what the
// disks of both hosts hold.
func TestHeld(t *testing.T) {
	brief(t, "what the disks of both hosts hold while both copies are held")
	l := open(t)
	moves.Held(t, installation, pvGuest, l.trapped(pvGuest, func(host string) {
		sums := map[string]string{}
		for _, host := range l.Hosts() {
			sums[host] = l.on(host, fmt.Sprintf("for d in %s; do dd if=/dev/vg0/$d bs=1M iflag=direct status=none | md5sum; done", strings.Join(disksOf(pvGuest), " ")))
			if err := l.stands(pvGuest, host); err != nil {
				t.Error(err)
			}
		}
		if a, b := sums["xen1"], sums["xen2"]; a != b || len(strings.Fields(a)) != 2*len(disksOf(pvGuest)) {
			t.Fatalf("the disks differ while both copies are held, and stay so for you to look; the worker of %s is stopped:\n%s\n%s", host, a, b)
		} else {
			t.Logf("all disks are equal while both copies are held: %s", strings.Join(strings.Fields(a), " "))
		}
	}))
}

// trapped stops the source's worker right behind SEALED, where both copies are
// held, has something done while they are, and lets it go on.
func (l *lab) trapped(guest string, do func(host string)) moves.Strike {
	return moves.Strike{
		Step: jobs.SealStep,
		// A trap on the source itself: ssh would come too late.
		Before: func(hosts [2]string) {
			l.on(hosts[0], `nohup sh -c 'sealed() { cat /var/lib/xmig/journals/* 2>/dev/null | grep -c "\"SEALED\""; }
before=$(sealed)
until [ $(sealed) -gt $before ]; do sleep 0.02; done
kill -STOP $(systemctl show -p MainPID --value xmig-node)' >/dev/null 2>&1 </dev/null &`)
		},
		Hit: func(host string) {
			l.eventually(func() error {
				if stat := l.on(host, "ps -o stat= -p $(systemctl show -p MainPID --value xmig-node)"); !strings.HasPrefix(stat, "T") {
					return fmt.Errorf("the worker on %s is not stopped yet: %s", host, stat)
				}
				return nil
			})
			for _, at := range l.Hosts() {
				l.eventually(func() error { return l.stands(guest, at) })
			}
			do(host)
		},
		Mend: func(host string) { l.on(host, "kill -CONT $(systemctl show -p MainPID --value xmig-node)") },
	}
}

// stands tells whether a host's copy of the guest is there and does not run.
func (l *lab) stands(guest, host string) error {
	l.t.Helper()
	line := strings.Fields(l.on(host, "xl list | grep '^"+guest+"' || true"))
	if len(line) < 6 || !strings.Contains(line[4], "p") && !strings.Contains(line[4], "s") {
		return fmt.Errorf("%s: its copy of %s is not held: %q", host, guest, line)
	}
	return nil
}

// TestReboot: a guest reboots where it came to: the PV guest by suspend, the
// PVH guest by a live move.
func TestReboot(t *testing.T) {
	brief(t, "a reboot of each guest between two moves")
	for _, guest := range []string{pvGuest, pvhGuest} {
		t.Run(guest, func(t *testing.T) {
			l := open(t)
			moves.Away(t, installation, guest, func(at string) { l.reboot(guest, at) })
		})
	}
}

// reboot has a guest reboot, and waits until it is well again.
func (l *lab) reboot(guest, at string) {
	l.t.Helper()
	before := l.on(at, "xl domid "+guest)
	l.on(at, "xl reboot "+guest)
	l.eventually(func() error {
		said := l.command("./lab", "ssh", at, "xl domid "+guest)
		if said.Code != 0 || said.Stdout == before {
			return fmt.Errorf("%s is still domain %s", guest, before)
		}
		return nil
	})
	l.well(guest)
}

func TestKilled(t *testing.T) {
	for guest, end := range map[string]moves.End{pvGuest: moves.SourceEnd, pvhGuest: moves.DestinationEnd} {
		if testing.Short() && end == moves.DestinationEnd {
			continue
		}
		t.Run(string(end), func(t *testing.T) { moves.Killed(t, installation, guest, end, jobs.Suspend) })
	}
}
