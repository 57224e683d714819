package bench

import (
	"math"
	"slices"
)

// Median is the middle value, the mean of the two middle ones, or NaN of none.
func Median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// MedianBy is the median of one figure of each item.
func MedianBy[T any](items []T, figure func(T) float64) float64 {
	v := make([]float64, len(items))
	for i, it := range items {
		v[i] = figure(it)
	}
	return Median(v)
}

// Line is y = Slope·x + Intercept, fitted by least squares.
type Line struct {
	Slope     float64 `json:"slope"`
	Intercept float64 `json:"intercept"`
	R2        float64 `json:"r2"`    // 1: the points lie on it
	Worst     float64 `json:"worst"` // largest distance of a point from it, as a share of the point
}

// Fit fits a line through points of which at least two differ in x.
func Fit(x, y []float64) Line {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
		sxx, sxy = sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	l := Line{Slope: (n*sxy - sx*sy) / (n*sxx - sx*sx)}
	l.Intercept = (sy - l.Slope*sx) / n
	var rest, spread float64
	for i := range x {
		d := y[i] - (l.Slope*x[i] + l.Intercept)
		rest += d * d
		spread += (y[i] - sy/n) * (y[i] - sy/n)
		l.Worst = max(l.Worst, math.Abs(d)/y[i])
	}
	l.R2 = 1 - rest/spread
	return l
}
