package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
)

// The coordinator's verbs about alerts.
const (
	verbRules  = "rules"  // nothing → api.RulesView
	verbMute   = "mute"   // api.MuteRequest → jobs.Mute
	verbUnmute = "unmute" // unmuteRequest → nothing
)

type unmuteRequest struct {
	ID string `json:"id"`
	By string `json:"by"`
}

// serveAlerts answers those verbs.
func serveAlerts(s *bus.Service, c *control) error {
	return errors.Join(
		bus.Serve(s, verbRules, func(context.Context, struct{}) (api.RulesView, error) { return c.Rules(), nil }),
		bus.Serve(s, verbMute, c.Mute),
		bus.Serve(s, verbUnmute, func(ctx context.Context, r unmuteRequest) (struct{}, error) { return struct{}{}, c.Unmute(ctx, r.ID) }),
	)
}

type ruleCmd struct {
	Ls     ruleLsCmd     `cmd:"" help:"List rules, the alerts that they answer, and mutes."`
	Test   ruleTestCmd   `cmd:"" help:"Tell what a file of rules would have done about past alerts. Nothing is done."`
	Mute   ruleMuteCmd   `cmd:"" help:"Keep rules from acting for a while."`
	Unmute ruleUnmuteCmd `cmd:"" help:"End a mute before its time."`
}

func (ruleCmd) Help() string {
	return `Rules say which alerts cordon or drain a host. They are a file of xmig server,
--rules; docs/operations.md has all keys.

Examples:

    xmig rule ls
    xmig rule test rules.toml
    xmig rule mute --host hv1 --for 2h --reason disks`
}

type ruleLsCmd struct{}

func (ruleLsCmd) Help() string {
	return `Shows the rules of one server, whichever answers: give all the same file.

Examples:

    xmig rule ls
    xmig rule ls -o json`
}

// rulesListed is `rule ls -o json`.
type rulesListed struct {
	Rules     api.RulesView   `json:"rules"`
	Incidents []jobs.Incident `json:"incidents"`
	Mutes     []jobs.Mute     `json:"mutes"`
}

func (c *ruleLsCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	ask, cancel := g.ask(ctx)
	defer cancel()
	var l rulesListed
	if l.Rules, err = bus.Call[struct{}, api.RulesView](ask, b.Coordinator(), verbRules, struct{}{}); err != nil {
		return err
	}
	store := newAlertStore(b)
	if l.Incidents, err = store.Incidents(ask); err != nil {
		return err
	}
	if l.Mutes, err = store.Mutes(ask); err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, l)
	}
	rules, err := alert.ParseRules([]byte(l.Rules.Text))
	if err != nil {
		return fmt.Errorf("rules of server %s: %w", l.Rules.Server, err)
	}
	if l.Rules.File == "" {
		fmt.Fprintf(t.Out, "server %s has no rules: nothing is done about alerts (xmig server --rules)\n", l.Rules.Server)
	} else {
		fmt.Fprintf(t.Out, "server %s, %s\n", l.Rules.Server, l.Rules.File)
	}
	_, err = fmt.Fprint(t.Out, show.Rules(rules), show.Incidents(l.Incidents, time.Now()), show.Mutes(l.Mutes))
	return err
}

type ruleTestCmd struct {
	File  string        `arg:"" type:"path" help:"The rules, TOML."`
	Posts string        `placeholder:"FILE" type:"path" help:"Alerts to try them on: webhook posts of Alertmanager or Grafana, one JSON document after another; every firing one is taken for a minute later than the one before (default: those that the bus has stored)."`
	Since time.Duration `default:"720h" help:"How far back to go in what is stored."`
}

func (ruleTestCmd) Help() string {
	return `Uses the hosts as they are now, takes every order for carried out at once, and
room for granted. With alerts from the bus it needs no server but the bus.

Examples:

    # What would these rules have done last month?
    xmig rule test rules.toml
    # And about this post?
    xmig rule test rules.toml --posts post.json`
}

