package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"xmig/cmd/xmig/bench"
)

// report is what is written as JSON.
type report struct {
	Bars []judged `json:"bars"`
	outcome
}

func writeJSON(w io.Writer, o *outcome) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(report{judge(o), *o})
}

// markdown writes the bars, and then the medians that they are made of.
func markdown(o *outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s), %s, disk of %d MiB\n\n", o.Version, o.Binary, o.Machine, o.Size>>20)
	b.WriteString("| | bar | limit | measured | verdict | seen |\n|---|---|---|---|---|---|\n")
	for _, j := range judge(o) {
		limit := fmt.Sprintf("%g", j.Limit)
		if j.Aim > 0 {
			limit += fmt.Sprintf(" (aim %g)", j.Aim)
		}
		value := "-"
		if j.Verdict != unknown {
			value = strings.TrimSpace(fmt.Sprintf("%.3g %s", j.Value, j.Unit))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", j.Where, cell(j.What), strings.TrimSpace(limit+" "+j.Unit), value, j.Verdict, j.Seen)
	}
	b.WriteString("\nMedians; CPU seconds are of both ends together.\n\n")
	b.WriteString("| workload | tool | GiB | disks | lanes | runs | wall s | best | others % | CPU s/GiB | source | destination | wire MiB | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, g := range groups(o.Runs) {
		b.WriteString(g.row())
	}
	return b.String()
}

// cell keeps a pipe from ending a cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// groups puts the runs of the same thing together, in order of appearance.
func groups(runs []result) (all []sameRuns) {
	type key struct {
		workload, tool string
		bytes          int64
		disks, lanes   int
	}
	at := map[key]int{}
	for _, r := range runs {
		k := key{r.Workload, r.Tool, r.Bytes, r.Disks, r.Lanes}
		i, ok := at[k]
		if !ok {
			i = len(all)
			at[k] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], r)
	}
	return all
}

type sameRuns []result

func (g sameRuns) row() string {
	r := g[0]
	size := gib(r.Bytes)
	var most int64
	for _, q := range g {
		most = max(most, q.SourcePeak, q.DestinationPeak)
	}
	peak := "-"
	if most > 0 {
		src, dst := int64(0), int64(0)
		for _, q := range g {
			src, dst = max(src, q.SourcePeak), max(dst, q.DestinationPeak)
		}
		peak = fmt.Sprintf("%d / %d", src>>20, dst>>20)
	}
	return fmt.Sprintf("| %s | %s | %.2f | %d | %d | %d | %.2f | %.2f | %.0f | **%.2f** | %.2f | %.2f | %.2f | %s |\n", r.Workload, cell(r.Tool), size, r.Disks, r.Lanes, len(g),
		bench.MedianBy(g, wallOf), best(g), 100*bench.MedianBy(g, func(r result) float64 { return r.Others }), bench.MedianBy(g, cpuOf)/size,
		bench.MedianBy(g, func(r result) float64 { return r.Source.Seconds() })/size,
		bench.MedianBy(g, func(r result) float64 { return r.Destination.Seconds() })/size,
		bench.MedianBy(g, wireOf)/(1<<20), peak)
}
