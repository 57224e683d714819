package bus

import "sync/atomic"

// counts is what goes wrong on one connection and mends itself.
type counts struct {
	eventsLost, leasesLost, heartbeatsFailed atomic.Uint64
}

// Counts is counts at one moment.
type Counts struct {
	Reconnects, EventsLost, LeasesLost, HeartbeatsFailed uint64
}

// Counts tells how often something went wrong since the connection was made.
func (b *Bus) Counts() Counts {
	return Counts{Reconnects: b.nc.Stats().Reconnects, EventsLost: b.counts.eventsLost.Load(),
		LeasesLost: b.counts.leasesLost.Load(), HeartbeatsFailed: b.counts.heartbeatsFailed.Load()}
}
