package jobs

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// found is what a search came to.
type found struct {
	worlds []world
	from   []int32 // each world's predecessor on a shortest way to it
	by     []label
	edges  [][2]int32 // of moves that somebody makes
	harm   int        // the first harmed world, or the one searched for; -1 for none
	took   time.Duration
	stuck  []int // worlds from which no way leads to a settled one
}

// search visits every world that can be reached, nearest first, up to the first harm.
func search(m *model) *found {
	return searchFor(m, func(w *world) bool { return w.harmed != noHarm })
}

// searchFor ends with the first world that is one.
func searchFor(m *model, is func(*world) bool) *found {
	f := &found{harm: -1}
	index := map[world]int32{}
	visit := func(w world, from int32, by label) int32 {
		i, ok := index[w]
		if !ok {
			i = int32(len(f.worlds))
			index[w] = i
			f.worlds, f.from, f.by = append(f.worlds, w), append(f.from, from), append(f.by, by)
			if f.harm < 0 && is(&w) {
				f.harm = int(i)
			}
		}
		return i
	}
	visit(m.start(), -1, label{})
	for i := int32(0); int(i) < len(f.worlds) && f.harm < 0; i++ {
		w := f.worlds[i]
		m.moves(&w, func(mv move) {
			if n := visit(mv.to, i, mv.label); !mv.chance {
				f.edges = append(f.edges, [2]int32{i, n})
			}
		})
	}
	if f.harm < 0 {
		f.stuck = f.deadEnds(m)
	}
	return f
}

