package xlsim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// errNotFound is xl's text for a domain that is not there.
func errNotFound(who string) error {
	return xlError{fmt.Sprintf("%s is an invalid domain identifier (rc=-6)\n", who)}
}

// resolve finds a domain for a command that works on one.
func (c *call) resolve(who string) (*domain, error) {
	h, err := lockHost(c.dir)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	if d := h.find(who); d != nil {
		return d, nil
	}
	return nil, errNotFound(who)
}

func (c *call) create(o options, args []string) int {
	data, err := os.ReadFile(args[0])
	if err != nil {
		fmt.Fprintf(c.stderr, "Failed to read config file: %s: %s\n", args[0], errnoText(err))
		return 3
	}
	if !o.has('q') {
		fmt.Fprintf(c.stdout, "Parsing config from %s\n", args[0])
	}
	config, err := parseConfig(data)
	switch {
	case errors.Is(err, errNoName):
		fmt.Fprintln(c.stderr, err)
		return 1
	case err != nil:
		fmt.Fprintf(c.stderr, "%s: config parsing error: %v\nFailed to parse config: Invalid argument\n", args[0], err)
		return 1
	}
	if o.has('n') {
		fmt.Fprint(c.stdout, toJSON(config))
		return 0
	}
	id, err := c.bootDomain(config, monitorOf(o))
	if err != nil {
		return c.fail(err, 3)
	}
	if !o.has('p') {
		if err := do(c.dir, id, opUnpause); err != nil {
			return c.fail(err, 1)
		}
	}
	return 0
}

const noMemoryCreate = `xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory
libxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain N:cannot (re-)build domain: -3
`

// bootDomain builds a domain with fresh memory, paused.
func (c *call) bootDomain(config domainConfig, monitor monitoring) (int, error) {
	return c.build(plan{
		config: config, start: startBoot, monitor: monitor, noMemory: noMemoryCreate,
		fill: func(int, *os.File) error { return nil }, // the guest fills it when it boots
	})
}

// order gives a domain's guest an order, in xl's way of finding it.
func (c *call) order(who, op string) (*domain, error) {
	d, err := c.resolve(who)
	if err != nil {
		return nil, err
	}
	if !d.Built {
		return d, errNotPaused // memory without a guest in it: nothing to order about
	}
	return d, do(c.dir, d.ID, op)
}

func (c *call) pause(_ options, args []string) int {
	if _, err := c.order(args[0], opPause); err != nil && !errors.Is(err, errNotPaused) {
		return c.fail(err, 1)
	}
	return 0
}

// unpause of a domain that is not paused, or suspended, is a text and no failure.
func (c *call) unpause(_ options, args []string) int {
	d, err := c.order(args[0], opUnpause)
	if errors.Is(err, errNotPaused) {
		fmt.Fprintf(c.stderr, "libxl: error: libxl_domain.c:688:domain_unpause_done: Domain %d:Unpausing domain: Invalid argument\n", d.ID)
		return 0
	}
	if err != nil {
		return c.fail(err, 1)
	}
	return 0
}

// resumeDomain is `xl resume`: a guest that was left suspended goes on.
func (c *call) resumeDomain(_ options, args []string) int {
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	h, err := lockHost(c.dir)
	if err != nil {
		return c.fail(err, 1)
	}
	suspended := h.status(d).Suspended
	h.unlock()
	if !suspended {
		fmt.Fprint(c.stderr, notSuspended(d.ID))
		return 1
	}
	if err := do(c.dir, d.ID, opResume); err != nil {
		return c.fail(err, 1)
	}
	return 0
}

func notSuspended(id int) string {
	return fmt.Sprintf("xc: error: Dom %[1]d not suspended: (shutdown 0, reason 255): Internal error\n"+
		"libxl: error: libxl_dom_suspend.c:666:domain_resume_done: Domain %[1]d:xc_domain_resume failed: Invalid argument\n", id)
}

func (c *call) rename(_ options, args []string) int {
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	err = changeDomain(c.dir, d.ID, func(h *host, d *domain) error {
		if other := h.named(args[1]); other != nil && other.ID != d.ID {
			return xlError{fmt.Sprintf("libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain %d:Domain with name \"%s\" already exists.\nCan't rename domain '%s'.\n", d.ID, args[1], args[0])}
		}
		d.Name = args[1]
		return nil
	})
	if err != nil {
		return c.fail(err, 1)
	}
	return 0
}

