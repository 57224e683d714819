package coordinator

import (
	"fmt"
	"time"

	"xmig/jobs"
)

// Mark is what people and rules decided about a host. It outlives the host's
// presence and every coordinator; it changes only by compare-and-swap.
type Mark struct {
	Node   string `json:"node"`
	Cordon *Order `json:"cordon,omitempty"` // keeps new VMs off it
	Drain  *Drain `json:"drain,omitempty"`  // the newest: a drain or a restore, under way or ended
	Away   []Away `json:"away,omitempty"`   // VMs that a drain moved away and whose home this is
}

// Order is who decided something, when and why.
type Order struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	Drain  string    `json:"drain,omitempty"` // id of the drain that gave it, and takes it back if it is cancelled
}

// Away is a VM that is not at home.
type Away struct {
	VM    jobs.VMRef `json:"vm"`
	Since time.Time  `json:"since"`
}

// DrainKind says which way the VMs go.
type DrainKind string

const (
	Emptying DrainKind = "drain"   // all VMs leave the host
	Homing   DrainKind = "restore" // those whose home it is come back
)

// DrainState is where a drain or a restore stands.
type DrainState string

const (
	DrainWaiting   DrainState = "waiting"   // for the host before it in a roll, or for its hook
	DrainRunning   DrainState = "running"   // VMs are moved
	DrainHeld      DrainState = "held"      // nothing more can be done now; it says why, and goes on when that changes
	DrainFinishing DrainState = "finishing" // all is moved; its hook runs
	DrainDone      DrainState = "done"      // the host is empty of managed VMs; or all that can be are home
	DrainCancelled DrainState = "cancelled" // by a person; what was moved stays where it is
	DrainFailed    DrainState = "failed"    // it never began: no proof that all VMs fit elsewhere, or its hook said no
)

// Ended reports whether a drain in s never changes again.
func (s DrainState) Ended() bool {
	return s == DrainDone || s == DrainCancelled || s == DrainFailed
}

// Drain is the durable account of emptying a host or bringing its VMs home.
type Drain struct {
	ID       string     `json:"id"`
	Kind     DrainKind  `json:"kind"`
	State    DrainState `json:"state"`
	Text     string     `json:"text,omitempty"` // why it is in this state
	By       string     `json:"by"`
	Reason   string     `json:"reason,omitempty"`
	Whole    bool       `json:"whole,omitempty"`  // begin only if every VM has a place to go
	Canary   bool       `json:"canary,omitempty"` // the first VM goes alone; if it does not arrive nobody follows
	After    string     `json:"after,omitempty"`  // host that must be done and well first
	How      jobs.Spec  `json:"how"`              // what each VM's job asks for, but for VM and hosts
	Begun    time.Time  `json:"begun"`
	Deadline time.Time  `json:"deadline"` // afterwards nothing more is started; nothing is ever killed
	Ended    time.Time  `json:"ended,omitzero"`
	Blind    time.Time  `json:"blind,omitzero"`    // since when the host is not there, or does not know its VMs
	Asked    bool       `json:"asked,omitempty"`   // the hook before it said yes
	Told     bool       `json:"told,omitempty"`    // the hook after it ran
	Planned  bool       `json:"planned,omitempty"` // the first plan was made, and stood up to Whole
	Moves    []Move     `json:"moves,omitempty"`
}

// MoveState is where one VM of a drain stands.
type MoveState string

const (
	MoveWaiting MoveState = "waiting" // for a place, a limit or another try
	MoveUnder   MoveState = "moving"  // it has a job
	MoveDone    MoveState = "moved"
	MoveStuck   MoveState = "stuck" // it cannot move; Text says why and what to do
	MoveGone    MoveState = "gone"  // it is not on the host any more, by no job of this drain
)

// Move is one VM of a drain.
type Move struct {
	VM    jobs.VMRef `json:"vm"`
	State MoveState  `json:"state"`
	To    string     `json:"to,omitempty"`
	Job   string     `json:"job,omitempty"` // its newest; written before the job is, so that it is made once
	Text  string     `json:"text,omitempty"`
	Tries int        `json:"tries,omitempty"` // jobs that failed
	Not   []string   `json:"not,omitempty"`   // hosts that they failed for; others are taken first
	Next  time.Time  `json:"next,omitzero"`   // not tried again before
}

// Active reports whether a drain or restore of the host is under way.
func (m *Mark) Active() bool { return m != nil && m.Drain != nil && !m.Drain.State.Ended() }

// Bars says why nothing may be placed on the host; "" if nothing bars it.
func (m *Mark) Bars() string {
	switch {
	case m == nil:
		return ""
	case m.Active() && m.Drain.Kind == Emptying:
		return m.Node + " is being drained by " + m.Drain.By
	case m.Cordon != nil:
		s := fmt.Sprintf("%s was cordoned by %s", m.Node, m.Cordon.By)
		if m.Cordon.Reason != "" {
			s += ": " + m.Cordon.Reason
		}
		return s
	}
	return ""
}

// clone copies a mark so far as it is changed.
func (m Mark) clone() Mark {
	if m.Drain != nil {
		d := *m.Drain
		d.Moves = append([]Move(nil), d.Moves...)
		m.Drain = &d
	}
	m.Away = append([]Away(nil), m.Away...)
	return m
}

// count tells how many moves of a drain are in a state.
func (d *Drain) count(s MoveState) (n int) {
	for _, m := range d.Moves {
		if m.State == s {
			n++
		}
	}
	return n
}

// Policy is what people decided about a VM.
type Policy struct {
	VM    jobs.VMRef `json:"vm"`
	Pin   *Order     `json:"pin,omitempty"`   // no drain or rule moves it; a person's submit does
	Apart string     `json:"apart,omitempty"` // group whose VMs never share a host
}
