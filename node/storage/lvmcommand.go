package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// lvm runs commands of lvm2.
type lvm struct {
	// lock is the file with the host's lock on volumes. It is the standard input of
	// each command that changes something, so that the lock outlives a worker that is
	// killed: whoever takes it next sees what the command did, and no command
	// comes after that look. lvm2 closes all descriptors but the first three.
	lock *os.File
}

// lvmProgram is the one program that all commands of lvm2 are names of.
const lvmProgram = "lvm"

// hasLVM tells whether lvm2 is installed. Where it is not, logical volumes that
// are there all the same are block devices like any other.
func hasLVM() bool {
	_, err := exec.LookPath(lvmProgram)
	return err == nil
}

// ask runs a report, which changes nothing and so ends with ctx.
func (l lvm) ask(ctx context.Context, report string, fields []string, args ...string) ([]byte, error) {
	args = append([]string{report, "--reportformat", "json", "--units", "b", "--nosuffix", "--options", strings.Join(fields, ",")}, args...)
	cmd := exec.CommandContext(ctx, lvmProgram, args...)
	out, err := run(cmd)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", report, context.Cause(ctx))
	}
	return out, err
}

// change runs a command that changes something, and answers yes to all that it
// asks. It is not ended by ctx: one that dies between suspending a device and
// resuming it leaves a volume that nobody can read.
func (l lvm) change(ctx context.Context, command string, args ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: not begun: %w", command, context.Cause(ctx))
	}
	cmd := exec.Command(lvmProgram, append([]string{command, "--yes"}, args...)...)
	if l.lock != nil {
		cmd.Stdin = l.lock
	}
	_, err := run(cmd)
	return err
}

func run(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("lvm2 is not installed on this host, or not on the PATH: install it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[1:], " "), err, said(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// saidLines is how much of what a command said an error shows: lvm2 ends with the
// cause, after warnings about whatever else it saw on this host.
const saidLines = 4

// said is the end of what a command said, in one line.
func said(stderr string) string {
	var lines []string
	for l := range strings.Lines(stderr) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-saidLines):], "; ")
}
