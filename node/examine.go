package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"xmig/jobs"
	"xmig/node/journal"
	"xmig/node/storage"
	"xmig/xen"
)

// Examined is what a host found out about itself.
type Examined struct {
	At       time.Time      `json:"at"`
	Version  string         `json:"version"`
	Findings []jobs.Finding `json:"findings"`
}

// examination gathers findings. It changes nothing.
type examination struct {
	n     *Node
	found []jobs.Finding
}

func (x *examination) add(l jobs.Level, code, next, text string, args ...any) {
	x.found = append(x.found, jobs.Finding{Host: x.n.cfg.Name, Level: l, Code: code, Text: fmt.Sprintf(text, args...), Next: next})
}

// examine looks at all of this host that a move may stumble over, now or later.
func (n *Node) examine(ctx context.Context) Examined {
	x := &examination{n: n}
	for _, look := range []func(context.Context){x.toolstack, x.stateDir, x.journals, x.domains, x.sessions, x.volumes, x.files, x.rights} {
		look(ctx)
	}
	return Examined{At: n.now(), Version: Version, Findings: x.found}
}

func (x *examination) toolstack(ctx context.Context) {
	info, err := x.n.xl.Info(ctx)
	if err != nil {
		x.add(jobs.Bad, "xl", "see that xl works here, as the worker's user (root)", "xl does not answer: %v", err)
		return
	}
	x.add(jobs.Good, "xl", "", "xl works, Xen %s", info.Version)
	if _, err := x.n.xl.DisksInUse(ctx); err != nil {
		x.add(jobs.Bad, "xenstore", "see that xenstore-ls works here", "xenstore cannot be read, so no disk in use can be told: %v", err)
	}
	if os.Geteuid() != 0 && !x.n.cfg.Simulated {
		x.add(jobs.Bad, "root", "run the worker as root", "the worker does not run as root")
	}
}

// stateSpace is what the state directory's file system must have: journals and
// sessions are small, and a promise that cannot be written stops every move.
const stateSpace = 64 << 20

func (x *examination) stateDir(context.Context) {
	dir := x.n.cfg.StateDir
	info, err := os.Stat(dir)
	if err != nil {
		x.add(jobs.Bad, "state_dir", "give it back", "state directory: %v", err)
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		x.add(jobs.Warn, "state_dir", "chmod 700 "+dir, "%s is open to other users (%s): staged configs may hold passwords", dir, info.Mode().Perm())
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		x.add(jobs.Bad, "state_dir", "", "%s: %v", dir, err)
	} else if free := int64(s.Bavail) * s.Bsize; free < stateSpace {
		x.add(jobs.Bad, "state_dir", "make room", "%s has %d MiB free: promises may not be written", dir, free>>20)
	}
	begin := x.n.now()
	if err := writeDurably(filepath.Join(dir, "examined"), []byte(begin.UTC().Format(time.RFC3339Nano)), 0o600); err != nil {
		x.add(jobs.Bad, "state_dir", "mend the file system", "%s cannot be written durably: %v", dir, err)
	} else if took := x.n.now().Sub(begin); took > slowSync {
		x.add(jobs.Warn, "sync", "put the state directory on another disk", "a durable write to %s took %s: each promise of the hand-over waits for one", dir, took.Round(time.Millisecond))
	} else {
		x.add(jobs.Good, "state_dir", "", "%s can be written durably, in %s", dir, took.Round(time.Millisecond))
	}
}

// slowSync is what one promise may take before it shows in the blackout: a move
// makes some five of them while the guest stands still.
const slowSync = 200 * time.Millisecond

func (x *examination) journals(context.Context) {
	known, err := x.n.journalled()
	if err != nil {
		x.add(jobs.Bad, "journals", "", "journals: %v", err)
	}
	for _, uuid := range known {
		if _, _, err := x.n.open(jobs.VMRef{UUID: uuid}); err != nil {
			x.add(jobs.Bad, "journal", "look at it: what this host promised cannot be trusted; the VM does not move until then", "%v", err)
		}
		x.lock(uuid)
	}
}

// lock tells a lock that is held: by a command that hangs, most likely, if it is
// held at every look.
func (x *examination) lock(uuid string) {
	path, err := journal.LockPath(x.n.journals(), uuid)
	if err != nil {
		return
	}
	l, err := journal.TryAcquire(path)
	if err == nil {
		_ = l.Release() // closes a descriptor of ours
		return
	}
	var held *journal.HeldError
	if errors.As(err, &held) {
		x.add(jobs.Warn, "lock", "if it is so at every look, find out what that process waits for; the lock ends with it", "vm %s: %v", uuid, held)
	}
}

