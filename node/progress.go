package node

import (
	"sync"
	"time"

	"xmig/blocksync"
	"xmig/jobs"
)

// watch gathers the progress of one pass and tells it once in a while.
type watch struct {
	n    *Node
	mu   sync.Mutex
	p    jobs.Progress
	at   map[string]int
	last time.Time
}

// tellEvery is how often progress travels: often enough for a smooth bar.
const tellEvery = 250 * time.Millisecond

// watch begins to tell the progress of a pass; number 0 is the memory image.
func (n *Node) watch(job jobs.Job, number uint32, kind jobs.PassKind) *watch {
	return &watch{n: n, at: map[string]int{}, p: jobs.Progress{
		Job: job.ID, VM: job.VM, Pass: number, Kind: kind, Predicted: job.Plan.Predicted}}
}

// disk gives the function that blocksync calls for one disk.
func (w *watch) disk(name string) func(blocksync.Progress) {
	return func(c blocksync.Progress) {
		w.tell(jobs.DiskProgress{Name: name, Size: c.Size, Done: c.Done, Wire: c.Wire, Rate: c.Rate()})
	}
}

// memory gives the function for the memory image of about size bytes.
func (w *watch) memory(size int64) func(blocksync.Progress) {
	return func(c blocksync.Progress) {
		w.tell(jobs.DiskProgress{Name: memoryChannel, Size: max(size, c.Done), Done: c.Done, Wire: c.Wire, Rate: c.Rate()})
	}
}

func (w *watch) tell(d jobs.DiskProgress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := w.at[d.Name]
	if !ok {
		i = len(w.p.Disks)
		w.at[d.Name] = i
		w.p.Disks = append(w.p.Disks, d)
	}
	w.p.Disks[i] = d
	if now := w.n.now(); now.Sub(w.last) >= tellEvery {
		w.last = now
		w.send(now)
	}
}

// end tells the last numbers.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.p.Disks) > 0 {
		w.send(w.n.now())
	}
}

func (w *watch) send(now time.Time) {
	p := w.p
	p.At = now
	p.Disks = append([]jobs.DiskProgress(nil), w.p.Disks...)
	w.n.bus.Report(p)
}
