package show

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"xmig/jobs"
)

// View is all that a screen shows of one job.
type View struct {
	Record   jobs.Record
	Progress jobs.Progress
}

// barWidth in characters: a percent is half a character, which is smooth enough.
const barWidth = 24

// longestETA: what takes longer is not known any better than "long".
const longestETA = 100 * time.Hour

// Bars draws one job: a head line, and while bytes move one bar per disk with
// rate and the time left. Lines are cut at width characters.
func Bars(v View, width int) []string {
	out := []string{head(v)}
	if moving(v) {
		byName := func(a, b jobs.DiskProgress) int { return strings.Compare(a.Name, b.Name) }
		for _, d := range slices.SortedStableFunc(slices.Values(v.Progress.Disks), byName) {
			out = append(out, bar(d)) // in an order that stays: they tell of themselves in any
		}
	}
	if f := v.Record.Failure; f != nil && !v.Record.State.Final() {
		out = append(out, "  last failure: "+f.Text)
	}
	for i, l := range out {
		out[i] = cut(l, width)
	}
	return out
}

// moving: progress of a step that is over is no progress.
func moving(v View) bool {
	if v.Record.State.Final() {
		return false
	}
	switch v.Record.Step {
	case jobs.Seed, jobs.Converge, jobs.Stream, jobs.SealStep:
		return len(v.Progress.Disks) > 0
	}
	return false
}

func head(v View) string {
	r := v.Record
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s → %s", subject(r), dash(r.Source), dash(r.Destination))
	if r.State != jobs.Running {
		fmt.Fprintf(&b, "  %s", r.State)
	} else {
		fmt.Fprintf(&b, "  %s (%d/%d)", r.Step, slices.Index(jobs.Steps(), r.Step)+1, len(jobs.Steps()))
	}
	if moving(v) && v.Progress.Pass > 0 {
		fmt.Fprintf(&b, "  pass %d %s", v.Progress.Pass, v.Progress.Kind)
	}
	if r.Attempt > 1 {
		fmt.Fprintf(&b, "  attempt %d", r.Attempt)
	}
	if p := predicted(v); p > 0 && !r.State.Final() {
		fmt.Fprintf(&b, "  predicted blackout %s of %s", Span(p), Span(r.Spec.MaxDowntime))
	}
	if r.State == jobs.Succeeded && r.Report.Blackout > 0 {
		fmt.Fprintf(&b, "  blackout %s", Span(r.Report.Blackout))
	}
	for _, f := range []struct {
		name string
		flag *jobs.Flag
	}{{"held", r.Held}, {"paused", r.Paused}, {"degraded", r.Degraded}, {"cancelling", r.Cancel}} {
		if f.flag != nil && !r.State.Final() {
			fmt.Fprintf(&b, "  %s: %s", f.name, f.flag.Reason)
		}
	}
	return b.String()
}

// predicted is the newest prediction: from the passes, or from the plan before them.
func predicted(v View) time.Duration {
	for _, d := range []time.Duration{v.Record.Report.Predicted, v.Progress.Predicted, v.Record.Plan.Predicted} {
		if d > 0 {
			return d
		}
	}
	return 0
}

func bar(d jobs.DiskProgress) string {
	part := 1.0
	if d.Size > 0 {
		part = min(1, float64(d.Done)/float64(d.Size))
	}
	full := int(part * barWidth)
	left := "-"
	if d.Rate > 0 && d.Done < d.Size {
		if s := float64(d.Size-d.Done) / d.Rate; s < longestETA.Seconds() {
			left = Span(time.Duration(s * float64(time.Second)))
		}
	} else if d.Done >= d.Size {
		left = "done"
	}
	return fmt.Sprintf("  %-8s %s%s %3d %%  %9s of %-9s %11s  ETA %-6s sent %s", d.Name,
		strings.Repeat("█", full), strings.Repeat("░", barWidth-full), int(part*100),
		Bytes(d.Done), Bytes(d.Size), Rate(d.Rate), left, Bytes(d.Wire))
}

// cut shortens a line to width characters: a line that wraps cannot be redrawn.
func cut(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // a name must not move the cursor
			return '?'
		}
		return r
	}, s)
	if width <= 1 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// Redraw gives the text that replaces the drawn lines before it by lines: up,
// then each line with what is left of the old one erased. Fewer lines than
// before leave the rest empty.
func Redraw(before int, lines []string) string {
	var b strings.Builder
	if before > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", before)
	}
	b.WriteString("\r\x1b[J") // down to the end of the screen
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.String()
}

// Bar draws one disk, cut at width characters.
func Bar(d jobs.DiskProgress, width int) string { return cut(bar(d), width) }

// Fit cuts a text into lines of width characters, height of them at most: what
// does not fit on a screen cannot be redrawn. 0: any number.
func Fit(text string, width, height int) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height > 1 && len(lines) > height-1 { // the cursor stands on the last
		lines = append(lines[:height-2], "…")
	}
	for i, l := range lines {
		lines[i] = cut(l, width)
	}
	return lines
}
