package bus

import "time"

const (
	// headroom over what the way holds, so that a sender that is woken late
	// leaves no gap.
	headroom = 1.25
	// probeEvery and probeRounds, whichever is longer: the way may have become
	// longer, and under a queue nobody sees that.
	probeEvery  = 10 * time.Second
	probeRounds = 50
)

// window is how many bytes of a channel may be under way, from its sender's
// point of view: bandwidth × delay. The delay is the shortest time from being
// sent to being taken, seen with hardly anything under way, then and again.
// More than that waits in queues: on a slow wire what a guest stands still for
// waits with it, and on a fast one it leaves the processor's caches before it is
// used (16 MiB in place of 4 cost a lane a fifth of its CPU time).
//
// It stays between least, with which neither end waits for the other in vain,
// and most, which the receiver has room for.
type window struct {
	size, least, most uint64

	shortest time.Duration // from sent to taken; 0: to be seen
	probed   time.Time     // when that was last asked

	mark  uint64    // total of bytes whose way is timed; 0: none
	under uint64    // how many of them were under way then
	since time.Time // when the last of them was sent
	full  bool      // the sender had to wait since then
}

// newWindow: the receiver tells what it took whenever that is a part of most
// (told), so that with less than that and a frame under way nobody would speak.
// Of sixteen disks each has that much.
func newWindow(most uint64) window {
	least := min(most, told(most)+maxFrame)
	return window{size: min(most, least+maxFrame), least: least, most: most}
}

// told is after how many bytes taken the receiver says so.
func told(window uint64) uint64 { return window / 16 }

// fits tells whether n more bytes may be sent beside those under way.
func (w *window) fits(under, n uint64) bool {
	ok := under+n <= w.size
	w.full = w.full || !ok
	return ok
}

// sent times the bytes up to total, of which some are under way, unless
// earlier ones are being timed.
func (w *window) sent(total, under uint64, now time.Time) {
	if w.mark == 0 {
		w.mark, w.under, w.since, w.full = total, under, now, false
	}
}

// taken hears that the receiver has taken all bytes up to total.
func (w *window) taken(total uint64, now time.Time) {
	if w.mark == 0 || total < w.mark {
		return
	}
	carried, took := w.under+total-w.mark, max(now.Sub(w.since), time.Microsecond)
	w.mark = 0
	// The last bytes of a sender that did not wait are told late: their time says nothing.
	if w.full {
		w.adapt(carried, took, now)
	}
}

func (w *window) adapt(carried uint64, took time.Duration, now time.Time) {
	if w.probed.IsZero() {
		w.probed = now
	}
	if now.Sub(w.probed) > max(probeEvery, probeRounds*w.shortest) {
		w.shortest, w.size, w.probed = 0, w.least, now
		return
	}
	if w.shortest == 0 || took < w.shortest {
		w.shortest = took
	}
	// A part that is not told yet and a frame that does not fit take room too.
	holds := float64(carried) * w.shortest.Seconds() / took.Seconds()
	size := min(headroom*holds+float64(told(w.most)+maxFrame), 2*float64(w.size))
	w.size = max(w.least, min(uint64(size), w.most))
}
