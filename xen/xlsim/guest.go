package xlsim

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// guest is a running guest: its own process.
type guest struct {
	call    *call
	id      int
	config  domainConfig
	ram     *ram
	disks   []*blockFile // as in the RAM's head
	status  *statusFile
	witness *witness
	log     *log.Logger

	// world is read-held for each piece of the guest's work, and write-held
	// while it stands: who has stopped it knows that nothing is under way.
	world sync.RWMutex

	mu        sync.Mutex // guards what follows
	paused    bool
	suspended bool
	frozen    int
	bare      []int // disks that get their label when the guest runs for the first time
	reason    int   // of its shutdown
	asked     int   // a shutdown that waits for the guest to run
	stands    bool
	late      bool     // it has once answered a request to suspend, to do it later
	down      chan int // its shutdown, once
}

// How a guest's process begins.
const (
	startBoot   = "boot"   // fresh memory
	startResume = "resume" // memory that was restored
)

// runGuest is the command `guest ID boot|resume`: started by `xl create`,
// `xl restore` or a reboot, never by hand. It says "ready", or what is wrong,
// on its stdout.
func runGuest(c *call, args []string) int {
	if len(args) != 2 {
		c.complain("guest: started by xlsim itself only")
		return 2
	}
	id, err := strconv.Atoi(args[0])
	if err != nil {
		c.complain("guest: %q is no domain id", args[0])
		return 2
	}
	g := &guest{call: c, id: id, paused: true, stands: true, reason: notShutDown, asked: notShutDown, down: make(chan int, 1)}
	g.world.Lock()
	g.log = log.New(c.stderr, "", log.LstdFlags|log.Lmicroseconds|log.LUTC)
	listener, err := g.prepare(args[1])
	if err != nil {
		fmt.Fprintf(c.stdout, "%v\n", err)
		return 1
	}
	fmt.Fprintln(c.stdout, "ready")
	if err := leaveStdout(c); err != nil {
		g.log.Printf("stdout: %v", err)
	}
	return g.run(listener)
}

// leaveStdout lets go of the pipe to the `xl` that waits, and of its terminal.
func leaveStdout(c *call) error {
	f, ok := c.stdout.(*os.File)
	if !ok {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return unix.Dup2(int(null.Fd()), int(f.Fd()))
}

// prepare makes the guest whole: registered, memory, disks, control socket.
func (g *guest) prepare(start string) (net.Listener, error) {
	dir := runtimeDir(g.call.dir, g.id)
	err := changeDomain(g.call.dir, g.id, func(_ *host, d *domain) error {
		g.config, d.Guest = d.Config, thisProcess()
		return nil
	})
	if err != nil {
		return nil, err
	}
	mem, err := mapRAM(filepath.Join(dir, "ram"))
	if err != nil {
		return nil, err
	}
	if start == startBoot {
		err = g.boot(mem)
	} else {
		err = g.attach(mem)
	}
	if err != nil {
		return nil, err
	}
	if g.status, err = createStatusFile(filepath.Join(dir, "status")); err != nil {
		return nil, err
	}
	g.show()
	var listener net.Listener
	err = throughDir(dir, func(socket string) (err error) {
		listener, err = net.Listen("unix", socket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// The path names a descriptor that is closed by now.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return listener, changeDomain(g.call.dir, g.id, func(_ *host, d *domain) error {
		d.Built = true
		return nil
	})
}

// run works until the guest has shut down and is cleared away.
func (g *guest) run(listener net.Listener) int {
	g.log.Printf("domain %d (%s) is there, %d pages, %d disks", g.id, g.config.CInfo.Name, g.ram.head.Pages, len(g.disks))
	ctx, cancel := context.WithCancel(context.Background())
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return g.heart(ctx) })
	work.Go(func() error { return g.dirtier(ctx) })
	limit := rate.NewLimiter(rate.Limit(g.ram.head.Rate), max(2*slotSize, int(g.ram.head.Rate/10)))
	for i, d := range g.ram.disks() {
		for n := range int(g.ram.head.Writers) {
			work.Go(func() error { return g.writer(i, d, n, limit).run(ctx) })
		}
	}
	work.Go(func() error { return g.accept(ctx, listener, work) })
	work.Go(func() error { return g.end(ctx, cancel) })
	err := work.Wait()
	g.status.close()
	if err := errors.Join(err, g.witness.close()); err != nil {
		g.log.Printf("domain %d ends: %v", g.id, err)
		return 1
	}
	return 0
}

