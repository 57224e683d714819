package alert

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"xmig/jobs"
)

// Bounds of what is taken in. Alertmanager's own defaults stay far below.
const (
	MaxPost       = 1 << 20 // bytes
	maxAlerts     = 1000    // in one post
	maxLabels     = 64      // and as many annotations
	maxLabelName  = 128     // bytes
	maxLabelValue = 1024
)

// post is the webhook of Alertmanager, version 4, and of Grafana, which has
// the same form and fields of its own beside it. More fields may come any day.
type post struct {
	Version string      `json:"version"`
	Alerts  []postAlert `json:"alerts"`
}

type postAlert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
}

// Rejected is an alert of a post that was not taken in.
type Rejected struct {
	Index int    `json:"index"` // from 0
	Why   string `json:"why"`
}

// Parse reads a post. One alert that is not in order does not take the others
// with it; an error is about the post as a whole.
func Parse(source string, body []byte, now time.Time) ([]jobs.Alert, []Rejected, error) {
	bad := func(format string, args ...any) ([]jobs.Alert, []Rejected, error) {
		return nil, nil, jobs.Failed(jobs.CodeUsage, "post of alerts: %w", fmt.Errorf(format, args...))
	}
	if len(body) > MaxPost {
		return bad("%d bytes, at most %d", len(body), MaxPost)
	}
	var p post
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&p); err != nil {
		return bad("%w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("something stands behind the JSON object")
	}
	switch {
	case p.Version != "4" && p.Version != "1":
		return bad("version %.20q: want 4 of Alertmanager or 1 of Grafana", p.Version)
	case len(p.Alerts) == 0:
		return bad("it has no alerts")
	case len(p.Alerts) > maxAlerts:
		return bad("%d alerts, at most %d; set max_alerts", len(p.Alerts), maxAlerts)
	}
	var good []jobs.Alert
	var rejected []Rejected
	for i, a := range p.Alerts {
		alert, err := a.alert(source, now)
		if err != nil {
			rejected = append(rejected, Rejected{Index: i, Why: err.Error()})
			continue
		}
		good = append(good, alert)
	}
	return good, rejected, nil
}

func (a postAlert) alert(source string, now time.Time) (jobs.Alert, error) {
	status := jobs.AlertStatus(a.Status)
	if status != jobs.Firing && status != jobs.Resolved {
		return jobs.Alert{}, fmt.Errorf("status %.20q: want firing or resolved", a.Status)
	}
	if len(a.Labels) == 0 {
		return jobs.Alert{}, errors.New("it has no labels")
	}
	labels, err := texts("label", a.Labels)
	if err != nil {
		return jobs.Alert{}, err
	}
	notes, err := texts("annotation", a.Annotations)
	if err != nil {
		return jobs.Alert{}, err
	}
	return jobs.Alert{Fingerprint: jobs.Fingerprint(labels), Status: status, Labels: labels, Annotations: notes,
		StartsAt: a.StartsAt.UTC(), Source: source, Seen: now}, nil
}

// texts checks names and values, and makes the values fit to be printed. An
// annotation that is too long is cut; a label decides, so it is refused.
func texts(what string, in map[string]string) (map[string]string, error) {
	if len(in) > maxLabels {
		return nil, fmt.Errorf("%d %ss, at most %d", len(in), what, maxLabels)
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		if k == "" || len(k) > maxLabelName || strings.ContainsFunc(k, unprintable) {
			return nil, fmt.Errorf("%s name %.40q: want 1 to %d printable bytes", what, k, maxLabelName)
		}
		if len(v) > maxLabelValue {
			if what == "label" {
				return nil, fmt.Errorf("label %s has %d bytes, at most %d", k, len(v), maxLabelValue)
			}
			v = strings.ToValidUTF8(v[:maxLabelValue], "")
		}
		out[k] = Printable(v)
	}
	return out, nil
}

// Printable is text that does nothing to a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// Summary is an alert in a few words.
func Summary(a jobs.Alert) string {
	name := cmp.Or(a.Labels["alertname"], "alert "+a.Fingerprint)
	if text := cmp.Or(a.Annotations["summary"], a.Annotations["description"]); text != "" {
		const most = 160 // runes of one line
		if r := []rune(text); len(r) > most {
			text = string(r[:most-1]) + "…"
		}
		return name + " (" + text + ")"
	}
	return name
}
