package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process has taken.
type Usage struct {
	CPU  time.Duration `json:"cpu_ns"`
	Peak int64         `json:"peak_rss_bytes"` // of the whole process since its start
}

// usedSince is what this process used after before.
func usedSince(before time.Duration) (Usage, error) {
	now, err := cpuTime()
	if err != nil {
		return Usage{}, err
	}
	peak, err := peakMemory()
	return Usage{CPU: now - before, Peak: peak}, err
}

// cpuTime is user and system time of this process.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("CPU time of this process: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// peakMemory is the high-water mark of this process's resident memory. Rusage
// has one too, but a new process inherits it from its parent.
func peakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("memory of this process: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), "\nVmHWM:")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("memory of this process: no VmHWM in /proc/self/status")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory of this process: VmHWM %q: %w", fields[0], err)
	}
	return kib << 10, nil
}
