package xen

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stub is the transport of a live migration at its source: a small process that
// xl starts, and that owns xl's pipes. It knows xl's protocol and nothing of the
// other host; the worker tells it what to do, over a socket.
//
//	worker ══ stream (its descriptor) ══════════╗
//	worker ── orders, each with the VM's lock ── stub ── answers ── xl
//
// It outlives the worker only where that keeps the guest: until READY was passed
// on, the worker's end is the stub's, and xl resumes the guest by itself. From
// then on xl does nothing without an answer, and the stub waits for a worker
// that knows which, as long as xl lives.
//
// Each order comes with the descriptor of the VM's lock, taken. The stub keeps it
// until the effect is carried out, so that the lock outlives a worker that is
// killed meanwhile, and asks Decide right before the effect.
type Stub struct {
	Socket string // where it listens
	Lock   string // the VM's lock
	// Decide tells whether the effect may be, under the lock; note is what the
	// worker sent along. For Committed it makes that fact.
	Decide func(e StubEffect, note []byte) error
}

// StubEffect is what a stub is about to do.
type StubEffect string

const (
	PassReady StubEffect = "ready"  // xl gives GO, and resumes nothing by itself any more
	Committed StubEffect = "commit" // xl has given GO
	Destroy   StubEffect = "done"   // xl destroys the source's copy
	Resume    StubEffect = "back"   // xl resumes the guest

	here StubEffect = "here" // none: the worker wants to know whether the stub is there
)

// attachWait is how long a stub waits for its worker: well above what a process
// takes that was just told of it.
const attachWait = 30 * time.Second

// stub is one at work.
type stub struct {
	Stub
	stream  *os.File // from xl
	answers *os.File // to xl
	sockets net.Listener

	over chan struct{} // closed when xl has ended, or the stub shall
	end  sync.Once

	mu       sync.Mutex // one order at a time
	attached bool
	passed   bool // READY
	gone     bool // xl has given GO
}

// Run serves until xl has ended, or the worker before READY was passed on. The
// stream is a pipe that is read without blocking: whoever has it sees to that for all.
func (c Stub) Run(stream, answers *os.File) error {
	s := &stub{Stub: c, stream: stream, answers: answers, over: make(chan struct{})}
	if err := os.Remove(c.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stub: %w", err)
	}
	err := throughDirectory(c.Socket, func(short string) (err error) {
		s.sockets, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
		return err
	})
	if err != nil {
		return fmt.Errorf("stub: listen on %s: %w", c.Socket, err)
	}
	s.sockets.(*net.UnixListener).SetUnlinkOnClose(false) // by the short name, which is no more
	defer os.Remove(c.Socket)
	defer s.finish()
	unused := time.AfterFunc(attachWait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.attached {
			s.finish()
		}
	})
	defer unused.Stop()
	go s.accept() // until the listener is closed
	<-s.over
	return nil
}

