package node

import (
	"context"
	"errors"
	"os"
	"sync"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
	"xmig/node/storage"
)

// destination is this host as the end that takes a VM in. One serves all jobs.
type destination struct {
	n        *Node
	mu       sync.Mutex
	open     map[string]*arrival // by VM: there is one session per VM
	soon     sync.WaitGroup      // sessions that are about to be closed
	reserved sync.Mutex          // held from the look at free memory to the promise of it
}

// arrival is the session of exactly this attempt.
func (d *destination) arrival(job jobs.Job) (*arrival, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.open[job.VM.UUID]
	if a == nil || a.job.Attempt != job.Attempt {
		return nil, jobs.RetryLater(jobs.CodeLane, "vm %s on %s: no session of attempt %s is open", job.VM.Name, d.n.cfg.Name, job.Attempt)
	}
	return a, nil
}

// closeSession ends the VM's session here if pick says so, and joins its
// writers. It is found until they are joined, so that whoever comes meanwhile
// waits for them too.
func (d *destination) closeSession(vm string, pick func(*arrival) bool) {
	d.mu.Lock()
	a := d.open[vm]
	d.mu.Unlock()
	if a == nil || !pick(a) {
		return
	}
	a.closeWriters()
	d.mu.Lock()
	if d.open[vm] == a {
		delete(d.open, vm)
	}
	d.mu.Unlock()
}

// closeUpTo ends the session of the job's attempt, or of an earlier one.
func (d *destination) closeUpTo(job jobs.Job) {
	d.closeSession(job.VM.UUID, func(a *arrival) bool { return !a.laterThan(job) })
}

// closeBefore ends the session of an earlier attempt.
func (d *destination) closeBefore(job jobs.Job) {
	d.closeSession(job.VM.UUID, func(a *arrival) bool { return a.before(job) })
}

// writes tells whether a session of the job's VM may still write.
func (d *destination) writes(job jobs.Job, pick func(*arrival, jobs.Job) bool) bool {
	d.mu.Lock()
	a := d.open[job.VM.UUID]
	d.mu.Unlock()
	if a == nil || !pick(a, job) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closed
}

// Reserve accepts the epoch: only with no copy of an earlier attempt left, and
// no writer of one (R1). From then on memory, space and name are the job's.
func (d *destination) Reserve(ctx context.Context, job jobs.Job) error {
	d.closeBefore(job) // a restore that holds the lock ends with it
	return d.n.hold(ctx, job.VM, func(h *held) error {
		d.closeBefore(job) // one that was opened while we waited
		if err := d.accept(ctx, h, job); err != nil {
			return err
		}
		if err := d.promise(ctx, job); err != nil {
			return err
		}
		if err := d.n.volumes.Hold(ctx, job.ID, needs(job)); err != nil {
			return jobs.Failed(jobs.CodeBlocked, "reserve on %s for vm %s: %w", h.node, job.VM.Name, err)
		}
		return h.say(job, jobs.BEGIN, peersOf(job))
	})
}

// accept refuses what is late, and takes away what an earlier attempt left.
func (d *destination) accept(ctx context.Context, h *held, job jobs.Job) error {
	if job.Kind == jobs.KindSync {
		return d.n.noOtherSync(job)
	}
	if err := jobs.MayAccept(h.said, job, d.writes(job, (*arrival).before)); err != nil || h.said.Has(jobs.BEGIN, job.Epoch) {
		return h.of(err)
	}
	return errors.Join(d.n.clearEarlier(ctx, h, job), d.n.clearOthers(ctx, h, job))
}

// promise holds the guest's memory by the session's file. What others were
// promised since the check is counted.
func (d *destination) promise(ctx context.Context, job jobs.Job) error {
	d.reserved.Lock()
	defer d.reserved.Unlock()
	if takesMemory(job) {
		info, err := d.n.xl.Info(ctx)
		if err != nil {
			return jobs.RetryLater(jobs.CodeToolstack, "xl info on %s: %w", d.n.cfg.Name, err)
		}
		lack, err := d.n.memoryLack(ctx, job, info.FreeMemory)
		if err != nil {
			return err
		}
		if lack != "" {
			return jobs.RetryLater(jobs.CodeBlocked, "reserve memory on %s: %s", d.n.cfg.Name, lack)
		}
	}
	if err := d.n.keepSession(job); err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "hold for job %s on %s: %w", job.ID, d.n.cfg.Name, err)
	}
	return nil
}

