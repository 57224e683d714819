package main

import (
	"errors"
	"fmt"

	"xmig/jobs"
)

// Exit codes, stable.
const (
	exitDone          = 0
	exitFailed        = 1 // and the VM, if any, runs at the source
	exitUsage         = 2
	exitBlocked       = 3 // checks speak against it
	exitStillRunning  = 4 // waiting ended, the job goes on
	exitRolledBack    = 5
	exitCancelled     = 6
	exitIndeterminate = 7
)

// gravity orders exit codes when several jobs end differently: the first of
// these that occurs is the one that a person must hear of.
var gravity = []int{exitIndeterminate, exitRolledBack, exitFailed, exitUsage, exitBlocked, exitCancelled, exitStillRunning, exitDone}

// exitError is an end that was told already, or needs no more words.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.text
}

// usage marks a request that is itself wrong.
func usage(format string, args ...any) error { return jobs.Failed(jobs.CodeUsage, format, args...) }

// codeOf is the exit code of an error.
func codeOf(err error) int {
	if err == nil {
		return exitDone
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return codeOfFailure(jobs.CodeOf(err))
}

func codeOfFailure(c jobs.Code) int {
	switch c {
	case jobs.CodeUsage, jobs.CodeNotFound, jobs.CodeGone:
		return exitUsage
	case jobs.CodeBlocked, jobs.CodeConflict:
		return exitBlocked
	case jobs.CodeCancelled:
		return exitCancelled
	}
	return exitFailed
}

// codeOfJob is the exit code of a job as it stands.
func codeOfJob(r jobs.Record) int {
	switch r.State {
	case jobs.Succeeded:
		return exitDone
	case jobs.RolledBack:
		return exitRolledBack
	case jobs.Cancelled:
		return exitCancelled
	case jobs.Indeterminate:
		return exitIndeterminate
	case jobs.FailedState:
		if r.Failure != nil {
			return codeOfFailure(r.Failure.Code)
		}
		return exitFailed
	}
	return exitStillRunning
}

// worst is the exit code of several jobs together.
func worst(codes []int) int {
	for _, g := range gravity {
		for _, c := range codes {
			if c == g {
				return g
			}
		}
	}
	return exitDone
}
