package jobs

import (
	"errors"
	"fmt"
	"strings"
)

// Class says what the driver does about an error.
type Class string

const (
	Retry Class = "retry" // may get better: network, a busy host, a dead worker
	Final Class = "final" // will not get better by itself: bad spec, no space
	Lost  Class = "lost"  // this worker no longer owns the job: stop, touch nothing
)

// Code names a kind of failure for programs: exit codes, tests, other tools.
type Code string

const (
	CodeInternal  Code = "internal"
	CodeUsage     Code = "usage"      // the request itself is wrong
	CodeNotFound  Code = "not_found"  // no such VM, host, job
	CodeGone      Code = "vm_gone"    // the VM that is to move is not on its host any more
	CodeConflict  Code = "conflict"   // somebody else holds it
	CodeBlocked   Code = "blocked"    // checks speak against it
	CodeAway      Code = "away"       // a host or the bus does not answer
	CodeLane      Code = "lane"       // the data path broke
	CodeCorrupt   Code = "corrupt"    // content did not match its digest
	CodeToolstack Code = "toolstack"  // xl refused or failed
	CodeStorage   Code = "storage"    // a volume could not be made, read or written
	CodeDowntime  Code = "downtime"   // the blackout would not fit the budget
	CodeCancelled Code = "cancelled"  // a person asked for it
	CodeAborted   Code = "aborted"    // the other end ended the attempt
	CodeTwoCopies Code = "two_copies" // the VM runs on both hosts: only a person may choose
)

// Error is an error with a class and a code. Both survive the way over the bus.
type Error struct {
	Class Class
	Code  Code
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// RetryLater marks an error that may be gone at the next try.
func RetryLater(code Code, format string, args ...any) error {
	return &Error{Class: Retry, Code: code, Err: fmt.Errorf(format, args...)}
}

// Failed marks an error that a new try will not cure.
func Failed(code Code, format string, args ...any) error {
	return &Error{Class: Final, Code: code, Err: fmt.Errorf(format, args...)}
}

// NotOurs marks the loss of the job to another worker.
func NotOurs(format string, args ...any) error {
	return &Error{Class: Lost, Code: CodeConflict, Err: fmt.Errorf(format, args...)}
}

// ClassOf reports how to treat err; an error nobody classed is a Retry. What a
// person cancelled is not tried again, whatever the cancel was taken for on its
// way up: an xl that was killed, a host that does not answer.
func ClassOf(err error) Class {
	var e *Error
	var class Class
	if errors.As(err, &e) {
		class = e.Class
	}
	var b *BlockedError
	switch {
	case errors.Is(err, ErrCancelled) && class != Lost:
		return Final
	case class != "":
		return class
	case errors.As(err, &b):
		return Final
	}
	return Retry
}

// CodeOf reports the code of err, CodeInternal if nobody gave one.
func CodeOf(err error) Code {
	var b *BlockedError
	if errors.As(err, &b) {
		return CodeBlocked
	}
	var e *Error
	if errors.As(err, &e) && e.Code != "" {
		return e.Code
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return CodeNotFound
	case errors.Is(err, ErrConflict):
		return CodeConflict
	case errors.Is(err, ErrAway):
		return CodeAway
	case errors.Is(err, ErrCancelled):
		return CodeCancelled
	}
	return CodeInternal
}

// Errors of the stores.
var (
	// ErrNotFound: there is no such record, key or host.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else changed it first; read again and decide anew.
	ErrConflict = errors.New("changed by somebody else")
	// ErrAway: no answer; nothing is known of the outcome.
	ErrAway = errors.New("no answer")
)

// Blocker is one reason why a VM cannot move as asked, and the way out.
type Blocker struct {
	Host string `json:"host"`
	Disk string `json:"disk,omitempty"`
	Code string `json:"code"`           // stable word, for programs
	Text string `json:"text"`           // what is wrong
	Next string `json:"next,omitempty"` // what to do about it
}

func (b Blocker) String() string {
	s := b.Host + ": "
	if b.Disk != "" {
		s += "disk " + b.Disk + ": "
	}
	s += b.Text
	if b.Next != "" {
		s += " (" + b.Next + ")"
	}
	return s
}

// BlockedError holds every blocker of both hosts in one answer.
type BlockedError struct {
	VM       string
	Blockers []Blocker
}

func (e *BlockedError) Error() string {
	lines := make([]string, 0, len(e.Blockers))
	for _, b := range e.Blockers {
		lines = append(lines, b.String())
	}
	return fmt.Sprintf("vm %s cannot move: %s", e.VM, strings.Join(lines, "; "))
}
