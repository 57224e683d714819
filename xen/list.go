package xen

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Domain is a line of `xl list -v`.
type Domain struct {
	ID      int
	Name    string // "(null)" while it is being destroyed
	UUID    string
	Memory  int64 // bytes it has now, in whole MiB
	VCPUs   int   // online; 0 in a domain that was never finished
	State   State
	CPUTime float64 // seconds, in tenths
}

// State is the State column of `xl list`: r b p s, the reason of a shutdown, d.
type State string

// stateForm: the reason is a letter of "-rscwS", a question mark if xl has none.
var stateForm = regexp.MustCompile(`^[r-][b-][p-][s-][rscwS?-][d-]$`)

func (s State) at(i int) byte {
	if i >= len(s) {
		return '-'
	}
	return s[i]
}

// Suspended: the guest stopped for a save or a migration. It does not run, and
// only a resume brings it back.
func (s State) Suspended() bool { return s.at(3) == 's' && s.at(4) == 's' && s.at(5) != 'd' }

// Paused: its CPUs are held; unpause lets them go.
func (s State) Paused() bool { return s.at(2) == 'p' && s.Alive() }

// Alive: it has neither shut down nor been suspended, and is not dying.
// Whether it is on a CPU right now says nothing.
func (s State) Alive() bool { return len(s) == 6 && s.at(3) != 's' && s.at(5) != 'd' }

// shutDown: the guest has ended by itself; the domain is still there.
func (s State) shutDown() bool { return s.at(3) == 's' && s.at(4) != 's' }

// List tells all domains, dom0 too.
func (x XL) List(ctx context.Context) ([]Domain, error) {
	out, _, err := x.ask(ctx, x.xl("list", "-v"))
	if err != nil {
		return nil, err
	}
	return parseList(out)
}

// byID is one domain, or ErrNoDomain.
func (x XL) byID(ctx context.Context, id int) (Domain, error) {
	all, err := x.List(ctx)
	if err != nil {
		return Domain{}, err
	}
	for _, d := range all {
		if d.ID == id {
			return d, nil
		}
	}
	return Domain{}, fmt.Errorf("domain %d: %w", id, ErrNoDomain)
}

// row is read from the right: a name may hold anything, blanks and numbers too.
var row = regexp.MustCompile(`^(.*) +(\d+) +(\d+) +(\d+) +([rbpscwSd?-]{6}) +(\d+\.\d) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) +(?:-|[0-9a-f]+)(?: +\S.*)?$`)

func parseList(text string) ([]Domain, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "Name ") {
		return nil, fmt.Errorf("xl list -v: unknown header %q", lines[0])
	}
	var all []Domain
	for _, line := range lines[1:] {
		d, err := parseRow(line)
		if err != nil {
			return nil, fmt.Errorf("xl list -v: cannot read line %q: %w", line, err)
		}
		all = append(all, d)
	}
	return all, nil
}

func parseRow(line string) (Domain, error) {
	m := row.FindStringSubmatch(line)
	if m == nil {
		return Domain{}, errors.New("want name, id, memory, vcpus, state, time, uuid and reason")
	}
	d := Domain{Name: strings.TrimRight(m[1], " "), State: State(m[5]), UUID: m[7]}
	var mib int64
	var errs [4]error
	d.ID, errs[0] = strconv.Atoi(m[2])
	mib, errs[1] = strconv.ParseInt(m[3], 10, 43)
	d.VCPUs, errs[2] = strconv.Atoi(m[4])
	d.CPUTime, errs[3] = strconv.ParseFloat(m[6], 64)
	d.Memory = mib << 20
	if !stateForm.MatchString(m[5]) {
		return Domain{}, fmt.Errorf("state %q", m[5])
	}
	return d, errors.Join(errs[:]...)
}
