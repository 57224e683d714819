package node

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"xmig/jobs"
)

// devicePath is what to read for a disk of the source. Of a running guest it
// is the device that the backend has open, if the configured name still leads
// there: a name that was given to another volume since must not be copied.
func (n *Node) devicePath(ctx context.Context, job jobs.Job, disk jobs.DiskMove) (string, error) {
	if job.Kind == jobs.KindSync || job.Plan.Guest.State == jobs.VMHalted {
		return disk.From, nil
	}
	dom, err := n.domain(ctx, job.VM)
	if err != nil {
		return "", err
	}
	all, err := n.xl.Backings(ctx, dom.ID)
	if err != nil {
		return "", fmt.Errorf("what backs %s: %w", disk.Name, err)
	}
	for _, b := range all {
		if b.Vdev != disk.Name || b.Device == 0 || b.Node != "" {
			continue // a file: the loop device goes through the file's own page cache
		}
		fi, err := os.Stat(disk.From)
		if err != nil {
			return "", err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); !ok || uint64(st.Rdev) != b.Device {
			return "", jobs.Failed(jobs.CodeStorage, "%s is not the device that vm %s uses (domain %d has %d:%d open); attach it by its present name",
				disk.From, job.VM.Name, dom.ID, unix.Major(b.Device), unix.Minor(b.Device))
		}
	}
	return disk.From, nil
}
