package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
)

// arrival is one job's session at the destination: its lane, the writers of
// its disks and the restore they feed. The job itself is also a file, so that
// a worker that starts again knows what it holds for whom.
type arrival struct {
	job    jobs.Job
	cancel context.CancelFunc
	lane   *bus.LaneEnd
	done   sync.WaitGroup // writers and restore

	mu      sync.Mutex
	passes  map[string]blocksync.Result // last pass of each disk
	failed  error                       // the first error of any writer
	changed chan struct{}               // closed and replaced when passes or failed change
	restore *restore
}

// restore is the memory image on its way into xl.
type restore struct {
	done   chan struct{}
	stream blocksync.StreamResult
	domid  int
	err    error
}

func newArrival(job jobs.Job, lane *bus.LaneEnd, cancel context.CancelFunc) *arrival {
	return &arrival{job: job, lane: lane, cancel: cancel, passes: map[string]blocksync.Result{}, changed: make(chan struct{})}
}

// receive writes one disk's passes until the lane ends.
func (a *arrival) receive(ctx context.Context, name string, dev *blocksync.Device, s blocksync.Settings) {
	defer a.done.Done()
	defer dev.Close()
	for {
		res, err := blocksync.Receive(ctx, a.lane.Channel(name), dev, s)
		a.mu.Lock()
		if err == nil {
			a.passes[name] = res
		} else if a.failed == nil && ctx.Err() == nil {
			a.failed = fmt.Errorf("disk %s: %w", name, err)
		}
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until every disk has ended pass n, and returns the last passes.
func (a *arrival) await(ctx context.Context, n uint32, disks []string) (map[string]blocksync.Result, error) {
	for {
		a.mu.Lock()
		all, failed, changed := true, a.failed, a.changed
		got := make(map[string]blocksync.Result, len(disks))
		for _, d := range disks {
			got[d] = a.passes[d]
			all = all && got[d].Pass == n && got[d].Final
		}
		a.mu.Unlock()
		if all {
			return got, nil
		}
		if failed != nil {
			return nil, jobs.RetryLater(jobs.CodeLane, "vm %s: %w", a.job.VM.Name, failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for pass %d of vm %s: %w", n, a.job.VM.Name, context.Cause(ctx))
		}
	}
}

// closeWriters ends the lane and waits until nobody of this session writes to
// a disk or feeds a restore any more (R1).
func (a *arrival) closeWriters() {
	if a == nil {
		return
	}
	a.cancel()
	a.lane.Close()
	a.done.Wait()
}

// Session files. They are written before anything is held or made for a job
// and removed when the job has let go of this host.

func (n *Node) sessionPath(job string) string {
	return filepath.Join(n.cfg.StateDir, "arrivals", job+".json")
}

func (n *Node) keepSession(job jobs.Job) error {
	job.Plan.Guest.ConfigText = nil // staged apart
	raw, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("session of job %s: %w", job.ID, err)
	}
	return writeDurably(n.sessionPath(job.ID), raw, 0o600)
}

// sessions reads what this host holds for jobs, whatever worker wrote it.
func (n *Node) sessions() ([]jobs.Job, error) {
	names, err := filepath.Glob(n.sessionPath("*"))
	if err != nil {
		return nil, err
	}
	var all []jobs.Job
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var job jobs.Job
		if err == nil {
			err = json.Unmarshal(raw, &job)
		}
		if err != nil {
			return nil, fmt.Errorf("session %s: %w", name, err)
		}
		all = append(all, job)
	}
	return all, nil
}

func (n *Node) forgetSession(job string) error {
	if err := os.Remove(n.sessionPath(job)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(n.sessionPath(job)))
}

// heldMemory is what arriving guests will need and xl does not know of yet.
func (n *Node) heldMemory(ctx context.Context, except string) (int64, error) {
	all, err := n.sessions()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, job := range all {
		if job.ID == except || job.Kind != jobs.KindMigrate || job.Plan.Guest.State == jobs.VMHalted {
			continue
		}
		copies, err := n.copies(ctx, job.VM)
		if err != nil {
			return 0, err
		}
		if len(copies) == 0 { // else its memory is taken already
			sum += job.Plan.Guest.Memory
		}
	}
	return sum, nil
}
