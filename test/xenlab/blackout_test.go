package xenlab

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"xmig/jobs"
)

const blackoutRounds = 3

// away is one move as it was seen from outside, and by xmig itself.
type away struct {
	how                 string
	beat, echo          time.Duration // the longest silences
	lost                int           // connections that ended
	predicted, measured time.Duration
	final               time.Duration // the pass of the disks within the blackout
}

// TestBlackout prints what the guest's network saw of a move by xl alone, with
// disks that were equal before, beside what it saw of one by xmig. It judges no
// speed: whoever reads it does.
func TestBlackout(t *testing.T) {
	brief(t, "the table of blackouts")
	l := open(t)
	defer l.alone()()
	defer l.lab("spare-gone") // not as a clean-up, when the lab's commands are ended already
	var table []away
	l.lab("spare", "pvh")
	l.on("xen1", "xl create -q /root/c1.cfg")
	l.well(spareGuest)
	for round := range blackoutRounds {
		from, to := l.Hosts()[round%2], l.Hosts()[(round+1)%2]
		table = append(table, l.byHand(from, to))
	}
	l.lab("spare-gone")

	l.spare()
	for round := range blackoutRounds {
		table = append(table, l.byXmig(l.Hosts()[(round+1)%2]))
	}
	l.well(spareGuest)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "by\theartbeat silent\techo silent\tconnections lost\tpredicted\tmeasured\tfinal pass\t")
	for _, a := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t\n", a.how, short(a.beat), short(a.echo), a.lost, short(a.predicted), short(a.measured), short(a.final))
	}
	w.Flush()
	t.Logf("blackouts of a PVH guest of 144 MiB, 88 MiB of disks:\n%s", &b)
}

func short(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(10 * time.Millisecond).String()
}

// byHand makes the disks equal while the guest is held, and has xl move it
// alone. What it writes to its disks from then on is lost: it is measured, and
// not used again.
func (l *lab) byHand(from, to string) away {
	l.t.Helper()
	var copies []string
	for _, disk := range disksOf(spareGuest) {
		copies = append(copies, fmt.Sprintf("dd if=/dev/vg0/%[1]s bs=1M iflag=direct status=none | ssh %[2]s dd of=/dev/vg0/%[1]s bs=1M oflag=direct iflag=fullblock status=none", disk, to))
	}
	l.on(from, "set -e; xl pause c1; "+strings.Join(copies, "; ")+"; xl unpause c1")
	l.beats()
	begin := time.Now()
	l.on(from, "xl migrate c1 "+to)
	l.beats()
	a := l.silence(begin)
	a.how = "xl migrate alone"
	return a
}

func (l *lab) byXmig(to string) away {
	l.t.Helper()
	l.beats()
	begin := time.Now()
	said := l.Xmig(l.MoveArgs(spareGuest, to, "--mode", string(jobs.Live), "--wait", "-o", "json")...)
	var recs []jobs.Record
	if err := json.Unmarshal([]byte(said.Stdout), &recs); err != nil || len(recs) != 1 || recs[0].State != jobs.Succeeded {
		l.t.Fatalf("move of %s: exit code %d, %v: %s%s", spareGuest, said.Code, err, said.Stdout, said.Stderr)
	}
	l.beats()
	a := l.silence(begin)
	report := recs[0].Report
	a.how, a.predicted, a.measured = "xmig", report.Predicted, report.Blackout
	for _, p := range report.Passes {
		if p.Kind == jobs.FinalPass {
			a.final = p.Elapsed
		}
	}
	return a
}

// beats waits until the guest was heard within the last seconds.
func (l *lab) beats() {
	l.t.Helper()
	from := time.Now()
	l.eventually(func() error {
		if a := l.silence(from); a.beat == 0 {
			return fmt.Errorf("no heartbeat of %s since %s", spareGuest, from.Format(time.TimeOnly))
		}
		return nil
	})
}

// silence is what was heard of the spare guest since then.
func (l *lab) silence(since time.Time) (a away) {
	l.t.Helper()
	var heard []struct {
		Guest, Kind string
		Length      time.Duration
		Lost        int
	}
	text := l.lab("gaps", "-json", "-since", since.UTC().Format(time.RFC3339Nano))
	if err := json.Unmarshal([]byte(text), &heard); err != nil {
		l.t.Fatalf("gaps: %v: %s", err, text)
	}
	for _, h := range heard {
		if h.Guest != spareGuest {
			continue
		}
		if a.lost += h.Lost; h.Kind == "echo" {
			a.echo = h.Length
		} else {
			a.beat = h.Length
		}
	}
	return a
}
