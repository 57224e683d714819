package matrix

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xmig/jobs"
)

// outcome is one line of the table.
type outcome struct {
	trial
	result   string // where the guest is, and how the job ended
	attempts int
	resolved bool // by a command
	late     bool // nothing was struck: the step was over, or its process
	blackout time.Duration
	took     time.Duration // from the strike to the proof
}

const failed = "FAILED"

func (o outcome) String() string {
	note := ""
	if o.resolved {
		note += " resolved"
	}
	if o.late {
		note += " (nothing was left to strike)"
	}
	if o.also != nil {
		note += " and " + o.also.String()
	}
	return fmt.Sprintf("%-7s %-9s %-18s %-6s %-6s %-32s attempts %d  blackout %6s  took %6s%s", o.mode, o.step, o.target, o.moment, o.manner, o.result,
		o.attempts, o.blackout.Round(10*time.Millisecond), o.took.Round(100*time.Millisecond), note)
}

// table is what came of a run.
type table struct {
	until time.Time // what is not crucial is not begun later
	mu    sync.Mutex
	rows  []outcome
	left  int // what was not begun in time
}

// leaves tells, and counts, that there is no time for one. Around the hand-over
// nothing is left out, however long it takes.
func (t *table) leaves(one trial) bool {
	if one.crucial() || time.Now().Before(t.until) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left++
	return true
}

// add prints the row at once too: a run takes a while.
func (t *table) add(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, o)
	fmt.Println(o)
}

// tally is some rows counted.
type tally struct {
	struck, late, resolved, failed, again int
	blackout, took                        time.Duration // the longest
}

func (y *tally) add(o outcome) {
	count := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	count(&y.struck, !o.late)
	count(&y.late, o.late)
	count(&y.resolved, o.resolved)
	count(&y.failed, o.result == failed)
	count(&y.again, o.attempts > 1)
	y.blackout, y.took = max(y.blackout, o.blackout), max(y.took, o.took)
}

func (y tally) String() string {
	return fmt.Sprintf("%5d %5d %9d %9d %7d %10s %8s", y.struck, y.late, y.again, y.resolved, y.failed,
		y.blackout.Round(10*time.Millisecond), y.took.Round(100*time.Millisecond))
}

// print prints the rows by mode and step, and by result.
func (t *table) print(seed uint64, took time.Duration) (all tally) {
	parts, results := map[string]*tally{}, map[string]int{}
	for _, o := range t.rows {
		name := fmt.Sprintf("%s %02d %s", o.mode, slices.Index(jobs.Steps(), o.step), o.step)
		if parts[name] == nil {
			parts[name] = &tally{}
		}
		parts[name].add(o)
		all.add(o)
		results[o.result]++
	}
	fmt.Printf("\n%-20s %5s %5s %9s %9s %7s %10s %8s\n", "seed "+fmt.Sprint(seed), "STRUCK", "LATE", ">1 TRY", "RESOLVED", "FAILED", "BLACKOUT≤", "TOOK≤")
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		mode, rest, _ := strings.Cut(name, " ")
		fmt.Printf("%-20s %s\n", mode+" "+rest[3:], parts[name])
	}
	fmt.Printf("%-20s %s\n", "all", all)
	for _, r := range slices.Sorted(maps.Keys(results)) {
		fmt.Printf("%5d  %s\n", results[r], r)
	}
	fmt.Printf("%d migrations in %s, seed %d\n\n", len(t.rows), took.Round(time.Second), seed)
	return all
}

// judge holds a run against what it was to be.
func (t *table) judge(test *testing.T, want int, all tally) {
	test.Helper()
	if t.left > 0 {
		fmt.Printf("!!! NOT STRUCK: %d of %d migrations, for which XMIG_MATRIX_TIME left no time on this machine\n", t.left, want)
	}
	if len(t.rows)+t.left != want {
		test.Errorf("%d migrations were chosen, %d not begun, and %d have an outcome", want, t.left, len(t.rows))
	}
	if t.left > want/2 {
		test.Errorf("of %d migrations %d were not begun: that is no test; give it more time", want, t.left)
	}
	if all.late > len(t.rows)/4 {
		test.Errorf("of %d migrations %d were struck too late to prove anything: the steps are too quick for the strikes", len(t.rows), all.late)
	}
}

// printImpossible prints why the other cells are not struck.
func printImpossible() {
	reasons := map[string]int{}
	for _, c := range matrix() {
		if why := c.impossible(); why != "" {
			reasons[why]++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Printf("%5d cells cannot be: %s\n", reasons[why], why)
	}
}
