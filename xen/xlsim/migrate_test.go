package xlsim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// joined is the command line of a migration whose transport is the other end.
func joined(to string, flags ...string) string {
	return fmt.Sprintf("exec env GORACE=atexit_sleep_ms=0 '%s' xlsim --host '%s' xl migrate-receive %s", os.Args[0], to, strings.Join(flags, " "))
}

// TestLiveMigration moves a guest that writes to its disks and memory; both
// hosts reach the disks by the same path.
func TestLiveMigration(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "d1", Type: "pvh", MemoryMiB: 32, Rate: 4 * mib, DirtyRate: 8 * mib}, 16*mib))
	written(t, a, "d1", mib)
	uuid := uuidOf(t, a, "d1")
	r := must(t, a, "xl", "migrate", "-s", "", "d1", joined(b))
	for _, line := range []string{
		"Saving to migration stream new xl format (info 0x3/0x0/", "xc: info: Saving domain 1, type x86 HVM\n",
		"migration target: Ready to receive domain.\n", "Loading new save file <incoming migration stream> (new xl fmt info 0x3/0x0/",
		"xc: info: Found x86 HVM domain from Xen 4.17\n", "migration target: Transfer complete, requesting permission to start domain.\n",
		"migration sender: Target has acknowledged transfer.\n", "migration sender: Giving target permission to start.\n",
		"migration target: Got permission, starting domain.\n", "migration target: Domain started successsfully.\n",
		"migration sender: Target reports successful startup.\nMigration successful.\n",
	} {
		if !strings.Contains(r.stderr, line) {
			t.Errorf("%q is not in:\n%s", line, r.stderr)
		}
	}
	if got := state(t, a, "d1") + state(t, a, "d1--migratedaway"); got != "" {
		t.Errorf("left at the source: %q", got)
	}
	at := writtenBytes(t, b, "d1")
	written(t, b, "d1", at+256<<10)
	verified(t, b, "d1")
	gaps, err := Blackouts(s.net, uuid)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(gaps, Gap.HostChanged) {
		t.Errorf("no heartbeat went from one host to the other: %+v", gaps)
	}
	// With -p it stays paused, under its own name.
	must(t, b, "xl", "migrate", "-s", "", "d1", joined(a, "-p"))
	if got := state(t, a, "d1"); got != "--p---" {
		t.Errorf("state %q with -p", got)
	}
	verified(t, a, "d1")
}

// wire is a migration whose transport is this test: it sits between both ends.
type wire struct {
	t        *testing.T
	src, dst string // hosts
	sender   *exec.Cmd
	says     bytes.Buffer
	pid      int      // of the transport
	stream   *os.File // from the sender
	answers  *os.File // to the sender
	receiver *exec.Cmd
	told     bytes.Buffer
	feed     *os.File // to the receiver
	hears    *os.File // from the receiver
}

// freeze stops the sender, and waits until all its threads stand: the signal
// alone may come after what it is to miss.
func (w *wire) freeze() {
	must2(w.t, w.sender.Process.Signal(syscall.SIGSTOP))
	threads := fmt.Sprintf("/proc/%d/task/*/stat", w.sender.Process.Pid)
	stands := func() bool {
		files, err := filepath.Glob(threads)
		must2(w.t, err)
		return len(files) > 0 && !slices.ContainsFunc(files, func(f string) bool {
			stat, err := os.ReadFile(f)
			return err == nil && !bytes.Contains(stat, []byte(") T "))
		})
	}
	for end := time.Now().Add(10 * time.Second); !stands(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("the sender was sent SIGSTOP and runs on")
		}
	}
}

// newWire starts both ends of a guest's move.
func newWire(t *testing.T, flags ...string) *wire {
	t.Helper()
	s := newSimulation(t)
	w := &wire{t: t, src: s.host("a"), dst: s.host("b")}
	must(t, w.src, "xl", "create", s.guest(w.src, GuestSpec{Name: "d1", Type: "pvh", MemoryMiB: 16, Rate: 2 * mib}, 8*mib))
	written(t, w.src, "d1", 64<<10)
	w.send()
	w.receive(flags...)
	return w
}

