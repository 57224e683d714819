package jobs

import "time"

// Assumptions of a prediction made before anything was measured.
const (
	// fixedBlackout is what save, restore, attaching disks and the hand-over
	// cost beside moving bytes; an ordinary host needs about a second.
	fixedBlackout = time.Second
	// AssumedLink is 1 Gbit/s less its overhead, in bytes per second.
	AssumedLink = 112 << 20
	// assumedRead is a SATA SSD, in bytes per second.
	assumedRead = 400 << 20
	// dirtyShare of a guest's memory is what its last round sends while it
	// stands: the toolstack stops it after few pages or five rounds, and a guest
	// that writes at the link's own rate leaves about this much.
	dirtyShare = 16
	// maxRounds of delta passes that do not shrink are enough to see that more will not help.
	maxRounds = 3
)

// Predict tells the blackout of a plan from rates in bytes per second (0:
// unknown): every disk is compared once more while the guest stands still, and
// meanwhile travels all of its memory (suspend), what it changed last (live), or
// nothing (cold).
func Predict(mode Mode, memory int64, disks []DiskMove, read, link int64) time.Duration {
	if read <= 0 {
		read = assumedRead
	}
	if link <= 0 {
		link = AssumedLink
	}
	var bytes float64
	for _, d := range disks {
		if d.Copied() {
			bytes += float64(max(d.Size, 0))
		}
	}
	return fixedBlackout + travel(bytes, read) + travel(standing(mode, memory), link)
}

// standing is how many bytes of memory travel while the guest stands still.
func standing(mode Mode, memory int64) float64 {
	switch mode {
	case Suspend:
		return float64(memory)
	case Live:
		return float64(memory) / dirtyShare
	}
	return 0
}

// PredictFinal tells the blackout from what the passes showed: the final pass
// takes as long as the last one did, the memory travels at the best rate seen.
func PredictFinal(mode Mode, memory int64, passes []PassReport, link int64) time.Duration {
	if len(passes) == 0 {
		return fixedBlackout
	}
	last := passes[len(passes)-1]
	t := fixedBlackout + min(max(last.Elapsed, 0), never)
	if standing(mode, memory) <= 0 {
		return t
	}
	link = max(link, carried(passes))
	if link <= 0 {
		link = AssumedLink
	}
	// What earlier passes reached is over when a limit came since.
	return t + travel(standing(mode, memory), tighter(link, last.Limit))
}

// PassFits: one more delta pass, as long as the last one, ends before all of a
// running guest's memory has gone over once; later rounds are short. The memory
// is taken to travel as quickly as passes did where it is slower itself: it
// shares the wire with them, and one pass must not be why the next one fits.
func PassFits(f Flow, memory int64, passes []PassReport) bool {
	if len(passes) == 0 || f.Sent <= 0 || f.Elapsed <= 0 || f.Sent >= memory {
		return false
	}
	last := passes[len(passes)-1].Elapsed
	return last+last/4 < remaining(f, memory, passes)
}

// PassDue: a pass that fits is made now, because few more will fit, or because
// the last one is long over. One after the other they would take the source's
// CPU and disks from the guest and from its memory, and for nothing: the last
// of them finds all that the earlier ones would have.
func PassDue(f Flow, memory int64, passes []PassReport, idle time.Duration) bool {
	last := passes[len(passes)-1].Elapsed
	return idle >= 3*last || remaining(f, memory, passes) < 3*last
}

// remaining is how long the rest of a running guest's memory takes.
func remaining(f Flow, memory int64, passes []PassReport) time.Duration {
	return travel(float64(memory-f.Sent), max(1, carried(passes), int64(float64(f.Sent)/f.Elapsed.Seconds())))
}

// carried is the best rate that passes showed of the wire, 0 if none sent
// enough to tell.
func carried(passes []PassReport) (rate int64) {
	for _, p := range passes {
		if p.Wire() > 16<<20 && p.Elapsed > 0 {
			rate = max(rate, int64(float64(p.Wire())/p.Elapsed.Seconds()))
		}
	}
	return rate
}

// never is what no prediction exceeds in one of its parts; three of them still
// fit a Duration. Sizes and rates are what other hosts say.
const never = 90 * 365 * 24 * time.Hour

// travel tells how long bytes take at rate bytes per second.
func travel(bytes float64, rate int64) time.Duration {
	t := max(bytes, 0) / float64(rate) * float64(time.Second)
	return time.Duration(min(t, float64(never)))
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
