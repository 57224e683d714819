package matrix

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/test/cluster"
)

// TestMain has as many courses run at a time as XMIG_MATRIX_PARALLEL says: go
// test's own measure, the processors, is for tests that compute, and a course waits.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", cmp.Or(os.Getenv("XMIG_MATRIX_PARALLEL"), defaultParallel)); err != nil {
		fmt.Fprintln(os.Stderr, "XMIG_MATRIX_PARALLEL:", err)
		os.Exit(2)
	}
	cluster.Main(m)
}

// TestCells: there is no cell that nobody can say anything about, and every
// actor can be struck in every mode that has it. XMIG_MATRIX=list names each.
func TestCells(t *testing.T) {
	struck := map[string]int{}
	for _, c := range matrix() {
		why := c.impossible()
		if os.Getenv("XMIG_MATRIX") == "list" {
			fmt.Printf("%s: %s\n", c, cmp.Or(why, "struck"))
		}
		if why == "" {
			struck[string(c.mode)+" "+string(c.target)]++
		}
	}
	sum := 0
	for _, mode := range []jobs.Mode{jobs.Suspend, jobs.Live} {
		for _, who := range targets() {
			n := struck[string(mode)+" "+string(who)]
			t.Logf("%5d cells: %s, %s", n, mode, who)
			if sum += n; n == 0 && !(who.isStub() && mode == jobs.Suspend) {
				t.Errorf("nothing strikes the %s of a %s move", who, mode)
			}
		}
	}
	printImpossible()
	t.Logf("%5d of %d cells can be struck", sum, len(matrix()))
}

func environment(t *testing.T, name string, or int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(or)))
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number above 0 (%v)", name, err)
	}
	return n
}

// seeds are the runs that are asked for; the whole is made over three.
func seeds(t *testing.T, which string) (all []uint64) {
	t.Helper()
	or := "1"
	if which == "all" {
		or = "1,2,3"
	}
	for word := range strings.SplitSeq(cmp.Or(os.Getenv("XMIG_MATRIX_SEED"), or), ",") {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatalf("XMIG_MATRIX_SEED: %v", err)
		}
		all = append(all, n)
	}
	return all
}

// until is when XMIG_MATRIX_TIME is over; far away without it.
func until(t *testing.T) time.Time {
	t.Helper()
	given, err := time.ParseDuration(cmp.Or(os.Getenv("XMIG_MATRIX_TIME"), "24h"))
	if err != nil {
		t.Fatalf("XMIG_MATRIX_TIME: %v", err)
	}
	return time.Now().Add(given)
}

// defaultParallel is for two processors: a strike takes some 1.6 s of one, and
// waits for three times as long and more.
const defaultParallel = "8"

// TestMatrix strikes what is chosen and prints its table.
func TestMatrix(t *testing.T) {
	which := os.Getenv("XMIG_MATRIX")
	if which == "" || which == "list" {
		t.Skip("NOT TESTED: no cell is struck. Set XMIG_MATRIX=ci, all, random or a cell's name; .ci/run does ci in a part of its own")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to give each worker a disk that can be filled")
	}
	end := until(t)
	for _, seed := range seeds(t, which) {
		courses, begin, tab, want := chosen(t, which, seed), time.Now(), &table{until: end}, 0
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			for i, k := range courses {
				want += len(k.trials)
				t.Run(fmt.Sprintf("course%d", i+1), func(t *testing.T) {
					t.Parallel()
					k.run(t, seed, tab)
				})
			}
		})
		tab.judge(t, want, tab.print(seed, time.Since(begin)))
	}
	if which == "all" {
		printImpossible()
	}
}

// run plays the course. Behind a failure it goes on in a new cluster.
func (k course) run(t *testing.T, seed uint64, tab *table) {
	for next := 0; next < len(k.trials); {
		from := next
		t.Run(fmt.Sprintf("from%d", from+1), func(t *testing.T) {
			s := newScene(t, k.trials[from:])
			for next < len(k.trials) && !t.Failed() {
				next++
				if !tab.leaves(k.trials[next-1]) {
					k.trial(t, s, next-1, seed, tab)
				}
			}
		})
		if next == from { // no cluster came up: it has failed with what it was for
			tab.add(outcome{trial: k.trials[from], result: failed})
			next++
		}
	}
}

// trial plays one, and says how to have it again if it fails.
func (k course) trial(t *testing.T, s *scene, n int, seed uint64, tab *table) {
	o := outcome{trial: k.trials[n], result: failed}
	defer func() {
		tab.add(o)
		if t.Failed() {
			t.Logf("%s failed. Again: XMIG_MATRIX_SEED=%d XMIG_MATRIX='%s' go test ./test/matrix -run TestMatrix -v; what came before it in its cluster: %q",
				o.cell, seed, k.again(n), k.before(n))
		}
	}()
	s.play(&o)
}
