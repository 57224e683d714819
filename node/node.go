package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/blocksync"
	"xmig/bus"
	"xmig/jobs"
	"xmig/node/journal"
	"xmig/node/storage"
	"xmig/xen"
)

// Node is one worker. There is one per dom0: it holds the lock of its state
// directory while it runs.
type Node struct {
	cfg       Config
	bus       *bus.Bus
	lanes     *bus.LaneServer
	xl        xen.XL
	volumes   *storage.Host
	log       zerolog.Logger
	instance  string
	started   time.Time
	bootID    string    // id of this boot of the host
	booted    time.Time // when it came up, for people
	compress  blocksync.Compress
	content   *blocksync.Index // of disks here; nil: none is kept
	bandwidth *bandwidth
	wishes    wishes
	manifests manifests
	now       func() time.Time

	src *source
	dst *destination

	unresolved atomic.Bool  // jobs may have been resolved without this host
	hushed     atomic.Int64 // until when no inventory is taken, Unix nanoseconds

	life   context.Context // of the run: what sessions at the destination live by
	known  *bus.Presence   // of the run
	mu     sync.Mutex
	active map[string]*drive // jobs driven now, by id
	host   jobs.Host         // the last inventory
	asking []chan struct{}   // who waits for the next one; closed when the bus has it
	asked  chan struct{}     // holds one when somebody does
}

