package jobs

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The tables below have one row for each hole H1 to H13 that an earlier text
// of the rules had and that the function closes. H8 is not among them: the lock
// that makes check and effect one act is the ends' (R2).

const (
	sNode, dNode = "hv1", "hv2"
	e7           = uint64(7)
	att          = "job.2"
)

// said makes a journal of facts of epoch 7.
func said(facts ...Fact) (j Journal) { return at(e7, facts...) }

func at(e uint64, facts ...Fact) (j Journal) {
	for _, f := range facts {
		j = append(j, Promise{Fact: f, Epoch: e, Attempt: att})
	}
	return j
}

func keyOf(node string, epoch uint64, attempt string) *Owner {
	return &Owner{VM: "u", Node: node, Epoch: epoch, Attempt: attempt}
}

// mustSay checks that err is nil for rule "" and otherwise that rule's word.
func mustSay(t *testing.T, name string, err error, rule string) {
	t.Helper()
	var r *RuleError
	switch {
	case rule == "" && err != nil:
		t.Errorf("%s: %v, want it allowed", name, err)
	case rule != "" && err == nil:
		t.Errorf("%s: allowed, want rule %s against it", name, rule)
	case rule != "" && (!errors.As(err, &r) || r.Rule != rule || r.Epoch != e7 || r.Act == "" || r.Why == ""):
		t.Errorf("%s: %v, want rule %s in epoch %d with its reason", name, err, rule, e7)
	}
}

func TestMayCommit(t *testing.T) {
	ready := said(BEGIN, READY)
	for _, c := range []struct {
		name string
		s, d Journal
		sees SourceSees
		rule string
	}{
		{"sealed and ready", said(BEGIN, SEALED), ready, SourceSees{}, ""},
		{"said already", said(BEGIN, SEALED, COMMITTING), nil, SourceSees{Runs: true}, ""},
		{"released already", said(BEGIN, SEALED, COMMITTING, RELEASED), ready, SourceSees{}, ""},
		{"nothing sealed", said(BEGIN), ready, SourceSees{}, "R4"},
		{"D not ready", said(BEGIN, SEALED), said(BEGIN), SourceSees{}, "R4"},
		{"D not heard", said(BEGIN, SEALED), nil, SourceSees{}, "R4"},
		{"H1 READY of an earlier attempt", said(BEGIN, SEALED), slices.Concat(at(6, BEGIN, READY), said(BEGIN)), SourceSees{}, "R4"},
		{"H1 SEALED of an earlier attempt", slices.Concat(at(6, BEGIN, SEALED), said(BEGIN)), ready, SourceSees{}, "R4"},
		{"H1 a late worker: the next attempt has stopped the guest again", slices.Concat(said(BEGIN, SEALED), at(8, BEGIN)), ready, SourceSees{}, "R1"},
		{"H2 went back before", said(BEGIN, SEALED, BACK), ready, SourceSees{}, "R3"},
		{"H2 committed, and went back since", said(BEGIN, SEALED, COMMITTING, BACK), ready, SourceSees{}, "R3"},
		{"H10 xl save still runs, and may resume", said(BEGIN, SEALED), ready, SourceSees{CommandRuns: true}, "R4"},
		{"H10 xl has resumed the guest by itself", said(BEGIN, SEALED), ready, SourceSees{Runs: true}, "R4"},
		{"H10 it has, and the guest ended by itself since", said(BEGIN, SEALED), ready, SourceSees{Gone: true}, "R4"},
	} {
		mustSay(t, c.name, MayCommit(c.s, c.d, e7, c.sees), c.rule)
	}
}

