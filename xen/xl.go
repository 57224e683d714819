package xen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Errors that callers tell apart. Each wraps the *CommandError too, where a
// command said so.
var (
	ErrNoDomain  = errors.New("there is no such domain")
	ErrNotPaused = errors.New("the domain is not paused")
	ErrNameTaken = errors.New("another domain has that name")
)

// XL is the toolstack of one host; its methods may be called concurrently.
//
// Questions (List, Config, Info, DisksInUse, Guest, BlockList) end with their
// context. Effects (all others) do not: an xl that is killed half way leaves a
// guest suspended or a domain half built. Once begun, an effect's command goes
// on to its end, and the method returns no sooner.
type XL struct {
	Command  []string // argv prefix of xl
	Xenstore []string // argv prefix in front of xenstore-ls; empty: on PATH

	lock   *os.File // kept by effects while they run; nil: none
	holder []string
}

// Held is x with its effects under a lock: each runs below a holder process
// (RunHolder), so that the lock stays taken until the command has ended,
// whatever becomes of this process. The holder is given as argv prefix.
func (x XL) Held(lock *os.File, holder []string) XL {
	x.lock, x.holder = lock, holder
	return x
}

// Migrating tells the names that xl gives the two ends of its own migrations.
func Migrating(name string) bool {
	return strings.HasSuffix(name, "--incoming") || strings.HasSuffix(name, "--migratedaway")
}

// Save suspends a domain and writes its memory image into the pipe w; then the
// domain is paused, not gone. A pipe that breaks makes xl fail and the guest run
// on: to close the reader is the way to end a Save.
func (x XL) Save(ctx context.Context, id int, w *os.File) error {
	return x.onDomain(ctx, id, effect{args: []string{"save", "-p", strconv.Itoa(id), "/dev/stdout"}, stdout: w})
}

// Pause stops a domain's CPUs. Pauses are counted: after two it takes two to
// Unpause.
func (x XL) Pause(ctx context.Context, id int) error {
	return x.onDomain(ctx, id, effect{args: []string{"pause", strconv.Itoa(id)}, mute: true})
}

// Unpause lets a paused domain run. ErrNotPaused: it was not, or it is
// suspended, which is another thing (ResumeSuspended).
func (x XL) Unpause(ctx context.Context, id int) error {
	return x.onDomain(ctx, id, effect{args: []string{"unpause", strconv.Itoa(id)}, mute: true})
}

// Destroy ends a domain at once.
func (x XL) Destroy(ctx context.Context, id int) error {
	return x.onDomain(ctx, id, effect{args: []string{"destroy", strconv.Itoa(id)}})
}

// Rename gives a domain another name.
func (x XL) Rename(ctx context.Context, id int, name string) error {
	return x.onDomain(ctx, id, effect{args: []string{"rename", "--", strconv.Itoa(id), name}})
}

// ShutdownMode says when Shutdown returns.
type ShutdownMode int

const (
	// Ask returns when the guest was asked.
	Ask ShutdownMode = iota
	// Wait returns when the guest has shut down.
	Wait
)

// waitEvery is how often Shutdown looks: a tenth of what the shortest
// orderly shutdown takes.
const waitEvery = 200 * time.Millisecond

// AskAgain is how long to wait before the toolstack is asked the same again:
// every, and longer where the last answer took long. An xl that takes a second
// of a busy dom0 for its answer must not take the CPU of the guest waited for.
func AskAgain(every, took time.Duration) time.Duration {
	const share, longest = 4, 5 * time.Second // a fifth of one CPU at most; news no older than that
	return max(every, min(share*took, longest))
}

// Shutdown asks a guest to shut down, by the power button where it has no
// drivers of Xen's. The waiting is ours and not `xl shutdown -w`: a guest that
// never answers must not hold the lock when this process is gone.
func (x XL) Shutdown(ctx context.Context, id int, mode ShutdownMode) error {
	if err := x.onDomain(ctx, id, effect{args: []string{"shutdown", "-F", strconv.Itoa(id)}}); err != nil || mode == Ask {
		return err
	}
	for {
		looked := time.Now()
		d, err := x.byID(ctx, id)
		if errors.Is(err, ErrNoDomain) || err == nil && d.State.shutDown() {
			return nil
		}
		select {
		case <-time.After(AskAgain(waitEvery, time.Since(looked))):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("domain %d was asked and has not shut down: %w", id, context.Cause(ctx)), err)
		}
	}
}

// resumeSince is the first Xen whose xl has a command for it.
var resumeSince = Version{Major: 4, Minor: 20}

// ResumeSuspended lets a suspended guest run on where it stopped. Before Xen
// 4.20 that takes a minute: `xl save -c` asks it to suspend, waits for an answer
// in vain, sees that it is suspended, and resumes it in the end.
func (x XL) ResumeSuspended(ctx context.Context, id int) error {
	d, err := x.byID(ctx, id)
	if err != nil {
		return err
	}
	if !d.State.Suspended() {
		return fmt.Errorf("resume domain %d: its state is %s, it is not suspended", id, d.State)
	}
	info, err := x.Info(ctx)
	if err != nil {
		return err
	}
	// Every way out of `save -c` resumes, its failures too.
	e := effect{args: []string{"save", "-c", strconv.Itoa(id), os.DevNull}}
	if info.Version.AtLeast(resumeSince) {
		e = effect{args: []string{"resume", strconv.Itoa(id)}, mute: true}
	}
	acted := x.onDomain(ctx, id, e)
	if d, err = x.byID(context.WithoutCancel(ctx), id); err != nil {
		return errors.Join(err, acted)
	}
	if d.State.Suspended() {
		return errors.Join(fmt.Errorf("domain %d is still suspended", id), acted)
	}
	if d.State.Paused() { // a save that had paused it was killed before its resume
		return x.Unpause(ctx, id)
	}
	return nil
}

// onDomain runs an effect on one domain. xl takes any number for a domain, and
// where there is none each command fails in words of its own: so look.
func (x XL) onDomain(ctx context.Context, id int, e effect) error {
	err := x.act(ctx, e)
	var failed *CommandError
	if errors.As(err, &failed) && !errors.Is(err, ErrNoDomain) {
		if _, gone := x.byID(context.WithoutCancel(ctx), id); errors.Is(gone, ErrNoDomain) {
			return fmt.Errorf("domain %d: %w: %w", id, ErrNoDomain, failed)
		}
	}
	return err
}
