package jobs

import (
	"strconv"
	"time"
)

// Flag is a condition beside the state, with its reason.
type Flag struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Failure is why a job, or an attempt of it, did not succeed.
type Failure struct {
	Step     StepName  `json:"step,omitempty"`
	Class    Class     `json:"class"`
	Code     Code      `json:"code"`
	Text     string    `json:"text"`
	Blockers []Blocker `json:"blockers,omitempty"`
	At       time.Time `json:"at"`
	Attempt  int       `json:"attempt"`
}

// Record is the truth about one job. It is changed only by compare-and-swap,
// by the coordinator until Planned, by the source node from then on.
type Record struct {
	ID          string     `json:"id"`
	Spec        Spec       `json:"spec"`
	VM          VMRef      `json:"vm"`
	Source      string     `json:"source"`
	Destination string     `json:"destination"`
	Map         Mapping    `json:"map,omitzero"` // of the spec and of both hosts' pools; written when it is placed
	State       State      `json:"state"`
	Step        StepName   `json:"step,omitempty"` // the last step begun
	Done        []StepName `json:"done,omitempty"` // steps finished in this attempt
	Attempt     int        `json:"attempt"`        // from 1
	Epoch       uint64     `json:"epoch"`          // won by this attempt's own swap, 0 before
	Plan        Plan       `json:"plan"`           // what check decided
	HandedOver  bool       `json:"handed_over"`    // the line is behind us

	Held     *Flag `json:"held,omitempty"`
	Paused   *Flag `json:"paused,omitempty"`
	Degraded *Flag `json:"degraded,omitempty"`
	Cancel   *Flag `json:"cancel,omitempty"` // a person asked to stop
	Word     *Word `json:"word,omitempty"`   // what a person vouched for when the job was resolved

	Failure  *Failure  `json:"failure,omitempty"`  // of the last attempt that failed
	Failures int       `json:"failures"`           // attempts that failed so far
	Leftover []string  `json:"leftover,omitempty"` // what could not be cleaned yet, and where
	Report   Report    `json:"report"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Updated  time.Time `json:"updated"`

	// Revision is the store's; zero means never stored.
	Revision uint64 `json:"-"`
}

// AttemptID names this attempt in the owner key, journals and doorbells.
func (r *Record) AttemptID() string { return r.ID + "." + strconv.Itoa(r.Attempt) }

// Has reports whether this attempt has finished step s.
func (r *Record) Has(s StepName) bool {
	for _, d := range r.Done {
		if d == s {
			return true
		}
	}
	return false
}

// Job is what both ends must know to do a step.
func (r *Record) Job() Job {
	spec := r.Spec
	spec.Map = spec.Map.With(r.Map)
	return Job{
		ID: r.ID, Attempt: r.AttemptID(), Epoch: r.Epoch, Kind: r.Spec.Kind,
		VM: r.VM, Source: r.Source, Destination: r.Destination,
		Spec: spec, Plan: r.Plan, Word: r.Word,
	}
}