func (g *guest) writer(disk int, d ramDisk, number int, limit *rate.Limiter) *writer {
	buf, err := alignedBuffer(slotSize)
	if err != nil {
		g.log.Fatalf("writer: %v", err) // no memory: the guest crashes
	}
	return &writer{
		g: g, disk: disk, d: d, number: number, place: geometry{size: d.Size, slots: int(d.Slots)},
		file: g.disks[disk], line: g.ram.writerLine(disk, number), buf: buf, limit: limit,
	}
}

// accept serves the control socket; the connections belong to work too.
func (g *guest) accept(ctx context.Context, listener net.Listener, work *errgroup.Group) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		work.Go(func() error {
			g.serve(ctx, conn)
			return nil
		})
	}
}

// enter begins a piece of work; it waits while the guest stands, and is false
// when the guest is over.
func (g *guest) enter(ctx context.Context) bool {
	g.world.RLock()
	if ctx.Err() != nil {
		g.world.RUnlock()
		return false
	}
	return true
}

func (g *guest) leave() { g.world.RUnlock() }

// change changes the run state and returns when it is true: a guest that shall
// stand has finished what was under way.
func (g *guest) change(f func()) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	g.apply()
	return nil
}

// apply makes the run state true. g.mu is held.
func (g *guest) apply() {
	stand := g.paused || g.suspended || g.frozen > 0 || g.reason >= 0
	switch {
	case stand && !g.stands:
		g.world.Lock()
		g.witness.leave()
		g.stands = true
	case !stand && g.stands:
		g.writeLabels()
		g.witness.enter()
		g.stands = false
		g.world.Unlock()
	}
	if g.asked >= 0 && !g.stands {
		g.asked, g.reason = notShutDown, g.asked
		g.apply()
		g.down <- g.reason // not before it stands: what the disks hold is told then
	}
	g.show()
}

// show writes the state where `xl` reads it.
func (g *guest) show() {
	var flags uint64
	if g.paused {
		flags |= flagPaused
	}
	if g.suspended {
		flags |= flagSuspended
	}
	if g.reason >= 0 {
		flags |= flagShutDown | uint64(g.reason)<<flagReasonShift
	}
	g.status.flags.Store(flags)
}

func (g *guest) unpause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.paused {
		return errNotPaused
	}
	g.paused = false
	g.apply()
	return nil
}

// suspend: only a guest that runs can answer the request.
func (g *guest) suspend() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused || g.suspended || g.reason >= 0 || g.config.deaf(argSuspend) {
		return errNoAnswer
	}
	if value, _ := g.config.argument(argSuspend); value == argLate && !g.late {
		g.late = true
		time.AfterFunc(g.call.spec.SuspendTimeout+time.Second, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.suspended = true
			g.apply()
		})
		return errLate
	}
	g.suspended = true
	g.apply()
	return nil
}

// askShutdown is the request in control/shutdown: a guest that stands reads it
// when it runs again.
func (g *guest) askShutdown(reason int) error {
	if reason != reasonPoweroff && reason != reasonReboot {
		return fmt.Errorf("shutdown reason %d: unknown", reason)
	}
	return g.change(func() {
		if g.reason < 0 && !g.config.deaf(argShutdown) {
			g.asked = reason
		}
	})
}

// end waits for the guest's shutdown and does what the monitor of `xl` does:
// it clears the domain away or builds it anew. Without a monitor the domain
// stays, shut down, until somebody destroys it.
func (g *guest) end(ctx context.Context, cancel context.CancelFunc) error {
	var reason int
	select {
	case <-ctx.Done():
		return nil
	case reason = <-g.down:
	}
	g.log.Printf("shutdown, reason code %d", reason)
	if err := writeJSON(finalPath(g.call.spec.Net, g.witness.uuid), g.ram.expected(exactly)); err != nil {
		g.log.Printf("final mark: %v", err)
	}
	for _, d := range g.disks {
		if err := d.close(); err != nil {
			g.log.Printf("disk: %v", err)
		}
	}
	gone, err := g.clearAway(reason)
	if err != nil || !gone {
		return err
	}
	cancel()
	g.world.Unlock() // it stands: the workers see that ctx has ended
	return nil
}
