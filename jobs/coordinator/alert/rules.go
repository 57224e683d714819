package alert

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/BurntSushi/toml"

	"xmig/jobs"
)

// Rules say which alerts are answered, how, and within which limits. The
// first rule that matches an alert is its only one.
type Rules struct {
	Limits Limits
	Rules  []Rule
}

// Limits hold for all rules together.
type Limits struct {
	Draining int     // hosts that are being emptied at a time
	Keep     int     // hosts that must stay in service, whatever fires
	Storm    float64 // share of all hosts that may alert at once and still be believed
}

// Rule maps alerts to an act.
type Rule struct {
	Name      string
	Match     map[string]*regexp.Regexp // label → the whole value; a label that is not there is empty
	HostLabel string
	Action    jobs.AlertAction
	For       time.Duration // how long it must fire
	Cooldown  time.Duration // between two acts on a host
	How       How           // a host is drained
	Tag       string        // that a host must carry
	Uncordon  bool          // when the alert is over
}

// How says how a host is drained.
type How struct {
	Canary      bool          // one VM first, alone
	Mode        jobs.Mode     // of each move
	MaxDowntime time.Duration // of each move; 0: the usual one
	Deadline    time.Duration // afterwards nothing more is started; 0: the usual one
}

// Defaults of what a file leaves out.
const (
	defaultDraining = 1
	// defaultKeep: with one host left there is nowhere to go when that one fails.
	defaultKeep = 2
	// defaultStorm: when more than half of the hosts alert, the switch or the
	// monitoring itself is ill, and moving VMs about makes it worse.
	defaultStorm     = 0.5
	defaultHostLabel = "instance"
	// defaultFor lets the other alerts of a storm come in before the first is acted on.
	defaultFor      = time.Minute
	defaultCooldown = 6 * time.Hour
	// DefaultTag is what a host carries that rules may act on.
	DefaultTag = "automatic"
	maxRules   = 500
)

// file is the form on disk; what was left out is nil.
type file struct {
	Limits struct {
		Draining *int     `toml:"draining"`
		Keep     *int     `toml:"keep"`
		Storm    *float64 `toml:"storm"`
	} `toml:"limits"`
	Rule []fileRule `toml:"rule"`
}

type fileRule struct {
	Name      string            `toml:"name"`
	Match     map[string]string `toml:"match"`
	HostLabel string            `toml:"host-label"`
	Action    string            `toml:"action"`
	For       *span             `toml:"for"`
	Cooldown  *span             `toml:"cooldown"`
	Canary    *bool             `toml:"canary"`
	Mode      string            `toml:"mode"`
	Downtime  *span             `toml:"max-downtime"`
	Deadline  *span             `toml:"deadline"`
	Tag       *string           `toml:"tag"`
	Resolved  string            `toml:"resolved"`
}

// Keys lists the keys of a rule.
func Keys() (keys []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[fileRule]()) {
		keys = append(keys, f.Tag.Get("toml"))
	}
	return keys
}

// span is a duration such as "5m".
type span time.Duration

func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

// ParseRules reads a file of rules. Keys that it does not know are errors, and
// so is everything that could be meant otherwise than it reads; all are told at once.
func ParseRules(text []byte) (Rules, error) {
	var f file
	meta, err := toml.Decode(string(text), &f)
	if err != nil {
		return Rules{}, jobs.Failed(jobs.CodeUsage, "rules: %w", err)
	}
	var errs []error
	for _, k := range meta.Undecoded() {
		errs = append(errs, fmt.Errorf("unknown key %s", k))
	}
	r := Rules{Limits: Limits{
		Draining: or(f.Limits.Draining, defaultDraining), Keep: or(f.Limits.Keep, defaultKeep), Storm: or(f.Limits.Storm, defaultStorm),
	}}
	errs = append(errs, r.Limits.check()...)
	if len(f.Rule) > maxRules {
		errs = append(errs, fmt.Errorf("%d rules, at most %d", len(f.Rule), maxRules))
	}
	names := map[string]bool{}
	for i, fr := range f.Rule {
		rule, bad := fr.rule()
		if names[rule.Name] {
			bad = append(bad, errors.New("another rule has this name"))
		}
		names[rule.Name] = true
		for _, err := range bad {
			errs = append(errs, fmt.Errorf("rule %d %q: %w", i+1, fr.Name, err))
		}
		r.Rules = append(r.Rules, rule)
	}
	if len(errs) > 0 {
		return Rules{}, jobs.Failed(jobs.CodeUsage, "rules: %w", errors.Join(errs...))
	}
	return r, nil
}