func (c *ruleTestCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	in, err := openText(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	text, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	rules, err := alert.ParseRules(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hosts, err := hostsForRules(ctx, g, b)
	if err != nil {
		return err
	}
	alerts, err := c.alerts(ctx, b)
	if err != nil {
		return err
	}
	lines := alert.Rehearse(rules, hosts, alerts)
	if g.Output == "json" {
		return printJSON(t.Out, lines)
	}
	_, err = fmt.Fprint(t.Out, show.Rehearsal(lines, len(alerts)))
	return err
}

// hostsForRules reads what the bus knows of hosts; no server is needed.
func hostsForRules(ctx context.Context, g *globals, b *bus.Bus) ([]alert.Host, error) {
	ask, cancel := g.ask(ctx)
	defer cancel()
	s := coordinator.Snapshot{Now: time.Now(), Marks: map[string]coordinator.Mark{}}
	var err error
	if s.Hosts, err = b.Hosts(ask); err != nil {
		return nil, err
	}
	marks, err := bus.NewTable[coordinator.Mark](b, "host").List(ask)
	for _, row := range marks {
		s.Marks[row.Key] = row.Value
	}
	return alertHosts(hostViews(s)), err
}

// alerts reads them from the file, or from the story on the bus.
func (c *ruleTestCmd) alerts(ctx context.Context, b *bus.Bus) (all []jobs.Alert, err error) {
	if c.Posts == "" {
		for e, err := range b.Events(ctx, bus.EventFilter{Alert: "*", Since: time.Now().Add(-c.Since)}) {
			if err != nil {
				return nil, err
			}
			if e.Alert != nil && (e.What == "received" || e.What == "resolved") {
				all = append(all, *e.Alert)
			}
		}
		return all, nil
	}
	in, err := openText(c.Posts)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	at := time.Now()
	for dec := json.NewDecoder(in); ; at = at.Add(time.Minute) {
		var post json.RawMessage
		if err := dec.Decode(&post); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, usage("%s: %w", c.Posts, err)
		}
		alerts, rejected, err := alert.Parse("file", post, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Posts, err)
		}
		if len(rejected) > 0 {
			return nil, usage("%s: alert %d of a post: %s", c.Posts, rejected[0].Index+1, rejected[0].Why)
		}
		all = append(all, alerts...)
	}
}

type ruleMuteCmd struct {
	Rule   string        `placeholder:"NAME" help:"Only this rule (default: all)."`
	Host   string        `placeholder:"HOST" help:"Only acts on this host (default: all)."`
	For    time.Duration `required:"" placeholder:"TIME" help:"For how long, such as 2h."`
	Reason string        `placeholder:"TEXT" help:"Why, for those who wonder."`
}

func (ruleMuteCmd) Help() string {
	return `Alerts are still taken in and shown; what was begun goes on. A rule whose mute
ends acts if its alert still fires.

Examples:

    xmig rule mute --for 2h --reason new-switch
    xmig rule mute --rule disks --host hv1 --for 24h`
}

func (c *ruleMuteCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	ask, cancel := g.ask(ctx)
	defer cancel()
	m, err := bus.Call[api.MuteRequest, jobs.Mute](ask, b.Coordinator(), verbMute, api.MuteRequest{Rule: c.Rule, Host: c.Host, For: c.For, By: whoAmI(), Reason: c.Reason})
	if err != nil {
		return err
	}
	if g.Output == "json" {
		return printJSON(t.Out, m)
	}
	_, err = fmt.Fprintf(t.Out, "muted until %s; end it with: xmig rule unmute %s\n", m.Until.Local().Format(time.DateTime), m.ID)
	return err
}

type ruleUnmuteCmd struct {
	ID string `arg:"" help:"The mute's id, as xmig rule ls shows it."`
}

func (ruleUnmuteCmd) Help() string {
	return `Examples:

    xmig rule unmute 01J8Z0000000000000000000AA`
}

func (c *ruleUnmuteCmd) Run(ctx context.Context, g *globals, t *terminal) error {
	b, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	ask, cancel := g.ask(ctx)
	defer cancel()
	if _, err := bus.Call[unmuteRequest, struct{}](ask, b.Coordinator(), verbUnmute, unmuteRequest{ID: c.ID, By: whoAmI()}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.Out, "%s is over\n", c.ID)
	return err
}
