package main

import (
	"os"
	"runtime/debug"
)

const (
	// gcPercent: chunks of a MiB come and go at the rate of the disks, so that
	// the collector at its default of 100 runs many times a second. This was
	// the largest single gain of all settings measured.
	gcPercent = 400
	// memoryBase bounds what the collector lets the heap of a worker with one
	// lane grow to: a dom0 is given little memory, and all of it that we take is
	// not page cache.
	memoryBase = 160 << 20
	// memoryPerLanes is for every further set of lanes, whose buffers and
	// windows are alive at once.
	memoryPerLanes = 64 << 20
	// serverMemory is for some 1,000 hosts and what runs on them.
	serverMemory = 224 << 20
)

// tuneMemory sets the collector for the lanes that are open, one for each
// migration into this process.
func tuneMemory(lanes int) { limitMemory(memoryBase + int64(max(0, lanes-1))*memoryPerLanes) }

// limitMemory sets the collector. What the user says by GOGC and GOMEMLIMIT
// stays. The limit is a soft one: the process works harder above it and does not die.
func limitMemory(bytes int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}
