package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen"
)

// checkDisks wants a place for every disk at the destination that is free,
// large enough and nobody else's; or the very same disk.
func (n *Node) checkDisks(ctx context.Context, job jobs.Job, b *blockers) (shared []string, err error) {
	users, err := n.diskUsers(ctx, job)
	if err != nil {
		return nil, err
	}
	job.Plan.Disks = slices.Clone(job.Plan.Disks)
	places := map[string]jobs.DiskMove{}
	for i, disk := range job.Plan.Disks {
		if other, twice := places[disk.To]; twice && !(disk.ReadOnly && other.ReadOnly) {
			b.add(disk.Name, "map", "map each to a place of its own", "%s is the place of disk %s too", disk.To, other.Name)
		}
		places[disk.To] = disk
		if disk.ReadOnly {
			if _, err := n.volumes.Inspect(ctx, disk.To); err != nil {
				b.add(disk.Name, "read_only_disk", "copy it there, map it, or eject it", "%v", err)
			}
			continue
		}
		for _, id := range users.Of(disk.To) {
			b.add(disk.Name, "disk_in_use", "map another: --map disk="+disk.From+":PATH", "%s is attached to domain %d", disk.To, id)
		}
		if job.Kind == jobs.KindMigrate && n.isShared(ctx, disk, b) {
			shared = append(shared, disk.Name)
			job.Plan.Disks[i].Shared = true // it needs no space
			continue
		}
		n.checkPlace(ctx, job, disk, b)
	}
	n.checkSpace(ctx, job, b)
	return shared, nil
}

// isShared tells whether this host sees the very disk that the source has: by
// proof, or because a person said so and nothing speaks against it. Two disks
// that might be one are named: to write the one would be to spoil the other.
func (n *Node) isShared(ctx context.Context, disk jobs.DiskMove, b *blockers) bool {
	v, err := n.volumes.Inspect(ctx, disk.To)
	var here storage.Alias
	if err == nil {
		here, err = storage.AliasOf(v)
	}
	switch {
	case err != nil && !disk.Shared:
		return false // it can be made, or checkPlace says why not
	case err != nil:
		b.add(disk.Name, "shared", "attach the storage here too, or do not call it shared", "%v", err)
	case disk.Proof != "" && disk.Proof == here.Proof:
		n.checkSharedUse(ctx, disk, v, b)
	case disk.Shared && disk.Proof != "" && here.Proof != "":
		b.add(disk.Name, "shared", "attach the same one, or do not call it shared", "%s is another disk (%s) than the source's (%s)", disk.To, here.Proof, disk.Proof)
	case disk.Shared:
		n.checkSharedUse(ctx, disk, v, b)
	case disk.Alias != "" && disk.Alias == here.Name:
		b.add(disk.Name, "shared", "say so (--map shared="+disk.From+"), or map another: --map disk="+disk.From+":PATH",
			"%s may be the very disk that the source has, or a clone of it: both are %s", disk.To, here.Name)
	default:
		return false
	}
	return true // or refused: nothing more is to be said of its place
}

// checkSharedUse wants nobody here to use a disk that the guest uses over there.
func (n *Node) checkSharedUse(ctx context.Context, disk jobs.DiskMove, v storage.Volume, b *blockers) {
	if v.Size != disk.Size {
		b.add(disk.Name, "shared", "look at both hosts", "%s has %d bytes here and %d at the source: another disk, or one that this host did not see grow", disk.To, v.Size, disk.Size)
	}
	uses, err := n.volumes.InUse(ctx, disk.To)
	if err != nil {
		b.add(disk.Name, "disk_in_use", "end that use", "%v", err)
	}
	for _, u := range uses {
		if n.cfg.Simulated && !foreign(u, jobs.VMRunning) {
			continue // simulated hosts share one machine: it is the guest itself
		}
		b.add(disk.Name, "disk_in_use", "end that use: two writers would spoil the disk", "%s: %s", disk.To, u)
	}
}

