package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen"
)

// source is this host as the end that gives a VM away. One serves all jobs.
type source struct {
	n    *Node
	mu   sync.Mutex
	open map[string]*departure // by job
	late map[string]bool       // jobs whose guest may suspend though xl waits for it no more
}

// departure is one job's lane and devices at the source.
type departure struct {
	lane    *bus.LaneEnd
	devices map[string]*blocksync.Device
	limits  blocksync.Limits
	turns   *semaphore.Weighted // blocksync.Settings.Turns
	memory  *jobs.Memory        // that was sent (suspend)
	flow    *flow               // of a live move
}

func (d *departure) close() {
	if d == nil {
		return
	}
	d.flow.hangUp()
	d.lane.Close()
	for _, dev := range d.devices {
		dev.Close()
	}
}

func (s *source) departure(job jobs.Job) (*departure, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.open[job.ID]
	if d == nil {
		return nil, jobs.RetryLater(jobs.CodeLane, "vm %s: no lane to %s is open", job.VM.Name, job.Destination)
	}
	return d, nil
}

func (s *source) close(job string) {
	s.mu.Lock()
	d := s.open[job]
	delete(s.open, job)
	s.mu.Unlock()
	s.n.bandwidth.forget(job)
	d.close()
}

// Begin journals BEGIN for an epoch that is this attempt's alone (R1).
func (s *source) Begin(ctx context.Context, job jobs.Job) error {
	return s.n.hold(ctx, job.VM, func(h *held) error {
		if job.Kind == jobs.KindMigrate {
			copies, err := s.n.copies(ctx, job.VM)
			if err != nil {
				return err
			}
			stands := slices.ContainsFunc(copies, func(d xen.Domain) bool { return stateOf(d) == jobs.VMPaused || stateOf(d) == jobs.VMSuspended })
			if err := jobs.MayBegin(h.said, job, stands); err != nil {
				return h.of(err)
			}
		}
		return h.say(job, jobs.BEGIN, peersOf(job))
	})
}

// Connect enters the destination's lane and opens the disks to read.
func (s *source) Connect(ctx context.Context, job jobs.Job, t jobs.Ticket) error {
	s.close(job.ID)
	lane, err := bus.DialLane(ctx, t, s.n.log)
	if err != nil {
		return jobs.RetryLater(jobs.CodeLane, "lane to %s: %w", job.Destination, err)
	}
	d := &departure{lane: lane, devices: map[string]*blocksync.Device{}, limits: s.n.bandwidth.of(job),
		turns: semaphore.NewWeighted(blocksync.BlanksAtOnce)}
	for _, disk := range job.Plan.Disks {
		if !disk.Copied() {
			continue
		}
		path, err := s.n.devicePath(ctx, job, disk)
		if err == nil {
			d.devices[disk.Name], err = blocksync.OpenSource(path)
		}
		if err != nil {
			d.close()
			return again(err, jobs.CodeStorage, "disk %s of vm %s on %s", disk.Name, job.VM.Name, s.n.cfg.Name)
		}
	}
	s.n.callOver(job.ID, lane)
	s.mu.Lock()
	s.open[job.ID] = d
	s.mu.Unlock()
	return s.sendBootFiles(ctx, job, d)
}

// sendBootFiles sends what the destination said it lacks for the next boot.
func (s *source) sendBootFiles(ctx context.Context, job jobs.Job, d *departure) error {
	for i, f := range job.Plan.Guest.BootFiles {
		if !f.Send {
			continue
		}
		in, err := os.Open(f.Path)
		if err != nil {
			return jobs.Failed(jobs.CodeStorage, "%s of vm %s on %s: %w", f.Key, job.VM.Name, s.n.cfg.Name, err)
		}
		sent, err := blocksync.SendStream(ctx, d.lane.Channel(fileChannel(i)), in, blocksync.Settings{Limits: d.limits})
		in.Close()
		if err != nil {
			return jobs.RetryLater(jobs.CodeLane, "%s of vm %s: %w", f.Path, job.VM.Name, err)
		}
		if sent.Digest != f.Digest { // said now, and not when the guest stands still
			return jobs.RetryLater(jobs.CodeStorage, "%s of vm %s was changed on %s since it was checked", f.Path, job.VM.Name, s.n.cfg.Name)
		}
	}
	return nil
}

// fileChannel names the lane's channel of the i-th boot file.
func fileChannel(i int) string { return fmt.Sprintf("file%d", i) }

// memoryChannel is the lane's channel of the memory image.
const memoryChannel = "memory"

