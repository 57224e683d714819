package jobs

import "time"

// Row is one value of a table with the revision it was read at: 0 for one that
// is not stored yet. It is saved by compare-and-swap on that revision.
type Row[T any] struct {
	Key      string
	Value    T
	Revision uint64
}

// Throttle is what people want of one host while it runs.
type Throttle struct {
	BWLimit *int64      `json:"bwlimit_bytes,omitempty"` // all that it sends, bytes per second, 0 no limit; nil: its configuration's
	Hours   []RateHours `json:"hours,omitempty"`         // in place of its configuration's; none with a BWLimit: that holds at all times
	By      string      `json:"by,omitempty"`            // who changed it last
	At      time.Time   `json:"at"`
}

// Wish is what people want of a job while it is under way. It lies beside the
// record, which belongs to the job's source node by then.
type Wish struct {
	Job      string    `json:"job"`
	Paused   *Flag     `json:"paused,omitempty"`
	Cutover  *Flag     `json:"cutover,omitempty"`       // stop the guest as soon as it fits, though the spec says to wait
	Priority int       `json:"priority,omitempty"`      // 0: the spec's
	BWLimit  *int64    `json:"bwlimit_bytes,omitempty"` // bytes per second, 0 no limit; nil: the spec's
	By       string    `json:"by,omitempty"`            // who changed it last
	At       time.Time `json:"at"`
}
