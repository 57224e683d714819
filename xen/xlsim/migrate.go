package xlsim

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// What travels between the two ends beside the image, the same in all versions.
const (
	migrateBanner = "xl migration receiver ready, send binary domain data.\n"
	migrateReady  = "domain received, ready to unpause\x00"
	migrateGo     = "domain is yours, you are cleared to unpause\x00"
	migrateReport = "my copy unpause results are as follows\x00"
)

const (
	incomingSuffix = "--incoming"
	awaySuffix     = "--migratedaway"
)

// sender is the source's end of `xl migrate`.
type sender struct {
	saving
	child   *exec.Cmd // the transport
	command string    // its command line
	to      *os.File  // the stream
	from    *os.File  // the answers
	ended   chan error
}

// migrate is `xl migrate [-s CMD] DOM HOST`, always live. What a failure leaves
// is decided in the order of the real one: until GO is written the guest goes
// on here, from then on nobody touches it.
func (c *call) migrate(o options, args []string) int {
	signal.Ignore(syscall.SIGPIPE)
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	s := &sender{saving: saving{c: c, d: d}, command: transport(o, args[1]), ended: make(chan error, 1)}
	if err := s.connect(); err != nil {
		return c.fail(err, 1)
	}
	defer s.from.Close()
	if err := s.await(migrateBanner, "banner"); err != nil {
		c.fail(err, 1)
		s.hangUp()
		return 1
	}
	return s.send()
}

// transport is the command line that joins this end to the other one.
func transport(o options, host string) string {
	ssh := "ssh"
	if o.has('s') {
		ssh = o['s']
	}
	if ssh == "" {
		return host
	}
	line := fmt.Sprintf("exec %s %s xl migrate-receive", ssh, host)
	for _, letter := range "edp" {
		if letter != 'd' && o.has(letter) {
			line += " -" + string(letter)
		}
	}
	return line
}

// connect starts the transport.
func (s *sender) connect() error {
	theirs, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	from, answers, err := os.Pipe()
	if err != nil {
		return errors.Join(err, to.Close())
	}
	defer answers.Close()
	s.child = transportCommand(s.command)
	s.child.Stdin, s.child.Stdout, s.child.Stderr = theirs, answers, s.c.stderr
	if err := s.child.Start(); err != nil {
		return errors.Join(fmt.Errorf("transport: %w", err), to.Close(), from.Close())
	}
	go func() { s.ended <- s.child.Wait() }() // ends with the transport, or with us
	s.to, s.from, s.out = to, from, to
	return nil
}

// await reads one fixed message; the error is what xl prints.
func (s *sender) await(message, what string) error {
	err := readMessage(s.from, message, "migration receiver stream", what)
	if errors.As(err, &otherMessage{}) {
		err = xlError{err.Error() + fmt.Sprintf("\n(command run was: %s )\n", s.command)}
	}
	return err
}

// otherMessage is a stream in which something else came.
type otherMessage struct{ stream, what string }

func (e otherMessage) Error() string {
	return fmt.Sprintf("%s contained unexpected data instead of %s", e.stream, e.what)
}

// readMessage wants exactly these bytes.
func readMessage(r io.Reader, message, stream, what string) error {
	got := make([]byte, len(message))
	if _, err := io.ReadFull(r, got); err != nil {
		return truncatedFrom(what, stream, err)
	}
	if string(got) != message {
		return otherMessage{stream, what}
	}
	return nil
}

func truncatedFrom(what, stream string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return xlError{fmt.Sprintf("libxl: error: libxl_utils.c:505:libxl_read_exactly: file/stream truncated reading %s from %s\n", what, stream)}
	}
	return xlError{fmt.Sprintf("libxl: error: libxl_utils.c:505:libxl_read_exactly: failed to read %s from %s: %s\n", what, stream, errnoText(err))}
}

func writeMessage(w io.Writer, message, stream, what string) error {
	if _, err := io.WriteString(w, message); err != nil {
		return xlError{fmt.Sprintf("libxl: error: libxl_utils.c:506:libxl_write_exactly: failed to write %s from %s: %s\n", what, stream, errnoText(err))}
	}
	return nil
}

