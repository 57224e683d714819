package alert

import (
	"slices"
	"strings"

	"xmig/jobs"
)

// Match gives the first rule that an alert falls under.
func (r Rules) Match(a jobs.Alert) (Rule, bool) {
	for _, rule := range r.Rules {
		if rule.matches(a) {
			return rule, true
		}
	}
	return Rule{}, false
}

// answer gives the rule that does something about an alert; nil: none does.
func (r Rules) answer(a jobs.Alert) *Rule {
	rule, ok := r.Match(a)
	if !ok || rule.Action == jobs.IgnoreAlert {
		return nil
	}
	return &rule
}

func (r Rule) matches(a jobs.Alert) bool {
	for label, want := range r.Match {
		if !want.MatchString(a.Labels[label]) {
			return false
		}
	}
	return true
}

// acts reports whether the rule does something to a host.
func (r Rule) acts() bool { return r.Action == jobs.CordonHost || r.Action == jobs.DrainHost }

// index finds hosts by what alerts call them.
type index map[string][]string // a node's name or a host name in small letters → nodes

func newIndex(hosts []Host) index {
	x := index{}
	add := func(name, node string) {
		if name != "" && !slices.Contains(x[name], node) {
			x[name] = append(x[name], node)
		}
	}
	for _, h := range hosts {
		add(h.Node, h.Node)
		add(strings.ToLower(h.Hostname), h.Node)
	}
	return x
}

// find gives the one node that a label's value means: whole, without a port,
// or without port and domain, in this order. A value that means two hosts
// means none.
func (x index) find(value string) (node string, ok bool) {
	value = strings.ToLower(strings.TrimSpace(value))
	bare := value
	if i := strings.LastIndexByte(value, ':'); i >= 0 {
		bare = value[:i]
	}
	short, _, _ := strings.Cut(bare, ".")
	for _, name := range []string{value, bare, short} {
		if nodes := x[name]; len(nodes) > 0 {
			return nodes[0], len(nodes) == 1
		}
	}
	return "", false
}
