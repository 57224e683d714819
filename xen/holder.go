package xen

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The holder is a small process between the worker and an xl that changes
// something. It has the lock's descriptor and xl has not, for the daemons that
// create and restore leave behind would keep the lock until their domain ends.
// It does nothing but wait, so that the lock is taken exactly as long as the
// command runs:
//
//	worker ── holder (lock) ── xl ── monitor of a new domain
//
//	worker dies   the holder is a session of its own and deaf to signals: xl
//	              goes on to its end under the lock, a save or restore to the
//	              end that its broken pipe makes
//	xl dies       the holder ends with it, and with 128 and the signal's number
//	holder dies   by SIGKILL only; the kernel kills its xl with it, so that
//	              nothing changes outside of the lock
//
// A service manager that kills every process of the worker's control group
// kills these too; a node's unit needs KillMode=process.

// lockFD is the lock's descriptor in the holder.
const lockFD = 3

// Exit codes of the holder beside those of its command.
const (
	exitNotRun = 125 // the command was not started; stderr says why
	exitSignal = 128 // and a signal's number: it killed the command
	maxSignal  = 64
)

// effectCommand is the process that runs argv: a holder with argv below it,
// or argv itself. Its own session keeps signals to this process's group or
// terminal away from it.
func (x XL) effectCommand(argv []string, heard bool) *exec.Cmd {
	if x.lock != nil && heard {
		argv = slices.Concat([]string{hearFlag}, argv)
	}
	if x.lock != nil {
		argv = slices.Concat(x.holder, argv)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if x.lock != nil {
		cmd.ExtraFiles = []*os.File{x.lock} // becomes lockFD
	}
	return cmd
}

// hearFlag in front of a command: its stdout is a pipe that the holder reads to
// its end. What is read goes on to the holder's own, as long as somebody reads that.
const hearFlag = "--hear"

// RunHolder is the holder's program: args are the command, a leading "--" is
// skipped, hearFlag may follow. Descriptor 3 must be the lock, taken. It returns the command's exit
// code once the command has ended.
func RunHolder(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	hear := len(args) > 0 && args[0] == hearFlag
	if hear {
		args = args[1:]
	}
	err := errors.New("no command")
	if len(args) > 0 {
		err = keepLock()
	}
	var ended *os.ProcessState
	if err == nil {
		ended, err = hold(args, hear)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "xmig hold: %v\n", err)
		return exitNotRun
	}
	if s := ended.Sys().(syscall.WaitStatus); s.Signaled() {
		return exitSignal + int(s.Signal())
	}
	return ended.ExitCode()
}

// keepLock makes sure that descriptor 3 is a lock which is ours, and keeps it
// to this process. A flock belongs to the open file: where it is taken through
// this very descriptor it is granted again, elsewhere it is refused.
func keepLock() error {
	flags, err := unix.FcntlInt(lockFD, unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = errors.New("it was not inherited") // but opened by Go's runtime
	}
	if err != nil {
		return fmt.Errorf("descriptor %d is to be the lock: %w", lockFD, err)
	}
	unix.CloseOnExec(lockFD)
	if err := unix.Flock(lockFD, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the lock on descriptor %d is not ours: %w", lockFD, err)
	}
	return nil
}

// hold runs a command to its end. The command starts with all signals as they
// usually are, but for SIGPIPE: xl must take a pipe that broke as an error and
// resume the guest, where the signal would kill it before that. (libxl gives
// its own children the default back.)
func hold(args []string, hear bool) (*os.ProcessState, error) {
	deaf := make(chan os.Signal, 1)
	signal.Notify(deaf)
	signal.Ignore(syscall.SIGPIPE)
	// A child gets Pdeathsig when the thread that started it ends; this one
	// lasts as long as the process.
	runtime.LockOSThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	run := cmd.Run
	if hear {
		run = func() error { return runHeard(cmd) }
	}
	if err := run(); cmd.ProcessState == nil {
		return nil, err
	}
	return cmd.ProcessState, nil
}

// lastWords is how long the holder listens on behind a command's end: what it
// said last is in the pipe, whose end a daemon that it left may hold for ever.
const lastWords = time.Second

// runHeard is Run with the command's stdout read to its end.
func runHeard(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			_, _ = os.Stdout.Write(buf[:n]) // nobody there any more: it is drained all the same
			if err != nil {
				return
			}
		}
	}()
	err = cmd.Wait()
	_ = r.SetReadDeadline(time.Now().Add(lastWords)) // a pipe of ours always takes one
	<-heard
	return err
}
