package main

import (
	"runtime/debug"
	"testing"
)

func TestTuneMemory(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	tuneMemory(3)
	if got := debug.SetMemoryLimit(-1); got != 288<<20 {
		t.Errorf("limit for three sets of lanes: %d MiB, want 288", got>>20)
	}
	if got := debug.SetGCPercent(gcPercent); got != gcPercent {
		t.Errorf("GC percent %d, want %d", got, gcPercent)
	}
	t.Setenv("GOGC", "50")
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(1 << 30)
	tuneMemory(3)
	if debug.SetMemoryLimit(-1) != 1<<30 || debug.SetGCPercent(50) != 50 {
		t.Error("what the user says must stay")
	}
}
