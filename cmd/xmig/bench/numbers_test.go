package bench

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}, {[]float64{1, 2}, 1.5}} {
		before := append([]float64(nil), c.in...)
		if got := Median(c.in); got != c.want {
			t.Errorf("median of %v: %g, want %g", c.in, got, c.want)
		}
		for i := range before {
			if c.in[i] != before[i] {
				t.Errorf("%v was reordered: %v", before, c.in)
			}
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestFit(t *testing.T) {
	l := Fit([]float64{1, 2, 4, 8}, []float64{3.5, 5.5, 9.5, 17.5})
	if math.Abs(l.Slope-2) > 1e-9 || math.Abs(l.Intercept-1.5) > 1e-9 || math.Abs(l.R2-1) > 1e-9 || l.Worst > 1e-9 {
		t.Errorf("y = 2x + 1.5: %+v", l)
	}
	// By hand: slope 1, intercept 1, residuals 0.5, -1, 0.5 around a mean of 3.
	l = Fit([]float64{1, 2, 3}, []float64{2.5, 2, 4.5})
	if math.Abs(l.Slope-1) > 1e-9 || math.Abs(l.Intercept-1) > 1e-9 || math.Abs(l.Worst-0.5) > 1e-9 || math.Abs(l.R2-(1-1.5/3.5)) > 1e-9 {
		t.Errorf("scattered points: %+v", l)
	}
}