// checkPlace asks storage whether the disk may lie there.
func (n *Node) checkPlace(ctx context.Context, job jobs.Job, disk jobs.DiskMove, b *blockers) {
	v, err := n.volumes.Inspect(ctx, disk.To)
	other := "map another: --map disk=" + disk.From + ":PATH"
	switch {
	case errors.Is(err, storage.ErrMissing):
		n.checkMake(ctx, job, disk, b)
		return
	case err != nil:
		b.add(disk.Name, "disk", other, "%v", err)
		return
	case v.Tag != nil && v.Tag.VM == job.VM.UUID && v.Tag.Disk == disk.Name: // an earlier attempt's, or its shadow
		if v.Kind == storage.KindBlock && v.Size < disk.Size {
			b.add(disk.Name, "disk_small", "make it larger, or "+other, "%s has %d bytes, the disk has %d", disk.To, v.Size, disk.Size)
		}
		return
	case v.Kind == storage.KindFile && job.Kind == jobs.KindMigrate:
		b.add(disk.Name, "disk_exists", "remove it if nobody needs it, or "+other, "%s is there already and not this VM's", disk.To)
		return
	}
	if disk.Sector != 0 && v.SectorSize != disk.Sector {
		b.add(disk.Name, "sector_size", other, "%s has sectors of %d bytes, the disk has %d: the guest's partitions and file systems would not fit", disk.To, v.SectorSize, disk.Sector)
	}
	if v.Kind != storage.KindFile && v.Size < disk.Size {
		b.add(disk.Name, "disk_small", "make it larger, or "+other, "%s has %d bytes, the disk has %d", disk.To, v.Size, disk.Size)
	}
	uses, err := n.volumes.InUse(ctx, disk.To)
	if err != nil {
		b.add(disk.Name, "disk", other, "%v", err)
	}
	for _, u := range uses {
		b.add(disk.Name, "disk_in_use", "end that use, or "+other, "%s: %s", disk.To, u)
	}
}

// checkMake asks whether a volume can be made where none is.
func (n *Node) checkMake(ctx context.Context, job jobs.Job, disk jobs.DiskMove, b *blockers) {
	other := "map another: --map disk=" + disk.From + ":PATH"
	err := n.volumes.CanCreate(ctx, storage.Request{Path: disk.To, Size: disk.Size, SectorSize: disk.Sector, Job: job.ID, VM: job.VM.UUID, Disk: disk.Name})
	dir := filepath.Dir(disk.To)
	switch {
	case err == nil:
	case errors.Is(err, storage.ErrLost):
		b.add(disk.Name, "shadow_lost", fmt.Sprintf("bring it back, or if nobody needs it: xmig shadow prune %s --host %s --force", disk.To, n.cfg.Name), "%v", err)
	case !isDirectory(dir) && !strings.HasPrefix(dir, "/dev/"):
		b.add(disk.Name, "directory", "make it, or "+other, "there is no directory %s", dir)
	default:
		b.add(disk.Name, "volume", other, "%v", err)
	}
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkSpace sums what the missing disks need per pool.
func (n *Node) checkSpace(ctx context.Context, job jobs.Job, b *blockers) {
	err := n.fits(ctx, job)
	lacks := spaceErrors(err)
	for _, l := range lacks {
		b.add(l.Disk, "space", "free space there, or map the disk elsewhere", "%s has %d MiB free for %s, the disks there need %d MiB", l.Pool, l.Free>>20, l.Path, l.Need>>20)
	}
	if err != nil && len(lacks) == 0 && len(b.all) == 0 { // else a disk that has no place was named already
		b.add("", "space", "look at the disks' directories there", "%v", err)
	}
}

// spaceErrors finds every disk that does not fit in a tree of errors.
func spaceErrors(err error) []*storage.SpaceError {
	switch e := err.(type) {
	case *storage.SpaceError:
		return []*storage.SpaceError{e}
	case interface{ Unwrap() error }:
		return spaceErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*storage.SpaceError
		for _, one := range e.Unwrap() {
			all = append(all, spaceErrors(one)...)
		}
		return all
	}
	return nil
}

// fits asks for the space of a job, and keeps what the job holds already.
func (n *Node) fits(ctx context.Context, job jobs.Job) error {
	if err := n.volumes.Hold(ctx, job.ID, needs(job)); err != nil {
		return err
	}
	if _, err := os.Stat(n.sessionPath(job.ID)); err == nil {
		return nil // reserved before; it stays held
	}
	return n.volumes.ReleaseHold(ctx, job.ID)
}

// foreign tells whether a use is somebody's other than the guest's itself: its
// disk is written to through a loop device or by its backend.
func foreign(u storage.Use, state jobs.VMState) bool {
	switch u.Kind {
	case storage.UseMount, storage.UseSwap, storage.UseHolder:
		return true
	}
	return state == jobs.VMHalted
}

// diskUsers lists who uses which disk here, but for the job's own copy.
func (n *Node) diskUsers(ctx context.Context, job jobs.Job) (xen.DiskUsers, error) {
	users, err := n.xl.DisksInUse(ctx)
	if err != nil {
		return users, jobs.RetryLater(jobs.CodeToolstack, "disks in use on %s: %w", n.cfg.Name, err)
	}
	copies, err := n.copies(ctx, job.VM)
	if err != nil {
		return users, err
	}
	for _, c := range copies {
		users = users.Without(c.ID)
	}
	return users, nil
}
