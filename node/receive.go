package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"xmig/blocksync"
	"xmig/jobs"
	"xmig/xen"
)

// The guest's memory on its way into xl at the destination: `xl restore -p` in
// suspend mode, `xl migrate-receive -p` in live mode. Both run under the VM's
// lock to their end. The second one is given GO as soon as it says that its copy
// is whole, which has it end: the copy is paused under its own name then, as a
// restored one is, and no pipe holds it.

// image is a guest's memory and the xl that it goes into.
type image struct {
	in   *os.File // xl's stdin
	kept *endHold // of a live one whose disks are opened early: the stream's last bytes

	fed    chan struct{} // closed when the image is all there, or broke
	stream blocksync.StreamResult
	fedErr error

	whole   chan struct{} // closed when a migrate-receive says READY
	permits sync.Mutex    // one at a time gives it GO

	done  chan struct{} // closed when xl has ended
	domid int           // of a restore; a migrate-receive leaves it untold
	err   error
}

// untold is the domain of a copy whose xl does not say which it made.
const untold = -1

// Receive starts xl; the lane's memory channel feeds it through a pipe, so that
// a session that ends makes xl fail and leave nothing.
func (d *destination) Receive(_ context.Context, job jobs.Job) error {
	a, err := d.arrival(job)
	if err != nil {
		return err
	}
	if !job.Plan.SendsMemory() {
		return jobs.Failed(jobs.CodeInternal, "vm %s: no memory travels in %s mode", job.VM.Name, job.Plan.Mode)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.memory != nil {
		return nil
	}
	if a.closed {
		return jobs.RetryLater(jobs.CodeLane, "vm %s on %s: the session of attempt %s is being closed", job.VM.Name, d.n.cfg.Name, job.Attempt)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe for xl: %w", err)
	}
	m := &image{domid: untold, in: w, fed: make(chan struct{}), whole: make(chan struct{}), done: make(chan struct{})}
	if job.Plan.Guest.EarlyOpen && job.Plan.Mode == jobs.Live {
		m.kept = &endHold{w: w}
	}
	a.memory = m
	take := d.restore
	if job.Plan.Mode == jobs.Live {
		take = d.migrateReceive
	}
	a.run(func(ctx context.Context) { d.receive(ctx, a, r, take) })
	return nil
}

// receive feeds xl and notes what came of it. It ends when the session does:
// also while it waits for the lock, which whoever closes the session may hold.
func (d *destination) receive(ctx context.Context, a *arrival, r *os.File, take func(context.Context, *held, *image, *os.File) error) {
	m := a.memory
	defer close(m.done)
	ended := make(chan struct{})
	go d.feed(ctx, a, ended) // until the image is whole, or xl or the session ends
	defer context.AfterFunc(ctx, func() { m.in.Close() })()
	m.err = d.n.hold(ctx, a.job.VM, func(h *held) error {
		if err := d.fresh(h, a.job); err != nil {
			return err
		}
		return take(ctx, h, m, r)
	})
	close(ended)
	r.Close() // a feeder that still writes to an xl that is gone ends here
	<-m.fed
	m.in.Close()
	if m.fedErr != nil && m.err == nil {
		m.err = fmt.Errorf("memory image: %w", m.fedErr)
	}
}

// feed passes the image on into xl's pipe, with disks and bridges as they are
// called here. What breaks is the pipe's end, and with it xl's.
func (d *destination) feed(ctx context.Context, a *arrival, ended <-chan struct{}) {
	m := a.memory
	defer close(m.fed)
	var to io.Writer = &feeder{m.in, ended, &m.err}
	if m.kept != nil {
		m.kept.w = to
		to = m.kept
	}
	mapped := xen.MapImage(to, func(cfg []byte) ([]byte, error) { return mapDomain(cfg, a.job) })
	m.stream, m.fedErr = blocksync.ReceiveStream(ctx, a.lane.Channel(memoryChannel), mapped, blocksync.Settings{})
	if m.fedErr == nil {
		d.n.hush(d.n.now())
	}
	if m.fedErr != nil || a.job.Plan.Mode == jobs.Suspend {
		m.in.Close() // a migrate-receive is still to be told GO
	}
}

// feeder is the pipe to an xl. Of one that ended early the source is told why,
// and not that its pipe broke.
type feeder struct {
	w     *os.File
	ended <-chan struct{}
	why   *error // valid once ended
}

func (f *feeder) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		<-f.ended // it has: only then the pipe's other end is closed
		if *f.why != nil {
			err = *f.why
		}
	}
	return n, err
}

