package xen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CommandError is a command that failed, or said so while it exited with 0.
type CommandError struct {
	Command []string       // as it was run, without the holder
	Exit    int            // -1 where Signal tells how it ended
	Signal  syscall.Signal // that killed it; 0: none
	Stderr  string         // all that it said there
}

func (e *CommandError) Error() string {
	how := "exit code " + strconv.Itoa(e.Exit)
	if e.Signal != 0 {
		how = fmt.Sprintf("killed by signal %d (%v)", int(e.Signal), e.Signal)
	}
	return strings.Join(slices.DeleteFunc([]string{commandLine(e.Command), how, tail(e.Stderr)}, func(s string) bool { return s == "" }), ": ")
}

// commandLine is argv for people: words that are not plain come in quotes.
func commandLine(argv []string) string {
	words := slices.Clone(argv)
	for i, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'\$;&|<>`, r) }) {
			words[i] = strconv.Quote(w)
		}
	}
	return strings.Join(words, " ")
}

// tailLines is what an error shows of stderr: libxl reports one failure in up
// to seven lines, the cause first.
const tailLines = 8

// chatter is what xl prints on stderr while all is well.
var chatter = regexp.MustCompile(`^(xc: (progress|info): |Saving to |Loading new save file | Savefile contains |Parsing config from |Shutting down domain |migration (sender|target): (Ready|Target has|Giving|Got|Transfer|Trying|Resumed))`)

// tail is the end of what a command said, in one line.
func tail(stderr string) string {
	lines := slices.DeleteFunc(strings.Split(stderr, "\n"), func(l string) bool {
		return strings.TrimSpace(l) == "" || chatter.MatchString(l)
	})
	return strings.Join(lines[max(0, len(lines)-tailLines):], "; ")
}

// meanings are texts of xl's that say one thing; golden tests hold them.
var meanings = []struct {
	text  *regexp.Regexp
	means error
}{
	{regexp.MustCompile(`is an invalid domain identifier`), ErrNoDomain},
	{regexp.MustCompile(`(?m)^Error: Domain '.*' does not exist\.`), ErrNoDomain},
	{regexp.MustCompile(`Domain with name ".*" already exists\.`), ErrNameTaken},
	{regexp.MustCompile(`(?i)unpausing domain( \d+)?: Invalid argument`), ErrNotPaused},
}

// classified says what is known of a failure by its text.
func classified(err *CommandError) error {
	for _, m := range meanings {
		if m.text.MatchString(err.Stderr) {
			return fmt.Errorf("%w: %w", m.means, err)
		}
	}
	return err
}

// effect is a run of xl that changes something.
type effect struct {
	args   []string
	stdin  *os.File // nil: empty
	stdout *os.File // nil: thrown away
	mute   bool     // it exits with 0 whatever happens, as pause, unpause and resume do
	heard  bool     // its stdout is read to its end, whatever becomes of ours
}

// complains finds the errors of a mute command.
var complains = regexp.MustCompile(`(?m)^(libxl|xc): error: `)

// questionTimeout bounds a question: a toolstack that does not answer within
// it is broken, and whoever asks may hold a VM's lock.
const questionTimeout = time.Minute

// ask runs a command that changes nothing, and returns what it printed on
// stdout and stderr.
func (x XL) ask(ctx context.Context, argv []string) (out, said string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, questionTimeout, fmt.Errorf("no answer within %s", questionTimeout))
	defer cancel()
	if ctx.Err() == nil {
		out, said, err = run(exec.CommandContext(ctx, argv[0], argv[1:]...), argv)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", commandLine(argv), context.Cause(ctx))
	}
	return out, said, err
}

// act runs an effect to its end, below the holder if there is one. A context
// that is over keeps it from beginning, and does not end it.
func (x XL) act(ctx context.Context, e effect) error {
	argv := x.xl(e.args...)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: not begun: %w", commandLine(argv), context.Cause(ctx))
	}
	cmd := x.effectCommand(argv, e.heard)
	if e.stdin != nil {
		cmd.Stdin = e.stdin
	}
	if e.stdout != nil {
		cmd.Stdout = e.stdout
	}
	_, said, err := run(cmd, argv)
	if err == nil && e.mute && complains.MatchString(said) {
		return classified(&CommandError{Command: argv, Stderr: said})
	}
	return err
}

// xl is the command line of a run of xl.
func (x XL) xl(args ...string) []string { return slices.Concat(x.Command, args) }

// run starts a command, waits for its end and returns what it printed. That
// goes into memory files instead of pipes: a pipe whose reader has died would
// kill an xl that prints its progress, and the daemons xl leaves behind would
// keep one open.
func run(cmd *exec.Cmd, argv []string) (out, said string, err error) {
	var files [2]*os.File
	for i := range files {
		fd, err := unix.MemfdCreate("output of "+argv[0], unix.MFD_CLOEXEC)
		if err != nil {
			return "", "", fmt.Errorf("%s: memory for its output: %w", commandLine(argv), err)
		}
		files[i] = os.NewFile(uintptr(fd), "output of "+argv[0])
		defer files[i].Close()
	}
	cmd.Stderr = files[1]
	if cmd.Stdout == nil {
		cmd.Stdout = files[0]
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C") // texts are read here
	err = cmd.Run()
	out, said = printed(files[0]), printed(files[1])
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out, said, classified(failure(cmd, argv, said))
	case err != nil:
		return out, said, fmt.Errorf("%s: %w", commandLine(argv), err)
	}
	return out, said, nil
}

// failure describes how a command ended. A shell and the holder alike report
// a signal as 128 and its number.
func failure(cmd *exec.Cmd, argv []string, said string) *CommandError {
	e := &CommandError{Command: argv, Exit: cmd.ProcessState.ExitCode(), Stderr: said}
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
		e.Signal = s.Signal()
	} else if n := e.Exit - exitSignal; n > 0 && n <= maxSignal {
		e.Exit, e.Signal = -1, syscall.Signal(n)
	}
	return e
}

// printedLimit bounds what is taken over; the longest real output is
// `xl list -l` with some KiB per domain.
const printedLimit = 64 << 20

func printed(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, printedLimit))
	if err != nil {
		return fmt.Sprintf("(output lost: %v)", err)
	}
	return string(b)
}
