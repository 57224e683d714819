package xen

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// BlockDevice is a disk of a domain as its backend sees it.
type BlockDevice struct {
	ID        int    // 51712 is xvda
	Connected bool   // the guest's driver and the backend talk to each other
	Backend   string // its path in xenstore
}

// connected is the state of a xenbus device in use.
const connected = 4

// BlockList asks for a domain's disks.
func (x XL) BlockList(ctx context.Context, id int) ([]BlockDevice, error) {
	out, _, err := x.ask(ctx, x.xl("block-list", strconv.Itoa(id)))
	if err != nil {
		return nil, err
	}
	all, err := parseBlockList(out)
	if err == nil && len(all) == 0 { // no disks, or no domain: the exit code is 0 either way
		_, err = x.byID(ctx, id)
	}
	return all, err
}

func parseBlockList(text string) ([]BlockDevice, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "Vdev ") {
		return nil, fmt.Errorf("xl block-list: unknown header %q", lines[0])
	}
	var all []BlockDevice
	for _, line := range lines[1:] {
		f := strings.Fields(line) // device, backend domain, handle, state, event channel, ring, path
		if len(f) != 7 {
			return nil, fmt.Errorf("xl block-list: cannot read line %q", line)
		}
		id, err := strconv.Atoi(f[0])
		state, err2 := strconv.Atoi(f[3])
		if err != nil || err2 != nil {
			return nil, fmt.Errorf("xl block-list: cannot read line %q", line)
		}
		all = append(all, BlockDevice{ID: id, Connected: state == connected, Backend: f[6]})
	}
	return all, nil
}