// noOtherSync: two jobs must not write to one device.
func (n *Node) noOtherSync(job jobs.Job) error {
	all, err := n.sessions()
	if err != nil {
		return jobs.RetryLater(jobs.CodeStorage, "sessions of %s: %w", n.cfg.Name, err)
	}
	for _, other := range all {
		if other.VM.UUID == job.VM.UUID && other.ID != job.ID {
			return jobs.RetryLater(jobs.CodeConflict, "%s is being written by job %s; watch it with `xmig job watch %s`", job.VM.Name, other.ID, other.ID)
		}
	}
	return nil
}

func needs(job jobs.Job) (all []storage.Need) {
	for _, disk := range job.Plan.Disks {
		if _, err := os.Stat(disk.To); job.Kind == jobs.KindSync && err == nil {
			continue // written over: its space is taken
		}
		if disk.Copied() {
			all = append(all, storage.Need{Disk: disk.Name, Path: disk.To, Bytes: disk.Size})
		}
	}
	return all
}

// Prepare makes the volumes, stages the config and opens a lane whose writers
// run until it ends. An attempt that is over makes nothing any more.
func (d *destination) Prepare(ctx context.Context, job jobs.Job) (ticket jobs.Ticket, err error) {
	d.closeUpTo(job)
	err = d.n.hold(ctx, job.VM, func(h *held) error {
		if err := d.fresh(h, job); err != nil {
			return err
		}
		d.closeUpTo(job)
		ticket, err = d.prepare(ctx, job)
		return err
	})
	return ticket, err
}

// fresh refuses what is late: the attempt must have been accepted, be the
// newest, and have promised nothing about its copy yet.
func (d *destination) fresh(h *held, job jobs.Job) error {
	over := job.Kind == jobs.KindMigrate && jobs.MayFill(h.said, job) != nil
	_, err := os.Stat(d.n.sessionPath(job.ID))
	if over || err != nil {
		return jobs.RetryLater(jobs.CodeAborted, "vm %s on %s: attempt %s (epoch %d) is not open, or over", job.VM.Name, h.node, job.Attempt, job.Epoch)
	}
	return nil
}

func (d *destination) prepare(ctx context.Context, job jobs.Job) (jobs.Ticket, error) {
	devices, err := d.volumes(ctx, job)
	if err != nil {
		return nil, err
	}
	if err := d.n.stage(job); err != nil {
		closeAll(devices)
		return nil, again(err, jobs.CodeStorage, "stage the config of vm %s on %s", job.VM.Name, d.n.cfg.Name)
	}
	lane, ticket, err := d.n.lanes.Open(ctx, bus.LaneSpec{Job: job.ID, Epoch: job.Epoch, Channels: channels(job)})
	if err != nil {
		closeAll(devices)
		return nil, jobs.RetryLater(jobs.CodeLane, "open a lane on %s for vm %s: %w", d.n.cfg.Name, job.VM.Name, err)
	}
	a := newArrival(d.n.life, job, lane)
	for name, dev := range devices {
		set := d.n.syncSettings(job, nil)
		set.Index = d.n.content
		a.run(func(ctx context.Context) { a.receive(ctx, name, dev, set, d.n.manifests) })
	}
	a.mu.Lock()
	a.files = a.receiveFiles()
	a.mu.Unlock()
	d.mu.Lock()
	d.open[job.VM.UUID] = a
	d.mu.Unlock()
	return ticket, nil
}

func channels(job jobs.Job) []string {
	var names []string
	for _, disk := range job.Plan.Disks {
		if disk.Copied() {
			names = append(names, disk.Name)
		}
	}
	if job.Plan.SendsMemory() {
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
		if !disk.Copied() {
			continue
		}
		need := storage.Request{Path: disk.To, Size: disk.Size, SectorSize: disk.Sector, Job: job.ID, VM: job.VM.UUID, Disk: disk.Name}
		if job.Kind == jobs.KindSync { // who asked for it named the file to write over
			need.Existing = storage.TakeExisting
		}
		vol, err := d.n.volumes.Create(ctx, need)
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
