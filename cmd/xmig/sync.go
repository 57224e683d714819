package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	xrate "golang.org/x/time/rate"

	"xmig/blocksync"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type syncCmd struct {
	Src string `arg:"" help:"What to copy: a file, a block device, or HOST:DEVICE."`
	Dst string `arg:"" help:"What to make equal to it: a file, which is created if missing, a block device, or HOST:DEVICE."`

	Verify  string        `enum:"delta,full,none" default:"delta" help:"What to compare at the end: ${enum}. full reads both again."`
	BWLimit rate          `name:"bwlimit" placeholder:"RATE" help:"Most bytes per second to send, such as 200MiB/s (default: no limit)."`
	Detach  bool          `help:"Between hosts: print the job's id and return."`
	WaitFor time.Duration `placeholder:"TIME" help:"Between hosts: wait no longer than this, such as 10m; then exit 4 while the job goes on."`
}

func (syncCmd) Help() string {
	return `Only what differs travels; a second run onto the same disk is quick. Nobody may
write to the source, or the copy is of no single moment. Two local paths need
no bus. A destination that is smaller than the source is refused.

Examples:

    xmig sync /dev/vg0/web01 /dev/vg1/web01
    xmig sync disk.img copy.img --verify full
    xmig sync hv1:/dev/vg0/data hv2:/dev/vg0/data --bwlimit 100MiB/s`
}

func (c *syncCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	src, dst := parsePlace(c.Src), parsePlace(c.Dst)
	switch {
	case src.Host == "" && dst.Host == "":
		return c.local(ctx, g, t)
	case src.Host == "" || dst.Host == "":
		return usage("sync %s %s: give two local paths, or HOST:DEVICE twice", c.Src, c.Dst)
	}
	return c.remote(ctx, g, t, src, dst)
}

// remote has the worker of the source's host do it.
func (c *syncCmd) remote(ctx context.Context, g *globals, t *terminal, src, dst place) error {
	spec := jobs.Spec{
		Kind: jobs.KindSync, From: src.Host, SyncFrom: src.Path, To: dst.Host, SyncTo: dst.Path,
		Verify: jobs.Verify(c.Verify), BWLimit: int64(c.BWLimit), By: whoAmI(),
	}.WithDefaults()
	if err := spec.Validate(); err != nil {
		return err
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	rec, err := submit(ctx, g, b, spec)
	if err != nil {
		return err
	}
	if c.Detach {
		if g.Output == "json" {
			return printJSON(t.Out, rec)
		}
		_, err = fmt.Fprintln(t.Out, rec.ID)
		return err
	}
	return await(ctx, g, t, b, []string{rec.ID}, c.WaitFor, liveLines(g, t))
}

// local makes one local disk equal to another: both ends in this process.
func (c *syncCmd) local(ctx context.Context, g *globals, t *terminal) error {
	tuneMemory(1)
	src, err := blocksync.OpenSource(c.Src)
	if err != nil {
		return refused(err)
	}
	defer src.Close()
	if err := c.prepare(src); err != nil {
		return err
	}
	dst, err := blocksync.OpenDestination(c.Dst)
	if err != nil {
		return refused(err)
	}
	defer dst.Close()
	if dst.Size() < src.Size() {
		return jobs.Failed(jobs.CodeBlocked, "%s has %d bytes, less than the %d of %s; make it larger, or name another", c.Dst, dst.Size(), src.Size(), c.Src)
	}
	done, err := c.pass(ctx, t, src, dst)
	if err != nil {
		return err
	}
	if dst.Size() > src.Size() {
		fmt.Fprintf(t.Err, "xmig: note: %s is larger; its last %s were left as they are\n", c.Dst, show.Bytes(dst.Size()-src.Size()))
	}
	if g.Output == "json" {
		return printJSON(t.Out, done)
	}
	_, err = fmt.Fprintln(t.Out, show.CopiedLine(done))
	return err
}

// refused classes what opening a device says: a path that is not there is the
// request's fault.
func refused(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return jobs.Failed(jobs.CodeNotFound, "%w", err)
	}
	return jobs.Failed(jobs.CodeStorage, "%w", err)
}

