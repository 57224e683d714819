package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
)

const (
	// project keeps the test's containers, volumes and network apart from a
	// cluster that somebody brought up by hand.
	project = "xmig-compose-test"
	// busURL is where docker-compose.yml opens the three servers, as in README.md.
	busURL = "nats://127.0.0.1:14222,nats://127.0.0.1:14223,nats://127.0.0.1:14224"
	// whole bounds the test if nobody else does; it takes two minutes.
	whole = 8 * time.Minute
	// tidy is for taking everything down, whatever happened.
	tidy = 90 * time.Second
)

// cluster is the one of docker-compose.yml.
type cluster struct {
	t    *testing.T
	ctx  context.Context
	root string // of the repository
	env  []string
	bus  *bus.Bus
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(whole)
	if d, ok := t.Deadline(); ok && d.Add(-tidy).Before(end) {
		end = d.Add(-tidy)
	}
	ctx, cancel := context.WithDeadlineCause(context.Background(), end, fmt.Errorf("the test's time is over"))
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, root: root, env: append(os.Environ(),
		"COMPOSE_PROJECT_NAME="+project, "XMIG_NATS="+busURL, "NO_COLOR=1",
		"XMIG_MAX_DOWNTIME=1m", // what is proven is not how quick this machine is
		"XMIG_TIMEOUT=30s")}
	t.Cleanup(c.down)
	c.down() // what a killed run left
	return c
}

// down takes everything away. What the containers said is worth having where
// the test failed.
func (c *cluster) down() {
	ctx, cancel := context.WithTimeout(context.Background(), tidy)
	defer cancel()
	if c.bus != nil {
		c.bus.Close()
	}
	if c.t.Failed() {
		said, _ := c.command(ctx, "docker-compose", "logs", "--no-color", "--tail", "60").CombinedOutput()
		c.t.Logf("what the containers said:\n%s", said)
	}
	if out, err := c.command(ctx, "docker-compose", "down", "-v", "-t", "1", "--rmi", "all", "--remove-orphans").CombinedOutput(); err != nil {
		c.t.Errorf("docker-compose down: %v\n%s", err, out)
	}
}

func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.root, c.env, time.Second
	return cmd
}

// run runs a command that must succeed and returns its stdout.
func (c *cluster) run(name string, args ...string) string {
	c.t.Helper()
	var errs strings.Builder
	cmd := c.command(c.ctx, name, args...)
	cmd.Stderr = &errs
	begin := time.Now()
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &errs)
	}
	if took := time.Since(begin); took > time.Second {
		c.t.Logf("%5.1fs  %s %s", took.Seconds(), name, strings.Join(args, " "))
	}
	return string(out)
}

// shell runs a line of README.md as a person types it.
func (c *cluster) shell(line string) { c.t.Helper(); c.run("bash", "-c", line) }

// container finds a service's container: docker itself is ten times as quick
// as docker-compose, whose names differ between its versions.
func (c *cluster) container(service string) string {
	c.t.Helper()
	id := strings.TrimSpace(c.run("docker", "ps", "-aq", "-f", "label=com.docker.compose.project="+project, "-f", "label=com.docker.compose.service="+service))
	if id == "" || strings.Contains(id, "\n") {
		c.t.Fatalf("containers of %s: %q, want one", service, id)
	}
	return id
}

func (c *cluster) kill(service string) { c.t.Helper(); c.run("docker", "kill", c.container(service)) }
func (c *cluster) start(service string) {
	c.t.Helper()
	c.run("docker", "start", c.container(service))
}

// in runs the binary in a host's container.
func (c *cluster) in(host string, args ...string) string {
	c.t.Helper()
	return c.run("docker", append([]string{"exec", c.container(host), "/xmig"}, args...)...)
}

