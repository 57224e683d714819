package blocksync

import (
	"errors"
	"fmt"
)

// ErrInterrupted is wrapped by the error of a stream that ended without its end frame.
var ErrInterrupted = errors.New("stream ended without its end frame")

// CorruptError says that content, a frame or a device is not what it claims to
// be. Nothing of it was written.
type CorruptError struct {
	Path   string // device at this end
	Offset int64  // byte offset on the disk, -1 if the fault is not tied to one
	Reason string
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("%s: at byte %d: %s", e.Path, e.Offset, e.Reason)
}

// AbortError is the other end's reason for giving up, as it told it.
type AbortError struct {
	End     string // "source" or "destination"
	Text    string
	Corrupt bool // it was a *CorruptError there
}

func (e *AbortError) Error() string { return "the " + e.End + " gave up: " + e.Text }
