package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
	"xmig/jobs/coordinator/metrics"
)

const alertsDoc = "../../docs/alerts.md"

// TestAlertsDoc: the files in docs/alerts.md are such files, and show every key.
func TestAlertsDoc(t *testing.T) {
	found := map[string]int{}
	for _, m := range fenced.FindAllStringSubmatch(read(t, alertsDoc), -1) {
		found[m[1]]++
		switch kind, text := m[1], m[2]; kind {
		case "toml rules":
			rules, err := alert.ParseRules([]byte(text))
			if err != nil {
				t.Error(err)
			}
			if len(rules.Rules) < 4 {
				t.Errorf("%d rules", len(rules.Rules))
			}
			for _, key := range alert.Keys() {
				if !regexp.MustCompile(`(?m)^` + key + ` = `).MatchString(text) {
					t.Errorf("the example does not show %s", key)
				}
			}
		case "toml clients":
			if _, err := api.ParseAccess([]byte(text)); err != nil {
				t.Error(err)
			}
		case "text", "yaml":
		default:
			t.Errorf("a block of kind %q is checked by nobody", kind)
		}
	}
	if found["toml rules"] != 1 || found["toml clients"] != 1 || found["text"] == 0 {
		t.Errorf("%v: is the pattern right?", found)
	}
}

// TestMetricsDoc: docs/alerts.md lists every metric that there is, and no other.
func TestMetricsDoc(t *testing.T) {
	var rows []string
	for _, m := range metrics.All {
		labels := "–"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", m.Name, m.Kind, labels, m.Of, m.Help))
	}
	want := "| metric | kind | labels | of | what |\n|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	if !strings.Contains(read(t, alertsDoc), "\n\n"+want+"\n") {
		t.Errorf("docs/alerts.md does not have this table:\n%s", want)
	}
}
