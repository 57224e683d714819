package matrix

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

// trial is one migration and what is done to it.
type trial struct {
	cell
	also *second
	seed [2]uint64 // of all that is left to chance in it
}

// second is a strike while the first one's harm is not mended yet.
type second struct {
	target target
	manner manner
	behind time.Duration // how long after the first
}

func (s second) String() string {
	return fmt.Sprintf("%s/%s %s later", s.target, s.manner, s.behind.Round(10*time.Millisecond))
}

func (t trial) dice() *rand.Rand { return rand.New(rand.NewPCG(t.seed[0], t.seed[1])) }

// course is trials one after the other in one cluster, so that most of them
// need not wait for one to come up.
type course struct {
	name   string // of a random one: its trials can be had again only all together
	trials []trial
}

// again is what XMIG_MATRIX has to be for the n-th trial, with what came before it.
func (k course) again(n int) string {
	if k.name != "" {
		return k.name
	}
	return k.trials[n].cell.String()
}

// before are the cells up to the n-th, which may be had in one cluster too.
func (k course) before(n int) string {
	var names []string
	for _, t := range k.trials[:n+1] {
		names = append(names, t.cell.String())
	}
	return strings.Join(names, ",")
}

// courseLength is how many trials a course has at most: enough that bringing up
// a cluster costs little, few enough that a failure is soon repeated.
const courseLength = 8

// trialOf makes what happens in a cell depend on the seed and the cell alone.
func trialOf(seed uint64, c cell) trial {
	h := fnv.New64a()
	h.Write([]byte(c.String()))
	return trial{cell: c, seed: [2]uint64{seed, h.Sum64()}}
}

// inCourses puts cells of one mode together, for each mode has a guest of its own type.
func inCourses(seed uint64, all []cell) (cs []course) {
	open := map[jobs.Mode]*course{}
	var order []*course
	for _, c := range all {
		k := open[c.mode]
		if k == nil || len(k.trials) == courseLength {
			k = &course{}
			open[c.mode] = k
			order = append(order, k)
		}
		k.trials = append(k.trials, trialOf(seed, c))
	}
	for _, k := range order {
		cs = append(cs, *k)
	}
	return cs
}

// sample is how many cells away from the hand-over CI strikes.
const sample = 24

// chosen are the courses of a run: what is struck, and in an order that the seed decides.
func chosen(t *testing.T, which string, seed uint64) []course {
	t.Helper()
	all := possible(matrix())
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var picked []cell
	switch kind, number, _ := strings.Cut(which, "#"); {
	case which == "all":
		picked = all
	case which == "ci":
		others := 0
		for _, c := range all {
			if !c.crucial() {
				others++
			}
			if c.crucial() || others <= sample {
				picked = append(picked, c)
			}
		}
	case kind == "random":
		return random(t, seed, number)
	case strings.Contains(which, ","):
		var k course
		for name := range strings.SplitSeq(which, ",") {
			k.trials = append(k.trials, trialOf(seed, named(t, name)[0]))
		}
		return []course{k}
	default:
		picked = named(t, which)
	}
	return inCourses(seed, picked)
}

// named are the cells whose name begins so.
func named(t *testing.T, name string) (found []cell) {
	t.Helper()
	for _, c := range cells(jobs.Suspend, jobs.Live, jobs.Cold) {
		if strings.HasPrefix(c.String(), name) && c.impossible() == "" {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		t.Fatalf("XMIG_MATRIX=%s: want ci, all, random, cells' names with commas between them, or the beginning of one, such as %s", name, possible(matrix())[0])
	}
	return found
}

// random are courses of migrations of all modes, struck by chance. The n-th
// course of a seed is always the same, and can be had alone by its number.
func random(t *testing.T, seed uint64, number string) (cs []course) {
	t.Helper()
	if number != "" {
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("XMIG_MATRIX=random#%s: %v", number, err)
		}
		return []course{randomCourse(seed, n)}
	}
	for left, n := environment(t, "XMIG_MATRIX_N", 20), 1; left > 0; n++ {
		k := randomCourse(seed, n)
		k.trials = k.trials[:min(left, len(k.trials))]
		left -= len(k.trials)
		cs = append(cs, k)
	}
	return cs
}

// alsoStruck is how many migrations in a hundred are struck twice.
const alsoStruck = 25

func randomCourse(seed uint64, n int) course {
	dice := rand.New(rand.NewPCG(seed, uint64(n)))
	k := course{name: fmt.Sprintf("random#%d", n)}
	for range courseLength {
		mode := []jobs.Mode{jobs.Live, jobs.Suspend, jobs.Cold}[dice.IntN(3)]
		all := possible(cells(mode))
		tr := trial{cell: all[dice.IntN(len(all))], seed: [2]uint64{dice.Uint64(), dice.Uint64()}}
		if dice.IntN(100) < alsoStruck {
			tr.also = anotherStrike(tr.cell, dice)
		}
		k.trials = append(k.trials, tr)
	}
	return k
}

// anotherStrike hits something else of the same migration, soon after. What a
// host's end takes with it is not struck beside it.
func anotherStrike(c cell, dice *rand.Rand) *second {
	side := func(t target) string {
		if name, _, two := strings.Cut(string(t), " "); two && name != "control" {
			return name
		}
		return string(t)
	}
	for {
		all := possible(cells(c.mode))
		o := all[dice.IntN(len(all))]
		if !o.target.isTool() && side(o.target) != side(c.target) {
			return &second{o.target, o.manner, time.Duration(dice.Int64N(int64(slow)))}
		}
	}
}
