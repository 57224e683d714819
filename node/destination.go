package node

import (
	"context"
	"fmt"
	"os"
	"sync"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen"
)

// destination is this host as the end that takes a VM in. One serves all jobs.
type destination struct {
	n    *Node
	mu   sync.Mutex
	open map[string]*arrival // by VM: there is one session per VM
}

func (d *destination) arrival(job jobs.Job) (*arrival, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.open[job.VM.UUID]
	if a == nil || a.job.Attempt != job.Attempt {
		return nil, jobs.RetryLater(jobs.CodeLane, "vm %s on %s: no session of attempt %s is open", job.VM.Name, d.n.cfg.Name, job.Attempt)
	}
	return a, nil
}

// closeSession ends whatever session the VM has here and joins its writers.
func (d *destination) closeSession(vm string) {
	d.mu.Lock()
	a := d.open[vm]
	delete(d.open, vm)
	d.mu.Unlock()
	a.closeWriters()
}

// Reserve accepts the epoch: only with no copy of an earlier attempt left, and
// no writer of one (R1). From then on memory, space and name are the job's.
func (d *destination) Reserve(ctx context.Context, job jobs.Job) error {
	d.mu.Lock()
	a := d.open[job.VM.UUID]
	d.mu.Unlock()
	if a != nil && a.job.Attempt != job.Attempt {
		d.closeSession(job.VM.UUID)
	}
	return d.n.hold(ctx, job.VM, func(h *held) error {
		if h.said.Has(jobs.ABORTED, job.Epoch) {
			return jobs.RetryLater(jobs.CodeAborted, "vm %s on %s: epoch %d was aborted", job.VM.Name, h.node, job.Epoch)
		}
		if job.Kind == jobs.KindMigrate && !h.said.Has(jobs.BEGIN, job.Epoch) {
			if top := h.said.Highest(); top >= job.Epoch {
				return jobs.NotOurs("vm %s on %s: epoch %d is not new, the journal is at %d", job.VM.Name, h.node, job.Epoch, top)
			}
			if err := d.n.clearEarlier(ctx, h, job); err != nil {
				return err
			}
		}
		if err := d.n.keepSession(job); err != nil {
			return jobs.RetryLater(jobs.CodeStorage, "hold for job %s on %s: %w", job.ID, h.node, err)
		}
		if err := d.n.volumes.Hold(ctx, job.ID, needs(job)); err != nil {
			return jobs.Failed(jobs.CodeBlocked, "reserve on %s for vm %s: %w", h.node, job.VM.Name, err)
		}
		return h.say(job, jobs.BEGIN, nil)
	})
}

func needs(job jobs.Job) (all []storage.Need) {
	for _, disk := range job.Plan.Disks {
		if !disk.ReadOnly {
			all = append(all, storage.Need{Disk: disk.Name, Path: disk.To, Bytes: disk.Size})
		}
	}
	return all
}

// clearEarlier aborts what an earlier attempt left here.
func (n *Node) clearEarlier(ctx context.Context, h *held, job jobs.Job) error {
	copies, err := n.copies(ctx, job.VM)
	if err != nil {
		return err
	}
	for _, c := range copies {
		if stateOf(c) != jobs.VMPaused {
			return jobs.Failed(jobs.CodeConflict, "vm %s is on %s already as domain %d (%s)", job.VM.Name, h.node, c.ID, c.State)
		}
	}
	for _, p := range h.said {
		if p.Fact != jobs.BEGIN || h.said.Has(jobs.ABORTED, p.Epoch) || h.said.Has(jobs.GO, p.Epoch) || h.said.Has(jobs.COMMITTING, p.Epoch) || h.said.Has(jobs.BACK, p.Epoch) {
			continue
		}
		old := job
		old.Epoch, old.Attempt = p.Epoch, p.Attempt
		if err := h.say(old, jobs.ABORTED, nil); err != nil {
			return err
		}
	}
	return n.destroyCopies(ctx, h, copies)
}

// destroyCopies removes paused copies that never ran; ABORTED is journalled before.
func (n *Node) destroyCopies(ctx context.Context, h *held, copies []xen.Domain) error {
	for _, c := range copies {
		if err := h.xl.Destroy(ctx, c.ID); err != nil {
			return jobs.RetryLater(jobs.CodeToolstack, "destroy the unused copy of vm %s on %s: %w", h.vm.Name, h.node, err)
		}
	}
	return nil
}