// blockAttach gives a domain one more disk. Its backend is there, as a host
// sees it; the guest's program makes no use of it.
func (c *call) blockAttach(_ options, args []string) int {
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	disk, err := parseDisk(args[1])
	if err != nil {
		return c.fail(err, 1)
	}
	err = changeDomain(c.dir, d.ID, func(h *host, d *domain) error {
		a, err := h.attachment(disk)
		if err == nil {
			d.Config.Disks, d.Disks = append(d.Config.Disks, disk), append(d.Disks, a)
		}
		return err
	})
	if err != nil {
		return c.fail(err, 1)
	}
	return 0
}

func (c *call) destroy(_ options, args []string) int {
	if args[0] == "0" || args[0] == "Domain-0" {
		fmt.Fprint(c.stderr, "Cannot destroy privileged domain 0.\n\n")
		return 1
	}
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	if err := c.destroyDomain(d.ID); err != nil {
		return c.fail(err, 1)
	}
	return 0
}

// destroyDomain ends a domain at once. When it returns, nothing of it writes.
func (c *call) destroyDomain(id int) error {
	h, err := lockHost(c.dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	d := h.byID(id)
	if d == nil {
		return nil
	}
	if err := d.Guest.end(); err != nil {
		return fmt.Errorf("domain %d: %w", id, err)
	}
	h.remove(id)
	return errors.Join(os.RemoveAll(h.runtime(id)), h.save())
}

func (c *call) shutdown(o options, args []string) int {
	return c.endDomains(o, args, "Shutting down", reasonPoweroff)
}

func (c *call) reboot(o options, args []string) int {
	return c.endDomains(o, args, "Rebooting", reasonReboot)
}

// endDomains asks one domain, or all, to shut down or reboot.
func (c *call) endDomains(o options, args []string, verb string, reason int) int {
	if (len(args) == 1) == o.has('a') {
		fmt.Fprintf(c.stderr, "You must specify a domain, or -a.\n\n")
		return 1
	}
	_, domains, err := c.look(first(args))
	if err != nil {
		return c.fail(err, 1)
	}
	for _, d := range domains {
		fmt.Fprintf(c.stderr, "%s domain %d\n", verb, d.ID)
		conn, err := tell(context.Background(), c.dir, d.ID, order{Op: opShutdown, Reason: reason})
		if err != nil {
			return c.fail(err, 1)
		}
		conn.Close()
	}
	if !o.has('w') {
		return 0
	}
	fmt.Fprintf(c.stdout, "Waiting for %d domain%s\n", len(domains), plural(len(domains)))
	for _, d := range domains {
		if err := waitShutdown(context.Background(), c.dir, d.ID); err != nil {
			return c.fail(err, 1)
		}
		fmt.Fprintf(c.stdout, "Domain %d has been shut down, reason code %d\n", d.ID, reason)
	}
	return 0
}

// waitShutdown returns when the domain has shut down, cleared away or not.
func waitShutdown(ctx context.Context, dir string, id int) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		h, err := lockHost(dir)
		if err != nil {
			return err
		}
		d := h.byID(id)
		over := d == nil
		if !over {
			reason := h.status(d).Reason
			over = (reason == reasonPoweroff || reason == reasonReboot) && !d.Monitor
		}
		h.unlock()
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// haltDomain shuts a domain down, unpausing it first where it must be.
func haltDomain(ctx context.Context, dir string, id int) error {
	conn, err := tell(ctx, dir, id, order{Op: opShutdown, Reason: reasonPoweroff})
	if err != nil {
		return err
	}
	conn.Close()
	if err := do(dir, id, opUnpause); err != nil && !errors.Is(err, errNotPaused) && !errors.Is(err, errNotRunning) {
		return err
	}
	if err := waitShutdown(ctx, dir, id); err != nil {
		return err
	}
	return (&call{dir: dir}).destroyDomain(id) // one without a monitor stays otherwise
}

// clearAway is the end of a domain that has shut down, as its config wants it.
// False: the domain stays, shut down.
func (g *guest) clearAway(reason int) (gone bool, err error) {
	h, err := lockHost(g.call.dir)
	if err != nil {
		return false, err
	}
	defer h.unlock()
	d := h.byID(g.id)
	if d == nil {
		return true, nil
	}
	action := d.Config.OnPoweroff
	if reason == reasonReboot {
		action = d.Config.OnReboot
	}
	if !d.Monitor || action == "preserve" {
		return false, nil
	}
	h.remove(g.id)
	if err := errors.Join(os.RemoveAll(h.runtime(g.id)), h.save()); err != nil {
		return false, err
	}
	if action != "restart" {
		return true, nil
	}
	h.unlock() // the new domain needs the lock; a second close is harmless
	config := d.Config
	config.CInfo.Name = d.Name
	id, err := g.call.bootDomain(config, monitored)
	if err == nil {
		err = do(g.call.dir, id, opUnpause)
	}
	if err != nil {
		return true, fmt.Errorf("restart: %w", err)
	}
	return true, nil
}
