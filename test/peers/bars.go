package main

import (
	"fmt"
	"math"
	"slices"

	"xmig/cmd/xmig/bench"
)

// outcome is all that was measured.
type outcome struct {
	Version string   `json:"version"`
	Binary  string   `json:"binary"` // its digest
	Machine string   `json:"machine"`
	Size    int64    `json:"size_bytes"` // of the disk of W1 to D
	Runs    []result `json:"runs"`
}

// figure is one number of a run.
type figure func(result) float64

func wallOf(r result) float64 { return r.Wall.Seconds() }
func cpuOf(r result) float64  { return r.CPU().Seconds() }
func wireOf(r result) float64 { return float64(r.Wire) }

// pick returns the runs that fit.
func (o *outcome) pick(fits func(result) bool) (found []result) {
	for _, r := range o.Runs {
		if fits(r) {
			found = append(found, r)
		}
	}
	return found
}

func (o *outcome) of(workload, tool string) []result {
	return o.pick(func(r result) bool { return r.Workload == workload && r.Tool == tool })
}

// median of one figure; NaN if there are no runs.
func (o *outcome) median(workload, tool string, f figure) float64 {
	return bench.MedianBy(o.of(workload, tool), f)
}

// bar is one promise: a value that must not be above its limit.
type bar struct {
	where, what string
	limit       float64
	aim         float64 // 0: none beyond the limit
	unit        string  // of value and limit; empty: a ratio
	value       func(o *outcome) (v float64, seen string)
}

// ratio of two medians within one workload.
func ratio(workload, ours, theirs string, f figure, unit string, scale float64) func(*outcome) (float64, string) {
	return func(o *outcome) (float64, string) {
		a, b := o.median(workload, ours, f), o.median(workload, theirs, f)
		return a / b, fmt.Sprintf("%.2f : %.2f %s", a/scale, b/scale, unit)
	}
}

// wall also shows the best run of each: on a busy machine the one that was
// disturbed least, and no more than a hint.
func wall(workload, ours, theirs string) func(*outcome) (float64, string) {
	medians := ratio(workload, ours, theirs, wallOf, "s", 1)
	return func(o *outcome) (float64, string) {
		v, seen := medians(o)
		return v, fmt.Sprintf("%s, best %.2f : %.2f", seen, best(o.of(workload, ours)), best(o.of(workload, theirs)))
	}
}

func best(runs []result) float64 {
	least := math.Inf(1)
	for _, r := range runs {
		least = min(least, wallOf(r))
	}
	return least
}

func cpu(workload, ours, theirs string) func(*outcome) (float64, string) {
	return ratio(workload, ours, theirs, cpuOf, "CPU s", 1)
}

// perChanged is bytes on the wire per changed byte of the disk.
func perChanged(workload string, changes func(int64) []bench.Span) func(*outcome) (float64, string) {
	return func(o *outcome) (float64, string) {
		sent, changed := o.median(workload, xmigOff, wireOf), float64(bench.Total(changes(o.Size)))
		return sent / changed, fmt.Sprintf("%.2f : %.2f MiB", sent/(1<<20), changed/(1<<20))
	}
}

// Limits of memory, in MiB: source, destination of one lane, each further lane.
const (
	sourceMemory      = 128
	destinationMemory = 320
	laneMemory        = 64
	manyLanes         = 4
)

// disksAtOnce are the numbers of disks that must cost the same.
var disksAtOnce = []int{1, 4, 16}

