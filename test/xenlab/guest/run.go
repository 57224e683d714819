package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/xen/xlsim"
)

// Where the work lives in the guest.
const (
	simDir  = "/run/sim"      // of the simulated host: in memory, new at every boot
	netDir  = "/var/lib/work" // what it leaves for the next boot
	simName = "work"
)

// beatEvery is the time between two heartbeats: short against any blackout
// that matters, long against what a packet costs an emulated CPU.
const beatEvery = 100 * time.Millisecond

// settings come from the guest's kernel command line, lab.KEY=VALUE.
type settings struct {
	name  string // lab.name
	watch string // lab.watch=ADDRESS:PORT: where heartbeats go
	uuid  string // the domain's own
	ram   int    // lab.ram, MiB
	rate  int64  // lab.rate: bytes per second written to the data disk
	dirty int64  // lab.dirty: bytes of RAM per second
}

func readSettings() (settings, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return settings{}, err
	}
	uuid, err := os.ReadFile("/sys/hypervisor/uuid")
	if err != nil {
		return settings{}, fmt.Errorf("no Xen guest: %w", err)
	}
	s, err := parseSettings(string(line))
	s.uuid = strings.TrimSpace(string(uuid))
	return s, err
}

func parseSettings(line string) (settings, error) {
	s := settings{ram: 24, rate: 256 << 10, dirty: 512 << 10}
	var errs []error
	number := func(to *int64, text string) {
		n, err := strconv.ParseInt(text, 10, 64)
		errs = append(errs, err)
		*to = n
	}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "lab.name":
			s.name = value
		case "lab.watch":
			s.watch = value
		case "lab.ram":
			n, err := strconv.Atoi(value)
			errs = append(errs, err)
			s.ram = n
		case "lab.rate":
			number(&s.rate, value)
		case "lab.dirty":
			number(&s.dirty, value)
		}
	}
	if s.name == "" || s.watch == "" {
		errs = append(errs, errors.New("command line: lab.name and lab.watch must be there"))
	}
	return s, errors.Join(errs...)
}

// run works until it is told to stop. The simulated guest is a process of its
// own and outlives it: started again, run finds it at work.
func run(ctx context.Context) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	if err := startWork(s); err != nil {
		return err
	}
	pages, err := newSwapped(swappedSize)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", servicePort)
	if err != nil {
		return err
	}
	fmt.Printf("lab-guest: %s works\n", s.name)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return beat(ctx, s) })
	g.Go(func() error { return pages.run(ctx) })
	g.Go(func() error { return service{pages: pages}.run(ctx, listener) })
	return g.Wait()
}

// startWork starts the simulated guest once a boot.
func startWork(s settings) error {
	if _, err := xlsim.LoadHost(simDir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := xlsim.CreateHost(simDir, xlsim.HostSpec{Name: s.name, Net: netDir}); err != nil {
		return err
	}
	config, err := xlsim.WriteGuestConfig(simDir, xlsim.GuestSpec{
		Name: simName, UUID: s.uuid, MemoryMiB: s.ram, Rate: s.rate, DirtyRate: s.dirty,
		Disks: []xlsim.GuestDisk{{Path: "/dev/xvdc", Vdev: "xvdc"}},
	})
	if err != nil {
		return err
	}
	return simulated("create", config)
}

// stopWork leaves what was promised on the root file system.
func stopWork() error { return simulated("shutdown", "-w", simName) }

// simulated carries out a command of the simulated xl.
func simulated(args ...string) error {
	all := append([]string{"--host", simDir, "xl"}, args...)
	if code := xlsim.Main(all, os.Stdin, os.Stdout, os.Stderr); code != 0 {
		return fmt.Errorf("simulated xl %s: exit %d", strings.Join(args, " "), code)
	}
	return nil
}

// beat says to the outside that this guest runs. A copy made of its memory goes
// on with the same numbers: a number heard twice is two copies that ran.
func beat(ctx context.Context, s settings) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", s.watch)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	defer conn.Close()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// Nobody may be listening, or the network away: the gap shows it.
		_, _ = fmt.Fprintf(conn, "%s %s %d", s.name, strings.TrimSpace(string(boot)), n)
	}
}
