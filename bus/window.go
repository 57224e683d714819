package bus

import "time"

// queueTarget is how long what is sent may wait on its way behind what the
// channel sent before: long enough to keep any wire and disk busy, and short
// enough that what a guest stands still for does not wait behind much.
const queueTarget = 100 * time.Millisecond

// window is how many bytes of a channel may be under way, from its sender's
// point of view: bandwidth × delay, found by how long bytes take from being
// sent to being taken. That is the wire's round trip and the queue that builds
// up in a slow wire or before a slow disk.
//
// It stays between least, with which neither end waits for the other in vain,
// and most, which the receiver has room for.
type window struct {
	size, least, most uint64

	trip  time.Duration // round trip of an idle wire
	mark  uint64        // total of bytes whose way is timed; 0: none
	under uint64        // how many of them were under way then
	since time.Time     // when the last of them was sent
	full  bool          // the sender had to wait since then
}

// newWindow: the receiver tells what it took whenever that is a part of most
// (told), so that with less than that and a frame under way nobody would speak;
// one more frame keeps the wire busy meanwhile.
func newWindow(most uint64, trip time.Duration) window {
	least := min(most, told(most)+2*maxFrame)
	return window{size: most, least: least, most: most, trip: trip}
}

// fixedWindow is the end's that sends little.
func fixedWindow(size uint64) window { return window{size: size, least: size, most: size} }

// told is after how many bytes taken the receiver says so: the sender shall
// never wait for credit that exists.
func told(window uint64) uint64 { return window / 8 }

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
	carried := w.under + total - w.mark
	w.mark = 0
	took := now.Sub(w.since)
	if !w.full {
		return // the last bytes of a sender that did not wait are told late: their time says nothing
	}
	fitting := float64(carried) / max(took.Seconds(), 1e-9) * (w.trip + queueTarget).Seconds()
	// A part that is not told yet and a frame that does not fit take room too.
	fitting += float64(told(w.most) + maxFrame)
	// By halves at most: what stalled a disk once may be over.
	size := max(float64(w.size)/2, min(fitting, 2*float64(w.size)))
	w.size = max(w.least, min(uint64(size), w.most))
}
