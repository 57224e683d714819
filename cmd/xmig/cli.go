package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"xmig/jobs/coordinator"
)

// grammar is the whole command line.
type grammar struct {
	globals

	Demo    demoCmd    `cmd:"" group:"try" help:"Show and prove a migration: a whole installation in one process, on simulated hosts."`
	Bench   benchCmd   `cmd:"" group:"try" help:"Measure how fast this machine moves disks and what that costs, beside what it could do at best."`
	Server  serverCmd  `cmd:"" group:"run" help:"Run the coordinator, with the bus in it unless --nats names one."`
	Node    nodeCmd    `cmd:"" group:"run" help:"Run the worker of this dom0."`
	Submit  submitCmd  `cmd:"" group:"move" help:"Move VMs to another host, with their disks."`
	Check   checkCmd   `cmd:"" group:"move" help:"List everything that stands against moving a VM, or whether a host is in order."`
	Plan    planCmd    `cmd:"" group:"move" help:"Who would go where if a host were emptied, or its VMs came home."`
	Sync    syncCmd    `cmd:"" group:"move" help:"Make one disk equal to another: two local paths, or HOST:DEVICE twice."`
	Resolve resolveCmd `cmd:"" group:"mend" help:"End a job that is indeterminate, or whose host is lost: show the evidence of both hosts and do the only safe thing."`
	Recover recoverCmd `cmd:"" group:"mend" help:"Make the owner keys anew by the journals of all hosts, when the bus was lost."`
	Doctor  doctorCmd  `cmd:"" group:"mend" help:"Look for all that may stand in the way of moves, and name the way out."`
	Shadow  shadowCmd  `cmd:"" group:"mend" help:"List and prune the disk copies that hosts keep of VMs that moved away."`
	Job     jobCmd     `cmd:"" group:"look" help:"List, show, watch, hold, cancel, retry and forget jobs."`
	Host    hostCmd    `cmd:"" group:"look" help:"List and show hosts; close, empty and refill them."`
	VM      vmCmd      `cmd:"" name:"vm" group:"look" help:"List and show VMs; keep drains off them."`
	Rule    ruleCmd    `cmd:"" group:"look" help:"What is done about alerts: list rules, try them out, mute them."`
	Events  eventsCmd  `cmd:"" group:"look" help:"Print what happened: jobs, hosts, orders."`
	Top     topCmd     `cmd:"" group:"look" help:"Hosts and jobs as they change."`
	Version versionCmd `cmd:"" group:"look" help:"Print the version."`

	BenchEnd benchEndCmd `cmd:"" hidden:"" help:"One of the two processes of a measurement; takes orders from xmig bench."`
	Health   healthCmd   `cmd:"" hidden:"" help:"Ask an HTTP health page, for containers that hold nothing but this binary."`
	Simguest simguestCmd `cmd:"" hidden:"" help:"Make or verify a guest on a SIMULATED host, for trying out."`
}

// globals are the flags that all commands have.
type globals struct {
	NATS     string        `name:"nats" placeholder:"URL" group:"bus" help:"The bus: nats://HOST:PORT, several with commas (default: nats://127.0.0.1:4222)."`
	Context  string        `placeholder:"NAME" group:"bus" help:"A context of the nats command line tool, in place of --nats."`
	Creds    string        `placeholder:"FILE" type:"path" group:"bus" help:"Credentials file for the bus."`
	NKey     string        `name:"nkey" placeholder:"FILE" type:"path" group:"bus" help:"File with an nkey seed for the bus (mode 0600)."`
	User     string        `placeholder:"NAME" group:"bus" help:"User name on the bus."`
	Password string        `placeholder:"SECRET" group:"bus" help:"Password on the bus; better given as XMIG_PASSWORD, which no process list shows."`
	CA       string        `name:"ca" placeholder:"FILE" type:"path" group:"bus" help:"Certificate of the authority that signed the bus server's."`
	Timeout  time.Duration `default:"10s" group:"bus" help:"How long to wait for the bus and for answers; server and node wait for the bus for ever."`
	Output   string        `short:"o" enum:"table,json" default:"table" group:"all" help:"What to print: ${enum}."`
	LogLevel string        `enum:"debug,info,warn,error" default:"info" group:"all" help:"The least important log lines to write to stderr: ${enum}."`
	Config   string        `placeholder:"FILE" group:"all" help:"Config file, TOML (default: ${config_file}, if it is there)."`
}

// defaultConfig is read if it is there.
const defaultConfig = "/etc/xmig/xmig.toml"

// terminal is where a command writes, and what it knows of it.
type terminal struct {
	Out, Err io.Writer
	Width    int  // of Out in characters, 0 if it is no terminal
	Height   int  // in lines
	Bars     bool // Out is a terminal that can be redrawn
	Person   bool // Err is a terminal: somebody reads the log
}

// newParser makes the parser. Nothing in it reads or runs anything but the
// environment and the config file.
func newParser(g *grammar, out, errs io.Writer) (*kong.Kong, error) {
	return kong.New(g,
		kong.Name("xmig"),
		kong.Description("Migrates Xen domUs with local disks between dom0s: checked before, undone on any failure, never two copies running.\n\n"+
			"Every flag can be given as an environment variable too: --max-downtime as XMIG_MAX_DOWNTIME. "+
			"Exit codes: 0 done, 1 failed and the VM runs at the source, 2 usage, 3 blocked by checks, "+
			"4 waiting ended and the job goes on, 5 rolled back, 6 cancelled, 7 nobody knows for sure."),
		kong.Writers(out, errs),
		kong.DefaultEnvars("XMIG"),
		kong.Resolvers(&settings{}),
		kong.Vars{"config_file": defaultConfig, "hours": coordinator.HoursForm, "rate_hours": rateHoursForm},
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "try", Title: "Try it"}, {Key: "move", Title: "Move"}, {Key: "look", Title: "Look"}, {Key: "mend", Title: "Mend"},
			{Key: "run", Title: "Run"}, {Key: "all", Title: "Flags of all commands"}, {Key: "bus", Title: "Flags for the bus"},
		}),
	)
}

// printJSON writes v as one indented document.
func printJSON(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// executable is this binary, for the processes that it starts of itself.
func executable() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this binary: %w", err)
	}
	return self, nil
}