// Prepare makes the volumes, stages the config and opens a lane whose writers
// run until it ends.
func (d *destination) Prepare(ctx context.Context, job jobs.Job) (jobs.Ticket, error) {
	d.closeSession(job.VM.UUID)
	devices, err := d.volumes(ctx, job)
	if err != nil {
		return nil, err
	}
	if err := d.n.stage(job); err != nil {
		closeAll(devices)
		return nil, jobs.RetryLater(jobs.CodeStorage, "stage the config of vm %s on %s: %w", job.VM.Name, d.n.cfg.Name, err)
	}
	lane, ticket, err := d.n.lanes.Open(ctx, bus.LaneSpec{Job: job.ID, Epoch: job.Epoch, Channels: channels(job)})
	if err != nil {
		closeAll(devices)
		return nil, jobs.RetryLater(jobs.CodeLane, "open a lane on %s for vm %s: %w", d.n.cfg.Name, job.VM.Name, err)
	}
	run, cancel := context.WithCancel(d.n.life)
	a := newArrival(job, lane, cancel)
	for name, dev := range devices {
		a.done.Add(1)
		go a.receive(run, name, dev, d.n.syncSettings(job, nil))
	}
	for i, f := range job.Plan.Guest.BootFiles {
		if f.Send {
			a.done.Add(1)
			go d.n.receiveFile(run, a, fileChannel(i), f)
		}
	}
	d.mu.Lock()
	d.open[job.VM.UUID] = a
	d.mu.Unlock()
	return ticket, nil
}

func channels(job jobs.Job) []string {
	var names []string
	for _, disk := range job.Plan.Disks {
		if !disk.ReadOnly {
			names = append(names, disk.Name)
		}
	}
	if job.Plan.Mode == jobs.Suspend {
		names = append(names, memoryChannel)
	}
	for i, f := range job.Plan.Guest.BootFiles {
		if f.Send {
			names = append(names, fileChannel(i))
		}
	}
	return names
}

func closeAll(devices map[string]*blocksync.Device) {
	for _, dev := range devices {
		dev.Close()
	}
}

// volumes makes or adopts what is missing and opens every writable disk.
func (d *destination) volumes(ctx context.Context, job jobs.Job) (map[string]*blocksync.Device, error) {
	devices := map[string]*blocksync.Device{}
	for _, disk := range job.Plan.Disks {
		if disk.ReadOnly {
			continue
		}
		vol, err := d.n.volumes.Create(ctx, storage.Request{Path: disk.To, Size: disk.Size, Job: job.ID, VM: job.VM.UUID, Disk: disk.Name})
		if err != nil {
			closeAll(devices)
			return nil, jobs.Failed(jobs.CodeStorage, "disk %s of vm %s on %s: %w", disk.Name, job.VM.Name, d.n.cfg.Name, err)
		}
		dev, err := blocksync.OpenDestination(vol.Real)
		if err != nil {
			closeAll(devices)
			return nil, jobs.RetryLater(jobs.CodeStorage, "disk %s of vm %s on %s: %w", disk.Name, job.VM.Name, d.n.cfg.Name, err)
		}
		devices[disk.Name] = dev
	}
	return devices, nil
}

// Receive starts `xl restore -p`; the lane's memory channel feeds it through a
// pipe, so that a session that ends makes xl fail and leave nothing.
func (d *destination) Receive(ctx context.Context, job jobs.Job) error {
	a, err := d.arrival(job)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.restore != nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe for xl restore: %w", err)
	}
	a.restore = &restore{done: make(chan struct{})}
	a.done.Add(1)
	go func() {
		defer a.done.Done()
		d.restore(a, r, w)
	}()
	return nil
}

// restore feeds xl and notes what came of it. It ends when the stream does.
func (d *destination) restore(a *arrival, r, w *os.File) {
	res := a.restore
	defer close(res.done)
	fed := make(chan error, 1)
	go func() {
		var err error
		image := xen.MapImage(w, func(cfg []byte) ([]byte, error) { return mapDomain(cfg, a.job) })
		res.stream, err = blocksync.ReceiveStream(d.n.life, a.lane.Channel(memoryChannel), image, blocksync.Settings{})
		w.Close()
		fed <- err
	}()
	res.err = d.n.hold(context.WithoutCancel(d.n.life), a.job.VM, func(h *held) error {
		if h.said.Has(jobs.ABORTED, a.job.Epoch) {
			return jobs.RetryLater(jobs.CodeAborted, "epoch %d was aborted", a.job.Epoch)
		}
		dom, err := h.xl.Restore(context.WithoutCancel(d.n.life), r)
		res.domid = dom.ID
		return err
	})
	r.Close() // a feeder that still writes to an xl that is gone ends here
	if err := <-fed; err != nil && res.err == nil {
		res.err = fmt.Errorf("memory image: %w", err)
	}
}
