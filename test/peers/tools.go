package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"xmig/blocksync"
	"xmig/cmd/xmig/bench"
)

// tool is one way to make the destination equal to the source.
type tool struct {
	name string
	in   string // the workloads that it is measured in, words
	more string // workloads that it is in for comparison only: no bar speaks of it there
	run  func(ctx context.Context, c *contest, s *bench.Stage) (result, error)
}

// measured reports whether the tool runs in a workload.
func (t tool) measured(workload string, needed bool) bool {
	return slices.Contains(strings.Fields(t.in), workload) || !needed && slices.Contains(strings.Fields(t.more), workload)
}

// Names that bars refer to.
const (
	xmigOff     = "xmig"
	xmigOn      = "xmig, zstd"
	xmigPlain   = "xmig, no TLS"
	xmigKnown   = "xmig, untouched"
	xmigDelayed = "xmig, +10 ms"
	ddSSH       = "dd | ssh"
	ddZstdSSH   = "dd | zstd -1 | ssh"
	nbdcopy     = "nbdcopy"
	qemuImg     = "qemu-img"
	rsyncDaemon = "rsync daemon"
	rsyncSSH    = "rsync over ssh"
	laneAlone   = "lane alone"
	tlsAlone    = "TLS TCP alone"
	tcpAlone    = "TCP alone"
)

// roundTrip of workload D.
const roundTrip = 10 * time.Millisecond

// tools in the order of a round.
func tools() []tool {
	off := bench.Settings{Compress: blocksync.CompressOff}
	on := bench.Settings{Compress: blocksync.CompressOn}
	return []tool{
		{xmigOff, "W1 W2 W3 W3b", "", xmig(off, bench.Options{})},
		{xmigKnown, "W2", "", untouched},
		{xmigDelayed, "D", "", xmig(off, bench.Options{Delay: roundTrip})},
		{xmigOff, "D", "", xmig(off, bench.Options{})},
		{xmigOn, "W1", "", xmig(on, bench.Options{})},
		{xmigPlain, "W1", "", xmig(off, bench.Options{Plain: true})},
		{rsyncDaemon, "W2 W3 W3b", "W1", rsync(func(c *contest, dst string) []string { return []string{c.d.rsync + dst} })},
		{rsyncSSH, "", "W2 W3 W3b", rsync(func(c *contest, dst string) []string {
			last := len(c.d.ssh) - 1
			return []string{"-e", strings.Join(c.d.ssh[:last], " "), c.d.ssh[last] + ":" + filepath.Join(c.dir, dst)}
		})},
		{ddSSH, "W1", "", pipe("dd if={source} bs=1M status=none | {ssh} 'dd of={destination} bs=1M iflag=fullblock conv=notrunc status=none'")},
		{ddZstdSSH, "W1", "", pipe("dd if={source} bs=1M status=none | zstd -1 -T1 -q -c | {ssh} 'zstd -dcq | dd of={destination} bs=1M iflag=fullblock conv=notrunc status=none'")},
		{nbdcopy, "W1", "", nbd("nbdcopy --flush {source} {nbd}")},
		{qemuImg, "", "W1", nbd("qemu-img convert -n -f raw -O raw -W -m 8 {source} {nbd}")},
		{laneAlone, "lane", "", floor(bench.BareLane)},
		{tlsAlone, "lane", "", floor(bench.TLSTCP)},
		{tcpAlone, "", "lane", floor(bench.RawTCP)},
	}
}

// ends starts xmig's two processes, each in its cgroup.
func (c *contest) ends(o bench.Options) bench.Options {
	o.Start = func(ctx context.Context, r bench.Role) *exec.Cmd {
		cmd := c.m.in(r, exec.CommandContext(ctx, c.xmig, "bench-end"))
		cmd.Stderr = c.log
		return cmd
	}
	return o
}

// pair measures with two new processes, from the order to both answers.
func (c *contest) pair(ctx context.Context, o bench.Options, run func(*bench.Pair) (bench.Run, error)) (res result, err error) {
	p, err := bench.StartPair(ctx, c.ends(o))
	if err != nil {
		return res, err
	}
	defer func() {
		if cerr := p.Close(); err == nil {
			err = cerr
		}
	}()
	return c.counted(ctx, p, run)
}

