package coordinator

import (
	"math"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process, what collects its garbage included.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cacheSlack is added to the exponent that is allowed: a small fleet lies in
// the processor's caches and a large one does not. What grows with the square
// of the hosts is caught all the same.
const cacheSlack = 0.2

// TestDecisionCost fits the processor time of a decision over fleets of 10,
// 100 and 1,000 hosts to n^p, and holds it against n log n.
func TestDecisionCost(t *testing.T) {
	hosts := []int{10, 100, 1000}
	var x, y []float64
	for _, n := range hosts {
		s := bigFleet(n)
		var took []time.Duration
		rounds := time.Duration(max(1, 500/n))
		for range 3 {
			runtime.GC()
			begin := cpu(t)
			for range rounds {
				decideOnce(s)
			}
			took = append(took, (cpu(t)-begin)/rounds)
		}
		best := slices.Min(took) // what others on the machine add is no cost of ours
		t.Logf("%4d hosts: %s", n, best)
		x, y = append(x, math.Log(float64(n))), append(y, math.Log(float64(best)))
	}
	grows := (y[2] - y[0]) / (x[2] - x[0])
	allowed := 1 + math.Log(math.Log2(1000)/math.Log2(10))/math.Log(100)
	t.Logf("the cost grows as n^%.2f; n log n as n^%.2f", grows, allowed)
	if grows > allowed+cacheSlack {
		t.Errorf("the cost of a decision grows as n^%.2f, n log n as n^%.2f", grows, allowed)
	}
}
