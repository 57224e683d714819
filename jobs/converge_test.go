package jobs

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const gib = 1 << 30

func TestPredict(t *testing.T) {
	disks := []DiskMove{{Name: "xvda", Size: 8 * gib}, {Name: "xvdb", Size: 4 * gib}, {Name: "xvdc", Size: 100 * gib, ReadOnly: true}}
	for _, c := range []struct {
		name       string
		mode       Mode
		memory     int64
		disks      []DiskMove
		read, link int64
		want       time.Duration
	}{
		{"nothing to move", Cold, 0, nil, 0, 0, time.Second},
		{"disks once more, read-only ones not", Cold, 0, disks, 1 * gib, 0, 13 * time.Second},
		{"memory does not travel when cold", Cold, 4 * gib, disks, 1 * gib, 1 * gib, 13 * time.Second},
		{"memory and disks", Suspend, 4 * gib, disks, 1 * gib, 1 * gib, 17 * time.Second},
		{"no rate known: 400 MiB/s read", Cold, 0, []DiskMove{{Size: 800 << 20}}, 0, 0, 3 * time.Second},
		{"no rate known: 112 MiB/s link", Suspend, 224 << 20, nil, -1, -1, 3 * time.Second},
	} {
		if got := Predict(c.mode, c.memory, c.disks, c.read, c.link); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func drawMode(t *rapid.T) Mode { return rapid.SampledFrom([]Mode{Live, Suspend, Cold}).Draw(t, "mode") }

// TestPredictProperties: whatever a host claims of sizes and rates, a
// prediction is never negative, grows with size and memory, shrinks with rates.
func TestPredictProperties(t *testing.T) {
	size := rapid.OneOf(rapid.Int64Range(0, 64*gib), rapid.Int64())
	rapid.Check(t, func(t *rapid.T) {
		mode := drawMode(t)
		memory, read, link := size.Draw(t, "memory"), size.Draw(t, "read"), size.Draw(t, "link")
		var disks []DiskMove
		for range rapid.IntRange(0, 5).Draw(t, "disks") {
			disks = append(disks, DiskMove{Size: size.Draw(t, "size"), ReadOnly: rapid.Bool().Draw(t, "read-only")})
		}
		d := Predict(mode, memory, disks, read, link)
		if d < fixedBlackout {
			t.Fatalf("predicted %s", d)
		}
		more := rapid.Int64Range(0, math.MaxInt64).Draw(t, "more")
		if m := Predict(mode, addUp(memory, more), disks, read, link); m < d {
			t.Fatalf("more memory: %s, less: %s", m, d)
		}
		if len(disks) > 0 {
			bigger := append([]DiskMove{}, disks...)
			bigger[0].Size = addUp(bigger[0].Size, more)
			if m := Predict(mode, memory, bigger, read, link); m < d {
				t.Fatalf("a bigger disk: %s, smaller: %s", m, d)
			}
		}
		if m := Predict(mode, memory, append(disks, DiskMove{Size: more}), read, link); m < d {
			t.Fatalf("one disk more: %s, without: %s", m, d)
		}
		if read > 0 && link > 0 {
			if m := Predict(mode, memory, disks, addUp(read, more), addUp(link, more)); m > d {
				t.Fatalf("faster: %s, slower: %s", m, d)
			}
		}
	})
}

// addUp adds without wrapping around.
func addUp(a, b int64) int64 {
	if s := a + b; b < 0 || s >= a {
		return s
	}
	return math.MaxInt64
}

func deltasOf(elapsed ...time.Duration) (ps []PassReport) {
	for i, d := range elapsed {
		ps = append(ps, PassReport{Number: uint32(i), Kind: DeltaPass, Elapsed: d})
	}
	return ps
}

func TestPredictFinal(t *testing.T) {
	fast := PassReport{Elapsed: time.Second, Disks: []DiskReport{{Wire: 200 << 20}, {Wire: 56 << 20}}} // 256 MiB/s
	tiny := PassReport{Elapsed: time.Millisecond, Disks: []DiskReport{{Wire: 16 << 20}}}               // too little to judge by
	for _, c := range []struct {
		name   string
		mode   Mode
		memory int64
		passes []PassReport
		link   int64
		want   time.Duration
	}{
		{"no pass yet", Suspend, gib, nil, 0, time.Second},
		{"as long as the last pass", Cold, gib, deltasOf(9*time.Second, 2*time.Second), 0, 3 * time.Second},
		{"memory at the link's rate", Suspend, 1 * gib, deltasOf(2 * time.Second), gib, 4 * time.Second},
		{"memory at the assumed rate", Suspend, 112 << 20, deltasOf(2 * time.Second), 0, 4 * time.Second},
		{"memory at the best rate seen", Suspend, 512 << 20, []PassReport{fast, {Elapsed: 3 * time.Second}}, 0, 6 * time.Second},
		{"a slow pass does not make the link slower", Suspend, 512 << 20, []PassReport{fast}, 512 << 20, 3 * time.Second},
		{"a limit that came since the seed", Suspend, 512 << 20, []PassReport{fast, {Elapsed: time.Second, Limit: 64 << 20}}, 0, 10 * time.Second},
		{"a limit that went since the seed", Suspend, 512 << 20, []PassReport{{Elapsed: time.Second, Limit: 1}, {Elapsed: time.Second}}, 512 << 20, 3 * time.Second},
		{"a tiny pass measures nothing", Suspend, 112 << 20, []PassReport{tiny}, 0, 2*time.Second + time.Millisecond},
	} {
		if got := PredictFinal(c.mode, c.memory, c.passes, c.link); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestPredictionsKnowTheLimit: a job that may send slowly stands still longer.
func TestPredictionsKnowTheLimit(t *testing.T) {
	for _, c := range []struct {
		limit, link int64
		want        int64
	}{
		{0, 0, 0}, {0, gib, gib}, {10 << 20, 0, 10 << 20}, {10 << 20, gib, 10 << 20}, {2 * gib, gib, gib},
		{gib, 0, 0}, // more than what is assumed of a link that is not known
	} {
		if got := (Spec{BWLimit: c.limit}).carries(c.link); got != c.want {
			t.Errorf("limit %d on a link of %d: %d, want %d", c.limit, c.link, got, c.want)
		}
	}
	p := Plan{Guest: Guest{VM: VM{State: VMRunning, Memory: gib}}}
	p.decideMode(Spec{Mode: Suspend, BWLimit: gib / 100}, Answer{})
	if want := 101 * time.Second; p.Predicted < want || p.Predicted > want+time.Second {
		t.Errorf("before the seed: %s, want about %s", p.Predicted, want)
	}
	for _, limits := range [][2]int64{{0, gib / 100}, {gib, gib / 100}, {gib / 100, gib}} {
		p.Guest.SendLimit = limits[1]
		p.decideMode(Spec{Mode: Suspend, BWLimit: limits[0]}, Answer{LinkRate: 2 * gib})
		if want := 101 * time.Second; p.Predicted < want || p.Predicted > want+time.Second {
			t.Errorf("limits %v of job and host: %s, want about %s", limits, p.Predicted, want)
		}
	}
	seed := PassReport{Kind: SeedPass, Elapsed: 10 * time.Second, Disks: []DiskReport{{Wire: 10 * gib}}}
	m := &Migration{rec: &Record{Plan: p, Report: Report{Passes: append([]PassReport{seed}, deltasOf(2*time.Second)...)}}}
	if got, want := m.predict(deltasOf(2*time.Second)), 4*time.Second; got != want {
		t.Errorf("after a seed at 1 GiB/s: %s, want %s", got, want)
	}
}

// TestPredictFinalProperties: never negative, and grows with memory and with the last pass.
func TestPredictFinalProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode, memory, link := drawMode(t), rapid.Int64().Draw(t, "memory"), rapid.Int64().Draw(t, "link")
		var passes []PassReport
		for range rapid.IntRange(1, 5).Draw(t, "passes") {
			passes = append(passes, PassReport{
				Elapsed: time.Duration(rapid.Int64().Draw(t, "elapsed")),
				Disks:   []DiskReport{{Wire: rapid.Int64().Draw(t, "wire")}},
			})
		}
		d := PredictFinal(mode, memory, passes, link)
		if d < fixedBlackout {
			t.Fatalf("predicted %s", d)
		}
		more := rapid.Int64Range(0, math.MaxInt64).Draw(t, "more")
		if m := PredictFinal(mode, addUp(memory, more), passes, link); m < d {
			t.Fatalf("more memory: %s, less: %s", m, d)
		}
		last := passes[len(passes)-1]
		last.Disks = nil // judge the time alone: its bytes would show another link rate
		base := append(append([]PassReport{}, passes...), last)
		longer := append([]PassReport{}, base...)
		longer[len(longer)-1].Elapsed = time.Duration(addUp(int64(last.Elapsed), more))
		if a, b := PredictFinal(mode, memory, base, link), PredictFinal(mode, memory, longer, link); b < a {
			t.Fatalf("a longer last pass: %s, shorter: %s", b, a)
		}
	})
}

func TestConverged(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name      string
		deltas    []PassReport
		predicted time.Duration
		want      Verdict
	}{
		{"straight after the seed: one delta at least", nil, 1 * s, Again},
		{"fits at once", deltasOf(9 * s), 5 * s, Enough},
		{"fits exactly", deltasOf(9 * s), 5 * s, Enough},
		{"too long, and only one delta", deltasOf(9 * s), 6 * s, Again},
		{"too long, and only two", deltasOf(9*s, 9*s), 6 * s, Again},
		{"three that do not shrink", deltasOf(9*s, 9*s, 9*s), 6 * s, TooLong},
		{"three that shrink by less than a tenth", deltasOf(10*s, 9500*time.Millisecond, 9*s), 6 * s, TooLong},
		{"three that shrink", deltasOf(10*s, 9*s, 8*s), 6 * s, Again},
		{"shrank first, not any more", deltasOf(90*s, 20*s, 10*s, 10*s, 10*s), 6 * s, TooLong},
		{"grows", deltasOf(5*s, 6*s, 7*s), 8 * s, TooLong},
		{"does not shrink, but fits", deltasOf(4*s, 4*s, 4*s), 5 * s, Enough},
		{"nothing to do at all, and still too long", deltasOf(0, 0, 0), 6 * s, TooLong},
	} {
		if got := Converged(c.deltas, c.predicted, 5*s); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestConvergedEnds: whatever passes take, a guest whose blackout never fits is
// given up after a bounded number of them, and none is given up that fits.
func TestConvergedEnds(t *testing.T) {
	// In three passes in a row the last is shorter by a tenth, or it is over:
	// from an hour to a nanosecond that is 275 tenths, at two passes each.
	const most = maxRounds + 2*275
	rapid.Check(t, func(t *rapid.T) {
		shrink := rapid.Float64Range(0.5, 1.2).Draw(t, "shrink")
		noise := rapid.SliceOfN(rapid.Float64Range(0.5, 1.5), 1, 20).Draw(t, "noise")
		elapsed := float64(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "first"))
		var deltas []PassReport
		for n := 0; ; n++ {
			if v := Converged(deltas, time.Minute, time.Second); v == TooLong {
				return
			} else if v != Again {
				t.Fatalf("%s although a minute does not fit into a second", v)
			}
			if n > most {
				t.Fatalf("still going on after %d passes", n)
			}
			if len(deltas) > 0 && Converged(deltas, time.Second, time.Second) != Enough {
				t.Fatalf("what fits is not taken after %d passes", n)
			}
			elapsed = min(elapsed*shrink, float64(time.Hour))
			deltas = append(deltas, PassReport{Elapsed: time.Duration(elapsed * noise[n%len(noise)])})
		}
	})
}