// send is everything behind the banner.
func (s *sender) send() int {
	live := s.d.Config.live()
	live.CInfo.Name = s.d.Name
	header := savedHeader(toJSON(live))
	fmt.Fprintf(s.c.stderr, "Saving to migration stream new xl format (info 0x%x/0x0/%d)\n", savedFlags, len(header)-savedHead)
	_, err := s.to.Write(header)
	if err == nil {
		err = s.begin()
	}
	if err == nil {
		err = s.write(s.rounds)
	}
	if err != nil {
		return s.failed(err)
	}
	if err := s.await(migrateReady, "ready message"); err != nil {
		s.c.fail(err, 1)
		return s.resumed()
	}
	fmt.Fprint(s.c.stderr, "migration sender: Target has acknowledged transfer.\n")
	name := s.d.Name
	if err := s.called(name + awaySuffix); err != nil {
		s.c.fail(err, 1)
		return s.resumed()
	}
	fmt.Fprint(s.c.stderr, "migration sender: Giving target permission to start.\n")
	return s.handOver(name)
}

// handOver is behind the point of no return.
func (s *sender) handOver(name string) int {
	var status [1]byte
	err := writeMessage(s.to, migrateGo, "migration stream", "GO message")
	if err == nil {
		err = s.await(migrateReport, "success/failure report message")
	}
	if err == nil {
		if _, rerr := io.ReadFull(s.from, status[:]); rerr != nil {
			err = truncatedFrom("success/failure status", "migration ack stream", rerr)
		}
	}
	if err == nil && status[0] != 0 {
		fmt.Fprintf(s.c.stderr, "migration sender: Target reports startup failure (status code %d).\n", status[0])
		err = s.await(migrateGo, "permission for sender to resume")
	}
	switch {
	case err != nil:
		s.c.fail(err, 1)
		fmt.Fprint(s.c.stderr, failedBadly)
		s.hangUp()
		return 1
	case status[0] != 0:
		fmt.Fprint(s.c.stderr, "migration sender: Trying to resume at our end.\n")
		if err := errors.Join(s.called(name), s.resume()); err == nil {
			fmt.Fprint(s.c.stderr, "migration sender: Resumed OK.\n")
		}
		fmt.Fprint(s.c.stderr, "Migration failed due to problems at target.\n")
		return 1
	}
	fmt.Fprint(s.c.stderr, "migration sender: Target reports successful startup.\n")
	if err := s.c.destroyDomain(s.d.ID); err != nil {
		s.c.complain("%v", err)
	}
	fmt.Fprint(s.c.stderr, "Migration successful.\n")
	return 0
}

const failedBadly = `** Migration failed during final handshake **
Domain state is now undefined !
Please CHECK AT BOTH ENDS for running instances, before renaming and
 resuming at most one instance.  Two simultaneous instances of the domain
 would probably result in SEVERE DATA LOSS and it is now your
 responsibility to avoid that.  Sorry.
`

// called renames the domain.
func (s *sender) called(name string) error {
	return changeDomain(s.c.dir, s.d.ID, func(h *host, d *domain) error {
		if other := h.named(name); other != nil && other.ID != d.ID {
			return xlError{fmt.Sprintf("libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain %d:Domain with name \"%s\" already exists.\n", d.ID, name)}
		}
		d.Name = name
		return nil
	})
}

// begin makes this xl the one that works on the domain, and tracks its writes:
// of a PV guest that takes shadow paging.
func (s *sender) begin() error {
	s.announce()
	if err := s.work(); err != nil {
		return err
	}
	if s.d.Config.CInfo.Type != "pv" || strings.Contains(" "+s.c.spec.VirtCaps+" ", " shadow ") {
		return nil
	}
	return errNoLogDirty
}

var errNoLogDirty = errors.New("no shadow paging")

// failed is the end of a save that failed, before READY.
func (s *sender) failed(err error) int {
	code := -3
	switch {
	case errors.Is(err, errNoLogDirty):
		code = -8
		fmt.Fprint(s.c.stderr, "xc: error: Failed to enable logdirty: 95,22,0 (22 = Invalid argument): Internal error\n"+
			fmt.Sprintf("libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain %d:saving domain: domain did not respond to suspend request: Invalid argument\n", s.d.ID))
	case errors.Is(err, errNoAnswer):
		code = -8
		fallthrough
	default:
		fmt.Fprint(s.c.stderr, s.text(err))
	}
	fmt.Fprintf(s.c.stderr, "migration sender: libxl_domain_suspend failed (rc=%d)\n", code)
	if code == -8 {
		s.hangUp()
		fmt.Fprint(s.c.stderr, "Migration failed, failed to suspend at sender.\n")
		return 1
	}
	return s.resumed()
}

