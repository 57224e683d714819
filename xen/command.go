package xen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CommandError is a command that did not end well, or said that it did not.
type CommandError struct {
	Command []string // as it was run, without the holder
	Exit    int      // exit code, -1 where Signal says it
	Signal  syscall.Signal
	Stderr  string // its last lines
}

func (e *CommandError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Exit)
	if e.Signal != 0 {
		how = fmt.Sprintf("killed by signal %d (%v)", int(e.Signal), e.Signal)
	}
	text := strings.Join(e.Command, " ") + ": " + how
	if e.Stderr != "" {
		text += ": " + strings.ReplaceAll(e.Stderr, "\n", "; ")
	}
	return text
}

// texts of xl's that mean one thing; the golden tests hold them.
var texts = []struct {
	means error
	text  *regexp.Regexp
}{
	{ErrNoDomain, regexp.MustCompile(`is an invalid domain identifier`)},
	{ErrNoDomain, regexp.MustCompile(`Error: Domain '.*' does not exist`)},
	{ErrNameTaken, regexp.MustCompile(`Domain with name ".*" already exists`)},
}

// classified adds what is known of a failure by its text.
func classified(err *CommandError, stderr string) error {
	for _, t := range texts {
		if t.text.MatchString(stderr) {
			return fmt.Errorf("%w: %w", t.means, err)
		}
	}
	return err
}

// complaint is for pause and unpause, which exit 0 whatever happened.
func (x XL) complaint(ctx context.Context, id int, said string) error {
	return nil
}

// effect is a command that changes something.
type effect struct {
	args   []string // after xl
	stdin  *os.File // nil: empty
	stdout *os.File // nil: thrown away
}

// questionTimeout bounds a question: a toolstack that does not answer in this
// time is broken, and whoever asks may hold a VM's lock.
const questionTimeout = time.Minute

// ask runs a command that changes nothing and returns what it printed.
func (x XL) ask(ctx context.Context, argv []string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, questionTimeout, fmt.Errorf("no answer within %s", questionTimeout))
	defer cancel()
	if ctx.Err() != nil {
		return "", "", fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	stdout, stderr, err = run(exec.CommandContext(ctx, argv[0], argv[1:]...), argv, nil)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	return stdout, stderr, err
}

// act runs an effect to its end, under the holder if there is one. It returns
// what the command said on stderr.
func (x XL) act(ctx context.Context, e effect) (stderr string, err error) {
	argv := append(append([]string{}, x.Command...), e.args...)
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	run1 := argv
	if x.lock != nil {
		run1 = append(append([]string{}, x.holder...), argv...)
	}
	cmd := exec.Command(run1[0], run1[1:]...)
	if x.lock != nil {
		cmd.ExtraFiles = []*os.File{x.lock}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if e.stdin != nil {
		cmd.Stdin = e.stdin
	}
	_, stderr, err = run(cmd, argv, e.stdout)
	return stderr, err
}

// run starts a command and waits for it. What it prints goes into memory files
// and not through pipes of ours: then it can print when we are dead, and the
// daemons that xl leaves behind keep nobody waiting.
func run(cmd *exec.Cmd, argv []string, stdout *os.File) (out, errs string, err error) {
	files := [2]*os.File{}
	for i := range files {
		fd, err := unix.MemfdCreate("xl", unix.MFD_CLOEXEC)
		if err != nil {
			return "", "", fmt.Errorf("%s: file for its output: %w", strings.Join(argv, " "), err)
		}
		files[i] = os.NewFile(uintptr(fd), "output of xl")
		defer files[i].Close()
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err = cmd.Run()
	out, errs = content(files[0]), content(files[1])
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, errs, classified(&CommandError{Command: argv, Exit: exit.ExitCode(), Stderr: errs}, errs)
	}
	return out, errs, err
}

func content(f *os.File) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	return string(b)
}
