package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	Install   bool
	Rounds    int
	SizeMiB   int64
	Needed    bool
	Turns     string
	Quiet     float64
	Again     int
	Apart     bool
	Dir       string
	DiskDir   string
	Parts     string
	Workloads string
	SizesMiB  string
	Xmig      string
	JSON      string
	Add       bool
	inside    string // set: we are in a namespace of our own, and this is the scratch directory
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.BoolVar(&o.Install, "install", false, "install the tools from Debian first")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds; every tool has one run per workload in each")
	f.Int64Var(&o.SizeMiB, "size", 1024, "size of the disk in MiB; --dir holds two of them")
	f.BoolVar(&o.Needed, "needed", false, "of part peers, only the tools that promises are about")
	f.StringVar(&o.Turns, "turns", "", "file to lock during each run: other heavy work of this machine takes turns at it")
	f.Float64Var(&o.Quiet, "quiet", 0.1, "share of the machine that others may have during a run")
	f.IntVar(&o.Again, "again", 0, "how often a run that was not quiet is repeated; the quietest counts")
	f.BoolVar(&o.Apart, "apart", false, "give each end one processor, its own, as two hosts of one processor have")
	f.StringVar(&o.Dir, "dir", "/dev/shm", "directory in memory for the disks")
	f.StringVar(&o.DiskDir, "disk-dir", os.TempDir(), "directory on a disk, for the parts with large images: 24 GiB")
	f.StringVar(&o.Parts, "parts", "peers,disks,lanes,sizes,article", "what to measure")
	f.StringVar(&o.Workloads, "workloads", "", "of part peers, only these: W1,W2,W3,W3b,D,lane")
	f.StringVar(&o.SizesMiB, "sizes", "256,512,1024,2048,4096,8192", "sizes in MiB of part sizes")
	f.StringVar(&o.Xmig, "xmig", "", "xmig binary to measure (default: built from this repository)")
	f.StringVar(&o.JSON, "json", "", "file for everything that was measured")
	f.BoolVar(&o.Add, "add", false, "add to what --json holds already, of the same xmig, disk and machine")
	f.StringVar(&o.inside, "inside", "", "for this program's own use")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, p := range split(o.Parts) {
		if !slices.Contains(parts, p) {
			return o, fmt.Errorf("--parts %s: want some of %s", o.Parts, strings.Join(parts, ", "))
		}
	}
	if o.Add && o.JSON == "" {
		return o, errors.New("--add: give the file with --json")
	}
	if f.NArg() > 0 || o.Rounds < 1 || o.SizeMiB < 16 {
		return o, errors.New("want no arguments, one round and 16 MiB at least; see --help")
	}
	return o, nil
}

var parts = []string{"peers", "disks", "lanes", "sizes", "article"}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.inside != "" {
		return inside(ctx, o)
	}
	return outside(ctx, o, args)
}

//go:embed install
var install []byte

// needed are the tools that are measured, and what they need.
var needed = []string{"ssh", "ssh-keygen", "rsync", "zstd", "nbdkit", "nbdcopy", "qemu-img", "ip", "bash", "dd", "taskset"}

// outside prepares, and runs this program again in a namespace of its own.
func outside(ctx context.Context, o options, args []string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: for a network namespace, cgroups and a private sshd")
	}
	if o.Install {
		cmd := exec.CommandContext(ctx, "sh", "-s")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(install), os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install the tools: %w", err)
		}
	}
	for _, tool := range needed {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: run with --install", err)
		}
	}
	scratch, err := os.MkdirTemp("", "xmig-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if o.Xmig == "" {
		o.Xmig = filepath.Join(scratch, "xmig")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-extldflags=-static", "-o", o.Xmig, "xmig/cmd/xmig")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build xmig: %w\n%s", err, out)
		}
	}
	cmd := exec.Command("/proc/self/exe", append(args, "--install=false", "--inside", scratch, "--xmig", o.Xmig)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // the death of the thread that forked counts as ours
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // gone already: Wait tells
	return cmd.Wait()
}

// inside measures.
func inside(ctx context.Context, o options) (err error) {
	m, err := newMachine(o.Apart)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	disks, err := os.MkdirTemp(o.Dir, "xmig-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(disks)) }()
	large, err := os.MkdirTemp(o.DiskDir, "xmig-peers-disks-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(large)) }()
	d, err := startDaemons(ctx, m, o.inside, disks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	version, err := exec.CommandContext(ctx, o.Xmig, "version").Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", o.Xmig, err)
	}
	out := &outcome{Version: strings.TrimSpace(string(version)), Machine: machineName(o.Apart), Size: o.SizeMiB << 20}
	if err := out.identify(o.Xmig); err != nil {
		return err
	}
	if o.Add {
		if err := out.continueFrom(o.JSON); err != nil {
			return err
		}
	}
	c := &contest{m: m, d: d, xmig: o.Xmig, dir: disks, size: o.SizeMiB << 20, rounds: o.Rounds, needed: o.Needed, turns: o.Turns, quiet: o.Quiet, again: o.Again, log: os.Stderr}
	err = c.all(ctx, o, large, out)
	if werr := write(o, out); err == nil {
		err = werr // what was measured before something failed is told too
	}
	return err
}

// all measures every part that was asked for.
func (c *contest) all(ctx context.Context, o options, large string, out *outcome) error {
	sizes, err := mebibytes(o.SizesMiB)
	if err != nil {
		return err
	}
	for _, p := range split(o.Parts) {
		var runs []result
		var err error
		switch p {
		case "peers":
			runs, err = c.run(ctx, split(o.Workloads))
		case "disks":
			runs, err = c.many(ctx, disksAtOnce)
		case "lanes":
			runs, err = c.lanes(ctx, []int{1, manyLanes})
		case "sizes":
			runs, err = c.sizes(ctx, large, sizes)
		case "article":
			runs, err = c.article(ctx, large, []int64{5 << 30, 1 << 30, 4 << 30})
		}
		out.Runs = append(out.Runs, runs...)
		if err != nil {
			return err
		}
	}
	return nil
}

func mebibytes(s string) (all []int64, err error) {
	for _, word := range split(s) {
		var n int64
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("--sizes %s: want numbers of MiB", s)
		}
		all = append(all, n<<20)
	}
	return all, nil
}

func write(o options, out *outcome) error {
	if _, err := fmt.Print(markdown(out)); err != nil || o.JSON == "" {
		return err
	}
	f, err := os.Create(o.JSON)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, out), f.Close())
}

// identify tells binaries apart: not every build has a version.
func (o *outcome) identify(binary string) error {
	text, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	o.Binary = fmt.Sprintf("%x", sha256.Sum256(text))[:16]
	return nil
}

// continueFrom takes over the runs of an earlier measurement of the same.
func (o *outcome) continueFrom(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the first of several
	}
	if err != nil {
		return err
	}
	var before report
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if before.Binary != o.Binary || before.Machine != o.Machine || before.Size != o.Size {
		return fmt.Errorf("%s is of xmig %s, %s, disk of %d MiB: medians over different things say nothing; give another file", file, before.Binary, before.Machine, before.Size>>20)
	}
	o.Runs = before.Runs
	return nil
}

func machineName(apart bool) string {
	cpu, kernel := "processor unknown", "kernel unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name\t: "); ok {
			cpu, _, _ = strings.Cut(rest, "\n")
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(text))
	}
	each := ""
	if apart {
		each = ", one for each end"
	}
	return fmt.Sprintf("%d × %s%s, Linux %s", runtime.NumCPU(), cpu, each, kernel)
}
