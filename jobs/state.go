package jobs

import "fmt"

// State is where a job stands. The step it is at is another field.
type State string

const (
	Queued        State = "queued"        // accepted, the VM is claimed
	Planned       State = "planned"       // handed to its source node
	Running       State = "running"       // the source node drives it
	Succeeded     State = "succeeded"     // the VM is at the destination
	FailedState   State = "failed"        // it never began to hold the guest, which is at the source; or the VM is gone (CodeGone)
	RolledBack    State = "rolled_back"   // the guest was held or copied, and runs at the source again
	Cancelled     State = "cancelled"     // a person asked for it; the VM is at the source
	Indeterminate State = "indeterminate" // nobody runs for sure; a person decides
)

// next lists every legal change. A state that is not a key is final: a retry is a new record.
var next = map[State][]State{
	Queued:        {Planned, Cancelled, FailedState},
	Planned:       {Running, Queued, Cancelled, FailedState},
	Running:       {Succeeded, FailedState, RolledBack, Cancelled, Indeterminate},
	Indeterminate: {Succeeded, RolledBack, FailedState},
}

// States lists all states in the order of a job's life.
func States() []State {
	return []State{Queued, Planned, Running, Succeeded, FailedState, RolledBack, Cancelled, Indeterminate}
}

// Final reports whether a job in s never changes again.
func (s State) Final() bool { return len(next[s]) == 0 }

// To changes the state and refuses what the table does not list.
func (r *Record) To(s State) error {
	if r.State == s {
		return nil
	}
	for _, n := range next[r.State] {
		if n == s {
			r.State = s
			return nil
		}
	}
	return Failed(CodeInternal, "job %s: %w", r.ID, &TransitionError{From: r.State, To: s})
}

// TransitionError is a change of state that the table does not list.
type TransitionError struct{ From, To State }

func (e *TransitionError) Error() string {
	return fmt.Sprintf("no way from %s to %s", e.From, e.To)
}

// StepName names a step of a migration, on the wire and everywhere else.
type StepName string

const (
	Check    StepName = "check"
	Reserve  StepName = "reserve"
	Prepare  StepName = "prepare"
	Seed     StepName = "seed"
	Converge StepName = "converge"
	Stream   StepName = "stream"
	SealStep StepName = "seal"
	HandOver StepName = "handover"
	Resume   StepName = "resume"
	Settle   StepName = "settle"
)

// Steps lists all steps in order.
func Steps() []StepName {
	return []StepName{Check, Reserve, Prepare, Seed, Converge, Stream, SealStep, HandOver, Resume, Settle}
}
