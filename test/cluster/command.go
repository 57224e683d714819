package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"xmig/bus"
	"xmig/jobs"
)

// Result is what a command line did.
type Result struct {
	Args   []string
	Code   int
	Stdout string
	Stderr string
}

// Command runs xmig as a person would. What does not end within the cluster's
// patience is a failure.
func (c *Cluster) Command(args ...string) Result {
	c.t.Helper()
	return c.CommandOn(c.Link.URL(), args...)
}

// CommandOn is Command on another bus.
func (c *Cluster) CommandOn(url string, args ...string) Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "XMIG_NATS="+url)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		c.t.Fatalf("xmig %s: %v: %s%s; see %s", strings.Join(args, " "), err, &out, &errs, c.Server.Log)
	}
	return Result{Args: args, Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// MoveArgs is the command line that moves a guest to another host, whose disks
// lie in a directory of its own.
func (c *Cluster) MoveArgs(g *Guest, from, to *Host, more ...string) []string {
	args := append([]string{"submit", "--to", to.Name, "--map", "disk=" + from.disks() + ":" + to.disks(), "--max-downtime", "60s"}, more...)
	return append(args, "--", g.Name)
}

// Submit has the coordinator take a move in, and returns the job's id.
func (c *Cluster) Submit(g *Guest, from, to *Host, more ...string) string {
	c.t.Helper()
	job, err := c.TrySubmit(g, from, to, more...)
	if err != nil {
		c.t.Fatal(err)
	}
	return job
}

// TrySubmit is Submit where a refusal is no failure.
func (c *Cluster) TrySubmit(g *Guest, from, to *Host, more ...string) (job string, err error) {
	c.t.Helper()
	r := c.Command(c.MoveArgs(g, from, to, append([]string{"--detach", "-o", "json"}, more...)...)...)
	var recs []jobs.Record
	if err := json.Unmarshal([]byte(r.Stdout), &recs); err != nil || r.Code != 0 || len(recs) != 1 {
		return "", fmt.Errorf("xmig %s: exit code %d, %v: %s%s; see %s", strings.Join(r.Args, " "), r.Code, err, r.Stdout, r.Stderr, c.Server.Log)
	}
	return recs[0].ID, nil
}

// AwaitEnd waits until the job is final or nobody knows, and returns its record.
func (c *Cluster) AwaitEnd(job string) jobs.Record {
	c.t.Helper()
	return c.AwaitRecord(job, func(r jobs.Record) bool { return r.State.Final() || r.State == jobs.Indeterminate })
}

// AwaitRecord waits for a record as it is wished.
func (c *Cluster) AwaitRecord(job string, wished func(jobs.Record) bool) jobs.Record {
	c.t.Helper()
	ctx, found := context.WithTimeout(context.Background(), patience)
	defer found()
	var last jobs.Record
	ok := false
	err := c.Bus().Records().WatchOne(ctx, job, func(r jobs.Record) {
		if !ok {
			last = r
		}
		if ok = ok || wished(r); ok {
			found()
		}
	})
	if !ok {
		c.t.Fatalf("job %s: %s, step %s, held %+v, failure %+v: not as wished within %s (%v); see the logs of its hosts: %s", job, last.State, last.Step, last.Held, last.Failure, patience, err, c.logsOf(last))
	}
	return last
}

// AwaitStep waits until the job's worker says that a step begins, which it
// does before the step acts.
func (c *Cluster) AwaitStep(job string, step jobs.StepName) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for e, err := range c.Bus().Events(ctx, bus.EventFilter{Job: job, Follow: bus.Forever}) {
		switch {
		case err != nil:
			c.t.Fatalf("job %s: events: %v; see %s", job, err, c.Server.Log)
		case e.What == "step.begin" && e.Step == step:
			return
		case e.State.Final():
			c.t.Fatalf("job %s ended %s and never came to step %s: %s", job, e.State, step, c.Command("job", "show", job).Stdout)
		}
	}
	rec := c.Record(job)
	c.t.Fatalf("job %s did not come to step %s within %s; it is at %s; see %s", job, step, patience, rec.Step, c.logsOf(rec))
}

// logsOf names the logs of a job's two hosts.
func (c *Cluster) logsOf(r jobs.Record) string {
	var logs []string
	for _, h := range c.Hosts {
		if r.ID == "" || h.Name == r.Source || h.Name == r.Destination {
			logs = append(logs, h.Node.Log)
		}
	}
	return strings.Join(logs, ", ")
}

// AwaitSeen waits until the bus knows the guest where it is, and nowhere else:
// a host tells what it has with its heartbeat.
func (c *Cluster) AwaitSeen(g *Guest, at *Host) {
	c.t.Helper()
	c.AwaitGuests(g.UUID, at.Name+" "+g.Name+" "+string(g.State))
}

// AwaitGuests waits until what the bus knows of a name or UUID is as wanted:
// host, name and state of each.
func (c *Cluster) AwaitGuests(name string, want ...string) {
	c.t.Helper()
	c.Eventually(func() error {
		ctx, cancel := c.ask()
		defer cancel()
		hosts, err := c.Bus().Hosts(ctx)
		var seen []string
		for _, h := range hosts {
			if vm, ok := h.Find(name); ok {
				seen = append(seen, h.Node+" "+vm.Name+" "+string(vm.State))
			}
		}
		if err != nil || !slices.Equal(seen, want) {
			return fmt.Errorf("guest %s is seen as %q, want %q (%v); see %s", name, seen, want, err, c.logsOf(jobs.Record{}))
		}
		return nil
	})
}
