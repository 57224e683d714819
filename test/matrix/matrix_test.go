package matrix

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestCells: there is no cell that nobody can say anything about, and enough of
// those that can be struck.
func TestCells(t *testing.T) {
	reasons, possible := map[string]int{}, 0
	for _, c := range cells() {
		if why := c.impossible(); why != "" {
			reasons[why]++
			continue
		}
		possible++
	}
	for why, n := range reasons {
		t.Logf("%5d cells: %s", n, why)
	}
	t.Logf("%5d cells can be struck", possible)
	if possible < 200 {
		t.Errorf("only %d cells can be struck", possible)
	}
}

const (
	defaultParallel = 3
	// sample is how many cells away from the hand-over CI strikes.
	sample = 12
)

func number(t *testing.T, name string, or int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(or)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// chosen are the cells of this run, in an order that the seed decides.
func chosen(t *testing.T, which string, dice *rand.Rand) (picked []cell) {
	t.Helper()
	var all []cell
	for _, c := range cells() {
		if c.impossible() == "" {
			all = append(all, c)
		}
	}
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	switch which {
	case "all":
		return all
	case "ci":
		others := 0
		for _, c := range all {
			if !c.crucial() {
				others++
			}
			if c.crucial() || others <= sample {
				picked = append(picked, c)
			}
		}
		return picked
	case "random":
		for range number(t, "XMIG_MATRIX_N", 20) {
			picked = append(picked, all[dice.IntN(len(all))])
		}
		return picked
	}
	for _, c := range cells() {
		if strings.HasPrefix(c.String(), which) && c.impossible() == "" {
			picked = append(picked, c)
		}
	}
	if len(picked) == 0 {
		t.Fatalf("XMIG_MATRIX=%s: want ci, all, random, or (the beginning of) a cell's name, such as %s", which, all[0])
	}
	return picked
}

// TestMatrix strikes the chosen cells and prints its table.
func TestMatrix(t *testing.T) {
	which := os.Getenv("XMIG_MATRIX")
	if which == "" {
		t.Skip("NOT TESTED: no cell is struck. Set XMIG_MATRIX=ci (CI does), all, random or a cell's name; ci takes some ten minutes")
	}
	seed := uint64(number(t, "XMIG_MATRIX_SEED", 1))
	todo := chosen(t, which, rand.New(rand.NewPCG(seed, 0)))
	slots := make(chan struct{}, number(t, "XMIG_MATRIX_PARALLEL", defaultParallel))
	begin := time.Now()
	var mu sync.Mutex
	var table []outcome
	t.Run("cells", func(t *testing.T) {
		for i, c := range todo {
			t.Run(strings.ReplaceAll(c.String(), " ", "_")+fmt.Sprintf("#%d", i), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				o := outcome{cell: c, result: "FAILED"}
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					table = append(table, o)
					fmt.Println(o) // as it comes: a run takes a while
				}()
				t.Logf("again: XMIG_MATRIX_SEED=%d XMIG_MATRIX='%s' go test ./test/matrix -run TestMatrix -v", seed, c)
				strike(t, c, rand.New(rand.NewPCG(seed, hash(c))), &o)
			})
		}
	})
	slices.SortFunc(table, func(a, b outcome) int { return strings.Compare(a.key(), b.key()) })
	for _, o := range table {
		t.Log(o)
	}
	late := 0
	for _, o := range table {
		if o.late {
			late++
		}
	}
	t.Logf("%d cells in %s, seed %d; in %d of them nothing was left to strike", len(table), time.Since(begin).Round(time.Second), seed, late)
	if late > len(table)/4 {
		t.Errorf("of %d cells %d came too late to prove anything: the steps are too quick for the strikes", len(table), late)
	}
	if len(table) != len(todo) {
		t.Errorf("%d cells were chosen and %d have an outcome", len(todo), len(table))
	}
}

// hash makes what happens in a cell depend on the seed and the cell alone.
func hash(c cell) uint64 {
	h := fnv.New64a()
	h.Write([]byte(c.String()))
	return h.Sum64()
}

// outcome is one line of the table.
type outcome struct {
	cell
	result   string // where the guest is, and how the job ended
	attempts int
	resolved bool // by a command
	late     bool // nothing was struck: the step was over, or its command
	blackout time.Duration
	took     time.Duration // from the strike to the proof
}

func (o outcome) key() string {
	return fmt.Sprintf("%02d %s", slices.Index(jobs.Steps(), o.step), o.cell)
}

func (o outcome) String() string {
	note := ""
	if o.resolved {
		note += " resolved"
	}
	if o.late {
		note += " (nothing was left to strike)"
	}
	return fmt.Sprintf("%-9s %-19s %-7s %-7s %-28s attempts %d  blackout %6s  took %6s%s", o.step, o.target, o.moment, o.manner, o.result,
		o.attempts, o.blackout.Round(10*time.Millisecond), o.took.Round(100*time.Millisecond), note)
}