func TestMayGoBack(t *testing.T) {
	committed, released := said(BEGIN, SEALED, COMMITTING), said(BEGIN, SEALED, COMMITTING, RELEASED)
	aborted := said(BEGIN, READY, ABORTED)
	swap := keyOf(sNode, e7+1, AbortAttempt(e7))
	for _, c := range []struct {
		name string
		s    Journal
		k    Known
		rule string
	}{
		{"never began", nil, Known{}, ""},
		{"alone, before COMMITTING", said(BEGIN, SEALED), Known{}, ""},
		{"said already", said(BEGIN, SEALED, BACK), Known{}, ""},
		{"said already, after COMMITTING", said(BEGIN, SEALED, COMMITTING, BACK), Known{}, ""},
		{"committed, nothing known", committed, Known{}, "R5"},
		{"committed, D only began", committed, Known{Destination: said(BEGIN, READY)}, "R5"},
		{"(a) D aborted", committed, Known{Destination: aborted}, ""},
		{"(b) the abort's swap", committed, Known{Key: swap}, ""},
		{"H1 D aborted an earlier attempt", committed, Known{Destination: at(6, ABORTED)}, "R5"},
		{"H1b somebody else's swap in the same epoch", committed, Known{Key: keyOf(sNode, e7+1, "job.3")}, "R5"},
		{"H3 released, and D aborted all the same", released, Known{Destination: aborted}, ""},
		{"H4 released, and the abort's swap", released, Known{Key: swap}, "R5"},
		{"H5 a later epoch by a repair", committed, Known{Key: keyOf(sNode, e7+2, "")}, "R5"},
		{"H5 the very epoch, by a repair", committed, Known{Key: keyOf(sNode, e7+1, "")}, "R5"},
		{"H5 the abort of another attempt", committed, Known{Key: keyOf(sNode, e7+1, AbortAttempt(e7+1))}, "R5"},
		{"H5 the abort's swap of the next epoch", committed, Known{Key: keyOf(sNode, e7+2, AbortAttempt(e7+1))}, "R5"},
		{"H6 recover's epoch", committed, Known{Key: keyOf(sNode, e7+2, AbortAttempt(e7))}, "R5"},
		{"the key as this attempt began", committed, Known{Key: keyOf(sNode, e7, att)}, "R5"},
		{"the key is D's", committed, Known{Key: keyOf(dNode, e7+1, att)}, "R5"},
		{"D's key with the abort's name", committed, Known{Key: keyOf(dNode, e7+1, AbortAttempt(e7))}, "R5"},
		{"the copy here is given up", said(BEGIN, SEALED, COMMITTING, DONE), Known{Destination: aborted, Key: swap}, "R5"},
	} {
		mustSay(t, c.name, MayGoBack(c.s, e7, sNode, c.k), c.rule)
	}
}

func TestMayRelease(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Journal
		rule string
	}{
		{"committed", said(BEGIN, SEALED, COMMITTING), ""},
		{"said already", said(BEGIN, SEALED, COMMITTING, RELEASED), ""},
		{"sealed only", said(BEGIN, SEALED), "R6"},
		{"H1 committed in an earlier epoch", slices.Concat(at(6, COMMITTING), said(BEGIN, SEALED)), "R6"},
		{"H4 went back by the abort's swap", said(BEGIN, SEALED, COMMITTING, BACK), "R6"},
		{"H4 went back before COMMITTING", said(BEGIN, SEALED, BACK), "R6"},
	} {
		mustSay(t, c.name, MayRelease(c.s, e7), c.rule)
	}
}

