package moves

import (
	"slices"
	"strings"
	"testing"

	"xmig/jobs"
)

// blocked is the exit code of a move that the checks refuse.
const blocked = 3

// ThereAndBack moves a guest to the other host and home again by one mode, times over.
func ThereAndBack(t *testing.T, open Open, guest string, mode jobs.Mode, times int) {
	m := begin(t, open, guest)
	for range 2 * times {
		rec := m.move("--mode", string(mode))
		if rec.Plan.Mode != mode {
			t.Fatalf("%s was moved by %s, asked for was %s", guest, rec.Plan.Mode, mode)
		}
		t.Logf("%s %s → %s by %s: predicted blackout %s, measured %s, %d attempts",
			guest, rec.Source, rec.Destination, mode, rec.Report.Predicted.Round(tenth), rec.Report.Blackout.Round(tenth), rec.Attempt)
	}
}

// Preflight has every obstacle named by the check, and nothing changed by it.
func Preflight(t *testing.T, open Open, guest string) {
	m := begin(t, open, guest)
	for _, o := range m.Obstacles(guest, m.there) {
		t.Run(strings.ReplaceAll(o.Name, " ", "_"), func(t *testing.T) {
			o.Place()
			before := m.Still()
			said := m.Xmig(m.MoveArgs(guest, m.there, o.Move...)...)
			if said.Code != blocked {
				t.Errorf("exit code %d, want %d: %s%s", said.Code, blocked, said.Stdout, said.Stderr)
			}
			for _, word := range o.Named {
				if !strings.Contains(said.Stderr+said.Stdout, word) {
					t.Errorf("%q is not in: %s%s", word, said.Stdout, said.Stderr)
				}
			}
			if after := m.Still(); after != before {
				t.Errorf("a refusal changed something.\nbefore:\n%s\nafter:\n%s", before, after)
			}
			o.Clear()
		})
	}
	m.move() // nothing is in the way any more
}

// End is one of a move's two hosts.
type End string

const (
	SourceEnd      End = "source"
	DestinationEnd End = "destination"
)

// sweeps is how many moves may be made until each step was hit: a step may be
// over before a kill arrives.
const sweeps = 4

// Killed ends one end's worker in every step of a move, each time by SIGKILL
// and for good measure in one and the same move: it must arrive, or be undone.
func Killed(t *testing.T, open Open, guest string, end End, mode jobs.Mode) {
	m := begin(t, open, guest)
	left := jobs.Steps()
	for range sweeps {
		hit := m.sweep(end, left, "--mode", string(mode))
		left = slices.DeleteFunc(left, func(s jobs.StepName) bool { return slices.Contains(hit, s) })
		if len(left) == 0 {
			return
		}
		t.Logf("not hit in time yet: %v", left)
	}
	t.Errorf("%s killed: no move was hit in the steps %v: nothing is proven of them", end, left)
}

// Strike is what is done to a host in the middle of a move.
type Strike struct {
	End     End // none: the source
	Step    jobs.StepName
	Mode    jobs.Mode             // of the move; none: suspend
	Before  func(hosts [2]string) // source, destination; nil: nothing
	Hit     func(host string)     // nil: nothing
	Cancel  bool                  // the user cancels the job then
	Mend    func(host string)     // nil: nothing is to be mended
	Resolve bool                  // where nobody knows, `xmig resolve` is asked, once
	After   func(at string)       // nil: nothing more to look at
}

// Cut strikes a host in one step, mends it, and wants the guest on one host,
// whole, whatever the job came to.
func Cut(t *testing.T, open Open, guest string, s Strike) {
	begin(t, open, guest).strike(s)
}

// Cancelled has the user cancel a move in each of the steps before the line:
// every time the guest runs on where it was.
func Cancelled(t *testing.T, open Open, guest string, mode jobs.Mode) {
	m := begin(t, open, guest)
	for _, step := range jobs.Steps() {
		if step == jobs.HandOver {
			return
		}
		m.cancelled(Strike{Step: step, Mode: mode, Cancel: true})
	}
}

// CancelledIn is Cancelled in one step, of a move that something is done to.
func CancelledIn(t *testing.T, open Open, guest string, s Strike) {
	m := begin(t, open, guest)
	s.Cancel = true
	m.cancelled(s)
}

// cancelled strikes until a cancel came in time: it may come behind the line.
func (m *mover) cancelled(s Strike) {
	m.t.Helper()
	for range sweeps {
		if m.strike(s) == jobs.Cancelled {
			return
		}
	}
	m.t.Errorf("no cancel came in step %s: nothing is proven of it", s.Step)
}

// Held is Cut of a source that stands still between SEALED and the hand-over:
// the move must succeed in the end.
func Held(t *testing.T, open Open, guest string, s Strike) {
	m := begin(t, open, guest)
	s.End, s.Step = SourceEnd, jobs.SealStep
	m.strike(s)
}

// Away moves a guest to the other host, has something done to it there, and
// takes it home again.
func Away(t *testing.T, open Open, guest string, do func(at string)) {
	m := begin(t, open, guest)
	m.move()
	do(m.here)
	m.Proven(guest, m.here, "")
	m.move()
}