// send starts the sender; the transport only shows where its pipes are.
func (w *wire) send() {
	w.t.Helper()
	pidFile := filepath.Join(w.t.TempDir(), "pid")
	w.sender = program(w.src, "xl", "migrate", "-s", "", "d1", fmt.Sprintf("echo $$ > %[1]s.new; mv %[1]s.new %[1]s; exec sleep 1000 2>/dev/null", pidFile))
	w.sender.Stderr = &w.says
	if err := w.sender.Start(); err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "the transport runs", func() bool {
		text, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(text), &w.pid)
		return err == nil
	})
	var errs [2]error
	w.stream, errs[0] = os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", w.pid), os.O_RDONLY, 0)
	w.answers, errs[1] = os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", w.pid), os.O_WRONLY, 0)
	if err := errors.Join(errs[:]...); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.cut)
}

func (w *wire) receive(flags ...string) {
	w.t.Helper()
	in, feed, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	hears, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.receiver = program(w.dst, append([]string{"xl", "migrate-receive"}, flags...)...)
	w.receiver.Stdin, w.receiver.Stdout, w.receiver.Stderr = in, out, &w.told
	if err := w.receiver.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.feed, w.hears = feed, hears
	must2(w.t, in.Close(), out.Close())
	w.t.Cleanup(func() { feed.Close(); hears.Close() })
}

func must2(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// cut is the transport's death. When it returns nobody has its pipes any more.
func (w *wire) cut() {
	_ = syscall.Kill(w.pid, syscall.SIGKILL) // gone already is well too
	dead := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	}
	for end := time.Now().Add(10 * time.Second); !dead() && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	w.stream.Close()
	w.answers.Close()
}

// expect reads exactly these bytes.
func (w *wire) expect(from *os.File, message string) {
	w.t.Helper()
	got := make([]byte, len(message))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != message {
		w.t.Fatalf("%q instead of %q: %v; sender: %s; receiver: %s", got, message, err, &w.says, &w.told)
	}
}

// ready brings the move to where the receiver says that it is.
func (w *wire) ready() {
	w.t.Helper()
	w.expect(w.hears, migrateBanner)
	w.give(migrateBanner)
	done := make(chan error, 1)
	go func() { _, err := io.Copy(w.feed, w.stream); done <- err }()
	w.expect(w.hears, migrateReady)
	must2(w.t, w.stream.SetReadDeadline(time.Now()))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatal(err)
	}
	must2(w.t, w.stream.SetReadDeadline(time.Time{}))
}

func (w *wire) give(message string) {
	w.t.Helper()
	if _, err := io.WriteString(w.answers, message); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) permit() {
	w.t.Helper()
	if _, err := io.WriteString(w.feed, migrateGo); err != nil {
		w.t.Fatal(err)
	}
}

// ended waits for both ends and holds what they left and said.
func (w *wire) ended(exits [2]int, src, dst string, says ...string) {
	w.t.Helper()
	w.feed.Close()
	_, _ = io.Copy(io.Discard, w.hears) // until it ends
	for i, cmd := range []*exec.Cmd{w.sender, w.receiver} {
		_ = cmd.Wait() // its code says how
		if got := cmd.ProcessState.ExitCode(); got != exits[i] {
			w.t.Errorf("exit code %d, want %d; sender: %s; receiver: %s", got, exits[i], &w.says, &w.told)
		}
	}
	for dir, want := range map[string]string{w.src: src, w.dst: dst} {
		if got := all(w.t, dir); got != want {
			w.t.Errorf("%s has %q, want %q; sender: %s; receiver: %s", filepath.Base(dir), got, want, &w.says, &w.told)
		}
	}
	for _, line := range says {
		if !strings.Contains(w.says.String()+w.told.String(), line) {
			w.t.Errorf("%q is not in:\n%s%s", line, &w.says, &w.told)
		}
	}
}