func TestMayGo(t *testing.T) {
	ready, committed := said(BEGIN, READY), said(BEGIN, SEALED, COMMITTING)
	released := said(BEGIN, SEALED, COMMITTING, RELEASED)
	ours := keyOf(dNode, e7+1, att)
	for _, c := range []struct {
		name string
		d    Journal
		p    Permission
		copy CopySeen
		rule string
	}{
		{"by the key", ready, Permission{Key: ours, Source: committed}, CopyPaused, ""},
		{"by RELEASED", ready, Permission{Key: nil, Source: released}, CopyPaused, ""},
		{"by RELEASED, and the key is S's still", ready, Permission{Key: keyOf(sNode, e7, att), Source: released}, CopyPaused, ""},
		{"a guest that was halted", ready, Permission{Key: ours, Source: committed}, CopyHalted, ""},
		{"said already, its copy runs", said(BEGIN, READY, GO), Permission{}, CopyRuns, ""},
		{"not ready", said(BEGIN), Permission{Key: ours, Source: committed}, CopyPaused, "R7"},
		{"no copy", ready, Permission{Key: ours, Source: committed}, CopyNone, "R7"},
		{"a copy that runs although nobody let it", ready, Permission{Key: ours, Source: committed}, CopyRuns, "R7"},
		{"nothing of the source known", ready, Permission{Key: ours, Source: nil}, CopyPaused, "R7"},
		{"the source only sealed", ready, Permission{Key: ours, Source: said(BEGIN, SEALED)}, CopyPaused, "R7"},
		{"neither key nor RELEASED", ready, Permission{Key: nil, Source: committed}, CopyPaused, "R7"},
		{"the key is S's", ready, Permission{Key: keyOf(sNode, e7, att), Source: committed}, CopyPaused, "R7"},
		{"H1 READY of an earlier attempt", slices.Concat(at(6, READY), said(BEGIN)), Permission{Key: ours, Source: committed}, CopyPaused, "R7"},
		{"H1 the key of an earlier attempt", ready, Permission{Key: keyOf(dNode, e7, "job.1"), Source: committed}, CopyPaused, "R7"},
		{"H1b the very epoch, by a repair", ready, Permission{Key: keyOf(dNode, e7+1, ""), Source: committed}, CopyPaused, "R7"},
		{"H1b the very epoch, by another attempt", ready, Permission{Key: keyOf(dNode, e7+1, "job.3"), Source: committed}, CopyPaused, "R7"},
		{"H4 RELEASED of an earlier attempt", ready, Permission{Key: nil, Source: slices.Concat(at(6, COMMITTING, RELEASED), committed)}, CopyPaused, "R7"},
		{"H6 recover's epoch", ready, Permission{Key: keyOf(dNode, e7+3, att), Source: committed}, CopyPaused, "R7"},
		{"H9 aborted after GO", said(BEGIN, READY, GO, ABORTED), Permission{Key: ours, Source: released}, CopyPaused, "R8"},
		{"H9 aborted before GO", said(BEGIN, READY, ABORTED), Permission{Key: ours, Source: released}, CopyPaused, "R8"},
	} {
		mustSay(t, c.name, MayGo(c.d, e7, att, dNode, c.p, c.copy), c.rule)
	}
}

func TestMayAbort(t *testing.T) {
	gone := said(BEGIN, READY, GO)
	for _, c := range []struct {
		name string
		d    Journal
		copy CopySeen
		rule string
	}{
		{"never heard of it", nil, CopyNone, ""},
		{"no GO, paused", said(BEGIN, READY), CopyPaused, ""},
		{"no GO, the copy is lost", said(BEGIN, READY), CopyNone, ""},
		{"said already", said(BEGIN, READY, GO, ABORTED), CopyNone, ""},
		{"GO in an earlier epoch", slices.Concat(at(6, GO, RUNNING), said(BEGIN)), CopyNone, ""},
		{"GO, and its copy is paused still", gone, CopyPaused, ""},
		{"GO, and its copy runs", gone, CopyRuns, "R9"},
		{"H7 GO, and no domain: it may have run and ended", gone, CopyNone, "R9"},
		{"H13 the same after a lost unpause: nobody can tell", said(BEGIN, READY, GO), CopyNone, "R9"},
		{"GO, and a guest that was halted", gone, CopyHalted, "R9"},
		{"seen running, paused by a person since", said(BEGIN, READY, GO, RUNNING), CopyPaused, "R9"},
	} {
		mustSay(t, c.name, MayAbort(c.d, e7, c.copy), c.rule)
	}
}

func TestMayFinish(t *testing.T) {
	committed, runs := said(BEGIN, SEALED, COMMITTING), said(BEGIN, READY, GO, RUNNING)
	for _, c := range []struct {
		name string
		s, d Journal
		rule string
	}{
		{"seen running", committed, runs, ""},
		{"said already, D's word forgotten", said(COMMITTING, DONE), nil, ""},
		{"GO is not running", committed, said(BEGIN, READY, GO), "R13"},
		{"H1 ran in an earlier epoch", committed, slices.Concat(at(6, GO, RUNNING), said(BEGIN, READY)), "R13"},
		{"H3 aborted", committed, said(BEGIN, READY, GO, RUNNING, ABORTED), "R13"},
		{"H2 S went back", said(BEGIN, SEALED, COMMITTING, BACK), runs, "R13"},
	} {
		mustSay(t, c.name, MayFinish(c.s, c.d, e7), c.rule)
	}
}

