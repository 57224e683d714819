package xlsim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const usage = `xlsim: a SIMULATED Xen host, for tests and 'xmig demo' only. There is no
hypervisor behind it, and its guests are plain processes.

  xlsim --host DIR xl COMMAND ...        as the xl of Xen 4.17
  xlsim --host DIR xenstore-ls [-f] PATH
  xlsim --host DIR xenstore-read PATH
  xlsim --host DIR xenstore-list PATH

xl commands: list [-l] [-v] [DOM], info, domid, domname, create [-p] [-q] [-n]
[-e] CFG, pause, unpause, shutdown [-w] [-a], reboot [-w] [-a], destroy, rename,
save [-p|-c] DOM FILE, restore [-p] [-e] [CFG] FILE, migrate [-s CMD] DOM HOST,
migrate-receive [-p] [-e], block-list, network-list, uptime, vcpu-list.

DIR is made by 'xmig demo' or by a test.
`

// call is one run of the program.
type call struct {
	dir    string
	spec   HostSpec
	self   []string // what starts this program again, up to and with "xlsim"
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// Main is the program: args are what follows "xlsim" on the command line. The
// guests are started as the same program with the same words before args, so
// whatever binary calls Main must reach it in the same way again.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &call{self: prefixOf(args), stdin: stdin, stdout: stdout, stderr: stderr}
	rest, err := c.options(args)
	if err != nil {
		fmt.Fprintf(stderr, "xlsim: %v\n", err)
		return 2
	}
	if len(rest) == 0 || rest[0] == "--help" || rest[0] == "help" {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if c.spec, err = LoadHost(c.dir); err != nil {
		c.complain("%v", err)
		return 2
	}
	switch program, args := rest[0], rest[1:]; program {
	case "xl":
		return c.xl(args)
	case "xenstore-ls", "xenstore-read", "xenstore-list":
		fault, err := c.disturb(program)
		if err != nil {
			return c.fail(err, 1)
		}
		if fault != nil {
			return c.pretend(*fault)
		}
		return c.xenstore(program, args)
	case "guest":
		return runGuest(c, args)
	default:
		c.complain("%q: unknown program; see --help", program)
		return 2
	}
}

// prefixOf is the part of the command line before args.
func prefixOf(args []string) []string {
	n := len(os.Args) - len(args)
	if n > 0 && slices.Equal(os.Args[n:], args) {
		return slices.Clone(os.Args[:n])
	}
	return []string{os.Args[0], "xlsim"}
}

func (c *call) options(args []string) (rest []string, err error) {
	if len(args) == 0 || args[0] == "--help" || args[0] == "help" {
		return nil, nil
	}
	dir, ok := strings.CutPrefix(args[0], "--host=")
	rest = args[1:]
	if !ok {
		if args[0] != "--host" || len(args) < 2 {
			return nil, errors.New("--host DIR must come first; see --help")
		}
		dir, rest = args[1], args[2:]
	}
	c.dir, err = filepath.Abs(dir)
	return rest, err
}

// command is one of xl's: its letters are the options it takes.
type command struct {
	letters string
	run     func(c *call, o options, args []string) int
	least   int // arguments
	most    int
}

func commands() map[string]command {
	return map[string]command{
		"list":            {"lv", (*call).list, 0, 1},
		"info":            {"", (*call).info, 0, 0},
		"domid":           {"", (*call).domid, 1, 1},
		"domname":         {"", (*call).domname, 1, 1},
		"create":          {"pqne", (*call).create, 1, 1},
		"pause":           {"", (*call).pause, 1, 1},
		"unpause":         {"", (*call).unpause, 1, 1},
		"resume":          {"", (*call).resumeDomain, 1, 1},
		"shutdown":        {"waF", (*call).shutdown, 0, 1},
		"reboot":          {"waF", (*call).reboot, 0, 1},
		"destroy":         {"f", (*call).destroy, 1, 1},
		"rename":          {"", (*call).rename, 2, 2},
		"save":            {"pc", (*call).saveDomain, 2, 3},
		"restore":         {"pe", (*call).restore, 1, 2},
		"migrate":         {"Fedps:", (*call).migrate, 2, 2},
		"migrate-receive": {"Fedp", (*call).migrateReceive, 0, 0},
		"block-attach":    {"", (*call).blockAttach, 2, 2},
		"block-list":      {"", (*call).blockList, 1, 1 << 10},
		"network-list":    {"", (*call).networkList, 1, 1 << 10},
		"uptime":          {"", (*call).uptime, 0, 1},
		"vcpu-list":       {"", (*call).vcpuList, 0, 1},
	}
}

// xl carries out one command of xl.
func (c *call) xl(args []string) int {
	for len(args) > 0 && (args[0] == "-v" || args[0] == "-vv" || args[0] == "-vvv" || args[0] == "-f") {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprint(c.stderr, "Usage xl [-vfNtT] <subcommand> [args]\n")
		return 1
	}
	name := args[0]
	cmd, ok := commands()[name]
	if !ok || name == "resume" && !c.spec.since(4, 20) {
		fmt.Fprintf(c.stderr, "command \"%s\" not implemented\n", name)
		return 1
	}
	fault, err := c.disturb(name)
	if err != nil {
		return c.fail(err, 1)
	}
	if fault != nil && !fault.AllDone {
		return c.pretend(*fault)
	}
	o, rest, err := parseOptions(args[1:], cmd.letters)
	if err == nil && (len(rest) < cmd.least || len(rest) > cmd.most) {
		err = fmt.Errorf("'xl %s' requires at least %d argument%s.\n\nUsage: xl [-vf] %s", name, cmd.least, plural(cmd.least), name)
	}
	if err != nil {
		fmt.Fprintf(c.stderr, "%v\n", err)
		return 2
	}
	code := cmd.run(c, o, rest)
	if fault != nil {
		return c.pretend(*fault)
	}
	return code
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// disturb makes a command slow, and finds the fault it shall have, where the
// host's settings say so.
func (c *call) disturb(name string) (*Fault, error) {
	time.Sleep(c.spec.Delays[name])
	f, found, err := takeFault(c.dir, name)
	if !found {
		return nil, err
	}
	return &f, err
}

// pretend ends as a fault wants it.
func (c *call) pretend(f Fault) int {
	fmt.Fprint(c.stderr, f.Text)
	return f.Exit
}

// options are the letters that were given, with their values where they take one.
type options map[rune]string

func (o options) has(letter rune) bool {
	_, given := o[letter]
	return given
}

// parseOptions reads letters as getopt does: also in one word, also after an
// argument; "--" ends them. A letter with a colon behind it takes a value.
func parseOptions(args []string, letters string) (options, []string, error) {
	o := options{}
	var rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return o, append(rest, args[i+1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			continue
		}
		for at, r := range a[1:] {
			known := strings.IndexRune(letters, r)
			if known < 0 || r == ':' {
				return nil, nil, fmt.Errorf("xl: invalid option -- '%c'", r)
			}
			o[r] = ""
			if !strings.HasPrefix(letters[known+1:], ":") {
				continue
			}
			if o[r] = a[at+2:]; o[r] == "" {
				if i++; i == len(args) {
					return nil, nil, fmt.Errorf("xl: option requires an argument -- '%c'", r)
				}
				o[r] = args[i]
			}
			break
		}
	}
	return o, rest, nil
}

// complain is for what is no text of xl.
func (c *call) complain(format string, args ...any) {
	fmt.Fprintf(c.stderr, "xlsim: "+format+"\n", args...)
}

// fail prints an error in xl's words, or as our own, and returns code.
func (c *call) fail(err error, code int) int {
	var known xlError
	if errors.As(err, &known) {
		fmt.Fprint(c.stderr, known.text)
	} else {
		c.complain("%v", err)
	}
	return code
}