// deadEnds goes the edges backward from all settled worlds.
func (f *found) deadEnds(m *model) (stuck []int) {
	at := make([]int32, len(f.worlds)+1) // where each world's predecessors begin
	for _, e := range f.edges {
		at[e[1]+1]++
	}
	for i := range f.worlds {
		at[i+1] += at[i]
	}
	before, next := make([]int32, len(f.edges)), append([]int32(nil), at...)
	for _, e := range f.edges {
		before[next[e[1]]] = e[0]
		next[e[1]]++
	}
	ends := make([]bool, len(f.worlds))
	var todo []int32
	for i := range f.worlds {
		if m.settled(&f.worlds[i]) {
			ends[i], todo = true, append(todo, int32(i))
		}
	}
	for ; len(todo) > 0; todo = todo[1:] {
		for _, b := range before[at[todo[0]]:at[todo[0]+1]] {
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

// setting is a world to search in.
type setting struct {
	name  string
	set   func(*model)
	large bool // not with -short
}

func both(a, b func(*model)) func(*model) { return func(m *model) { a(m); b(m) } }

func ordinary(*model)     {}
func crashing(m *model)   { m.crashes, m.lanes = true, true }
func live(m *model)       { m.live = true }
func elsewhere(m *model)  { m.elsewhere = true }
func losesStore(m *model) { m.recovers, m.exact = true, true }

func settings() []setting {
	return []setting{
		{name: "suspend", set: crashing},
		{name: "live", set: both(live, crashing)},
		{name: "suspend, the second attempt elsewhere", set: both(crashing, elsewhere)},
		{name: "live, the second attempt elsewhere", set: both(live, elsewhere)},
		{name: "suspend, the store is lost", set: losesStore, large: true},
		{name: "live, the store is lost", set: both(live, losesStore), large: true},
	}
}

// searched is the setting's model with what was found: for each once.
func (c setting) searched(t *testing.T) (*model, *found) {
	if c.large && testing.Short() {
		t.Skip("NOT TESTED with -short: worlds of some hundred thousand states; the plain run of CI searches them")
	}
	m := theRules()
	c.set(m)
	f := searches[c.name]
	if f == nil {
		begin := time.Now()
		f = search(m)
		f.took = time.Since(begin)
		searches[c.name] = f
	}
	return m, f
}

var searches = map[string]*found{} // no test that asks runs beside another

// TestModel: by the rules as they are, in every order: never two running
// copies, never an outdated or unsealed one, never none left, and from
// everywhere a way to exactly one that runs, with the key at its host.
func TestModel(t *testing.T) {
	for _, c := range settings() {
		t.Run(c.name, func(t *testing.T) {
			_, f := c.searched(t)
			t.Logf("%d worlds, %d moves, %.1f s", len(f.worlds), len(f.edges), f.took.Seconds())
			if f.harm >= 0 {
				t.Errorf("%s:\n%s", f.worlds[f.harm].harmed, f.way(f.harm))
			}
			if len(f.stuck) > 0 {
				t.Errorf("no way out of %d worlds; the first:\n%s\n%+v", len(f.stuck), f.way(f.stuck[0]), f.worlds[f.stuck[0]])
			}
		})
	}
}

// TestModelReaches: the settings come to all that the rules are for.
func TestModelReaches(t *testing.T) {
	for name, c := range map[string]struct {
		in      func(*model)
		reached func(*world) bool
	}{
		"a VM that moved":             {ordinary, func(w *world) bool { return w.sCopy == copyNone && w.dCopy[0] == copyRunning }},
		"a VM that moved by RELEASED": {ordinary, func(w *world) bool { return w.d[0]&bit(RUNNING) != 0 && w.was[w.epoch[0]+1]>>(by(0).ownedBy(0))&1 == 0 }},
		"a second attempt that moved": {ordinary, func(w *world) bool { return w.d[1]&bit(RUNNING) != 0 }},
		"back by (a), after GO":       {ordinary, func(w *world) bool { return w.s[0]&bit(BACK) != 0 && w.d[0]&bit(GO) != 0 }},
		"back by (a), after RELEASED": {ordinary, func(w *world) bool { return w.s[0]&bit(BACK) != 0 && w.s[0]&bit(RELEASED) != 0 }},
		"back by (b)": {ordinary, func(w *world) bool {
			return w.s[0]&bit(BACK) != 0 && w.s[0]&bit(COMMITTING) != 0 && w.d[0]&bit(ABORTED) == 0
		}},
		"the key repaired":             {ordinary, func(w *world) bool { return w.now == byOther && w.top > 0 }},
		"a guest that ended by itself": {ordinary, func(w *world) bool { return w.ended }},
		"a swap although S wanted back": {ordinary, func(w *world) bool {
			return w.s[0]&bit(COMMITTING) != 0 && w.now.owner() == 1 && w.d[0]&bit(ABORTED) != 0
		}},
		"a VM that moved live": {live, func(w *world) bool { return w.s[0]&bit(stood) != 0 && w.d[0]&bit(RUNNING) != 0 && w.sCopy == copyNone }},
		"GO caught, and told to resume": {live, func(w *world) bool {
			return w.s[0]&bit(COMMITTING) != 0 && w.s[0]&bit(BACK) != 0 && w.sCopy == copyRunning
		}},
		"READY passed, and GO never given": {live, func(w *world) bool { return w.sCopy == copyPassed }},
		"moved elsewhere, with the first copy left": {elsewhere, func(w *world) bool {
			return w.dCopy[1] == copyRunning && w.dCopy[0] == copyPaused && w.d[0]&bit(READY) != 0
		}},
		"a late write overwrote the key": {losesStore, func(w *world) bool { return w.stale }},
		"attempts of one epoch":          {losesStore, func(w *world) bool { return w.epoch[1] != 0 && w.epoch[0] == w.epoch[1] }},
		"moved after the store was lost": {losesStore, func(w *world) bool { return w.lost && w.d[1]&bit(RUNNING) != 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			m := theRules()
			c.in(m)
			if f := searchFor(m, c.reached); f.harm < 0 {
				t.Error("never reached")
			} else {
				t.Logf("in %d moves", strings.Count(f.way(f.harm), "\n")+1)
			}
		})
	}
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
			m := theRules()
			for _, set := range c.in {
				set(m)
			}
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
