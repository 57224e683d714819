package jobs

import "time"

// Assumptions of a prediction made before anything was measured.
const (
	// fixedBlackout is what save, restore, attaching disks and the hand-over
	// cost beside moving bytes; an ordinary host needs about a second.
	fixedBlackout = time.Second
	// assumedLink is 1 Gbit/s less its overhead, in bytes per second.
	assumedLink = 112 << 20
	// assumedRead is a SATA SSD, in bytes per second.
	assumedRead = 400 << 20
	// maxRounds of delta passes that do not shrink are enough to see that more will not help.
	maxRounds = 3
)

// Predict tells the blackout of a plan from rates in bytes per second (0:
// unknown): in suspend mode the memory travels and every disk is compared
// once more while the guest stands still. In cold mode no memory travels.
func Predict(mode Mode, memory int64, disks []DiskMove, read, link int64) time.Duration {
	if read <= 0 {
		read = assumedRead
	}
	if link <= 0 {
		link = assumedLink
	}
	var bytes int64
	for _, d := range disks {
		if !d.ReadOnly {
			bytes += d.Size
		}
	}
	t := fixedBlackout + seconds(bytes, read)
	if mode == Suspend {
		t += seconds(memory, link)
	}
	return t
}

// PredictFinal tells the blackout from what the passes showed: the final pass
// takes as long as the last one did, the memory travels at the best rate seen.
func PredictFinal(mode Mode, memory int64, passes []PassReport, link int64) time.Duration {
	if len(passes) == 0 {
		return fixedBlackout
	}
	last := passes[len(passes)-1]
	t := fixedBlackout + last.Elapsed
	if mode != Suspend {
		return t
	}
	for _, p := range passes {
		if p.Wire() > 16<<20 && p.Elapsed > 0 { // enough to be a measurement
			link = max(link, int64(float64(p.Wire())/p.Elapsed.Seconds()))
		}
	}
	if link <= 0 {
		link = assumedLink
	}
	return t + seconds(memory, link)
}

func seconds(bytes, rate int64) time.Duration {
	return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
}

// Verdict is what converge decides after a pass.
type Verdict string

const (
	Again   Verdict = "again"   // another pass will help
	Enough  Verdict = "enough"  // the blackout fits: stop the guest
	TooLong Verdict = "toolong" // it does not fit, and passes stopped shrinking
)

// Converged judges the passes since the seed against the budget.
func Converged(deltas []PassReport, predicted, budget time.Duration) Verdict {
	if len(deltas) == 0 {
		return Again // the seed ran while the guest wrote: one delta at least
	}
	if predicted <= budget {
		return Enough
	}
	if len(deltas) < maxRounds {
		return Again
	}
	first, last := deltas[len(deltas)-maxRounds], deltas[len(deltas)-1]
	if last.Elapsed < first.Elapsed*9/10 {
		return Again
	}
	return TooLong
}