// prepare creates a destination that is missing, as a sparse file.
func (c *syncCmd) prepare(src *blocksync.Device) error {
	from, err := os.Stat(c.Src)
	if err != nil {
		return refused(err)
	}
	to, err := os.Stat(c.Dst)
	if err == nil {
		if os.SameFile(from, to) {
			return usage("%s and %s are the same", c.Src, c.Dst)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return refused(err)
	}
	f, err := os.OpenFile(c.Dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // a disk's content is nobody else's business
	if err != nil {
		return refused(err)
	}
	if err := errors.Join(f.Truncate(src.Size()), f.Close()); err != nil {
		return jobs.Failed(jobs.CodeStorage, "make %s: %w", c.Dst, errors.Join(err, os.Remove(c.Dst)))
	}
	return nil
}

// pipeFrames is how many frames of up to 1 MiB wait between the two ends.
const pipeFrames = 16

func (c *syncCmd) pass(ctx context.Context, t *terminal, src, dst *blocksync.Device) (show.Copied, error) {
	begin := time.Now()
	a, b := blocksync.Pipe(pipeFrames)
	set := blocksync.Settings{Verify: verifies[c.Verify], Limits: limits(int64(c.BWLimit))}
	var now atomic.Pointer[blocksync.Progress]
	set.Progress = func(p blocksync.Progress) { now.Store(&p) }
	var sent, got blocksync.Result
	both, stop := context.WithCancel(ctx)
	defer stop()
	if t.Bars {
		finished := make(chan struct{})
		defer func() { stop(); <-finished }()
		go func() { defer close(finished); c.draw(both, t, &now) }()
	}
	g, gctx := errgroup.WithContext(both)
	g.Go(func() (err error) {
		sent, err = blocksync.Send(gctx, a, src, blocksync.Pass{Number: 1, Final: true}, set)
		return err
	})
	g.Go(func() (err error) {
		got, err = blocksync.Receive(gctx, b, dst, blocksync.Settings{})
		return err
	})
	if err := g.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return show.Copied{}, &exitError{code: exitFailed, text: fmt.Sprintf("sync interrupted; run it again to carry on: xmig sync %s %s", c.Src, c.Dst)}
		}
		return show.Copied{}, fmt.Errorf("sync %s to %s: %w", c.Src, c.Dst, err)
	}
	return show.Copied{
		From: c.Src, To: c.Dst, Size: sent.Size, Done: sent.Done, Same: sent.Same, Differing: sent.Differing, Zero: sent.Zero,
		Sent: sent.Sent, Wire: sent.Wire, Elapsed: time.Since(begin), Verified: sent.Verified && got.Verified,
	}, nil
}

// draw shows one bar until ctx ends, then takes it away.
func (c *syncCmd) draw(ctx context.Context, t *terminal, now *atomic.Pointer[blocksync.Progress]) {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	drawn := 0
	for {
		select {
		case <-ctx.Done():
			fmt.Fprint(t.Out, show.Redraw(drawn, nil))
			return
		case <-tick.C:
		}
		if p := now.Load(); p != nil {
			lines := []string{show.Bar(jobs.DiskProgress{Name: "sync", Size: p.Size, Done: p.Done, Wire: p.Wire, Rate: p.Rate()}, t.Width)}
			fmt.Fprint(t.Out, show.Redraw(drawn, lines))
			drawn = len(lines)
		}
	}
}

var verifies = map[string]blocksync.Verify{"delta": blocksync.VerifyDelta, "full": blocksync.VerifyFull, "none": blocksync.VerifyNone}

// limits lets a second's worth go at once, so that one chunk always fits.
func limits(perSecond int64) blocksync.Limits {
	if perSecond <= 0 {
		return nil
	}
	return blocksync.Limits{xrate.NewLimiter(xrate.Limit(perSecond), int(max(perSecond, blocksync.MaxPayload)))}
}
