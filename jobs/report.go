package jobs

import "time"

// Report is the one account of a job that the command line, pages, logs and
// metrics all show.
type Report struct {
	Steps     []StepReport  `json:"steps,omitempty"`
	Passes    []PassReport  `json:"passes,omitempty"` // of all attempts, the newest last
	Memory    *Memory       `json:"memory,omitempty"`
	Sealed    *Seal         `json:"sealed,omitempty"`
	Predicted time.Duration `json:"predicted_blackout_ns"` // right before the guest was stopped
	Blackout  time.Duration `json:"blackout_ns"`           // stopped at the source to unpaused at the destination
	StoppedAt time.Time     `json:"stopped_at,omitzero"`
	RanAt     time.Time     `json:"ran_at,omitzero"`
	DomID     int           `json:"domid,omitempty"` // at the destination
	Wire      int64         `json:"wire_bytes"`
	Notes     []string      `json:"notes,omitempty"`
}

// StepReport is how long one step of one attempt took.
type StepReport struct {
	Step    StepName      `json:"step"`
	Attempt int           `json:"attempt"`
	Begin   time.Time     `json:"begin"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Failed  string        `json:"failed,omitempty"`
}

// longestBreath is well below what anybody waits for who waits for a job's end.
const longestBreath = 10 * time.Second

// breath is what a guest that came back still has for itself. It finds its disks
// and its network again, on a host that may be as slow as its blackout was long;
// the commands of settle can wait and would take its processor.
func (r *Report) breath(now time.Time) time.Duration {
	return max(0, min(r.Blackout/4, longestBreath)-now.Sub(r.RanAt))
}

// MaxPasses bounds the passes kept in a record; a store's value is a few KiB.
const MaxPasses = 24

func (r *Report) addPass(p PassReport) {
	r.Passes = append(r.Passes, p)
	r.Wire += p.Wire()
	if len(r.Passes) > MaxPasses {
		r.Passes = append(r.Passes[:1], r.Passes[len(r.Passes)-MaxPasses+1:]...)
	}
}

func (r *Report) addStep(s StepReport) {
	r.Steps = append(r.Steps, s)
	if len(r.Steps) > 4*len(Steps()) {
		r.Steps = r.Steps[len(r.Steps)-4*len(Steps()):]
	}
}
