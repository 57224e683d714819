package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// Role is one end of a pair.
type Role string

const (
	Source      Role = "source"
	Destination Role = "destination"
)

// Run is one measured run: how long, and what each end took.
type Run struct {
	Elapsed     time.Duration `json:"elapsed_ns"`
	Source      Usage         `json:"source"`
	Destination Usage         `json:"destination"`
	Sent        []Disk        `json:"sent,omitempty"`  // what the source counted
	Taken       []Disk        `json:"taken,omitempty"` // what the destination counted
}

// CPU is that of both ends.
func (r Run) CPU() time.Duration { return r.Source.CPU + r.Destination.CPU }

// Wire is what blocksync counted on the way, both directions: payloads and heads.
func (r Run) Wire() (n int64) {
	for _, d := range r.Sent {
		n += d.Counts.Wire
	}
	return n
}

// Read is what both ends read of their disks.
func (r Run) Read() (n int64) {
	for _, d := range append(append([]Disk{}, r.Sent...), r.Taken...) {
		n += d.Counts.Read
	}
	return n
}

// Options of a pair.
type Options struct {
	// Start makes the command of one end, not started: `xmig bench-end`.
	Start func(ctx context.Context, r Role) *exec.Cmd
	Plain bool          // lanes without TLS
	Delay time.Duration // round trip added to every connection
}

// Pair is two processes and what lies between them.
type Pair struct {
	source, destination *process
	delay               *Delay
}

type process struct {
	role  Role
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *json.Decoder
}

// Addresses on loopback: the destination listens on one, and is reached at the
// other if a proxy lies between.
const (
	here  = "127.0.0.1"
	there = "127.0.0.2"
)

// StartPair starts both ends. They end with Close, with ctx, or with this process.
func StartPair(ctx context.Context, o Options) (p *Pair, err error) {
	p = &Pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.destination, err = startProcess(ctx, o, Destination); err != nil {
		return p, err
	}
	if p.source, err = startProcess(ctx, o, Source); err != nil {
		return p, err
	}
	s := Serving{Listen: here, Advertise: here, Plain: o.Plain}
	if o.Delay > 0 {
		s.Advertise = there
	}
	a, err := p.destination.ask(order{Do: doServe, Serve: s})
	if err != nil || o.Delay == 0 {
		return p, err
	}
	port := strconv.Itoa(a.Port)
	p.delay, err = StartDelay(ctx, net.JoinHostPort(there, port), net.JoinHostPort(here, port), o.Delay/2)
	return p, err
}

func startProcess(ctx context.Context, o Options, r Role) (*process, error) {
	p := &process{role: r, cmd: o.Start(ctx, r)}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w", r, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w", r, err)
	}
	p.stdin, p.out = in, json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench %s: %w", r, err)
	}
	return p, nil
}

// ask gives an order and takes one answer.
func (p *process) ask(o order) (answer, error) {
	if err := json.NewEncoder(p.stdin).Encode(o); err != nil {
		return answer{}, fmt.Errorf("bench %s: order %s: %w", p.role, o.Do, err)
	}
	return p.next()
}

func (p *process) next() (answer, error) {
	var a answer
	if err := p.out.Decode(&a); err != nil {
		return a, fmt.Errorf("bench %s: no answer: %w", p.role, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("bench %s: %s", p.role, a.Error)
	}
	return a, nil
}

// Close ends both processes and waits for them.
func (p *Pair) Close() error {
	var errs []error
	for _, e := range []*process{p.source, p.destination} {
		if e == nil {
			continue
		}
		errs = append(errs, e.stdin.Close())
		if err := e.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("bench %s: %w", e.role, err))
		}
	}
	if p.delay != nil {
		errs = append(errs, p.delay.Close())
	}
	return errors.Join(errs...)
}

// Sync moves the disks of some lanes, all at once.
func (p *Pair) Sync(lanes []Lane, s Settings) (Run, error) {
	begin := time.Now()
	first, err := p.destination.ask(order{Do: doReceive, Lanes: lanes, Settings: s})
	if err != nil {
		return Run{}, err
	}
	return p.both(begin, order{Do: doSend, Lanes: lanes, Tickets: first.Tickets, Settings: s})
}

// Pump sends bytes over a floor.
func (p *Pair) Pump(f Floor, bytes int64) (Run, error) {
	begin := time.Now()
	first, err := p.destination.ask(order{Do: doSink, Floor: f})
	if err != nil {
		return Run{}, err
	}
	return p.both(begin, order{Do: doPump, Floor: f, Where: first.Where, Bytes: bytes})
}

// both has the source do its part while the destination does its own. An error
// of one end soon is one of the other too: the lane or connection breaks.
func (p *Pair) both(begin time.Time, o order) (r Run, err error) {
	var src, dst answer
	var g errgroup.Group
	g.Go(func() (err error) { src, err = p.source.ask(o); return err })
	g.Go(func() (err error) { dst, err = p.destination.next(); return err })
	err = g.Wait()
	return Run{Elapsed: time.Since(begin), Source: src.Usage, Destination: dst.Usage, Sent: src.Disks, Taken: dst.Disks}, err
}

// Digest digests bytes at the source, on one core.
func (p *Pair) Digest(bytes int64) (Run, error) { return p.alone(order{Do: doDigest, Bytes: bytes}) }

// Read reads a file at the source, past the page cache, one MiB at a time.
func (p *Pair) Read(path string) (Run, error) { return p.alone(order{Do: doRead, Path: path}) }

func (p *Pair) alone(o order) (Run, error) {
	begin := time.Now()
	a, err := p.source.ask(o)
	return Run{Elapsed: time.Since(begin), Source: a.Usage}, err
}