func or[T any](given *T, otherwise T) T {
	if given != nil {
		return *given
	}
	return otherwise
}

func (l Limits) check() (errs []error) {
	if l.Draining < 1 {
		errs = append(errs, fmt.Errorf("limits.draining %d: want 1 or more; a rule with the action notify acts on no host", l.Draining))
	}
	if l.Keep < 1 {
		errs = append(errs, fmt.Errorf("limits.keep %d: want 1 or more: the last host is never drained", l.Keep))
	}
	if !(l.Storm > 0 && l.Storm <= 1) {
		errs = append(errs, fmt.Errorf("limits.storm %v: want a share above 0 and up to 1", l.Storm))
	}
	return errs
}

func (f fileRule) rule() (r Rule, errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	r = Rule{
		Name: f.Name, Match: map[string]*regexp.Regexp{}, HostLabel: f.HostLabel, Action: jobs.AlertAction(f.Action),
		For: time.Duration(or(f.For, span(defaultFor))), Cooldown: time.Duration(or(f.Cooldown, span(defaultCooldown))),
		How: How{Canary: or(f.Canary, true), Mode: jobs.Mode(f.Mode), MaxDowntime: time.Duration(or(f.Downtime, 0)), Deadline: time.Duration(or(f.Deadline, 0))},
		Tag: or(f.Tag, DefaultTag), Uncordon: f.Resolved == "uncordon",
	}
	if r.Name == "" {
		bad("it has no name")
	}
	if r.HostLabel == "" {
		r.HostLabel = defaultHostLabel
	}
	if len(f.Match) == 0 {
		bad("it has no match, so it would take every alert; write match = {alertname = \".*\"} if that is meant")
	}
	for _, label := range slices.Sorted(maps.Keys(f.Match)) {
		re, err := regexp.Compile("^(?s:" + f.Match[label] + ")$")
		if err != nil {
			bad("match %s: %w", label, err)
		}
		r.Match[label] = re
	}
	switch r.Action {
	case jobs.IgnoreAlert, jobs.NotifyAlert, jobs.CordonHost, jobs.DrainHost:
	default:
		bad("action %q: want ignore, notify, cordon or drain", f.Action)
	}
	if f.Resolved != "" && f.Resolved != "keep" && f.Resolved != "uncordon" {
		bad("resolved %q: want keep or uncordon", f.Resolved)
	}
	switch r.How.Mode {
	case "", jobs.Auto, jobs.Live, jobs.Suspend, jobs.Cold:
	default:
		bad("mode %q: want auto, live, suspend or cold", f.Mode)
	}
	if r.How.MaxDowntime < 0 || r.How.Deadline < 0 {
		bad("max-downtime and deadline: want nothing below zero")
	}
	if r.Action != jobs.DrainHost && (f.Canary != nil || f.Mode != "" || f.Downtime != nil || f.Deadline != nil) {
		bad("canary, mode, max-downtime and deadline are for the action drain")
	}
	if r.For < 0 || r.Cooldown < 0 {
		bad("for and cooldown: want nothing below zero")
	}
	if r.Tag == "" {
		bad("tag is empty: a host must be opted in; leave it out for %q", DefaultTag)
	}
	return r, errs
}
