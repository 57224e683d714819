package api

import (
	"context"
	"iter"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
)

// Control is what can be asked for. Whoever asks is named in by.
type Control interface {
	Submit(ctx context.Context, spec jobs.Spec) (jobs.Record, error)
	Cancel(ctx context.Context, id, by string) (jobs.Record, error)
	Job(ctx context.Context, id string) (jobs.Record, error)
	Jobs(ctx context.Context) ([]jobs.Record, error)

	Hosts(ctx context.Context) ([]HostView, error) // with those that are marked and not there
	Cordon(ctx context.Context, host, by, reason string) (coordinator.Mark, error)
	Uncordon(ctx context.Context, host, by string) (coordinator.Mark, error)
	Drain(ctx context.Context, r coordinator.DrainRequest) (coordinator.DrainAnswer, error)
	CancelDrain(ctx context.Context, host string, kind coordinator.DrainKind, by string) (coordinator.Mark, error)
	Plan(ctx context.Context, host string, kind coordinator.DrainKind) (coordinator.Plan, error)

	// Events tells what is stored since then, or behind a sequence number if
	// that is not 0, and then what happens, until ctx ends.
	Events(ctx context.Context, f EventFilter) iter.Seq2[jobs.Event, error]
	// Progress is the newest of each job that moves.
	Progress() []jobs.Progress

	TakeAlerts(ctx context.Context, source string, body []byte) (alert.Receipt, error)
	Incidents(ctx context.Context) ([]jobs.Incident, error)
	Mutes(ctx context.Context) ([]jobs.Mute, error)
	Mute(ctx context.Context, r MuteRequest) (jobs.Mute, error)
	Unmute(ctx context.Context, id string) error
	Rules() RulesView
}

// EventFilter picks events.
type EventFilter struct {
	Job, VM, Host, Alert string // one of them, or none
	Since                time.Time
	After                uint64
}

// HostView is a host and what was decided about it.
type HostView struct {
	Name  string            `json:"name"`
	State alert.HostState   `json:"state"`
	Host  *jobs.Host        `json:"host,omitempty"` // as its worker says; missing if it is not seen
	Mark  *coordinator.Mark `json:"mark,omitempty"`
}

// RulesView is what a server does about alerts.
type RulesView struct {
	Server string `json:"server"`
	File   string `json:"file,omitempty"` // empty: it has none, and does nothing about alerts
	Text   string `json:"text,omitempty"`
}

// MuteRequest keeps rules from acting for a while.
type MuteRequest struct {
	Rule   string        `json:"rule,omitempty"`
	Host   string        `json:"host,omitempty"`
	For    time.Duration `json:"for_ns"`
	By     string        `json:"by,omitempty"`
	Reason string        `json:"reason,omitempty"`
}
