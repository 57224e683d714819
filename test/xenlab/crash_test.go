package xenlab

import (
	"fmt"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/test/moves"
)

// What is killed, by its command line. In brackets: the pattern must not match
// the shell that looks for it.
const (
	sendingXL   = "^/usr/lib/xen-[0-9.]*/bin/[x]l migrate -s"
	receivingXL = "^/usr/lib/xen-[0-9.]*/bin/[x]l migrate-receive"
	sendingStub = "^/usr/local/bin/[x]mig xl-stub"
	worker      = "^/usr/local/bin/[x]mig node"
)

// crashPoints are the places of a live move at which something may die, each
// with other evidence left behind.
var crashPoints = []struct {
	what string
	end  moves.End
	step jobs.StepName
	kill string // a process, by its command line
	cut  time.Duration
	off  bool // the host loses its power
}{
	{what: "the source's worker while disks are copied", end: moves.SourceEnd, step: jobs.Seed, kill: worker},
	{what: "the link while the guest is held", end: moves.DestinationEnd, step: jobs.SealStep, cut: 40 * time.Second},
	{what: "the source's stub while memory flows", end: moves.SourceEnd, step: jobs.Stream, kill: sendingStub},
	{what: "xl at the source while the guest is held", end: moves.SourceEnd, step: jobs.SealStep, kill: sendingXL},
	{what: "the source while the guest is held", end: moves.SourceEnd, step: jobs.SealStep, off: true},
	{what: "the destination while memory flows", end: moves.DestinationEnd, step: jobs.Stream, off: true},
	{what: "the link at the hand-over", end: moves.DestinationEnd, step: jobs.HandOver, cut: 40 * time.Second},
	{what: "the link at the hand-over, for long", end: moves.DestinationEnd, step: jobs.HandOver, cut: 3 * time.Minute},
	{what: "the destination behind the hand-over", end: moves.DestinationEnd, step: jobs.Resume, off: true},
	{what: "the receiving xl while memory flows", end: moves.DestinationEnd, step: jobs.Stream, kill: receivingXL},
	{what: "the receiving xl behind the hand-over", end: moves.DestinationEnd, step: jobs.Resume, kill: receivingXL},
	{what: "xl at the source behind the hand-over", end: moves.SourceEnd, step: jobs.Resume, kill: sendingXL},
	{what: "the source at the hand-over", end: moves.SourceEnd, step: jobs.HandOver, off: true},
	{what: "the source's worker while it clears up", end: moves.SourceEnd, step: jobs.Settle, kill: worker},
	{what: "the destination's worker while it clears up", end: moves.DestinationEnd, step: jobs.Settle, kill: worker},
	{what: "the source's host while it clears up", end: moves.SourceEnd, step: jobs.Settle, off: true},
}

// TestCrashPoints has each of them die, waits, and wants the guest on one host,
// whole; the log is the table of outcomes.
func TestCrashPoints(t *testing.T) {
	brief(t, "what dies in live moves on real xl; test/matrix does all of it on simulated hosts")
	for i, p := range crashPoints {
		t.Run(fmt.Sprint(i+1, " ", p.what), func(t *testing.T) {
			l := open(t)
			begin := time.Now()
			s := moves.Strike{End: p.end, Step: p.step, Mode: jobs.Live, Resolve: true}
			switch {
			case p.kill != "":
				s.Hit = func(host string) { l.slay(host, p.kill) }
				s.Mend = l.Revive
			case p.off:
				s.Hit = func(host string) { l.lab("kill", host) }
				s.Mend = func(host string) { l.lab("boot", host); l.Revive(host) }
			default:
				s.Hit = func(host string) { l.link(host, "down") }
				s.Mend = func(host string) { time.Sleep(p.cut); l.link(host, "up") } // the fault is how long it lasts
			}
			moves.Cut(t, installation, pvhGuest, s)
			t.Logf("%d. %s: %s in all", i+1, p.what, time.Since(begin).Round(time.Second))
		})
	}
}

// slay ends a process of a host by SIGKILL, as soon as it is there.
func (l *lab) slay(host, pattern string) {
	l.t.Helper()
	l.on(host, fmt.Sprintf("for i in $(seq 600); do pkill -KILL -f '%s' && exit; sleep 0.1; done; exit 1", pattern))
}

// link takes a host's network away, or gives it back.
func (l *lab) link(host, state string) {
	l.t.Helper()
	l.lab("net", "ip", "link", "set", "tap-"+host, state)
}