// bars are what xmig promises, in the order of the table.
func bars() []bar {
	return []bar{
		{where: "W1, compression off", what: "CPU / dd | ssh", limit: 0.85, value: cpu("W1", xmigOff, ddSSH)},
		{where: "W1, compression off", what: "wall / dd | ssh", limit: 0.7, value: wall("W1", xmigOff, ddSSH)},
		{where: "W1, compression off, no TLS", what: "wall / nbdcopy", limit: 2, value: wall("W1", xmigPlain, nbdcopy)},
		{where: "W1, compression on", what: "CPU / dd | zstd -1 | ssh", limit: 0.75, value: cpu("W1", xmigOn, ddZstdSSH)},
		{where: "W1, compression on", what: "wire / dd | zstd -1 | ssh", limit: 1, value: ratio("W1", xmigOn, ddZstdSSH, wireOf, "MiB", 1<<20)},
		{where: "W2", what: "CPU / rsync daemon", limit: 1.5, aim: 1, value: cpu("W2", xmigOff, rsyncDaemon)},
		{where: "W2", what: "wall / rsync daemon", limit: 1, value: wall("W2", xmigOff, rsyncDaemon)},
		{where: "W2", what: "wire per GiB", limit: 0.25, unit: "MiB", value: func(o *outcome) (float64, string) {
			v := o.median("W2", xmigOff, wireOf) / (1 << 20) / gib(o.Size)
			return v, ""
		}},
		{where: "W2, known to be untouched", what: "wire", limit: 100, unit: "KB", value: func(o *outcome) (float64, string) {
			return o.median("W2", xmigKnown, wireOf) / 1e3, ""
		}},
		{where: "W2, known to be untouched", what: "read of both disks", limit: 0, unit: "bytes", value: func(o *outcome) (float64, string) {
			return o.median("W2", xmigKnown, func(r result) float64 { return float64(r.Read) }), ""
		}},
		{where: "W3", what: "wire / changed bytes", limit: 1.2, value: perChanged("W3", scattered)},
		{where: "W3", what: "CPU / rsync daemon", limit: 0.75, value: cpu("W3", xmigOff, rsyncDaemon)},
		{where: "W3", what: "wall / rsync daemon", limit: 0.8, value: wall("W3", xmigOff, rsyncDaemon)},
		{where: "W3b", what: "wire / changed bytes", limit: 1.1, value: perChanged("W3b", clustered)},
		{where: "W3b", what: "CPU / rsync daemon", limit: 1.5, aim: 1, value: cpu("W3b", xmigOff, rsyncDaemon)},
		{where: "W3b", what: "wall / rsync daemon", limit: 1, value: wall("W3b", xmigOff, rsyncDaemon)},
		{where: "D", what: "wall / without delay", limit: 1.5, value: wall("D", xmigDelayed, xmigOff)},
		{where: "lane alone", what: "CPU / TLS TCP", limit: 2, aim: 1.6, value: cpu("lane", laneAlone, tlsAlone)},
		{where: "memory", what: "peak of the source", limit: sourceMemory, unit: "MiB", value: peak(1, func(r result) int64 { return r.SourcePeak })},
		{where: "memory", what: "peak of the destination, 1 lane", limit: destinationMemory, unit: "MiB", value: peak(1, func(r result) int64 { return r.DestinationPeak })},
		{where: "memory", what: fmt.Sprintf("peak of the destination, %d lanes", manyLanes), limit: destinationMemory + (manyLanes-1)*laneMemory, unit: "MiB",
			value: peak(manyLanes, func(r result) int64 { return r.DestinationPeak })},
		{where: "scale, W1", what: "1 - R² of CPU over bytes", limit: 0.01, value: linear(sizeSeed)},
		{where: "scale, W2", what: "1 - R² of CPU over bytes", limit: 0.01, value: linear(sizeUnchanged)},
		{where: "scale, W1", what: "CPU of 1, 4, 16 disks, most / least", limit: 1.1, value: spread(disksSeed)},
		{where: "scale, W2", what: "CPU of 1, 4, 16 disks, most / least", limit: 1.1, value: spread(disksSame)},
	}
}

// peak is the largest of all runs with so many lanes: memory has no median.
func peak(lanes int, of func(result) int64) func(*outcome) (float64, string) {
	return func(o *outcome) (float64, string) {
		most, where := int64(0), ""
		for _, r := range o.pick(func(r result) bool { return r.Lanes == lanes && of(r) > 0 && r.Workload != "lane" }) {
			if of(r) > most {
				most, where = of(r), fmt.Sprintf("%s, %s, %.2f GiB, %d disks", r.Workload, r.Tool, gib(r.Bytes), r.Disks)
			}
		}
		if most == 0 {
			return math.NaN(), ""
		}
		return float64(most) / (1 << 20), where
	}
}

// linear fits CPU seconds over GiB.
func linear(workload string) func(*outcome) (float64, string) {
	return func(o *outcome) (float64, string) {
		var x, y []float64
		for _, r := range o.of(workload, xmigOff) {
			if g := gib(r.Bytes); !slices.Contains(x, g) {
				x = append(x, g)
				y = append(y, bench.MedianBy(o.pick(func(q result) bool { return q.Workload == workload && q.Bytes == r.Bytes }), cpuOf))
			}
		}
		if len(x) < 3 {
			return math.NaN(), ""
		}
		l := bench.Fit(x, y)
		return 1 - l.R2, fmt.Sprintf("%.2f s/GiB + %.2f s over %g to %g GiB, worst point %.0f %% off", l.Slope, l.Intercept, slices.Min(x), slices.Max(x), 100*l.Worst)
	}
}

// spread compares the same bytes on different numbers of disks.
func spread(workload string) func(*outcome) (float64, string) {
	return func(o *outcome) (float64, string) {
		var all []float64
		for _, n := range disksAtOnce {
			all = append(all, bench.MedianBy(o.pick(func(r result) bool { return r.Workload == workload && r.Disks == n }), cpuOf))
		}
		return slices.Max(all) / slices.Min(all), fmt.Sprintf("%.2f : %.2f : %.2f CPU s", all[0], all[1], all[2])
	}
}

// Verdicts.
const (
	pass     = "pass"
	passOnly = "pass, aim missed"
	miss     = "MISS"
	unknown  = "not measured"
)

// judged is a bar and how it went.
type judged struct {
	Where   string  `json:"where"`
	What    string  `json:"what"`
	Limit   float64 `json:"limit"`
	Aim     float64 `json:"aim,omitempty"`
	Unit    string  `json:"unit,omitempty"`
	Value   float64 `json:"value"`
	Seen    string  `json:"seen,omitempty"`
	Verdict string  `json:"verdict"`
}

func judge(o *outcome) (all []judged) {
	for _, b := range bars() {
		v, seen := b.value(o)
		j := judged{Where: b.where, What: b.what, Limit: b.limit, Aim: b.aim, Unit: b.unit, Value: v, Seen: seen, Verdict: verdict(v, b.limit, b.aim)}
		if j.Verdict == unknown {
			j.Value, j.Seen = 0, "" // JSON has no NaN
		}
		all = append(all, j)
	}
	return all
}

func verdict(v, limit, aim float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return unknown
	case v > limit:
		return miss
	case aim > 0 && v > aim:
		return passOnly
	}
	return pass
}
