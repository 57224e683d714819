package node

import (
	"cmp"
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
	"xmig/node/storage"
)

// arrival is one job's session at the destination: its lane, the writers of
// its disks and the restore they feed. The job itself is also a file, so that
// a worker that starts again knows what it holds for whom.
type arrival struct {
	job    jobs.Job
	lane   *bus.LaneEnd
	ended  <-chan struct{} // closed when the session is
	cancel context.CancelFunc
	run    func(func(context.Context)) // with the context that cancel ends
	done   sync.WaitGroup              // writers and restore

	mu      sync.Mutex
	passes  map[string]blocksync.Result // last pass of each disk
	files   int                         // boot files still to come
	failed  error                       // the first error of any writer
	changed chan struct{}               // closed and replaced when one of these changes
	memory  *image                      // of a guest that is restored or migrated
	closed  bool                        // nothing may be started any more
}

func newArrival(life context.Context, job jobs.Job, lane *bus.LaneEnd) *arrival {
	ctx, cancel := context.WithCancel(life)
	a := &arrival{job: job, lane: lane, ended: ctx.Done(), cancel: cancel, passes: map[string]blocksync.Result{}, changed: make(chan struct{})}
	a.run = func(f func(context.Context)) {
		a.done.Add(1)
		go func() {
			defer a.done.Done()
			f(ctx)
		}()
	}
	return a
}

// note changes what a session knows of its writers, and wakes who waits for that.
func (a *arrival) note(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *arrival) fail(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		a.note(func() { a.failed = cmp.Or(a.failed, fmt.Errorf("%s: %w", what, err)) })
	}
}

// receive writes one disk's passes until the lane ends.
func (a *arrival) receive(ctx context.Context, name string, dev *blocksync.Device, s blocksync.Settings, kept manifests) {
	defer dev.Close()
	var asked [32]byte
	s.Holds = func(root [32]byte) bool {
		asked = root
		return kept.root(ctx, dev.Path()) == root
	}
	for {
		res, err := blocksync.Receive(ctx, a.lane.Channel(name), dev, s)
		if err != nil {
			a.fail(ctx, "disk "+name, err)
			return
		}
		// Before the pass is known to have ended: afterwards the guest may run and write.
		var w storage.Witness
		keep := false
		if res.Final && res.Whole && res.Root != asked {
			// Also in a session that is being ended: it waits for us.
			w, keep = kept.witness(context.WithoutCancel(ctx), dev.Path())
		}
		a.note(func() { a.passes[name] = res })
		if keep {
			kept.keep(dev.Path(), res.Root, w)
		}
	}
}

// await waits until every disk has ended pass n and every boot file is here,
// and returns the last passes.
func (a *arrival) await(ctx context.Context, n uint32, disks []string) (map[string]blocksync.Result, error) {
	for {
		a.mu.Lock()
		all, failed, changed := a.files == 0, a.failed, a.changed
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
		case <-a.ended:
			return nil, jobs.RetryLater(jobs.CodeAborted, "vm %s: the session of attempt %s was ended", a.job.VM.Name, a.job.Attempt)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for pass %d of vm %s: %w", n, a.job.VM.Name, context.Cause(ctx))
		}
	}
}

// closeWriters ends the lane and waits until nobody of this session writes to
// a disk or feeds a restore any more (R1). Everyone who calls it waits.
func (a *arrival) closeWriters() {
	a.end()
	a.lane.Close()
	a.done.Wait()
}

// closeDisks ends the writers; the lane stays for calls.
func (a *arrival) closeDisks() {
	a.end()
	a.done.Wait()
}

func (a *arrival) end() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
}

// before: it is an earlier attempt's.
func (a *arrival) before(job jobs.Job) bool {
	return !a.laterThan(job) && a.job.Attempt != job.Attempt
}

// any: whoever's it is.
func (a *arrival) any(jobs.Job) bool { return true }

// laterThan: what is done for job must leave this session alone. A device that
// is synced has no epochs: there another job's session is never ours to end.
func (a *arrival) laterThan(job jobs.Job) bool {
	return a.job.Epoch > job.Epoch || job.Kind == jobs.KindSync && a.job.ID != job.ID
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
	dir := filepath.Dir(n.sessionPath(""))
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []jobs.Job
	for _, e := range names {
		name := filepath.Join(dir, e.Name())
		if filepath.Ext(name) != ".json" {
			continue // being written, or left by a crash while it was
		}
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
