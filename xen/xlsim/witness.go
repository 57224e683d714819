package xlsim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// beatEvery is the time between two heartbeats: short against any blackout
// that matters, long against a line's cost.
const beatEvery = 20 * time.Millisecond

// witness is a guest's side of the network: the proof, from outside, of where
// it ran and that no second copy did.
type witness struct {
	host, net, uuid string
	id              int
	running         *os.File // flock of the copy that runs
	beats           *os.File
	holds           bool
	lastSplit       time.Time
}

func openWitness(host, net, uuid string, id int) (*witness, error) {
	w := &witness{host: host, net: net, uuid: uuid, id: id}
	var err error
	if w.running, err = os.OpenFile(runningPath(net, uuid), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if w.beats, err = os.OpenFile(heartbeatPath(net, uuid), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("witness: %w", err), w.running.Close())
	}
	return w, nil
}

// enter is called when the guest begins to run.
func (w *witness) enter() {
	w.holds = syscall.Flock(int(w.running.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	if !w.holds {
		w.split()
	}
}

// leave is called when it stands.
func (w *witness) leave() {
	if w.holds {
		_ = syscall.Flock(int(w.running.Fd()), syscall.LOCK_UN) // cannot fail on an open file
	}
	w.holds = false
}

// beat adds a heartbeat. While another copy runs it says so, once a second.
func (w *witness) beat(now time.Time, n uint64) error {
	if !w.holds && now.Sub(w.lastSplit) >= time.Second {
		w.enter()
	}
	_, err := fmt.Fprintf(w.beats, "%d %s %d %d\n", now.UnixNano(), w.host, w.id, n)
	return err
}

func (w *witness) split() {
	w.lastSplit = time.Now()
	w.violation("SPLIT BRAIN: another copy of this guest runs at the same time")
}

// violation records what must never happen, where every test looks.
func (w *witness) violation(text string) {
	f, err := os.OpenFile(violationsPath(w.net, w.uuid), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %s domain %d: %s\n", time.Now().UTC().Format(time.RFC3339Nano), w.host, w.id, text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "xlsim: violation %q could not be recorded: %v\n", text, err)
	}
}

func (w *witness) close() error { return errors.Join(w.running.Close(), w.beats.Close()) }

// Violations are the lines of a guest's violations file; none is good.
func Violations(net, uuid string) ([]string, error) {
	data, err := os.ReadFile(violationsPath(net, uuid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// Gap is a time in which no copy of a guest ran, as its heartbeats tell.
type Gap struct {
	From, To         time.Time // last beat before, first beat after
	FromHost, ToHost string
	FromID, ToID     int
}

// Length is the blackout as the world saw it.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// HostChanged: the guest went on somewhere else.
func (g Gap) HostChanged() bool { return g.FromHost != g.ToHost }

// Blackouts are the gaps in a guest's heartbeat, the longest first: all longer
// than five beats, and every one with a change of host.
func Blackouts(net, uuid string) ([]Gap, error) {
	f, err := os.Open(heartbeatPath(net, uuid))
	if err != nil {
		return nil, fmt.Errorf("blackouts: %w", err)
	}
	defer f.Close()
	var gaps []Gap
	var last Gap // its From is the beat before
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var at int64
		var host string
		var id int
		var seq uint64
		if _, err := fmt.Sscan(lines.Text(), &at, &host, &id, &seq); err != nil {
			return nil, fmt.Errorf("blackouts: %s line %d: %w", f.Name(), n, err)
		}
		next := Gap{From: time.Unix(0, at), FromHost: host, FromID: id}
		if n > 1 {
			last.To, last.ToHost, last.ToID = next.From, host, id
			if last.HostChanged() || last.Length() > 5*beatEvery {
				gaps = append(gaps, last)
			}
		}
		last = next
	}
	slices.SortStableFunc(gaps, func(a, b Gap) int { return int(b.Length()/time.Microsecond - a.Length()/time.Microsecond) })
	return gaps, lines.Err()
}
