package show

import (
	"fmt"
	"time"
)

// Copied is the outcome of one local sync, or where it stands.
type Copied struct {
	From      string        `json:"from"`
	To        string        `json:"to"`
	Size      int64         `json:"size_bytes"`
	Done      int64         `json:"done_bytes"`
	Same      int64         `json:"same_bytes"`
	Differing int64         `json:"differing_bytes"`
	Zero      int64         `json:"zero_bytes"`
	Sent      int64         `json:"sent_bytes"`
	Wire      int64         `json:"wire_bytes"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	Verified  bool          `json:"verified"` // both were read again and were equal
}

// CopiedLine sums a sync up in one line: same, differing and zero bytes, what
// travelled, and the rate over the whole size.
func CopiedLine(c Copied) string {
	verified := ""
	if c.Verified {
		verified = ", read again and equal"
	}
	return fmt.Sprintf("%s: same %s, differing %s (zero %s), sent %s, %s in %s, %s%s", Bytes(c.Size), Bytes(c.Same), Bytes(c.Differing),
		Bytes(c.Zero), Bytes(c.Sent), Bytes(c.Wire)+" on the wire", Span(c.Elapsed), Rate(Over(c.Size, c.Elapsed)), verified)
}
