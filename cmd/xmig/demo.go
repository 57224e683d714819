package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type demoCmd struct {
	VMs         int           `name:"vms" default:"1" help:"How many VMs to move, all at once."`
	Hosts       int           `default:"2" help:"How many simulated hosts; each VM moves to the next one."`
	Dir         string        `placeholder:"DIR" type:"path" help:"Where to put hosts and disks (default: a new directory, removed at the end)."`
	Keep        bool          `help:"Leave the directory for looking at; guests end nevertheless."`
	RAM         size          `name:"ram" default:"64MiB" help:"Memory of each VM."`
	Disks       []size        `default:"512MiB,128MiB,256MiB" help:"Sizes of the disks of each VM: system, swap, data."`
	WriteRate   rate          `default:"5MiB/s" help:"Fsynced writes of each VM, bytes per second, while it is moved."`
	Mode        string        `enum:"auto,live,suspend,cold" default:"auto" help:"How: ${enum}; auto is live, with --break suspend."`
	MaxDowntime time.Duration `default:"60s" help:"Longest blackout allowed."`
	Break       string        `enum:",skip-delta,stale-page,drop-record,two-copies" default:"" placeholder:"HOW" help:"Spoil the migration on purpose, to see that it is noticed: skip-delta, stale-page, drop-record or two-copies. Ends with an exit code other than 0."`
}

func (demoCmd) Help() string {
	return `Needs neither Xen nor root. The bus, the coordinator, the workers and the data
path are the real ones; the hosts are SIMULATED: a program that behaves as xl,
and guests that are processes with a memory of their own, which write checksummed
records to real disk images. After the move every page of memory and every
record is compared, and who ran when is told by a witness.

Examples:

    xmig demo
    xmig demo --vms 6 --hosts 3
    xmig demo --disks 2GiB,512MiB --write-rate 20MiB/s --keep --dir /var/tmp/xmig-demo
    xmig demo --break skip-delta`
}

func (c *demoCmd) validate() error {
	var errs []error
	if c.VMs < 1 || c.VMs > 64 {
		errs = append(errs, fmt.Errorf("--vms %d: want 1 to 64", c.VMs))
	}
	if c.Hosts < 2 || c.Hosts > 16 {
		errs = append(errs, fmt.Errorf("--hosts %d: want 2 to 16", c.Hosts))
	}
	if c.RAM < 64<<20 {
		errs = append(errs, fmt.Errorf("--ram %s: want 64 MiB at least", show.Bytes(int64(c.RAM))))
	}
	if len(c.Disks) == 0 || len(c.Disks) > 8 {
		errs = append(errs, fmt.Errorf("--disks: want 1 to 8 sizes"))
	}
	for _, d := range c.Disks {
		if d < 1<<20 || d%(1<<20) != 0 {
			errs = append(errs, fmt.Errorf("--disks %d: want whole MiB", d))
		}
	}
	if c.Break != "" && c.Mode != string(jobs.Auto) && c.Mode != string(jobs.Suspend) {
		errs = append(errs, fmt.Errorf("--break works with --mode suspend only"))
	}
	if err := errors.Join(errs...); err != nil {
		return jobs.Failed(jobs.CodeUsage, "%w", err)
	}
	return nil
}

// mode is how the guests move.
func (c *demoCmd) mode() jobs.Mode {
	if c.Break != "" {
		return jobs.Suspend
	}
	return jobs.Mode(c.Mode)
}

// demoResult is what -o json prints.
type demoResult struct {
	Simulated bool          `json:"simulated"` // always
	OK        bool          `json:"ok"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	VMs       []show.Proof  `json:"vms"`
}

// settleTime lets guests write on at their new hosts before they are verified:
// damage that shows only when old data is read again must have its chance.
const settleTime = 2 * time.Second

func (c *demoCmd) Run(ctx context.Context, g *globals, t *terminal) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	tuneMemory(c.VMs)
	begin := time.Now()
	dir, remove, err := c.workDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	log, done, err := demoLog(dir, g)
	if err != nil {
		return err
	}
	defer done()
	d, err := newSimulation(c, dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	fmt.Fprintf(t.Err, "xmig: SIMULATED: %d hosts and %d VMs in %s; no hypervisor is involved\n", c.Hosts, c.VMs, dir)
	if err := d.start(ctx); err != nil {
		return interrupted(ctx, err)
	}
	proofs, err := d.migrate(ctx, g, t)
	if err != nil {
		return interrupted(ctx, err)
	}
	return c.tell(g, t, proofs, time.Since(begin))
}

// interrupted gives Ctrl-C its own words; everything is ended and taken away.
func interrupted(ctx context.Context, err error) error {
	if context.Cause(ctx) != nil {
		return &exitError{code: exitFailed, text: "demo interrupted"}
	}
	return fmt.Errorf("demo: %w", err)
}

func (c *demoCmd) tell(g *globals, t *terminal, proofs []show.Proof, took time.Duration) error {
	ok := true
	var bad []string
	for _, p := range proofs {
		ok = ok && p.OK()
		for _, f := range p.Findings {
			if !f.OK {
				bad = append(bad, p.VM+": "+f.What+": "+f.Seen)
			}
		}
	}
	if g.Output == "json" {
		if err := printJSON(t.Out, demoResult{Simulated: true, OK: ok, Elapsed: took, VMs: proofs}); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(t.Out, show.Proven(proofs, took)); err != nil {
		return err
	}
	if !ok {
		return &exitError{code: exitFailed, text: "demo: " + strings.Join(bad, "; ")}
	}
	return nil
}

// workDir is where everything lies, and how it is taken away.
func (c *demoCmd) workDir() (string, func() error, error) {
	keep := func() error { return nil }
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "xmig-demo-")
		if err != nil {
			return "", nil, fmt.Errorf("demo: %w", err)
		}
		if c.Keep {
			return dir, keep, nil
		}
		return dir, func() error { return os.RemoveAll(dir) }, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("demo: %w", err)
	}
	// A directory of the user's own is never emptied: what we make lies in a
	// new one within it.
	dir, err := os.MkdirTemp(c.Dir, "run-")
	if err != nil {
		return "", nil, fmt.Errorf("demo: %w", err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil || c.Keep {
		return dir, keep, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