// all names a host's domains and how they stand: "d1 runs", "d1--incoming --p---".
func all(t *testing.T, dir string) string {
	t.Helper()
	domains, err := Domains(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range domains {
		how := d.State
		if !strings.ContainsAny(how[2:], "ps") {
			how = "runs"
		}
		out = append(out, d.Name+" "+how)
	}
	return strings.Join(out, ", ")
}

// TestMigrationFailures: each failure that was seen on real Xen, and what it
// left at both ends.
func TestMigrationFailures(t *testing.T) {
	const (
		resuming = "Migration failed, resuming at sender.\n"
		badly    = "** Migration failed during final handshake **\nDomain state is now undefined !\n"
		stuck    = "d1--migratedaway ---ss-"
		granted  = "migration target: Failure, destroying our copy.\nmigration target: Cleanup OK, granting sender permission to resume.\n"
	)
	for name, row := range map[string]func(t *testing.T){
		"the transport says something else": func(t *testing.T) {
			w := newWire(t)
			w.give("Last login: today, from a host with a message that is long enough")
			w.cut()
			w.ended([2]int{1, 1}, "d1 runs", "", "migration receiver stream contained unexpected data instead of banner\n(command run was: ")
		},
		"the transport is killed in the stream": func(t *testing.T) {
			w := newWire(t)
			w.expect(w.hears, migrateBanner)
			w.give(migrateBanner)
			if _, err := io.CopyN(w.feed, w.stream, mib); err != nil {
				t.Fatal(err)
			}
			w.cut()
			w.ended([2]int{1, 1}, "d1 runs", "", resuming, "migration sender: libxl_domain_suspend failed (rc=-3)\n",
				"] died due to fatal signal Killed\n", "xc: error: Dom 1 not suspended: (shutdown 0, reason 255): Internal error\n", "migration target: Domain creation failed (code -3).\n")
		},
		"READY is held, then the transport is killed": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			if got := all(t, w.src) + "; " + all(t, w.dst); got != "d1 ---ss-; d1--incoming --p---" {
				t.Errorf("held: %s", got)
			}
			w.cut()
			w.ended([2]int{1, 0}, "d1 runs", "", resuming, "file/stream truncated reading ready message from migration receiver stream\n", "file/stream truncated reading GO message from migration stream\n", granted)
		},
		"something else than READY": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			w.give(strings.ToUpper(migrateReady))
			_ = syscall.Kill(w.pid, syscall.SIGTERM)
			w.ended([2]int{1, 0}, "d1 runs", "", resuming, "migration receiver stream contained unexpected data instead of ready message")
		},
		"killed after READY, GO nowhere": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			w.freeze()
			w.give(migrateReady)
			w.cut()
			must2(t, w.sender.Process.Signal(syscall.SIGCONT))
			w.ended([2]int{1, 0}, stuck, "", badly, "failed to write GO message from migration stream: Broken pipe\n")
		},
		"the same, and nobody hears the receiver": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			w.give(migrateReady)
			w.expect(w.stream, migrateGo)
			w.hears.Close()
			w.cut()
			w.ended([2]int{1, 1}, stuck, "d1--incoming --p---", badly, "Broken pipe\n")
			must(t, w.dst, "xl", "destroy", "d1--incoming")
		},
		"killed after GO was passed on": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			w.give(migrateReady)
			w.expect(w.stream, migrateGo)
			w.permit()
			w.expect(w.hears, migrateReport+"\x00")
			w.cut()
			w.ended([2]int{1, 0}, stuck, "d1 runs", badly, "file/stream truncated reading success/failure report message from migration receiver stream\n")
		},
		"an abort is made up after GO": func(t *testing.T) {
			w := newWire(t)
			w.ready()
			w.give(migrateReady)
			w.expect(w.stream, migrateGo)
			if got := all(t, w.src); got != stuck {
				t.Errorf("after GO: %s", got)
			}
			w.feed.Close()
			w.expect(w.hears, migrateReport+"\xff"+migrateGo)
			w.give(migrateReport + "\x01" + migrateGo)
			w.ended([2]int{1, 0}, "d1 runs", "", "migration sender: Target reports startup failure (status code 1).\nmigration sender: Trying to resume at our end.\nmigration sender: Resumed OK.\nMigration failed due to problems at target.\n")
			w.cut()
		},
		"early GO, report held": func(t *testing.T) {
			w := newWire(t, "-p")
			w.ready()
			w.permit()
			w.expect(w.hears, migrateReport+"\x00")
			if got := all(t, w.dst); got != "d1 --p---" {
				t.Errorf("after the early GO: %s", got)
			}
			w.give(migrateReady)
			w.expect(w.stream, migrateGo)
			must(t, w.dst, "xl", "unpause", "d1")
			if got := all(t, w.src); got != stuck {
				t.Errorf("while the report is held: %s", got)
			}
			w.give(migrateReport + "\x00")
			w.ended([2]int{0, 0}, "", "d1 runs", "Migration successful.\n")
			verified(t, w.dst, "d1")
			w.cut()
		},
		"early GO, then everything dies": func(t *testing.T) {
			w := newWire(t, "-p")
			w.ready()
			w.permit()
			w.expect(w.hears, migrateReport+"\x00")
			w.cut() // READY never reached the sender
			w.ended([2]int{1, 0}, "d1 runs", "d1 --p---", resuming)
		},
		"the name was taken meanwhile": func(t *testing.T) {
			w := newWire(t, "-p")
			w.ready()
			cfg, err := WriteGuestConfig(t.TempDir(), GuestSpec{Name: "d1", MemoryMiB: 8})
			must2(t, err)
			must(t, w.dst, "xl", "create", "-p", cfg)
			w.permit()
			w.expect(w.hears, migrateReport+"\x06"+migrateGo)
			w.cut()
			w.ended([2]int{1, 0}, "d1 runs", "d1 --p---", "Domain with name \"d1\" already exists.\n", granted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t)
		})
	}
}

