package jobs

import (
	"errors"
	"strings"
	"testing"
)

// found is what a search came to.
type found struct {
	worlds []world
	from   []int32 // each world's predecessor on a shortest way to it
	by     []move
	edges  [][2]int32
	harm   int   // the first harmed world, -1 for none
	stuck  []int // worlds from which no way leads to a settled one
}

// search visits every world that can be reached, nearest first, up to the first harm.
func search(m *model) *found {
	f := &found{harm: -1}
	index := map[world]int32{}
	visit := func(to move, from int32) int32 {
		i, ok := index[to.to]
		if !ok {
			i = int32(len(f.worlds))
			index[to.to] = i
			f.worlds, f.from, f.by = append(f.worlds, to.to), append(f.from, from), append(f.by, to)
			if to.to.harmed != noHarm && f.harm < 0 {
				f.harm = int(i)
			}
		}
		return i
	}
	visit(move{to: start()}, -1)
	for i := int32(0); int(i) < len(f.worlds) && f.harm < 0; i++ {
		m.moves(f.worlds[i], func(mv move) {
			if n := visit(mv, i); !mv.chance {
				f.edges = append(f.edges, [2]int32{i, n})
			}
		})
	}
	if f.harm < 0 {
		f.stuck = f.deadEnds()
	}
	return f
}

// deadEnds goes the edges backward from all settled worlds.
func (f *found) deadEnds() (stuck []int) {
	before := make([][]int32, len(f.worlds))
	for _, e := range f.edges {
		before[e[1]] = append(before[e[1]], e[0])
	}
	ends := make([]bool, len(f.worlds))
	var todo []int32
	for i, w := range f.worlds {
		if w.settled() {
			ends[i], todo = true, append(todo, int32(i))
		}
	}
	for ; len(todo) > 0; todo = todo[1:] {
		for _, b := range before[todo[0]] {
			if !ends[b] {
				ends[b], todo = true, append(todo, b)
			}
		}
	}
	for i, ok := range ends {
		if !ok {
			stuck = append(stuck, i)
		}
	}
	return stuck
}

// way tells how world i came about, one move a line.
func (f *found) way(i int) string {
	var lines []string
	for ; i > 0; i = int(f.from[i]) {
		lines = append([]string{f.by[i].String()}, lines...)
	}
	return strings.Join(lines, "\n")
}

// TestModel: by the rules as they are, in every order: never two running
// copies, never an outdated or unsealed one, never none left, and from
// everywhere a way to exactly one that runs, with the key at its host.
func TestModel(t *testing.T) {
	for name, recovers := range map[string]bool{"the store keeps": false, "the store is lost once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := theRules()
			m.recovers = recovers
			f := search(m)
			t.Logf("%d worlds, %d moves", len(f.worlds), len(f.edges))
			if f.harm >= 0 {
				t.Errorf("%s:\n%s", f.worlds[f.harm].harmed, f.way(f.harm))
			}
			if len(f.stuck) > 0 {
				t.Errorf("no way out of %d worlds; the first:\n%s", len(f.stuck), f.way(f.stuck[0]))
			}
			if len(f.worlds) < 20_000 {
				t.Errorf("only %d worlds: the model lost some of its moves", len(f.worlds))
			}
			for name, reached := range map[string]func(world) bool{
				"a VM that moved":             func(w world) bool { return w.sCopy == copyNone && w.dCopy == copyRunning },
				"a VM that moved by RELEASED": func(w world) bool { return w.d[0]&bit(RUNNING) != 0 && w.key[w.epoch[0]+1] < ownedByD },
				"a second attempt that moved": func(w world) bool { return w.d[1]&bit(RUNNING) != 0 },
				"back by (a), after GO":       func(w world) bool { return w.s[0]&bit(BACK) != 0 && w.d[0]&bit(GO) != 0 },
				"back by (a), after RELEASED": func(w world) bool { return w.s[0]&bit(BACK) != 0 && w.s[0]&bit(RELEASED) != 0 },
				"back by (b)": func(w world) bool {
					return w.s[0]&bit(BACK) != 0 && w.s[0]&bit(COMMITTING) != 0 && w.d[0]&bit(ABORTED) == 0
				},
				"the key repaired":             func(w world) bool { return w.key[w.top] == ownedByS+byOther && w.top > 0 && !w.lost },
				"a guest that ended by itself": func(w world) bool { return w.ended },
				"a swap although S wanted back": func(w world) bool {
					return w.s[0]&bit(COMMITTING) != 0 && w.key[w.top] == ownedByD && w.d[0]&bit(ABORTED) != 0
				},
			} {
				if !f.any(reached) {
					t.Errorf("never reached: %s", name)
				}
			}
		})
	}
}

func (f *found) any(is func(world) bool) bool {
	for _, w := range f.worlds {
		if is(w) {
			return true
		}
	}
	return false
}

var errForbidden = errors.New("forbidden by this test")

// without and with give a rule a journal that hides or feigns a promise.
func without(j Journal, f Fact, e uint64) (k Journal) {
	for _, p := range j {
		if p.Fact != f || p.Epoch != e {
			k = append(k, p)
		}
	}
	return k
}

func with(j Journal, f Fact, e uint64) Journal {
	return append(append(Journal{}, j...), Promise{Fact: f, Epoch: e})
}

// What a control must show.
const (
	stuckWorlds = "no way out"
	nothing     = "nothing alone" // a second net: another rule holds as well
)

// TestControls weakens one rule at a time. The search must find what comes of
// it, or it proves nothing.
func TestControls(t *testing.T) {
	for _, c := range controls() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := theRules()
			c.weaken(m)
			f := search(m)
			got := nothing
			switch {
			case f.harm >= 0:
				got = f.worlds[f.harm].harmed.String()
				t.Logf("%s:\n%s", got, f.way(f.harm))
			case len(f.stuck) > 0:
				got = stuckWorlds
				t.Logf("%s from:\n%s", got, f.way(f.stuck[0]))
			}
			if got != c.want {
				t.Errorf("found: %s, want: %s", got, c.want)
			}
		})
	}
}
