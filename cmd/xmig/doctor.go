package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/node"
)

type doctorCmd struct {
	Host []string `placeholder:"HOST" help:"Only these hosts, besides the bus (default: all that are there)."`
	All  bool     `help:"Show what is in order too."`
}

func (doctorCmd) Help() string {
	return `Looks at the bus, at every host that is there, and at what both say of the VMs:
versions, rights, clocks, durability, what moves left behind (paused copies,
--incoming, --migratedaway, drafts, saved images, locks, claims, shadows). It
changes nothing, and names the way out of each finding. Exit code 1 if a finding
is bad, 0 if none is.

Examples:

    xmig doctor
    xmig doctor --all
    xmig doctor --host hv1 -o json`
}

func (c *doctorCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := c.examine(ctx, g, b)
	if err != nil {
		return err
	}
	if g.Output == "json" {
		err = printJSON(t.Out, list(found))
	} else {
		_, err = fmt.Fprint(t.Out, show.Findings(found, c.All))
	}
	if err == nil && slices.ContainsFunc(found, func(f jobs.Finding) bool { return f.Level == jobs.Bad }) {
		err = &exitError{code: exitFailed}
	}
	return err
}

// examine asks everybody at once; who does not answer is a finding.
func (c *doctorCmd) examine(ctx context.Context, g *globals, b *bus.Bus) ([]jobs.Finding, error) {
	hosts, err := living(ctx, g, b)
	if err != nil {
		return nil, err
	}
	ask, cancel := g.ask(ctx)
	defer cancel()
	found := b.Examine(ask)
	services, err := b.Services(ask)
	if err != nil {
		return nil, err
	}
	found = append(found, judgeServices(services)...)
	keys, err := b.Owners().List(ask)
	if err != nil {
		found = append(found, jobs.Finding{Level: jobs.Bad, Code: "keys", Text: err.Error(), Next: "`xmig recover` makes them anew"})
	}
	records, err := b.Records().List(ask)
	if err != nil {
		found = append(found, jobs.Finding{Level: jobs.Bad, Code: "records", Text: err.Error(), Next: "use the version that wrote them"})
	}
	found = append(found, jobs.Accounts(keys, records, hosts)...)
	for _, name := range c.Host {
		if !slices.ContainsFunc(hosts, func(h jobs.Host) bool { return h.Node == name }) {
			found = append(found, jobs.Finding{Host: name, Level: jobs.Bad, Code: "host", Text: "it is not there", Next: "start `xmig node` on it"})
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, h := range hosts {
		if len(c.Host) > 0 && !slices.Contains(c.Host, h.Node) {
			continue
		}
		all.Go(func() {
			of := examineHost(ask, b, h)
			mu.Lock()
			defer mu.Unlock()
			found = append(found, of...)
		})
	}
	all.Wait()
	return found, nil
}

func examineHost(ctx context.Context, b *bus.Bus, h jobs.Host) []jobs.Finding {
	asked := time.Now()
	e, err := bus.Call[struct{}, node.Examined](ctx, b.Node(h.Node), verbExamine, struct{}{})
	answered := time.Now()
	if err != nil {
		return []jobs.Finding{{Host: h.Node, Level: jobs.Bad, Code: "host", Text: err.Error(), Next: "see the log of its worker"}}
	}
	found := e.Findings
	// The examination itself takes a while; its clock is read at the end.
	if took := answered.Sub(asked); took > 0 {
		asked = answered.Add(-min(took, time.Second))
	}
	return append(found, jobs.Drift(h.Node, asked, answered, e.At))
}

// judgeServices compares versions, and tells how durable the bus is.
func judgeServices(all []bus.ServiceSeen) (found []jobs.Finding) {
	servers := 0
	for _, s := range all {
		who := s.Meta["node"]
		if s.Meta["server"] != "" {
			who, servers = s.Meta["server"], servers+1
			switch s.Meta["sync"] {
			case string(bus.SyncLazy):
				found = append(found, jobs.Finding{Host: who, Level: jobs.Bad, Code: "sync", Text: "its bus writes records lazily: a power failure loses what was acknowledged", Next: "run `xmig server` with --sync always"})
			case "":
				found = append(found, jobs.Finding{Host: who, Level: jobs.Warn, Code: "sync", Text: "it uses a bus of yours, whose sync_interval nobody can ask for", Next: "see that it is `always` (docs/operations.md)"})
			}
		}
		if v := s.Meta["version"]; v != "" && v != thisBuild().String() {
			found = append(found, jobs.Finding{Host: who, Level: jobs.Warn, Code: "version", Text: fmt.Sprintf("%s is of version %s, this command of %s", s.Name, v, thisBuild()), Next: "run one version everywhere"})
		}
	}
	if servers == 0 {
		found = append(found, jobs.Finding{Level: jobs.Bad, Code: "server", Text: "no server answers: nobody takes submissions", Next: "start `xmig server`"})
	}
	return found
}