func TestRepair(t *testing.T) {
	ranAtD := at(7, BEGIN, READY, GO, RUNNING)
	for _, c := range []struct {
		name  string
		key   *Owner
		s, d  Journal
		sRuns bool
		want  *Owner // nil: nothing may be written
	}{
		{"H11 D aborted after the swap, S runs", keyOf(dNode, 8, att), at(7, COMMITTING, BACK), at(7, READY, ABORTED), true, keyOf(sNode, 9, "")},
		{"H11 D went by RELEASED", keyOf(sNode, 7, att), at(7, COMMITTING, RELEASED), at(7, READY, GO), false, keyOf(dNode, 8, "")},
		{"H12 above S's journal", keyOf(dNode, 8, att), slices.Concat(at(7, COMMITTING, BACK), at(11, BEGIN)), nil, true, keyOf(sNode, 12, "")},
		{"H12 above D's journal", keyOf(dNode, 8, att), at(7, COMMITTING, BACK), at(12, ABORTED), true, keyOf(sNode, 13, "")},
		{"H12 above recover's key", keyOf(sNode, 20, ""), at(7, COMMITTING, RELEASED), at(7, READY, GO), false, keyOf(dNode, 21, "")},
		{"S has committed and not gone back", keyOf(dNode, 8, att), at(7, COMMITTING), nil, true, nil},
		{"S does not run", keyOf(dNode, 8, att), at(7, COMMITTING, BACK), nil, false, nil},
		{"S has given its copy up", keyOf(dNode, 8, att), at(7, COMMITTING, DONE), nil, true, nil},
		{"D has no GO", keyOf(sNode, 7, att), at(7, COMMITTING), at(7, READY), false, nil},
		{"D aborted after GO", keyOf(sNode, 7, att), at(7, COMMITTING), at(7, READY, GO, ABORTED), false, nil},
		{"D's GO is history: S has begun since", keyOf(sNode, 9, att), at(9, BEGIN), at(5, GO, RUNNING), false, nil},
		{"S runs, whatever D said once", keyOf(sNode, 9, att), nil, ranAtD, true, nil},
		{"the key is right: S's", keyOf(sNode, 8, ""), at(7, COMMITTING, BACK), at(7, ABORTED), true, nil},
		{"the key is right: D's", keyOf(dNode, 8, att), at(7, COMMITTING), ranAtD, false, nil},
		{"the key is a third host's", keyOf("hv9", 8, ""), nil, nil, true, nil},
		{"the VM came home: what S gave away before is history",
			keyOf(dNode, 12, att), slices.Concat(at(7, COMMITTING, DONE), at(9, READY, GO, RUNNING), at(11, COMMITTING, BACK)), nil, true, keyOf(sNode, 13, "")},
		{"the VM came home and left again",
			keyOf(dNode, 12, att), slices.Concat(at(7, COMMITTING, BACK), at(9, READY, GO, RUNNING), at(11, COMMITTING, DONE)), nil, true, nil},
	} {
		got, ok := Repair(*c.key, sNode, dNode, c.s, c.d, c.sRuns)
		switch {
		case ok != (c.want != nil):
			t.Errorf("%s: may be written: %v (%+v)", c.name, ok, got)
		case ok && !got.Is(*c.want):
			t.Errorf("%s: writes %+v, want %+v", c.name, got, *c.want)
		case !ok && !got.Is(*c.key):
			t.Errorf("%s: gives %+v although nothing may be written", c.name, got)
		}
	}
}

// TestRepairKeepsTheClaim: a repair is made by the job that holds the claim.
func TestRepairKeepsTheClaim(t *testing.T) {
	key := keyOf(dNode, 8, att)
	key.Claim, key.Name, key.Revision = "job", "web01", 40
	got, ok := Repair(*key, sNode, dNode, at(7, COMMITTING, BACK), nil, true)
	if !ok || got.Claim != "job" || got.Name != "web01" || got.VM != "u" {
		t.Fatalf("%+v, %v", got, ok)
	}
}