// RunAtXL is Run in the process that xl has started for its transport.
func (c Stub) RunAtXL() error {
	// A worker's service manager, and a pipe that breaks, are no reason to leave xl alone.
	signal.Ignore(unix.SIGPIPE, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	if err := unix.SetNonblock(unix.Stdin, true); err != nil {
		return fmt.Errorf("stub: stdin: %w", err)
	}
	return c.Run(os.NewFile(uintptr(unix.Stdin), "stream"), os.Stdout)
}

// finish ends the stub: its pipes with it, which an xl that has not read READY
// takes for the end of the migration.
func (s *stub) finish() {
	s.end.Do(func() {
		close(s.over)
		s.sockets.Close()
		s.answers.Close()
		s.stream.Close()
	})
}

// throughDirectory lets f use a short path: a socket's has 108 bytes at most.
func throughDirectory(path string, f func(short string) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

func (s *stub) accept() {
	for {
		conn, err := s.sockets.Accept()
		if err != nil {
			s.finish()
			return
		}
		go func() { // ends with its worker, or with this process
			defer conn.Close()
			s.serve(conn.(*net.UnixConn))
		}()
	}
}

// order is what the worker sends; the lock's descriptor goes along.
type order struct {
	Effect StubEffect `json:"effect,omitempty"` // empty: the worker attaches
	Note   []byte     `json:"note,omitempty"`
}

// answer is what it gets.
type answer struct {
	Error string `json:"error,omitempty"`
	Went  bool   `json:"went"` // xl has given GO
}

const maxOrder = 64 << 10

// serve answers one worker. The first one's end, before READY, is the stub's.
func (s *stub) serve(conn *net.UnixConn) {
	first := false
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if first && !s.passed {
			s.finish()
		}
	}()
	for {
		o, lock, err := receive[order](conn)
		if err != nil {
			return
		}
		a, give := s.obey(o, lock, &first)
		if lock != nil {
			lock.Close()
		}
		if err := send(conn, a, give); err != nil {
			return
		}
	}
}

// obey carries one order out.
func (s *stub) obey(o order, lock *os.File, first *bool) (a answer, give *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if o.Effect == here {
		return answer{Went: s.gone}, nil
	}
	if o.Effect == "" {
		if give, err = s.attach(); err == nil {
			*first = true
		}
	} else if err = s.locked(lock); err == nil {
		switch o.Effect {
		case PassReady:
			err = s.passReady(o.Note)
		case Destroy:
			err = s.report(o, Report+"\x00")
		case Resume:
			err = s.resume(o)
		default:
			err = fmt.Errorf("%q: no such order", o.Effect)
		}
	}
	if err != nil {
		a.Error = err.Error()
	}
	a.Went = s.gone
	return a, give
}

// attach has xl begin, and gives its stream away.
func (s *stub) attach() (*os.File, error) {
	if s.attached {
		return nil, errors.New("another worker has the stream")
	}
	if _, err := io.WriteString(s.answers, Banner); err != nil {
		return nil, fmt.Errorf("banner to xl: %w", err)
	}
	s.attached = true
	return s.stream, nil
}

// locked makes sure that the worker has the VM's lock, and we with it.
func (s *stub) locked(lock *os.File) error {
	if lock == nil {
		return errors.New("an order without the VM's lock")
	}
	have, err := lock.Stat()
	if err != nil {
		return err
	}
	want, err := os.Stat(s.Lock)
	if err != nil {
		return err
	}
	if !os.SameFile(have, want) {
		return fmt.Errorf("an order with another lock than %s", s.Lock)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the lock %s is not the worker's: %w", s.Lock, err)
	}
	return nil
}

// passReady passes READY on and catches GO, which follows at once: in between
// xl gives its domain another name, nothing else. The worker has read the stream
// to its end, so that what comes next is GO.
func (s *stub) passReady(note []byte) error {
	switch {
	case s.gone:
		return s.Decide(Committed, note)
	case s.passed || !s.attached:
		return errors.New("READY was passed on before, or there is no stream")
	}
	if err := s.Decide(PassReady, note); err != nil {
		return err
	}
	s.passed = true
	if _, err := io.WriteString(s.answers, Ready); err != nil {
		s.finish()
		return fmt.Errorf("READY to xl: %w", err)
	}
	got := make([]byte, len(Go))
	if _, err := io.ReadFull(s.stream, got); err != nil || string(got) != Go {
		s.finish()
		return fmt.Errorf("xl gave up at READY instead of GO (%q, %v)", got, err)
	}
	s.gone = true
	go s.watch()
	return s.Decide(Committed, note)
}

// watch waits for xl's end.
func (s *stub) watch() {
	_, _ = s.stream.Read(make([]byte, 1)) // xl writes nothing behind GO
	s.finish()
}

// resume has the guest run on at the source.
func (s *stub) resume(o order) error {
	if !s.gone {
		s.finish() // xl's own doing, and quicker than any word of ours
		return nil
	}
	return s.report(o, Report+"\x01"+Go)
}

// report gives xl its last word and waits for its end.
func (s *stub) report(o order, words string) error {
	if !s.gone {
		return errors.New("xl has not given GO")
	}
	if err := s.Decide(o.Effect, o.Note); err != nil {
		return err
	}
	if _, err := io.WriteString(s.answers, words); err != nil {
		return fmt.Errorf("answer to xl: %w", err)
	}
	<-s.over
	return nil
}

// receive reads one message, and the descriptor that came along.
func receive[T any](conn *net.UnixConn) (v T, file *os.File, err error) {
	buf, oob := make([]byte, maxOrder), make([]byte, unix.CmsgSpace(4))
	n, on, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return v, nil, err
	}
	if n == 0 && on == 0 {
		return v, nil, io.EOF
	}
	if file, err = descriptor(oob[:on]); err != nil {
		return v, nil, err
	}
	if err := json.Unmarshal(buf[:n], &v); err != nil {
		if file != nil {
			file.Close()
		}
		return v, nil, err
	}
	return v, file, nil
}

func descriptor(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	// What can be waited for can be interrupted then; a lock's file does not mind.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]))
	}
	return os.NewFile(uintptr(fds[0]), "descriptor"), nil
}

func send(conn *net.UnixConn, v any, file *os.File) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var oob []byte
	if file != nil {
		raw, err := file.SyscallConn() // Fd would make it a blocking one
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { oob = unix.UnixRights(int(fd)) }); err != nil {
			return err
		}
		_, _, err = conn.WriteMsgUnix(text, oob, nil)
		return err
	}
	_, _, err = conn.WriteMsgUnix(text, oob, nil)
	return err
}
