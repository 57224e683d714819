package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// AlertStatus is what a monitoring system says of an alert.
type AlertStatus string

const (
	Firing   AlertStatus = "firing"
	Resolved AlertStatus = "resolved"
)

// Alert is one alert, as a monitoring system told it.
type Alert struct {
	Fingerprint string            `json:"fingerprint"` // of its labels: Fingerprint
	Status      AlertStatus       `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"starts_at,omitzero"` // by the sender's clock
	Source      string            `json:"source"`             // who sent it
	Seen        time.Time         `json:"seen"`               // by the clock of the server that took it in
}

// Fingerprint names an alert by its labels: the same labels are the same
// alert, whoever sends it and however often.
func Fingerprint(labels map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(h, "%d %s %d %s ", len(k), k, len(labels[k]), labels[k])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// AlertAction is what a rule has done about an alert.
type AlertAction string

const (
	IgnoreAlert AlertAction = "ignore"
	NotifyAlert AlertAction = "notify" // an event and a line in the log
	CordonHost  AlertAction = "cordon"
	DrainHost   AlertAction = "drain"
)

// IncidentState is where the answer to an alert stands.
type IncidentState string

const (
	Waiting        IncidentState = "waiting"  // not firing for long enough yet
	HeldBack       IncidentState = "held"     // something stands against the act; looked at again
	Acting         IncidentState = "acting"   // ordered; the order is repeated until it is taken
	Acted          IncidentState = "acted"    // the order was taken
	IncidentIsOver IncidentState = "resolved" // the alert is over and nothing is left to do
)

// Incident is an alert that a rule answers, and how far the answer is. It is
// changed by compare-and-swap; the state is written before what it says is done.
type Incident struct {
	Alert    Alert         `json:"alert"`
	Rule     string        `json:"rule"`
	Action   AlertAction   `json:"action"`
	Host     string        `json:"host,omitempty"` // node, empty while no host is known by what the alert says
	State    IncidentState `json:"state"`
	Obstacle string        `json:"obstacle,omitempty"` // what holds it, in a word for programs
	Reason   string        `json:"reason"`
	Since    time.Time     `json:"since"`             // firing without a break since
	Resolved time.Time     `json:"resolved,omitzero"` // zero while it fires
	ActedAt  time.Time     `json:"acted_at,omitzero"` // when the last act on the host was ordered, also for an earlier firing
	Updated  time.Time     `json:"updated"`

	// Revision is the store's; zero means never stored.
	Revision uint64 `json:"-"`
}

// Fires reports whether the alert is not over.
func (i Incident) Fires() bool { return i.Resolved.IsZero() }

// Mute keeps rules from acting for a while. Rule and Host narrow it down;
// with neither, it keeps all rules from acting.
type Mute struct {
	ID      string    `json:"id"`
	Rule    string    `json:"rule,omitempty"`
	Host    string    `json:"host,omitempty"`
	Until   time.Time `json:"until"`
	By      string    `json:"by"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
}

// Covers reports whether the mute keeps the rule from acting on the host at that time.
func (m Mute) Covers(rule, host string, at time.Time) bool {
	return at.Before(m.Until) && (m.Rule == "" || m.Rule == rule) && (m.Host == "" || m.Host == host)
}
