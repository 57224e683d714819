package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// Silence is the longest time in which nothing was heard of a guest, and what
// else the record says of it.
type Silence struct {
	Guest  string
	Kind   string // beat, or echo: traffic in both directions on one connection
	Heard  int
	Length time.Duration // in nanoseconds
	From   time.Time     // last heard before
	To     time.Time     // first heard after
	Last   time.Time     // last heard at all
	Lost   int           // connections that ended
	Twice  int           // heartbeats that came twice: two copies ran
}

// errTwoCopies is what must never be.
var errTwoCopies = errors.New("heartbeats came twice: two copies of a guest ran at the same time")

// gaps prints the longest silence of each guest; it fails if two copies ran.
func gaps(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("gaps", flag.ContinueOnError)
	since := flags.String("since", "", "only what was heard after `TIME`: RFC 3339, or a duration before now")
	asJSON := flags.Bool("json", false, "print JSON")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return errUsage
	}
	from, err := parseSince(*since, time.Now())
	if err != nil {
		return err
	}
	f, err := os.Open(flags.Arg(0))
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := silences(f, from)
	if err != nil {
		return fmt.Errorf("gaps: %s: %w", flags.Arg(0), err)
	}
	if *asJSON {
		err = json.NewEncoder(out).Encode(found)
	} else {
		err = table(out, found)
	}
	if slices.ContainsFunc(found, func(s Silence) bool { return s.Twice > 0 }) {
		err = errors.Join(err, errTwoCopies)
	}
	return err
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

// silences reads a record. What was heard last before from still begins a gap.
func silences(r io.Reader, from time.Time) ([]Silence, error) {
	var found []*Silence
	of := func(guest, kind string) *Silence {
		for _, s := range found {
			if s.Guest == guest && s.Kind == kind {
				return s
			}
		}
		s := &Silence{Guest: guest, Kind: kind}
		found = append(found, s)
		return s
	}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		var nanos int64
		var kind, guest, boot string
		var number uint64
		if _, err := fmt.Sscan(lines.Text(), &nanos, &kind, &guest, &boot, &number); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		at := time.Unix(0, nanos)
		counts := !at.Before(from)
		switch kind {
		case kindBeat, kindEcho:
			of(guest, kind).hear(at, counts)
		case kindTwice:
			s := of(guest, kindBeat)
			s.hear(at, counts)
			if counts {
				s.Twice++
			}
		case kindLost:
			if counts {
				of(guest, kindEcho).Lost++
			}
		}
	}
	sorted := make([]Silence, len(found))
	for i, s := range found {
		sorted[i] = *s
	}
	slices.SortFunc(sorted, func(a, b Silence) int {
		return cmp.Or(cmp.Compare(a.Guest, b.Guest), cmp.Compare(a.Kind, b.Kind))
	})
	return sorted, lines.Err()
}

func (s *Silence) hear(at time.Time, counts bool) {
	if counts {
		s.Heard++
		if length := at.Sub(s.Last); !s.Last.IsZero() && length > s.Length {
			s.Length, s.From, s.To = length, s.Last, at
		}
	}
	s.Last = at
}

func table(out io.Writer, found []Silence) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GUEST\tKIND\tHEARD\tLONGEST SILENCE\tFROM\tLAST HEARD\tCONNECTIONS LOST\tTWICE")
	for _, s := range found {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%d\n", s.Guest, s.Kind, s.Heard, s.Length.Round(time.Millisecond),
			clock(s.From), clock(s.Last), s.Lost, s.Twice)
	}
	return w.Flush()
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("15:04:05.000")
}