// resumed has the guest go on here. One that never stood is refused, harmlessly.
func (s *sender) resumed() int {
	s.hangUp()
	fmt.Fprint(s.c.stderr, "Migration failed, resuming at sender.\n")
	if !s.suspended {
		fmt.Fprint(s.c.stderr, notSuspended(s.d.ID))
		return 1
	}
	if err := s.resume(); err != nil {
		s.c.complain("%v", err)
	}
	return 1
}

// childWait is how long xl waits for its transport's end when it fails.
const childWait = 2 * time.Second

// hangUp closes the stream and tells how the transport ended.
func (s *sender) hangUp() {
	s.to.Close()
	pid := s.child.Process.Pid
	select {
	case <-s.ended:
	case <-time.After(childWait):
		fmt.Fprintf(s.c.stderr, "migration child [%d] not exiting, no longer waiting (exit status will be unreported)\n", pid)
		return
	}
	how := s.child.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case how.Signaled():
		text := how.Signal().String()
		fmt.Fprintf(s.c.stderr, "libxl: info: libxl_exec.c:127:libxl_report_child_exitstatus: migration transport process [%d] died due to fatal signal %s\n", pid, strings.ToUpper(text[:1])+text[1:])
	case how.ExitStatus() != 0:
		fmt.Fprintf(s.c.stderr, "libxl: info: libxl_exec.c:117:libxl_report_child_exitstatus: migration transport process [%d] exited with error status %d\n", pid, how.ExitStatus())
	}
}

// As libxc has it: the guest is suspended when a round leaves few pages, or
// after so many.
const (
	liveRounds = 5
	fewPages   = 50
)

// rounds sends the memory of a guest that writes to it: all of it first, then
// again and again what has changed, the last time while it stands.
func (s *sender) rounds(ram *os.File, out io.Writer) error {
	m := newMemory(ram, int(s.d.Config.BInfo.MaxKB/4))
	for range liveRounds {
		sent, err := m.send(out)
		if err != nil {
			return err
		}
		if sent < fewPages {
			break
		}
		if err := s.stillThere(); err != nil {
			return err
		}
	}
	if err := s.suspend(); err != nil {
		return err
	}
	_, err := m.send(out)
	return err
}

// memory knows what was sent of a RAM, page by page.
type memory struct {
	ram   *os.File
	seed  maphash.Seed
	sums  []uint64 // of the content that was sent
	first bool
	buf   []byte
}

func newMemory(ram *os.File, pages int) *memory {
	return &memory{ram: ram, seed: maphash.MakeSeed(), sums: make([]uint64, pages), first: true, buf: make([]byte, batchPages*pageSize)}
}

// send writes every page that differs from what was sent of it, and returns how
// many. A page that the guest changes meanwhile differs the next time.
func (m *memory) send(out io.Writer) (sent int, err error) {
	for at := 0; at < len(m.sums); at += batchPages {
		batch := m.buf[:min(batchPages, len(m.sums)-at)*pageSize]
		if _, err := m.ram.ReadAt(batch, int64(at)*pageSize); err != nil {
			return sent, fmt.Errorf("RAM: %w", err)
		}
		var changed []uint64
		content := batch[:0] // in place: what is taken never lies behind what is put
		for i := range len(batch) / pageSize {
			page := batch[i*pageSize : (i+1)*pageSize]
			sum := maphash.Bytes(m.seed, page)
			if m.first || sum != m.sums[at+i] {
				m.sums[at+i] = sum
				changed = append(changed, uint64(at+i))
				content = append(content, page...)
			}
		}
		if len(changed) == 0 {
			continue
		}
		if _, err := out.Write(pageRecord(changed)); err != nil {
			return sent, err
		}
		if _, err := out.Write(content); err != nil {
			return sent, err
		}
		sent += len(changed)
	}
	m.first = false
	return sent, nil
}