// Pass makes one pass over all disks that are copied, at once.
func (s *source) Pass(ctx context.Context, job jobs.Job, n uint32, kind jobs.PassKind) (jobs.PassReport, error) {
	d, err := s.departure(job)
	if err != nil {
		return jobs.PassReport{}, err
	}
	begin := s.n.now()
	rep := jobs.PassReport{Number: n, Kind: kind}
	watch := s.n.watch(job, n, kind)
	g, gctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	for _, disk := range job.Plan.Disks {
		if !disk.Copied() {
			continue
		}
		dev := d.devices[disk.Name]
		g.Go(func() error {
			if dev == nil { // the plan is a newer one than the lane's
				return jobs.RetryLater(jobs.CodeLane, "disk %s of vm %s: the lane to %s was opened without it", disk.Name, job.VM.Name, job.Destination)
			}
			settings := s.n.syncSettings(job, watch.disk(disk.Name))
			settings.Limits = d.limits
			if kind != jobs.FinalPass { // for the last disk of which a guest waits
				settings.Turns = d.turns
			}
			res, err := s.send(gctx, d.lane.Channel(disk.Name), dev, blocksync.Pass{Number: n, Final: kind == jobs.FinalPass}, settings)
			if err != nil {
				return diskError(err, disk.Name, job, s.n.cfg.Name)
			}
			mu.Lock()
			defer mu.Unlock()
			rep.Disks = append(rep.Disks, diskReport(disk.Name, res))
			return nil
		})
	}
	err = g.Wait()
	watch.end()
	rep.Elapsed, rep.Limit = s.n.now().Sub(begin), lowest(d.limits)
	if err != nil {
		s.close(job.ID) // whatever broke, the next try opens a lane of its own
		return rep, err
	}
	return rep.InOrder(job), nil
}

// send makes one pass over one disk. If nobody has written to it since an
// earlier one, the destination is told so and may end it at once; if nobody wrote during
// the last one, what it found is kept for a later move.
func (s *source) send(ctx context.Context, lane blocksync.Lane, dev *blocksync.Device, pass blocksync.Pass, set blocksync.Settings) (blocksync.Result, error) {
	kept := s.n.manifests
	if pass.Ranges == nil {
		pass.Since = kept.root(ctx, dev.Path())
	}
	var before storage.Witness
	watched := false
	if pass.Final {
		before, watched = kept.witness(ctx, dev.Path())
	}
	res, err := blocksync.Send(ctx, lane, dev, pass, set)
	if err != nil || !watched || !res.Whole || res.Root == pass.Since {
		return res, err
	}
	if after, ok := kept.witness(ctx, dev.Path()); ok && after == before {
		kept.keep(dev.Path(), res.Root, after)
	}
	return res, nil
}

// stopping goes with STOPPING: which domain was told to stop, and in which boot.
type stopping struct {
	inBoot
	DomID int `json:"domid"`
}

// Stop ends the guest's writing. In suspend mode xl's memory image flows
// straight into the lane; a pipe that breaks makes xl resume the guest.
func (s *source) Stop(ctx context.Context, job jobs.Job, told func(jobs.Flow)) (jobs.Stopped, error) {
	if job.Plan.Guest.State == jobs.VMHalted {
		return jobs.Stopped{}, s.n.mustBeHalted(ctx, job.VM)
	}
	if job.Plan.Mode == jobs.Live {
		stopped, err := s.sendLive(ctx, job, told)
		s.noteLate(job, err)
		return stopped, err
	}
	var out jobs.Stopped
	err := s.n.hold(ctx, job.VM, func(h *held) error {
		dom, err := s.mayStop(ctx, h, job)
		if err != nil {
			return err
		}
		if err := h.say(job, jobs.STOPPING, stopping{inBoot{s.n.bootID}, dom.ID}); err != nil {
			return err
		}
		out.At, out.Ran = s.n.now(), true
		s.n.hush(out.At)
		if job.Plan.Mode == jobs.Cold {
			return s.shutdown(ctx, h, dom)
		}
		return s.save(ctx, h, job, dom)
	})
	s.noteLate(job, err)
	return out, err
}

func (s *source) noteLate(job jobs.Job, err error) {
	if xen.MaySuspendLate(err) {
		s.mu.Lock()
		s.late[job.ID] = true
		s.mu.Unlock()
	}
}

// mayStop: the attempt is not over, did not stop the guest before, and it runs.
func (s *source) mayStop(ctx context.Context, h *held, job jobs.Job) (xen.Domain, error) {
	if err := jobs.MayStop(h.said, job.Epoch); err != nil {
		return xen.Domain{}, h.of(err)
	}
	dom, err := s.n.domain(ctx, job.VM)
	if err != nil {
		return dom, err
	}
	if state := stateOf(dom); state != jobs.VMRunning {
		return dom, jobs.RetryLater(jobs.CodeConflict, "vm %s on %s is %s now: only a guest that runs is stopped and moved", job.VM.Name, h.node, state)
	}
	return dom, errors.Join(s.n.noneAttached(ctx, job, dom.ID), s.n.noneResized(ctx, job))
}