// counted measures one run of a pair that stands ready.
func (c *contest) counted(ctx context.Context, p *bench.Pair, run func(*bench.Pair) (bench.Run, error)) (res result, err error) {
	res.cost, err = c.m.measure(ctx, func(context.Context) error {
		r, err := run(p)
		res.SourcePeak, res.DestinationPeak, res.Read = r.Source.Peak, r.Destination.Peak, r.Read()
		return err
	})
	return res, err
}

func xmig(set bench.Settings, o bench.Options) func(context.Context, *contest, *bench.Stage) (result, error) {
	return func(ctx context.Context, c *contest, s *bench.Stage) (result, error) {
		return c.pair(ctx, o, func(p *bench.Pair) (bench.Run, error) { return p.Sync(s.Lane(), set) })
	}
}

// untouched syncs twice and measures the second time, when both ends know that
// nobody wrote since the first.
func untouched(ctx context.Context, c *contest, s *bench.Stage) (res result, err error) {
	p, err := bench.StartPair(ctx, c.ends(bench.Options{}))
	if err != nil {
		return res, err
	}
	defer func() {
		if cerr := p.Close(); err == nil {
			err = cerr
		}
	}()
	set := bench.Settings{Compress: blocksync.CompressOff}
	before, err := p.Sync(s.Lane(), set)
	if err != nil {
		return res, err
	}
	lanes := s.Lane()
	lanes[0].Disks[0].Since = before.Sent[0].Root
	return c.counted(ctx, p, func(p *bench.Pair) (bench.Run, error) { return p.Sync(lanes, set) })
}

func floor(f bench.Floor) func(context.Context, *contest, *bench.Stage) (result, error) {
	return func(ctx context.Context, c *contest, s *bench.Stage) (result, error) {
		return c.pair(ctx, bench.Options{}, func(p *bench.Pair) (bench.Run, error) { return p.Pump(f, s.Image.Size) })
	}
}

// shell measures a command line at the source.
func (c *contest) shell(ctx context.Context, line string, s *bench.Stage) (res result, err error) {
	line = strings.NewReplacer("{source}", s.Source, "{destination}", s.Destination, "{ssh}", strings.Join(c.d.ssh, " "),
		"{nbd}", fmt.Sprintf("nbd://%s:%d", host, nbdPort)).Replace(line)
	return c.command(ctx, "bash", "-euo", "pipefail", "-c", line)
}

func (c *contest) command(ctx context.Context, name string, args ...string) (res result, err error) {
	res.cost, err = c.m.measure(ctx, func(ctx context.Context) error {
		cmd := c.m.in(bench.Source, exec.CommandContext(ctx, name, args...))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
		return nil
	})
	return res, err
}

func pipe(line string) func(context.Context, *contest, *bench.Stage) (result, error) {
	return func(ctx context.Context, c *contest, s *bench.Stage) (result, error) { return c.shell(ctx, line, s) }
}

// nbd has nbdkit serve the destination.
func nbd(line string) func(context.Context, *contest, *bench.Stage) (result, error) {
	return func(ctx context.Context, c *contest, s *bench.Stage) (res result, err error) {
		stop, err := c.d.serve(ctx, nbdPort, "nbdkit", "-f", "--ipaddr", host, "--port", strconv.Itoa(nbdPort), "file", s.Destination)
		if err != nil {
			return res, err
		}
		defer func() {
			if serr := stop(); err == nil {
				err = serr
			}
		}()
		return c.shell(ctx, line, s)
	}
}

// rsync as for block devices: times say nothing, blocks are written in place.
func rsync(to func(c *contest, dst string) []string) func(context.Context, *contest, *bench.Stage) (result, error) {
	return func(ctx context.Context, c *contest, s *bench.Stage) (result, error) {
		args := []string{"--ignore-times", "--inplace", "--no-whole-file", "--copy-devices", "--write-devices", s.Source}
		if where := to(c, filepath.Base(s.Destination)); len(where) > 1 {
			args = append(append(where[:2:2], args...), where[2])
		} else {
			args = append(args, where[0])
		}
		return c.command(ctx, "rsync", args...)
	}
}
