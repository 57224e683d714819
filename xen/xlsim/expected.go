package xlsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Expected is what must be on a guest's disks.
type Expected struct {
	UUID    string
	Writers int
	// Exact: nothing was written since. Otherwise it is a lower bound: later
	// records are right too, older ones are not.
	Exact bool
	Disks []ExpectedDisk
}

// ExpectedDisk is what must be on one disk, slot by slot.
type ExpectedDisk struct {
	DevID int
	Size  int64
	Slots []SlotState
}

func (e Expected) bound() bound {
	if e.Exact {
		return exactly
	}
	return atLeast
}

// disk is what is known of a disk; nothing, if its slots are elsewhere.
func (e Expected) disk(devID int, size int64) []SlotState {
	for _, d := range e.Disks {
		if d.DevID == devID && d.Size == size {
			return d.Slots
		}
	}
	return nil
}

// Final is what a guest left when it was last shut down in order (`xl
// shutdown`): exact until it boots again, a lower bound afterwards. It is empty
// for a guest that never was shut down.
func Final(net, uuid string) (Expected, error) {
	var e Expected
	data, err := os.ReadFile(finalPath(net, uuid))
	if errors.Is(err, os.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return e, fmt.Errorf("final mark of %s: %w", uuid, err)
	}
	return e, nil
}
