package jobs

import (
	"slices"
	"strings"
	"testing"
)

func TestRecover(t *testing.T) {
	acc := func(node string, j Journal, states ...VMState) Account {
		a := Account{VM: VMRef{testVM, "web01"}, Evidence: Evidence{Node: node, Journal: j}, Has: len(states) > 0}
		for _, s := range states {
			if s != VMHalted {
				a.Evidence.Domains = append(a.Evidence.Domains, Seen{State: s})
			}
		}
		return a
	}
	gave := func(e uint64) Journal { return at(e, BEGIN, SEALED, COMMITTING, DONE) }
	took := func(e uint64) Journal { return at(e, BEGIN, READY, GO, RUNNING) }
	for _, c := range []struct {
		name  string
		all   []Account
		owner string // empty: none is needed
		epoch uint64
		why   string // of the error
	}{
		{"never moved", []Account{acc("a", nil, VMRunning), acc("b", nil)}, "", 0, ""},
		{"moved once", []Account{acc("a", gave(1)), acc("b", took(1), VMRunning)}, "b", 3, ""},
		{"there and back", []Account{acc("a", slices.Concat(gave(1), took(3)), VMRunning), acc("b", slices.Concat(took(1), gave(3)))}, "a", 5, ""},
		{"moved on", []Account{acc("a", gave(1)), acc("b", slices.Concat(took(1), gave(3))), acc("c", took(3), VMRunning)}, "c", 5, ""},
		{"halted where it was taken to", []Account{acc("a", gave(1)), acc("b", took(1), VMHalted)}, "b", 3, ""},
		{"an attempt that came to nothing", []Account{acc("a", at(4, BEGIN, SEALED, BACK), VMRunning), acc("b", at(4, BEGIN, ABORTED))}, "a", 6, ""},
		{"an attempt under way", []Account{acc("a", at(4, BEGIN), VMRunning), acc("b", at(4, BEGIN))}, "a", 6, ""},
		{"held", []Account{acc("a", at(4, BEGIN, SEALED), VMPaused), acc("b", at(4, BEGIN, READY), VMPaused)}, "a", 6, ""},
		{"committed", []Account{acc("a", at(4, BEGIN, SEALED, COMMITTING), VMPaused), acc("b", at(4, BEGIN, READY), VMPaused)}, "a", 6, ""},
		{"let go", []Account{acc("a", at(4, BEGIN, SEALED, COMMITTING), VMPaused), acc("b", at(4, BEGIN, READY, GO), VMPaused)}, "b", 6, ""},
		{"went back by a person's word", []Account{acc("a", at(4, BEGIN, SEALED, COMMITTING, BACK), VMRunning), acc("b", at(4, BEGIN, READY, GO))}, "a", 6, ""},
		{"only begun, halted", []Account{acc("a", at(4, BEGIN), VMHalted), acc("b", at(4, BEGIN))}, "a", 6, ""},
		{"twice", []Account{acc("a", gave(1), VMRunning), acc("b", took(1), VMRunning)}, "", 0, "it runs on a and b"},
		{"started where it was given away", []Account{acc("a", gave(1), VMRunning), acc("b", took(1), VMHalted)}, "", 0, "b took it over"},
		{"the host that took it is not there", []Account{acc("a", gave(1))}, "", 0, "not among those that answer"},
		{"gone", []Account{acc("a", at(4, BEGIN))}, "", 0, "no host has it"},
		{"two configs", []Account{acc("a", at(4, BEGIN), VMHalted), acc("b", at(4, BEGIN), VMHalted)}, "", 0, "both a and b have it"},
	} {
		r, err := Recover(c.all)
		switch {
		case c.why != "":
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v, want an error with %q", c.name, err, c.why)
			}
		case err != nil || r.Owner.Node != c.owner || c.owner != "" && r.Owner.Epoch != c.epoch:
			t.Errorf("%s: %+v, %v; want %s in epoch %d", c.name, r.Owner, err, c.owner, c.epoch)
		}
	}
}

func TestMissing(t *testing.T) {
	all := []Account{{Peers: []string{"a", "b", "c"}}, {Peers: []string{"d", "c", ""}}}
	if got := Missing(all, []string{"a", "b"}, []string{"d"}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("missing %v", got)
	}
}
