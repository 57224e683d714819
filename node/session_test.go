package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestSessionEnds: whoever waits for a session that is ended is told, and a
// restore that waits for the lock lets go of it.
func TestSessionEnds(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, 4*mib)
	job := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	session, err := b.dst.arrival(job)
	must(t, err)
	waits := make(chan error, 1)
	go func() { _, err := session.await(w.ctx, 1, []string{"xvda"}); waits <- err }()
	holding, let := make(chan struct{}), make(chan struct{})
	go func() {
		_ = b.hold(w.ctx, vm, func(*held) error { close(holding); <-let; return nil })
	}()
	<-holding
	must(t, b.dst.Receive(w.ctx, job))
	b.dst.closeUpTo(job) // would wait for ever if the restore did
	refused(t, <-waits, "was ended")
	refused(t, b.dst.Receive(w.ctx, job), "no session")
	close(let)
	equal(t, "destination", b.state(vm), "none")
	// The next try of the same attempt opens another.
	ticket, err := b.dst.Prepare(w.ctx, job)
	must(t, err)
	must(t, a.src.Connect(w.ctx, job, ticket))
	_, err = a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
	must(t, err)
	job.Plan.Mode = jobs.Cold
	refused(t, b.dst.Receive(w.ctx, job), "no memory travels in cold mode")
}

// TestRestartKeepsPromises: what was held is held by the next worker of the
// same directory, and let go by its sweep once the record says that it is over.
func TestRestartKeepsPromises(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01", MemoryMiB: 32}, 4*mib)
	job := opened(t, a, b, newJob(a, b, vm, jobs.Suspend, 1))
	b.start(Config{})
	held, err := b.heldMemory(w.ctx, "")
	must(t, err)
	equal(t, "held memory in MiB", held>>20, 33)
	held, err = b.heldMemory(w.ctx, job.ID)
	must(t, err)
	equal(t, "held memory for others in MiB", held>>20, 0)
	holders, err := b.volumes.Holders(w.ctx)
	must(t, err)
	equal(t, "holders of space after the restart", strings.Join(holders, " "), job1)
	_, err = a.src.Pass(w.ctx, job, 1, jobs.SeedPass)
	equal(t, "code of a pass into a dead worker", jobs.CodeOf(err), jobs.CodeLane)
	refused(t, b.dst.Receive(w.ctx, job), "no session of attempt "+job.Attempt)

	rec := jobs.Record{ID: job1, Spec: job.Spec, VM: vm, Source: "a", Destination: "b", State: jobs.Running, Attempt: 1, Epoch: 1, Plan: job.Plan}
	rec, err = w.bus.Records().Create(w.ctx, rec)
	must(t, err)
	must(t, b.sweepOnce(w.ctx))
	equal(t, "volumes of a job that runs", names(t, b.disks("")), "web01-xvda")
	holders, err = b.volumes.Holders(w.ctx)
	must(t, err)
	equal(t, "holders of space of a job that runs", strings.Join(holders, " "), job1)
	rec.State = jobs.RolledBack
	_, err = w.bus.Records().Save(w.ctx, rec)
	must(t, err)
	must(t, b.volumes.Hold(w.ctx, job2, nil)) // a check that was cut off
	for range 2 {
		must(t, b.sweepOnce(w.ctx))
	}
	equal(t, "volumes", names(t, b.disks("")), "")
	equal(t, "sessions", names(t, filepath.Join(b.cfg.StateDir, "arrivals")), "")
	equal(t, "staged configs", names(t, filepath.Join(b.cfg.StateDir, "staged")), "")
	holders, err = b.volumes.Holders(w.ctx)
	must(t, err)
	equal(t, "holders of space", len(holders), 0)
	equal(t, "promises", b.said(vm), "BEGIN(1) ABORTED(1)")
	equal(t, "source", a.state(vm), jobs.VMRunning)
}

// TestSweepSettles: a session that outlived a job that succeeded is let go,
// and what it made is the guest's.
func TestSweepSettles(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.config(xlsim.GuestSpec{Name: "web01"}, mib)
	job, p := committed(t, a, b, newJob(a, b, vm, jobs.Cold, 1))
	_, _, err := b.dst.Go(w.ctx, job, p)
	must(t, err)
	_, err = w.bus.Records().Create(w.ctx, jobs.Record{ID: job1, Spec: job.Spec, VM: vm, Source: "a", Destination: "b", State: jobs.Succeeded, Attempt: 1, Epoch: 1, Plan: job.Plan})
	must(t, err)
	must(t, b.sweepOnce(w.ctx))
	equal(t, "sessions", names(t, filepath.Join(b.cfg.StateDir, "arrivals")), "")
	equal(t, "configs", names(t, b.etc("")), "auto web01.cfg")
	outcomes, err := b.volumes.Retire(w.ctx, job.ID)
	must(t, err)
	equal(t, "volumes that could be taken back", len(outcomes), 0)
}

// TestDamagedSession is told with its path, and nothing is taken away.
func TestDamagedSession(t *testing.T) {
	w := newWorld(t)
	b := w.host("b")
	path := b.sessionPath(job1)
	write(t, path, "{")
	write(t, b.sessionPath("half")+".xmig-1", "{")
	_, err := b.heldMemory(context.Background(), "")
	refused(t, err, "session "+path)
	refused(t, b.sweepOnce(w.ctx), path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	h := b.inventory(w.ctx)
	refused(t, errorOf(h.Problem), path)
}
