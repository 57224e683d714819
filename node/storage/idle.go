package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// idleTracker knows of a block device only whether anything was written to it at
// all: it compares the kernel's counters of finished writes and discards. Swap and
// data disks that rest are skipped so at no cost; anything else is the whole device.
//
// It is sound because the kernel counts a request before it tells the guest that
// the request is done, blkback's included. A request that is on its way is
// not counted yet and may have reached the disk: with one in flight the answer
// is "everything". Counting can be switched off (queue/iostats), which is checked each time.
//
// It sees what passes through this device number. Writes to a device below
// or above it by another name (the whole disk, if this is a partition) are not its.
// It cannot serve files: the file system's device counts all files together, delayed
// and in other places, and a file may be written without any loop device.
type idleTracker struct {
	volume Volume
	before string // counters at the last question; "" before Start
}

// NewIdle returns a tracker for the block device v, or ErrUnfit for other kinds
// and where the kernel does not count.
func NewIdle(v Volume) (Tracker, error) {
	if v.Kind == KindFile {
		return nil, fmt.Errorf("%s: idle counters exist for block devices only: %w", v.Path, ErrUnfit)
	}
	t := &idleTracker{volume: v}
	if _, _, err := t.counters(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *idleTracker) Name() string { return "idle" }

func (t *idleTracker) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, _, err := t.counters()
	if err != nil {
		return err
	}
	t.before = now
	return nil
}

func (t *idleTracker) Changed(ctx context.Context) (Changes, error) {
	if err := ctx.Err(); err != nil {
		return Changes{}, err
	}
	if t.before == "" {
		return Changes{}, fmt.Errorf("idle tracker of %s was not started", t.volume.Path)
	}
	now, inFlight, err := t.counters()
	if err != nil {
		t.before = "" // what happens from here on is not watched
		return Changes{}, err
	}
	same := now == t.before
	t.before = now
	if same && inFlight == 0 {
		return Changes{Precision: Superset}, nil
	}
	return Changes{Precision: Superset, Ranges: []Range{{0, t.volume.Size}}}, nil
}

func (t *idleTracker) Stop(context.Context) error {
	t.before = ""
	return nil
}

// Fields of /sys/block/…/stat, counted from 0.
const (
	statWrites         = 4
	statWriteSectors   = 6
	statDiscards       = 11 // since Linux 4.18; before that there were 11 fields
	statDiscardSectors = 13
)

// counters returns what changes with every write, as text to compare, and the
// number of writes that are on their way. The size and the device's identity are part
// of it: another device of this number is not an unchanged one.
func (t *idleTracker) counters() (text string, inFlight int64, err error) {
	sys := sysDevice(t.volume.Device)
	if !sameDevice(t.volume.ID, deviceIdentity(t.volume.Device)) {
		return "", 0, fmt.Errorf("%s is another device than it was: %w", t.volume.Path, ErrMissing)
	}
	if sysText(queueOf(sys), "iostats") != "1" {
		return "", 0, fmt.Errorf("%s: the kernel does not count its requests (queue/iostats): %w", t.volume.Path, ErrUnfit)
	}
	// In flight first: a request that ends between the two reads is counted in the second.
	flights := strings.Fields(sysText(sys, "inflight"))
	if len(flights) != 2 {
		return "", 0, fmt.Errorf("%s: no count of requests in flight: %w", t.volume.Path, ErrUnfit)
	}
	if inFlight, err = strconv.ParseInt(flights[1], 10, 64); err != nil {
		return "", 0, fmt.Errorf("%s: requests in flight: %w", t.volume.Path, err)
	}
	stat := strings.Fields(sysText(sys, "stat"))
	if len(stat) <= statDiscardSectors {
		return "", 0, fmt.Errorf("%s: %s has %d fields, discards are not counted: %w", t.volume.Path, filepath.Join(sys, "stat"), len(stat), ErrUnfit)
	}
	counts := []string{stat[statWrites], stat[statWriteSectors], stat[statDiscards], stat[statDiscardSectors], sysText(sys, "size")}
	return strings.Join(counts, " "), inFlight, nil
}