// poll asks until ok.
func (c *cluster) poll(what string, ok func() (bool, string)) {
	c.t.Helper()
	for {
		done, seen := ok()
		if done {
			return
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("never %s: %v; last seen: %s", what, context.Cause(c.ctx), seen)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// awaitHealthy waits until every container says of itself that it is well.
func (c *cluster) awaitHealthy() {
	c.t.Helper()
	begin := time.Now()
	c.poll("healthy", func() (bool, string) {
		out, err := c.command(c.ctx, "docker", "ps", "-a", "-f", "label=com.docker.compose.project="+project, "--format", "{{.Names}} {{.Status}}").Output()
		if err != nil {
			return false, err.Error()
		}
		return strings.Count(string(out), "(healthy)") == containers, string(out)
	})
	c.t.Logf("%5.1fs  all are healthy", time.Since(begin).Seconds())
}

// containers is how many docker-compose.yml describes.
const containers = 8

// onBus is a connection of the test's own.
func (c *cluster) onBus() *bus.Bus {
	c.t.Helper()
	if c.bus == nil {
		b, err := bus.Connect(c.ctx, bus.Config{URL: busURL, Name: "compose test", Log: zerolog.Nop()})
		if err != nil {
			c.t.Fatal(err)
		}
		c.bus = b
	}
	return c.bus
}

func (c *cluster) awaitVM(name, at string) {
	c.t.Helper()
	c.poll(name+" on "+at, func() (bool, string) {
		hosts, err := c.onBus().Hosts(c.ctx)
		for _, h := range hosts {
			if vm, ok := h.Find(name); ok && h.Node == at && vm.State == jobs.VMRunning {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%v %v", hosts, err)
	})
}

// submit gives the job's id, whether it was waited for or not.
func (c *cluster) submit(vm, to string, flags ...string) string {
	c.t.Helper()
	out := c.run("bin/xmig", append([]string{"submit", vm, "--to", to, "-o", "json"}, flags...)...)
	var accepted []jobs.Record
	if err := json.Unmarshal([]byte(out), &accepted); err != nil || len(accepted) != 1 {
		c.t.Fatalf("submit answered %v: %s", err, out)
	}
	return accepted[0].ID
}

func (c *cluster) record(id string) jobs.Record {
	c.t.Helper()
	r, err := c.onBus().Records().Load(c.ctx, id)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// awaitJob follows the record, also while a server of the bus is away.
func (c *cluster) awaitJob(id, what string, ok func(jobs.Record) bool) (last jobs.Record) {
	c.t.Helper()
	c.poll("job "+id+" at "+what, func() (bool, string) {
		r, err := c.onBus().Records().Load(c.ctx, id)
		if err != nil {
			return false, err.Error()
		}
		last = r
		return ok(r), fmt.Sprintf("%s %s", r.State, r.Step)
	})
	return last
}

// leaderOfOwners names the NATS server that decides about owner keys now.
func (c *cluster) leaderOfOwners() (name string) {
	c.t.Helper()
	js, err := jetstream.New(c.onBus().Conn())
	if err != nil {
		c.t.Fatal(err)
	}
	c.poll("a leader of the owner keys", func() (bool, string) {
		s, err := js.Stream(c.ctx, "KV_xmig_vms")
		if err != nil {
			return false, err.Error()
		}
		if info := s.CachedInfo().Cluster; info != nil {
			name = info.Leader
		}
		return name != "", "none"
	})
	return name
}

// acting names the server that has the coordinator's lease.
func (c *cluster) acting() (name string) {
	c.t.Helper()
	c.poll("somebody acting", func() (bool, string) {
		h, err := c.onBus().Leases().Lookup(c.ctx, "coordinator")
		name = h.Node
		return err == nil, fmt.Sprint(err)
	})
	return name
}

var domainLine = regexp.MustCompile(`(?m)^(\S+) +\d+ +\d+ +\d+\s`)

// provenAt: memory, records and witness of the guest are right at one host,
// and no other has a domain of its name.
func (c *cluster) provenAt(name, at string) {
	c.t.Helper()
	c.t.Log(strings.TrimSpace(c.in(at, "simguest", "verify", name, "--host", "/host")))
	for _, host := range []string{"hv1", "hv2", "hv3"} {
		have := 0
		for _, m := range domainLine.FindAllStringSubmatch(c.in(host, "xlsim", "--host", "/host", "xl", "list"), -1) {
			if m[1] == name {
				have++
			}
		}
		if want := map[bool]int{true: 1}[host == at]; have != want {
			c.t.Fatalf("%d domains named %s on %s, want %d", have, name, host, want)
		}
	}
}

// readmeBlock gives the lines of the one fenced block of README.md with that
// info string.
func readmeBlock(t *testing.T, info string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n```"+info+"\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed {
		t.Fatalf("README.md has no block ```%s", info)
	}
	return strings.Split(block, "\n")
}
