package jobs

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTransitions holds the table against every pair of states, listed here a
// second time and as prose would say it.
func TestTransitions(t *testing.T) {
	legal := map[State]string{
		Queued:        "planned cancelled failed",
		Planned:       "running queued cancelled failed",
		Running:       "succeeded failed rolled_back cancelled indeterminate",
		Succeeded:     "",
		FailedState:   "",
		RolledBack:    "",
		Cancelled:     "",
		Indeterminate: "succeeded rolled_back failed",
	}
	if len(legal) != len(States()) {
		t.Fatalf("%d states are listed here, %d there", len(legal), len(States()))
	}
	for _, from := range States() {
		want, ok := legal[from]
		if !ok {
			t.Fatalf("state %s is not listed here", from)
		}
		if from.Final() != (want == "") {
			t.Errorf("%s: final is %v", from, from.Final())
		}
		for _, to := range States() {
			may := from == to || slices.Contains(strings.Fields(want), string(to))
			r := Record{ID: "j", State: from}
			err := r.To(to)
			switch {
			case may && (err != nil || r.State != to):
				t.Errorf("%s to %s: %v, now %s", from, to, err, r.State)
			case !may && (err == nil || r.State != from):
				t.Errorf("%s to %s was not refused; now %s", from, to, r.State)
			case !may && ClassOf(err) != Final:
				t.Errorf("%s to %s: class %s; trying again cures nothing", from, to, ClassOf(err))
			}
			var te *TransitionError
			if !may && (!errors.As(err, &te) || te.From != from || te.To != to) {
				t.Errorf("%s to %s: %v does not say which change it was", from, to, err)
			}
		}
	}
}

// TestStateOfNobody: a word that is no state goes nowhere and is gone to from nowhere.
func TestStateOfNobody(t *testing.T) {
	for _, s := range States() {
		if r := (Record{State: s}); r.To("asleep") == nil {
			t.Errorf("%s went to a state that is none", s)
		}
		if r := (Record{State: "asleep"}); r.To(s) == nil {
			t.Errorf("a state that is none went to %s", s)
		}
	}
}

// TestRandomWalks: whatever is asked for in whatever order, the record only
// goes along the table, and once final it stays.
func TestRandomWalks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Record{ID: "j", State: Queued}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			was := r.State
			to := rapid.SampledFrom(append(States(), "asleep", "")).Draw(t, "to")
			err := r.To(to)
			switch {
			case err != nil && r.State != was:
				t.Fatalf("refused and changed all the same: %s to %s", was, r.State)
			case err == nil && r.State != to:
				t.Fatalf("accepted %s and is %s", to, r.State)
			case was.Final() && r.State != was:
				t.Fatalf("left the final state %s for %s", was, r.State)
			case r.State != was && !slices.Contains(next[was], r.State):
				t.Fatalf("went from %s to %s, which the table does not list", was, r.State)
			}
		}
	})
}

// TestEveryStateCanBeReachedAndEnds: from queued to everywhere, and from
// everywhere to a final state.
func TestEveryStateCanBeReachedAndEnds(t *testing.T) {
	reach := func(from State) map[State]bool {
		seen := map[State]bool{from: true}
		for todo := []State{from}; len(todo) > 0; todo = todo[1:] {
			for _, n := range next[todo[0]] {
				if !seen[n] {
					seen[n], todo = true, append(todo, n)
				}
			}
		}
		return seen
	}
	fromQueued := reach(Queued)
	for _, s := range States() {
		if !fromQueued[s] {
			t.Errorf("%s is never reached", s)
		}
		ends := false
		for n := range reach(s) {
			ends = ends || n.Final()
		}
		if !ends {
			t.Errorf("%s never ends", s)
		}
	}
}

// TestDiagram: the diagram in doc.go is the table, edge by edge and in its order.
func TestDiagram(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[State][]State{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+) +──► (.+)$`).FindAllStringSubmatch(string(text), -1) {
		for to := range strings.SplitSeq(m[2], " | ") {
			drawn[State(m[1])] = append(drawn[State(m[1])], State(to))
		}
	}
	for _, s := range States() {
		if !slices.Equal(drawn[s], next[s]) {
			t.Errorf("doc.go draws %s to %v, the table has %v", s, drawn[s], next[s])
		}
		delete(drawn, s)
	}
	for s := range drawn {
		t.Errorf("doc.go draws %s, which is no state", s)
	}
}

// TestSteps: the list of names is the story of migrate.go, in order.
func TestSteps(t *testing.T) {
	m := &Migration{rec: &Record{}}
	var told []StepName
	for _, s := range m.beforeHandOver() {
		told = append(told, s.Name)
	}
	told = append(told, HandOver)
	for _, s := range m.afterHandOver() {
		told = append(told, s.Name)
		if s.Undo != nil {
			t.Errorf("%s lies behind the line and can be undone", s.Name)
		}
	}
	if !slices.Equal(told, Steps()) {
		t.Errorf("the story tells %v, the list says %v", told, Steps())
	}
	for _, s := range m.sync() {
		if !slices.Contains(Steps(), s.Name) {
			t.Errorf("sync has a step %s that no list knows", s.Name)
		}
	}
}