// endHold passes all on but the last bytes, libxl's END: without it xl neither
// attaches disks nor starts a device model that would open them too early.
type endHold struct {
	w    io.Writer
	tail []byte
}

func (e *endHold) Write(p []byte) (int, error) {
	e.tail = append(e.tail, p...)
	out := len(e.tail) - xen.StreamEnd
	if out <= 0 {
		return len(p), nil
	}
	if _, err := e.w.Write(e.tail[:out]); err != nil {
		return 0, err
	}
	e.tail = append(e.tail[:0], e.tail[out:]...)
	return len(p), nil
}

// release passes END on.
func (e *endHold) release() error {
	if e == nil || len(e.tail) == 0 {
		return nil
	}
	tail := e.tail
	e.tail = nil
	_, err := e.w.Write(tail)
	return err
}

func (d *destination) restore(ctx context.Context, h *held, m *image, r *os.File) error {
	dom, err := h.xl.Restore(ctx, r)
	m.domid = dom.ID
	return err
}

// migrateReceive runs the receiving end of xl's own migration and hears it.
func (d *destination) migrateReceive(ctx context.Context, h *held, m *image, r *os.File) error {
	said, answers, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe for xl's answers: %w", err)
	}
	heard := make(chan error, 1)
	go func() { heard <- m.hear(said) }() // until xl has ended, and the holder that hears it
	err = h.xl.Receive(ctx, r, answers)
	answers.Close()
	if herr := <-heard; err == nil {
		err = herr
	}
	return err
}

// hear reads what xl answers up to its report.
func (m *image) hear(said *os.File) error {
	defer said.Close()
	defer io.Copy(io.Discard, said) // it must never wait for us
	want := func(message string) error {
		got := make([]byte, len(message))
		if n, err := io.ReadFull(said, got); err != nil || string(got) != message {
			return fmt.Errorf("xl answered %q instead of %q", got[:n], message)
		}
		return nil
	}
	if err := want(xen.Banner); err != nil {
		return err
	}
	if err := want(xen.Ready); err != nil {
		return err
	}
	close(m.whole)
	if err := want(xen.Report); err != nil {
		return err
	}
	return want("\x00")
}

// received waits until xl has made the copy and ended, and compares the image
// with the seal. All that a device model could open early is whole by now.
func (d *destination) received(ctx context.Context, a *arrival, seal jobs.Seal) (int, error) {
	a.mu.Lock()
	m := a.memory
	a.mu.Unlock()
	if m == nil {
		return 0, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: nothing was started that takes its memory", a.job.VM.Name, d.n.cfg.Name)
	}
	if err := m.await(ctx, m.fed); err != nil {
		return 0, d.broken(a, m, err)
	}
	if m.fedErr == nil && (m.stream.Bytes != seal.Memory.Bytes || jobs.Digest(m.stream.Digest) != seal.Memory.Digest) {
		return 0, jobs.RetryLater(jobs.CodeCorrupt, "vm %s on %s: the memory image is not the one the source sent", a.job.VM.Name, d.n.cfg.Name)
	}
	if a.job.Plan.Mode == jobs.Live && m.fedErr == nil {
		if err := m.permit(ctx); err != nil {
			return 0, d.broken(a, m, err)
		}
	}
	if err := m.await(ctx, m.done); err != nil || m.err != nil {
		return 0, d.broken(a, m, err)
	}
	return m.domid, nil
}

// broken is why there is no copy: xl's word where it has one.
func (d *destination) broken(a *arrival, m *image, err error) error {
	if err == nil {
		err = m.err
	}
	return jobs.RetryLater(jobs.CodeToolstack, "restore vm %s on %s: %w", a.job.VM.Name, d.n.cfg.Name, err)
}

// await waits for one of the image's turns, or for xl's end.
func (m *image) await(ctx context.Context, turn <-chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("wait for its memory: %w", context.Cause(ctx))
	}
}

// permit gives a migrate-receive END and GO. Told to leave its copy paused, it
// renames it and ends; the guest runs when this host has promised GO, not before.
func (m *image) permit(ctx context.Context) error {
	m.permits.Lock()
	defer m.permits.Unlock()
	if err := m.kept.release(); err != nil {
		return err
	}
	if err := m.await(ctx, m.whole); err != nil {
		return err
	}
	_, err := io.WriteString(m.in, xen.Go)
	if errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE) {
		return nil // given before, or the session ended: xl's end tells
	}
	return err
}