// Drain tells what was sent of the guest's memory.
func (s *source) Drain(ctx context.Context, job jobs.Job) (*jobs.Memory, error) {
	if !job.Plan.SendsMemory() {
		return nil, nil
	}
	d, err := s.departure(job)
	if err != nil {
		return nil, err
	}
	if d.flow != nil {
		return s.drain(ctx, job, d.flow)
	}
	return d.memory, nil
}

func (s *source) shutdown(ctx context.Context, h *held, dom xen.Domain) error {
	ctx, cancel := context.WithTimeout(ctx, s.n.cfg.ShutdownWait)
	defer cancel()
	if err := h.xl.Shutdown(ctx, dom.ID, xen.Wait); err != nil {
		return jobs.RetryLater(jobs.CodeToolstack, "shut down vm %s on %s within %s: %w", h.vm.Name, h.node, s.n.cfg.ShutdownWait, err)
	}
	return nil
}

// save runs `xl save -p` into a pipe and the pipe into the lane.
func (s *source) save(ctx context.Context, h *held, job jobs.Job, dom xen.Domain) error {
	d, err := s.departure(job)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe for xl save: %w", err)
	}
	begin := s.n.now()
	watch := s.n.watch(job, 0, "")
	saved := make(chan error, 1)
	go func() { // ends when xl does: the pipe's end makes it
		err := h.xl.Save(ctx, dom.ID, w)
		w.Close()
		saved <- err
	}()
	settings := s.n.syncSettings(job, watch.memory(job.Plan.Guest.Memory))
	settings.Limits = d.limits
	res, sendErr := blocksync.SendStream(ctx, d.lane.Channel(memoryChannel), r, settings)
	r.Close() // after an error: xl's next write fails, and it resumes the guest
	saveErr := <-saved
	watch.end()
	if saveErr != nil || sendErr != nil {
		s.close(job.ID)
	}
	switch {
	case sendErr != nil: // that xl save failed then too is its consequence
		return jobs.RetryLater(jobs.CodeLane, "memory of vm %s to %s: %w", job.VM.Name, job.Destination, sendErr)
	case saveErr != nil:
		return jobs.RetryLater(jobs.CodeToolstack, "save vm %s on %s: %w", job.VM.Name, s.n.cfg.Name, saveErr)
	}
	d.memory = &jobs.Memory{Bytes: res.Bytes, Wire: res.Wire, Digest: res.Digest, Elapsed: s.n.now().Sub(begin)}
	return nil
}

// Seal takes the autostart link away, so that a reboot of this host starts no
// second copy, and journals SEALED.
func (s *source) Seal(ctx context.Context, job jobs.Job, seal jobs.Seal) error {
	return s.n.hold(ctx, job.VM, func(h *held) error {
		if err := jobs.MaySeal(h.said, job.Epoch); err != nil { // the link must not go again after it was put back
			return h.of(err)
		}
		for _, d := range job.Plan.Disks {
			if !d.Shared {
				continue
			}
			if err := storage.Flush(d.From); err != nil {
				return jobs.RetryLater(jobs.CodeStorage, "shared disk %s of vm %s on %s: %w", d.Name, job.VM.Name, h.node, err)
			}
		}
		if job.Plan.SendsMemory() {
			if err := s.n.noneAttached(ctx, job, job.Plan.Guest.DomID); err != nil {
				return err
			}
		}
		if err := s.n.noneResized(ctx, job); err != nil {
			return err
		}
		if err := s.n.disarm(h, job); err != nil {
			return err
		}
		return h.say(job, jobs.SEALED, seal)
	})
}

// syncSettings are the node's choices for one disk's pass.
func (n *Node) syncSettings(job jobs.Job, progress func(blocksync.Progress)) blocksync.Settings {
	s := blocksync.Settings{Readers: n.cfg.Readers, Progress: progress, Compress: n.compress}
	switch job.Spec.Verify {
	case jobs.VerifyFull:
		s.Verify = blocksync.VerifyFull
	case jobs.VerifyNone:
		s.Verify = blocksync.VerifyNone
	}
	return s
}

func diskReport(name string, r blocksync.Result) jobs.DiskReport {
	return jobs.DiskReport{Name: name, Size: r.Size, Same: r.Chunks - r.Differed, Differing: r.Differed,
		Zero: r.Zero, Found: r.Found, Sent: r.Sent, Wire: r.Wire, Written: r.Written, Read: r.Read, Elapsed: r.Elapsed.Round(time.Microsecond), Root: r.Root}
}
