package coordinator

import (
	"cmp"
	"fmt"
	"slices"

	"xmig/jobs"
)

// Action is what to do about a queued job: it starts if it has candidates; else
// it waits if there is something to wait for; else it cannot move at all.
type Action struct {
	Job        jobs.Record
	Candidates []string       // where it may go now, best first
	Wait       string         // what a start, or a better choice, waits for
	Against    []jobs.Blocker // why the other hosts cannot take it
}

// Decide tells what to do with every queued job: in the order of priority,
// then age, each starts if its hosts are there and below their limits. A job
// that must wait does not hold up those behind it.
func Decide(s Snapshot, l Limits) []Action { return newFleet(s, l).decide() }

func (f *fleet) decide() []Action {
	queue := f.queue()
	acts := make([]Action, 0, len(queue))
	for _, q := range queue {
		if f.Asking[q.rec.ID] != "" {
			continue // its place is kept; the answer decides
		}
		a := Action{Job: *q.rec}
		if a.Wait = f.mustWait(q.rec); a.Wait == "" {
			f.candidates(&a)
		}
		if len(a.Candidates) > 0 {
			f.start(q.rec, a.Candidates[0])
		}
		acts = append(acts, a)
	}
	return acts
}

// mustWait says what a job waits for wherever it goes; "" for nothing.
func (f *fleet) mustWait(r *jobs.Record) string {
	if w := f.Wishes[r.ID]; w.Paused != nil {
		return w.Paused.Reason
	}
	if at := r.Spec.NotBefore; f.Now.Before(at) {
		return "it shall not start before " + at.Format("2006-01-02 15:04:05 MST")
	}
	from := f.rooms[r.Source]
	switch {
	case from == nil:
		return fmt.Sprintf("host %s is not there", r.Source)
	case from.out >= f.limits.Out:
		return fmt.Sprintf("%d of %d moves away from %s are under way%s", from.out, f.limits.Out, r.Source, f.limits.by)
	case f.running >= f.limits.Cluster:
		return fmt.Sprintf("%d of %d moves are under way in all%s", f.running, max(0, f.limits.Cluster), f.limits.by)
	}
	return ""
}

// waiting is a queued job with its present priority.
type waiting struct {
	rec      *jobs.Record
	priority int
}

// queue lists what waits, in the order in which it may start.
func (f *fleet) queue() []waiting {
	q := make([]waiting, 0, len(f.Records))
	for i := range f.Records {
		r := &f.Records[i]
		if r.State == jobs.Queued {
			q = append(q, waiting{r, cmp.Or(f.Wishes[r.ID].Priority, r.Spec.Priority)})
		}
	}
	slices.SortFunc(q, func(a, b waiting) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.rec.ID, b.rec.ID))
	})
	return q
}