func drawJournal(t *rapid.T, label string) (j Journal) {
	facts := []Fact{BEGIN, SEALED, READY, COMMITTING, BACK, RELEASED, ABORTED, GO, RUNNING, DONE}
	for range rapid.IntRange(0, 12).Draw(t, label) {
		j = append(j, Promise{Fact: rapid.SampledFrom(facts).Draw(t, "fact"), Epoch: rapid.Uint64Range(1, 4).Draw(t, "epoch")})
	}
	return j
}

// TestRulesAreAboutOneEpoch: what was promised in other epochs never decides,
// nor does the order in which promises were made. Only COMMITTING is over once
// a later epoch began.
func TestRulesAreAboutOneEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d := drawJournal(t, "s"), drawJournal(t, "d")
		e := rapid.Uint64Range(1, 4).Draw(t, "e")
		only := func(j Journal) (k Journal) {
			for _, p := range j {
				if p.Epoch == e {
					k = append(Journal{p}, k...)
				}
			}
			return k
		}
		key := keyOf(rapid.SampledFrom([]string{sNode, dNode}).Draw(t, "node"), rapid.Uint64Range(1, 6).Draw(t, "key"),
			rapid.SampledFrom([]string{att, "", AbortAttempt(e)}).Draw(t, "attempt"))
		seen := rapid.SampledFrom([]CopySeen{CopyPaused, CopyRuns, CopyNone, CopyHalted}).Draw(t, "copy")
		sees := SourceSees{Runs: rapid.Bool().Draw(t, "runs")}
		for name, ask := range map[string]func(s, d Journal) error{
			"commit":  func(s, d Journal) error { return MayCommit(s, d, e, sees) },
			"back":    func(s, d Journal) error { return MayGoBack(s, e, sNode, Known{Destination: d, Key: key}) },
			"release": func(s, _ Journal) error { return MayRelease(s, e) },
			"go":      func(s, d Journal) error { return MayGo(d, e, att, dNode, Permission{Key: key, Source: s}, seen) },
			"abort":   func(_, d Journal) error { return MayAbort(d, e, seen) },
			"finish":  func(s, d Journal) error { return MayFinish(s, d, e) },
		} {
			if name == "commit" && s.Highest() > e {
				continue
			}
			all, one := ask(s, d), ask(only(s), only(d))
			if (all == nil) != (one == nil) {
				t.Fatalf("%s: %v with all epochs, %v with its own", name, all, one)
			}
		}
	})
}

// TestRepairProperties: a repair is always above everything, changes the owner,
// and is never offered to both hosts for the same evidence.
func TestRepairProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d, runs := drawJournal(t, "s"), drawJournal(t, "d"), rapid.Bool().Draw(t, "runs")
		epoch := rapid.Uint64Range(0, 6).Draw(t, "epoch")
		toD, okD := Repair(*keyOf(sNode, epoch, att), sNode, dNode, s, d, runs)
		toS, okS := Repair(*keyOf(dNode, epoch, att), sNode, dNode, s, d, runs)
		if okD && okS {
			t.Fatalf("both hosts may take the key: %v %v, S runs: %v", s, d, runs)
		}
		for _, to := range []struct {
			Owner
			ok   bool
			node string
		}{{toD, okD, dNode}, {toS, okS, sNode}} {
			if to.ok && (to.Node != to.node || to.Epoch <= max(epoch, s.Highest(), d.Highest()) || to.Attempt != "") {
				t.Fatalf("repair to %+v", to)
			}
		}
	})
}

func TestJournal(t *testing.T) {
	var none Journal
	if none.Has(GO, 0) || none.Highest() != 0 || none.lastGo() != 0 {
		t.Error("an empty journal says something")
	}
	j := slices.Concat(at(3, GO, RUNNING), at(9, BEGIN), at(5, GO, ABORTED))
	if !j.Has(GO, 3) || j.Has(GO, 9) || j.Has(RUNNING, 5) {
		t.Error("a fact was found in the wrong epoch")
	}
	if j.Highest() != 9 || j.lastGo() != 3 {
		t.Errorf("highest %d, last GO %d", j.Highest(), j.lastGo())
	}
	if AbortAttempt(7) != "abort-of-7" {
		t.Errorf("the abort's swap writes %q; keys in stores say otherwise", AbortAttempt(7))
	}
}
