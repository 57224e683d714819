package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"xmig/cmd/xmig/bench"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

type benchCmd struct {
	Size  size          `default:"1GiB" help:"Size of the disk; two of them lie in --dir."`
	Runs  int           `default:"3" help:"How often each is measured, in turn; medians are shown."`
	Dir   string        `placeholder:"DIR" type:"path" help:"Where the disks lie, a directory of the storage to measure (default: /dev/shm, that is memory, if there is room; else the directory for temporary files)."`
	Delay time.Duration `default:"0s" help:"Make the round trip between both ends longer by this, such as 10ms."`
	TLS   bool          `name:"tls" negatable:"" default:"true" help:"Lanes with TLS, as between hosts; --no-tls shows what it costs."`
}

func (benchCmd) Help() string {
	return `How fast can this machine move a disk, and what does that cost? Two processes
with a lane between them, as between the workers of two hosts, move a disk that
is 35 % zero, 35 % random and 30 % text. No bus, no root, no guest is involved.

    seed              onto a disk of zeroes
    seed, compressed  the same with zstd
    unchanged         again, with nothing to do
    scattered         2 % of the 4 KiB pages changed, here and there
    clustered         2 % changed in runs of 1 to 4 MiB

CPU seconds per GiB of the disk are the figure that holds on a busy machine and
carries over to another: a dom0 with one core moves 1 GiB per that many seconds.
Floors are what nobody can beat here: the bytes alone over TCP, with TLS, over a
lane; one core's digests; one reader. After each run both disks are compared.

Examples:

    xmig bench
    xmig bench --dir /var/tmp --size 4GiB --runs 5
    xmig bench --delay 10ms -o json`
}

func (c *benchCmd) Run(ctx context.Context, g *globals, t *terminal) (err error) {
	if c.Size < 1<<20 || c.Size%(1<<20) != 0 || c.Runs < 1 || c.Delay < 0 {
		return usage("bench of --size %d, --runs %d, --delay %s: want whole MiB, 1 run at least, and no negative delay", c.Size, c.Runs, c.Delay)
	}
	self, err := executable()
	if err != nil {
		return err
	}
	parent, err := c.place()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "xmig-bench-")
	if err != nil {
		return usage("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	measured, err := bench.Series{
		Dir: dir, Size: int64(c.Size), Rounds: c.Runs,
		Options: bench.Options{Plain: !c.TLS, Delay: c.Delay, Start: func(ctx context.Context, _ bench.Role) *exec.Cmd {
			cmd := exec.CommandContext(ctx, self, "bench-end")
			cmd.Stderr = t.Err
			return cmd
		}},
		Tell: func(what string) { fmt.Fprintf(t.Err, "xmig: %s\n", what) },
	}.Run(ctx)
	if err != nil {
		if context.Cause(ctx) != nil {
			return &exitError{code: exitFailed, text: "bench interrupted"}
		}
		return fmt.Errorf("bench: %w", err)
	}
	report := c.report(parent, measured)
	if g.Output == "json" {
		return printJSON(t.Out, report)
	}
	_, err = fmt.Fprint(t.Out, show.BenchTable(report))
	return err
}

// memoryDir is where files lie in memory on every Linux.
const memoryDir = "/dev/shm"

// place is the directory to work in: two disks must fit.
func (c *benchCmd) place() (string, error) {
	need := 2*int64(c.Size) + 64<<20
	if c.Dir == "" {
		if free, name := space(memoryDir); name == "tmpfs" && free > need && freeMemory() > need+1<<30 {
			return memoryDir, nil
		}
		c.Dir = os.TempDir()
	}
	free, name := space(c.Dir)
	if name == "" {
		return "", jobs.Failed(jobs.CodeNotFound, "bench: %s: no such directory", c.Dir)
	}
	if free < need {
		return "", usage("bench: %s has %s free, and two disks need %s: give --size or --dir", c.Dir, show.Bytes(free), show.Bytes(need))
	}
	return c.Dir, nil
}

// space is what a file system has free, and its name; none where there is no such path.
func space(dir string) (free int64, name string) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, ""
	}
	names := map[int64]string{unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
		unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs"}
	name = names[int64(s.Type)]
	if name == "" {
		name = fmt.Sprintf("a file system of type %#x", s.Type)
	}
	return int64(s.Bavail) * s.Bsize, name
}

// freeMemory is what can be had without swapping, 0 where nobody tells.
func freeMemory() int64 {
	var kib int64
	_, rest, _ := strings.Cut(readText("/proc/meminfo"), "\nMemAvailable:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib << 10
}

// readText is a file's content for people to read, empty if there is none.
func readText(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

func (c *benchCmd) report(dir string, measured []bench.Measured) show.Bench {
	_, fs := space(dir)
	_, cpu, _ := strings.Cut(readText("/proc/cpuinfo"), "model name\t: ")
	cpu, _, _ = strings.Cut(cpu, "\n")
	b := show.Bench{Version: thisBuild().String(), Kernel: readText("/proc/sys/kernel/osrelease"), CPU: cpu, Processors: runtime.NumCPU(),
		Dir: filepath.Clean(dir), FileSystem: fs, TLS: c.TLS, Delay: c.Delay, Size: int64(c.Size), Workloads: []show.BenchRow{}, Floors: []show.BenchRow{}}
	for _, m := range measured {
		if m.Floor {
			b.Floors = append(b.Floors, benchRow(m))
		} else {
			b.Workloads = append(b.Workloads, benchRow(m))
		}
	}
	return b
}

// benchRow takes the median of each figure by itself.
func benchRow(m bench.Measured) show.BenchRow {
	gib := float64(m.Bytes) / (1 << 30)
	median := func(figure func(bench.Run) float64) float64 { return bench.MedianBy(m.Runs, figure) }
	r := show.BenchRow{Name: m.Name, Changed: m.Changed,
		Elapsed:         time.Duration(median(func(r bench.Run) float64 { return float64(r.Elapsed) })),
		SourceCPU:       median(func(r bench.Run) float64 { return r.Source.CPU.Seconds() }) / gib,
		DestinationCPU:  median(func(r bench.Run) float64 { return r.Destination.CPU.Seconds() }) / gib,
		CPU:             median(func(r bench.Run) float64 { return r.CPU().Seconds() }) / gib,
		Wire:            int64(median(func(r bench.Run) float64 { return float64(r.Wire()) })),
		SourcePeak:      int64(median(func(r bench.Run) float64 { return float64(r.Source.Peak) })),
		DestinationPeak: int64(median(func(r bench.Run) float64 { return float64(r.Destination.Peak) })),
	}
	r.Rate = show.Over(m.Bytes, r.Elapsed)
	for _, run := range m.Runs {
		r.Runs = append(r.Runs, show.BenchRun{Elapsed: run.Elapsed, SourceCPU: run.Source.CPU, DestinationCPU: run.Destination.CPU,
			Wire: run.Wire(), SourcePeak: run.Source.Peak, DestinationPeak: run.Destination.Peak})
	}
	return r
}

// benchEndCmd is one end of a measurement; `xmig bench` starts two.
type benchEndCmd struct{}

func (benchEndCmd) Run(ctx context.Context) error {
	tuneMemory(1)
	return bench.RunEnd(ctx, os.Stdin, os.Stdout, zerolog.New(os.Stderr).Level(zerolog.WarnLevel), tuneMemory)
}
