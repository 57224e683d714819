package xlsim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// migrateReceive is `xl migrate-receive`: the stream on stdin, answers on
// stdout. Until GO a stream that ends makes it destroy its copy, unless nobody
// reads its answers any more: then it leaves the copy behind, paused. From GO on
// the copy stays, whatever becomes of the pipes.
func (c *call) migrateReceive(o options, _ []string) int {
	signal.Ignore(syscall.SIGPIPE)
	fmt.Fprint(c.stderr, "migration target: Ready to receive domain.\n")
	if err := c.answer(migrateBanner, "banner"); err != nil {
		return c.fail(err, 1)
	}
	r := &receiver{call: c}
	if err := r.take(monitorOf(o)); err != nil {
		c.fail(err, 1)
		fmt.Fprint(c.stderr, "migration target: Domain creation failed (code -3).\n")
		return 1
	}
	time.Sleep(c.spec.ReadyDelay)
	fmt.Fprint(c.stderr, "migration target: Transfer complete, requesting permission to start domain.\n")
	if err := c.answer(migrateReady, "ready message"); err != nil {
		return c.fail(err, 1)
	}
	status := byte(0xff)
	err := readMessage(r.saved.r, migrateGo, "migration stream", "GO message")
	if err == nil {
		fmt.Fprint(c.stderr, "migration target: Got permission, starting domain.\n")
		status, err = 6, r.start(o)
	}
	if err != nil {
		c.fail(err, 1)
		return r.refuse(status)
	}
	fmt.Fprint(c.stderr, "migration target: Domain started successsfully.\n")
	if err := r.report(0); err != nil {
		return c.fail(err, 1)
	}
	return 0
}

// answer writes one message to the sender.
func (c *call) answer(message, what string) error {
	return writeMessage(c.stdout, message, "migration ack stream", what)
}

// receiver is the destination's end of `xl migrate`.
type receiver struct {
	*call
	saved *savedFile
	name  string // the domain's own
	id    int
}

// take builds the domain out of the stream, under a name for the meantime.
func (r *receiver) take(monitor monitoring) error {
	saved, config, err := readSaved(r.stdin)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.stderr, "Loading new save file <incoming migration stream> (new xl fmt info 0x%x/0x0/%d)\n", saved.flags, saved.size)
	if saved.flags&1 != 0 {
		fmt.Fprint(r.stderr, " Savefile contains xl domain config in JSON format\n")
	}
	fmt.Fprint(r.stderr, "Parsing config from <saved>\n") // stdout is the answers' here
	r.saved, r.name = saved, config.CInfo.Name
	config.CInfo.Name += incomingSuffix
	r.id, err = r.build(plan{
		config: config, start: startResume, monitor: monitor, noMemory: noMemoryRestore,
		fill: func(id int, ram *os.File) error { return r.load(id, saved, config, ram) },
	})
	return err
}

// start gives the copy its name, and lets it run unless it shall stay paused.
func (r *receiver) start(o options) error {
	err := changeDomain(r.dir, r.id, func(h *host, d *domain) error {
		if h.named(r.name) != nil {
			return xlError{fmt.Sprintf("libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain %d:Domain with name \"%s\" already exists.\n", d.ID, r.name)}
		}
		d.Name = r.name
		return nil
	})
	if err == nil && !o.has('p') {
		err = do(r.dir, r.id, opUnpause)
	}
	return err
}

func (r *receiver) report(status byte) error {
	err := r.answer(migrateReport, "success/failure report")
	if err == nil {
		err = r.answer(string([]byte{status}), "success/failure code")
	}
	return err
}

// refuse gives the guest back: the copy is destroyed before the sender is told
// that it may resume its own.
func (r *receiver) refuse(status byte) int {
	if err := r.report(status); err != nil {
		return r.fail(err, 1)
	}
	fmt.Fprint(r.stderr, "migration target: Failure, destroying our copy.\n")
	if err := r.destroyDomain(r.id); err != nil {
		return r.fail(errors.Join(xlError{"migration target: Failed to destroy our copy (code -3).\n"}, err), 1)
	}
	fmt.Fprint(r.stderr, "migration target: Cleanup OK, granting sender permission to resume.\n")
	if err := r.answer(migrateGo, "permission to sender to have domain back"); err != nil {
		return r.fail(err, 1)
	}
	return 0
}