// New checks the configuration and opens what the state directory holds.
func New(cfg Config, b *bus.Bus, lanes *bus.LaneServer, log zerolog.Logger) (*Node, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	for _, dir := range []string{"", "journals", "arrivals", "staged", "watched"} {
		if err := os.MkdirAll(filepath.Join(cfg.StateDir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("node %s: state directory: %w", cfg.Name, err)
		}
	}
	volumes, err := storage.New(storage.Config{StateDir: filepath.Join(cfg.StateDir, "volumes")})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	boot, booted, err := bootIdentity()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if cfg.BootID != "" {
		boot = cfg.BootID
	}
	id := make([]byte, 8)
	rand.Read(id)
	n := &Node{
		cfg: cfg, bus: b, lanes: lanes, volumes: volumes, log: log, now: time.Now, bootID: boot, booted: booted,
		xl:       xen.XL{Command: cfg.XL, Xenstore: cfg.Xenstore},
		instance: hex.EncodeToString(id), active: map[string]*drive{}, asked: make(chan struct{}, 1),
	}
	if cfg.ContentIndex > 0 {
		n.content = blocksync.NewIndex(cfg.ContentIndex)
	}
	switch cfg.Compress {
	case "on":
		n.compress = blocksync.CompressOn
	case "off":
		n.compress = blocksync.CompressOff
	}
	n.bandwidth = newBandwidth(cfg.Bandwidth, n.now, log)
	n.manifests = manifests{filepath.Join(cfg.StateDir, "manifests"), log}
	n.src = &source{n: n, open: map[string]*departure{}, late: map[string]bool{}}
	n.dst = &destination{n: n, open: map[string]*arrival{}}
	return n, nil
}

// Run works until ctx ends. It first waits for an older worker of the same
// state directory to end.
func (n *Node) Run(ctx context.Context) error {
	lock, err := journal.DirLock(ctx, n.cfg.StateDir)
	if err != nil {
		return fmt.Errorf("node %s: another worker uses %s: %w", n.cfg.Name, n.cfg.StateDir, err)
	}
	defer lock.Release()
	n.started = n.now()
	n.life = ctx
	n.unresolved.Store(true)
	// First of all the name: with another worker's, this one would answer its
	// calls and take back its jobs.
	if n.known, err = n.announce(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	n.dropDrafts()
	defer n.closeAll()
	stop, err := n.serve()
	defer stop()
	if err != nil {
		return fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.known.Run(ctx) })
	g.Go(func() error { return n.look(ctx) })
	g.Go(func() error { return n.bandwidth.follow(ctx, n.bus, n.cfg.Name, n.wishes.take) })
	g.Go(func() error { return n.bandwidth.keepTime(ctx) })
	g.Go(func() error { return n.work(ctx) })
	g.Go(func() error { return n.sweep(ctx) })
	g.Go(func() error { return n.watchGuests(ctx) })
	n.log.Info().Str("node", n.cfg.Name).Bool("simulated", n.cfg.Simulated).Msg("node is up")
	return g.Wait()
}

// closeAll ends the sessions; nobody opens one any more.
func (n *Node) closeAll() {
	n.dst.mu.Lock()
	open := slices.Collect(maps.Keys(n.dst.open))
	n.dst.mu.Unlock()
	for _, vm := range open {
		n.dst.closeSession(vm, func(*arrival) bool { return true })
	}
	n.dst.soon.Wait()
}

func (n *Node) journals() string { return filepath.Join(n.cfg.StateDir, "journals") }

// domains lists the guests' domains here. What is being destroyed is none any
// more: nothing brings it back, and its memory may take seconds to be freed.
func (n *Node) domains(ctx context.Context) ([]xen.Domain, error) {
	all, err := n.xl.List(ctx)
	if err != nil {
		return nil, jobs.RetryLater(jobs.CodeToolstack, "list domains on %s: %w", n.cfg.Name, err)
	}
	return slices.DeleteFunc(all, func(d xen.Domain) bool { return d.ID == 0 || strings.HasSuffix(string(d.State), "d") }), nil
}

// copies lists the domains here that are, or may be, this VM: by UUID.
func (n *Node) copies(ctx context.Context, vm jobs.VMRef) ([]xen.Domain, error) {
	all, err := n.domains(ctx)
	return slices.DeleteFunc(all, func(d xen.Domain) bool { return d.UUID != vm.UUID }), err
}

// unfinished tells a domain whose making was killed half way: paused, without
// a CPU, and without anything of a guest in it.
func unfinished(d xen.Domain) bool {
	return stateOf(d) == jobs.VMPaused && d.VCPUs == 0 && d.CPUTime == 0
}

// domain is the one domain here that is this VM.
func (n *Node) domain(ctx context.Context, vm jobs.VMRef) (xen.Domain, error) {
	copies, err := n.copies(ctx, vm)
	if err != nil {
		return xen.Domain{}, err
	}
	if len(copies) != 1 {
		return xen.Domain{}, jobs.RetryLater(jobs.CodeToolstack, "vm %s on %s: want one domain with UUID %s, found %d", vm.Name, n.cfg.Name, vm.UUID, len(copies))
	}
	return copies[0], nil
}

// mustBeHalted makes sure that a guest that was halted at check still is.
func (n *Node) mustBeHalted(ctx context.Context, vm jobs.VMRef) error {
	all, err := n.domains(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.UUID == vm.UUID || d.Name == vm.Name {
			return jobs.RetryLater(jobs.CodeConflict, "vm %s on %s was started meanwhile (domain %d)", vm.Name, n.cfg.Name, d.ID)
		}
	}
	return nil
}

func stateOf(d xen.Domain) jobs.VMState {
	switch {
	case d.State.Suspended():
		return jobs.VMSuspended
	case d.State.Paused():
		return jobs.VMPaused
	case d.State.Alive():
		return jobs.VMRunning
	}
	return jobs.VMOther
}

// again marks an error as one that may be gone at the next try, unless whoever
// made it knew better.
func again(err error, code jobs.Code, format string, args ...any) error {
	if jobs.ClassOf(err) != jobs.Retry {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	return jobs.RetryLater(code, format+": %w", append(args, err)...)
}

// diskError names the disk; a lane that broke is worth another try, content
// that did not match too: the next pass reads and compares anew.
func diskError(err error, disk string, job jobs.Job, node string) error {
	code := jobs.CodeStorage
	var told *blocksync.AbortError
	switch {
	case errors.Is(err, blocksync.ErrLaneLost):
		code = jobs.CodeLane
	case errors.As(err, new(*blocksync.CorruptError)), errors.As(err, &told) && told.Corrupt:
		code = jobs.CodeCorrupt
	}
	return jobs.RetryLater(code, "disk %s of vm %s from %s to %s: %w", disk, job.VM.Name, node, job.Destination, err)
}
