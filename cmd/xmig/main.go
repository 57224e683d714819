package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"xmig/jobs"
	"xmig/node"
	"xmig/xen"
	"xmig/xen/xlsim"
)

func main() {
	// Three words are not for people, and their command lines are not ours to
	// parse: the simulated toolstack, which has xl's own, the process that holds a
	// VM's lock while a command runs, and the one that xl starts for its transport
	// of a live migration. Those two must not depend on any file of settings.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "xlsim":
			os.Exit(xlsim.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "hold":
			os.Exit(xen.RunHolder(os.Args[2:]))
		case "xl-stub":
			os.Exit(node.RunStub(os.Args[2:]))
		}
	}
	// No command shows where memory was taken, and each buffer of a lane is large
	// enough to be asked for its stack: more than 1 % of a destination.
	runtime.MemProfileRate = 0
	node.Version = thisBuild().String()
	os.Exit(run(os.Args[1:], newTerminal(os.Stdout, os.Stderr)))
}

// run parses and carries out one command line, and returns the exit code.
func run(args []string, t *terminal) int {
	var g grammar
	parser, err := newParser(&g, t.Out, t.Err)
	if err != nil {
		fmt.Fprintf(t.Err, "xmig: %v\n", err)
		return exitFailed
	}
	ended := -1
	parser.Exit = func(code int) { ended = code }
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if ended >= 0 {
		return ended // help was asked for and given
	}
	if err != nil {
		fmt.Fprintf(t.Err, "xmig: %v; see `xmig%s --help`\n", err, commandOf(parsed, err))
		return exitUsage
	}
	ctx, stop := untilSignal(context.Background(), t.Err)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(&g.globals, t)
	tell(t.Err, err)
	return codeOf(err)
}

// commandOf names the command whose help explains a usage error.
func commandOf(parsed *kong.Context, err error) string {
	var perr *kong.ParseError
	if parsed == nil && errors.As(err, &perr) {
		parsed = perr.Context
	}
	if parsed == nil || parsed.Selected() == nil {
		return ""
	}
	return " " + strings.TrimPrefix(parsed.Selected().FullPath(), "xmig ")
}

// tell writes an error as one line, or blockers as one line each.
func tell(w io.Writer, err error) {
	if err == nil {
		return
	}
	var e *exitError
	if errors.As(err, &e) && e.text == "" {
		return // told already
	}
	var b *jobs.BlockedError
	if errors.As(err, &b) && len(b.Blockers) > 0 {
		fmt.Fprintf(w, "xmig: vm %s cannot move, %d blocker(s):\n", b.VM, len(b.Blockers))
		for _, bl := range b.Blockers {
			fmt.Fprintf(w, "xmig: %s\n", bl)
		}
		return
	}
	fmt.Fprintf(w, "xmig: %s\n", oneLine(err))
}

// oneLine: an error of several parts (errors.Join) has a line for each.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// newTerminal looks at what stdout is.
func newTerminal(out, errs *os.File) *terminal {
	t := &terminal{Out: out, Err: errs}
	size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
	if err == nil {
		t.Width, t.Height = int(size.Col), int(size.Row)
		t.Bars = t.Width > 0 && os.Getenv("TERM") != "dumb"
	}
	_, err = unix.IoctlGetWinsize(int(errs.Fd()), unix.TIOCGWINSZ)
	t.Person = err == nil
	return t
}