func (x *examination) domains(ctx context.Context) {
	all, err := x.n.domains(ctx)
	if err != nil {
		return // said by toolstack
	}
	for _, d := range all {
		_, entries, err := x.n.open(jobs.VMRef{UUID: d.UUID})
		said := promises(entries)
		switch {
		case err != nil: // said by journals
		case xen.Migrating(d.Name):
			x.add(jobs.Bad, "migrating", "if no `xl migrate` is under way: see that the VM runs elsewhere, then `xl destroy "+fmt.Sprint(d.ID)+"`", "domain %d is %s: what xl's own migration leaves when it is cut off", d.ID, d.Name)
		case given(said) && stateOf(d) == jobs.VMRunning:
			x.add(jobs.Bad, "given_away", "see where else it runs; `xmig resolve "+d.Name+" --dry-run`", "vm %s runs here as domain %d, and this host gave it away", d.Name, d.ID)
		case stateOf(d) == jobs.VMRunning, x.n.underWay(d.UUID):
		case stateOf(d) == jobs.VMSuspended, stateOf(d) == jobs.VMPaused && len(said) > 0:
			x.add(jobs.Warn, "held", "`xmig resolve "+d.Name+" --dry-run` shows whose it is", "vm %s is %s here as domain %d, and no move of it is driven", d.Name, stateOf(d), d.ID)
		}
	}
}

// given: the VM was given away by this host, and has not come back since.
func given(said jobs.Journal) (away bool) {
	for _, p := range said {
		switch p.Fact {
		case jobs.DONE:
			away = true
		case jobs.GO:
			away = false
		}
	}
	return away
}

// underWay: this worker drives a move of the VM, or has a session of one.
func (n *Node) underWay(uuid string) bool {
	n.dst.mu.Lock()
	_, arriving := n.dst.open[uuid]
	n.dst.mu.Unlock()
	n.mu.Lock()
	driven := len(n.active) > 0 // which VMs, only their records know
	n.mu.Unlock()
	return arriving || driven
}

func (x *examination) sessions(ctx context.Context) {
	all, err := x.n.sessions()
	if err != nil {
		x.add(jobs.Bad, "session", "look at the file; the move that it is of cannot be ended without", "%v", err)
	}
	for _, job := range all {
		rec, err := x.n.bus.Records().Load(ctx, job.ID)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			x.add(jobs.Bad, "session", "if the bus was lost: `xmig recover`", "job %s of vm %s has a session here and no record", job.ID, job.VM.Name)
		case err == nil && rec.State.Final():
			x.add(jobs.Warn, "session", "the worker cleans it by itself; its log says what keeps it", "job %s of vm %s is over (%s), and is not cleaned yet", job.ID, job.VM.Name, rec.State)
		}
	}
	staged, err := os.ReadDir(filepath.Join(x.n.cfg.StateDir, "staged"))
	if err != nil {
		return
	}
	for _, f := range staged {
		id, _, _ := strings.Cut(f.Name(), ".")
		if !slices.ContainsFunc(all, func(j jobs.Job) bool { return j.ID == id }) {
			x.add(jobs.Warn, "staged", "remove it", "%s: a staged config of no job that is under way", filepath.Join(x.n.cfg.StateDir, "staged", f.Name()))
		}
	}
}

func (x *examination) volumes(ctx context.Context) {
	records, err := x.n.volumes.Volumes(ctx)
	if err != nil {
		x.add(jobs.Bad, "volumes", "", "registry of volumes: %v", err)
		return
	}
	for _, r := range records {
		_, err := os.Stat(x.n.sessionPath(r.Job))
		switch {
		case r.Role == storage.RoleShadow && r.Pending == "" && !x.n.now().Before(r.KeepUntil):
			x.add(jobs.Warn, "shadow", "`xmig shadow ls` says why it is still here", "shadow %s of vm %s was wanted until %s", r.Place, r.VM, r.KeepUntil.Format(time.RFC3339))
		case r.Role != storage.RoleShadow && errors.Is(err, fs.ErrNotExist):
			x.add(jobs.Warn, "volume", "see that nobody needs it, then remove it and its record in "+filepath.Join(x.n.cfg.StateDir, "volumes"), "volume %s was %s by job %s, which has no session here any more", r.Place, r.Role, r.Job)
		}
	}
}

// files are drafts and images that a later boot would stumble over.
func (x *examination) files(ctx context.Context) {
	for _, d := range x.n.drafts() {
		if info, err := os.Stat(d); err == nil && x.n.now().Sub(info.ModTime()) > draftAge {
			x.add(jobs.Warn, "draft", "remove it", "%s: a file that was being written when its writer died", d)
		}
	}
	domains := map[string]bool{}
	if all, err := x.n.domains(ctx); err == nil {
		for _, d := range all {
			domains[d.Name] = true
		}
	}
	images, err := os.ReadDir(x.n.cfg.SaveDir)
	if err != nil {
		return // there is none
	}
	for _, f := range images {
		text := "a saved image of a VM that does not run: the next boot of this host restores it"
		level := jobs.Warn
		if domains[f.Name()] {
			text, level = "a saved image of a VM that runs: a boot of this host would restore it against newer disks", jobs.Bad
		}
		x.add(level, "saved_image", "remove it, unless it is wanted", "%s: %s", filepath.Join(x.n.cfg.SaveDir, f.Name()), text)
	}
}

// draftAge is older than any file that is being written.
const draftAge = 10 * time.Minute

// rights asks the bus for what every move needs.
func (x *examination) rights(ctx context.Context) {
	_, err := x.n.bus.Records().List(ctx)
	_, kerr := x.n.bus.Owners().List(ctx)
	if err = errors.Join(err, kerr); err != nil {
		x.add(jobs.Bad, "bus_rights", "docs/operations.md lists the rights that a worker needs", "records and owner keys cannot be read: %v", err)
		return
	}
	x.add(jobs.Good, "bus_rights", "", "records and owner keys can be read")
}