// TestMigrationRefused: what fails before anything was suspended.
func TestMigrationRefused(t *testing.T) {
	s := newSimulation(t)
	a, b := s.host("a"), s.host("b")
	if r := run(t, a, "xl", "migrate", "nosuch", "xen2"); r.exit != 1 {
		t.Errorf("exit %d", r.exit)
	} else {
		want, _ := golden(t, "err-migrate-nosuch.txt")
		sameText(t, "migrate nosuch", r.stderr, want)
	}
	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "pv1", MemoryMiB: 8}, mib))
	refused := func(name string, says ...string) {
		t.Helper()
		r := run(t, a, "xl", "migrate", "-s", "", name, joined(b))
		if r.exit != 1 || all(t, b) != "" {
			t.Errorf("exit %d, %q there:\n%s", r.exit, all(t, b), r.stderr)
		}
		for _, line := range says {
			if !strings.Contains(r.stderr, line) {
				t.Errorf("%q is not in:\n%s", line, r.stderr)
			}
		}
	}
	refused("pv1", "xc: error: Failed to enable logdirty: 95,22,0 (22 = Invalid argument): Internal error\n", "migration sender: libxl_domain_suspend failed (rc=-8)\n", "Migration failed, failed to suspend at sender.\n")
	must2(t, ChangeHost(a, func(h *HostSpec) { h.VirtCaps += " shadow" }))
	must(t, a, "xl", "migrate", "-s", "", "pv1", joined(b))
	must(t, b, "xl", "destroy", "pv1")

	must(t, a, "xl", "create", s.guest(a, GuestSpec{Name: "d2", Type: "pvh", MemoryMiB: 8, Extra: []string{`extra = "xlsim.suspend=ignore"`}}))
	refused("d2", "guest didn't acknowledge suspend, cancelling request", "Migration failed, failed to suspend at sender.\n")
	cfg := s.guest(a, GuestSpec{Name: "d3", Type: "pvh", MemoryMiB: 8}, mib)
	must(t, a, "xl", "create", cfg)
	must2(t, ChangeHost(b, func(h *HostSpec) { h.MemoryMiB = h.Dom0MiB + 4 }))
	refused("d3", "migration target: Domain creation failed (code -3).\n", "Migration failed, resuming at sender.\n")
	if got := all(t, a); got != "d2 runs, d3 runs" {
		t.Errorf("at the source: %s", got)
	}
}

// TestKilledSenderLeavesSuspended: an xl that is killed while READY is held.
func TestKilledSenderLeavesSuspended(t *testing.T) {
	w := newWire(t)
	w.ready()
	must2(t, w.sender.Process.Kill())
	w.ended([2]int{-1, 0}, "d1 ---ss-", "")
	must(t, w.src, "xl", "save", "-c", "d1", "/dev/null")
	if got := all(t, w.src); got != "d1 runs" {
		t.Errorf("after save -c: %s", got)
	}
	w.cut()
}
