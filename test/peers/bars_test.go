package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"xmig/cmd/xmig/bench"
)

// a run with these figures; CPU is split between both ends.
func ran(workload, tool string, wall, cpu float64, wire int64) result {
	s := func(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
	return result{Workload: workload, Tool: tool, Bytes: 1 << 30, Disks: 1, Lanes: 1,
		cost: cost{Wall: s(wall), Source: s(cpu / 4), Destination: s(cpu * 3 / 4), Wire: wire}}
}

func valueOf(t *testing.T, o *outcome, where, what string) judged {
	t.Helper()
	for _, j := range judge(o) {
		if j.Where == where && j.What == what {
			return j
		}
	}
	t.Fatalf("there is no bar %q, %q", where, what)
	return judged{}
}

// TestRatiosOfMedians: not medians of ratios, not means, and each figure by itself.
func TestRatiosOfMedians(t *testing.T) {
	o := &outcome{Size: 1 << 30}
	for i, wall := range []float64{1, 9, 2} {
		o.Runs = append(o.Runs, ran("W2", xmigOff, wall, 1.2, 100<<10), ran("W2", rsyncDaemon, []float64{4, 5, 3}[i], 1, 400<<10))
	}
	o.Runs = append(o.Runs, ran("W3", xmigOff, 100, 100, 1), ran("W2", rsyncSSH, 100, 100, 1)) // of no concern
	if j := valueOf(t, o, "W2", "wall / rsync daemon"); math.Abs(j.Value-0.5) > 1e-9 || j.Verdict != pass || j.Seen != "2.00 : 4.00 s, best 1.00 : 3.00" {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "W2", "CPU / rsync daemon"); math.Abs(j.Value-1.2) > 1e-9 || j.Verdict != passOnly {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "W2", "wire per GiB"); math.Abs(j.Value-100./1024) > 1e-9 || j.Verdict != pass {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "W3", "CPU / rsync daemon"); j.Verdict != unknown || j.Value != 0 {
		t.Errorf("without the peer: %+v", j)
	}
}

func TestWirePerChangedByte(t *testing.T) {
	o := &outcome{Size: 1 << 30}
	changed := bench.Total(scattered(o.Size))
	if changed != 21471232 { // 2 % of 262,144 pages, rounded down: 5,242
		t.Errorf("%d bytes are changed", changed)
	}
	o.Runs = []result{ran("W3", xmigOff, 1, 1, changed*5/4), ran("W3b", xmigOff, 1, 1, changed*21/20)}
	if j := valueOf(t, o, "W3", "wire / changed bytes"); math.Abs(j.Value-1.25) > 1e-6 || j.Verdict != miss {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "W3b", "wire / changed bytes"); math.Abs(j.Value-1.05) > 1e-6 || j.Verdict != pass {
		t.Errorf("%+v", j)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		v, limit, aim float64
		want          string
	}{{1, 1, 0, pass}, {1.001, 1, 0, miss}, {1.6, 2, 1.6, pass}, {1.61, 2, 1.6, passOnly}, {2.1, 2, 1.6, miss}, {math.NaN(), 1, 0, unknown}, {math.Inf(1), 1, 0, unknown}, {0, 1, 0, pass}} {
		if got := verdict(c.v, c.limit, c.aim); got != c.want {
			t.Errorf("%g of %g (%g): %s, want %s", c.v, c.limit, c.aim, got, c.want)
		}
	}
}

// TestMemory: the largest of all runs, and lanes apart.
func TestMemory(t *testing.T) {
	with := func(workload string, lanes int, src, dst int64) result {
		r := ran(workload, xmigOff, 1, 1, 1)
		r.Lanes, r.SourcePeak, r.DestinationPeak = lanes, src<<20, dst<<20
		return r
	}
	o := &outcome{Size: 1 << 30, Runs: []result{with("W1", 1, 50, 300), with(sizeSeed, 1, 129, 310), with("W2", 1, 20, 30), with(lanesSeed, 4, 100, 513), with("lane", 1, 999, 999), ran("W1", ddSSH, 1, 1, 1)}}
	if j := valueOf(t, o, "memory", "peak of the source"); j.Value != 129 || j.Verdict != miss || !strings.Contains(j.Seen, sizeSeed) {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "memory", "peak of the destination, 1 lane"); j.Value != 310 || j.Verdict != pass {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "memory", "peak of the destination, 4 lanes"); j.Value != 513 || j.Limit != 512 || j.Verdict != miss {
		t.Errorf("%+v", j)
	}
}

func TestScale(t *testing.T) {
	o := &outcome{Size: 1 << 30}
	for _, g := range []float64{0.25, 1, 4, 8} {
		for _, noise := range []float64{0, 5, 0.001} { // medians: the second is thrown away
			r := ran(sizeSeed, xmigOff, 1, 0.5+2*g+noise, 1)
			r.Bytes = int64(g * (1 << 30))
			o.Runs = append(o.Runs, r)
		}
	}
	if j := valueOf(t, o, "scale, W1", "1 - R² of CPU over bytes"); j.Value > 1e-6 || j.Verdict != pass || !strings.HasPrefix(j.Seen, "2.00 s/GiB + 0.50 s over 0.25 to 8 GiB, worst point 0 %") {
		t.Errorf("%+v", j)
	}
	o.Runs[9].Source *= 3
	o.Runs[10].Source *= 3
	o.Runs[11].Source *= 3
	if j := valueOf(t, o, "scale, W1", "1 - R² of CPU over bytes"); j.Verdict != miss {
		t.Errorf("the largest costs far more per byte: %+v", j)
	}
	for _, n := range disksAtOnce {
		r := ran(disksSeed, xmigOff, 1, 2+float64(n)/80, 1)
		r.Disks = n
		o.Runs = append(o.Runs, r)
	}
	if j := valueOf(t, o, "scale, W1", "CPU of 1, 4, 16 disks, most / least"); math.Abs(j.Value-2.2/2.0125) > 1e-6 || j.Verdict != pass {
		t.Errorf("%+v", j)
	}
	if j := valueOf(t, o, "scale, W2", "CPU of 1, 4, 16 disks, most / least"); j.Verdict != unknown {
		t.Errorf("%+v", j)
	}
}

// TestBarsAreFed: every tool that a bar speaks of runs in that bar's workload,
// so that no bar can stay unmeasured for a name.
func TestBarsAreFed(t *testing.T) {
	o := &outcome{Size: 1 << 30}
	names := map[string]bool{}
	for _, w := range workloads() {
		names[w.name] = true
		for _, tl := range tools() {
			if tl.measured(w.name, true) {
				o.Runs = append(o.Runs, ran(w.name, tl.name, 1, 1, 1))
			}
		}
	}
	for _, tl := range tools() {
		for _, w := range strings.Fields(tl.in + " " + tl.more) {
			if !names[w] {
				t.Errorf("%s runs in %s, which nobody runs", tl.name, w)
			}
		}
	}
	for _, j := range judge(o) {
		if alone := j.Where == "memory" || strings.HasPrefix(j.Where, "scale"); !alone && j.Verdict == unknown {
			t.Errorf("%s, %s is fed by no tool", j.Where, j.What)
		}
	}
}

func TestMarkdown(t *testing.T) {
	o := &outcome{Version: "1", Machine: "m", Size: 1 << 30, Runs: []result{ran("W1", ddSSH, 3, 2, 5<<20), ran("W1", ddSSH, 5, 2.5, 5<<20)}}
	text := markdown(o)
	for _, want := range []string{`| W1 | dd \| ssh | 1.00 | 1 | 1 | 2 | 4.00 | 3.00 | 0 | **2.25** | 0.56 | 1.69 | 5.00 | - |`, "| not measured |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	columns := 0
	for _, line := range strings.Split(text, "\n") {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if n == 0 {
			columns = 0
			continue
		}
		if columns != 0 && n != columns {
			t.Errorf("%d columns, the line before has %d: %s", n, columns, line)
		}
		columns = n
	}
}
