package xenlab

import (
	"testing"

	"xmig/jobs"
	"xmig/test/moves"
)

// cut is a power cut of one host in one step of a move.
type cut struct {
	guest string
	end   moves.End
	step  jobs.StepName
}

// cuts are the places where a host's death means something different each time.
var cuts = []cut{
	{pvGuest, moves.SourceEnd, jobs.Seed},          // the guest dies with its host and boots there
	{pvhGuest, moves.DestinationEnd, jobs.Seed},    // half a copy; the move waits or is undone
	{pvGuest, moves.DestinationEnd, jobs.SealStep}, // the guest is held for a host that is gone
	{pvhGuest, moves.SourceEnd, jobs.HandOver},     // whose it is, its key and two journals say
	{pvGuest, moves.DestinationEnd, jobs.Resume},   // the copy that was given the right to run is lost
}

// TestPowerCuts: a dom0 loses its power. What had an autostart link on its disk
// boots with it; a copy that moved away must not.
func TestPowerCuts(t *testing.T) {
	brief(t, "a host that loses its power; with it the brief suite takes more than the half hour that CI has for it")
	for _, c := range cuts {
		t.Run(string(c.end)+"_in_"+string(c.step), func(t *testing.T) { powerCut(t, c) })
	}
}

func powerCut(t *testing.T, c cut) {
	l := open(t)
	moves.Cut(t, installation, c.guest, moves.Strike{
		End: c.end, Step: c.step,
		Before: func(hosts [2]string) {
			for _, host := range hosts {
				l.snapshot(c.guest, host, "/root/before.json")
			}
		},
		Hit:  func(host string) { l.lab("kill", host) },
		Mend: func(host string) { l.lab("boot", host); l.Revive(host) },
		After: func(at string) {
			l.kept(c.guest, at, "/root/before.json")
		},
	})
}
