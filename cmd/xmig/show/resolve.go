package show

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// Evidence tells what both hosts of a job say and have, side by side.
func Evidence(r jobs.Record, c jobs.Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s: vm %s from %s to %s is %s", r.ID, r.VM.Name, r.Source, dash(r.Destination), r.State)
	if r.Step != "" {
		fmt.Fprintf(&b, ", at step %s", r.Step)
	}
	fmt.Fprintf(&b, " since %s\n", At(r.Updated))
	if f := r.Failure; f != nil {
		fmt.Fprintf(&b, "  failure    %s\n", failureText(f))
	}
	t := newTable("evidence", r.Source+" (source)", dash(r.Destination)+" (destination)")
	left, right := column(c.Source, c.Job.Epoch), column(c.Destination, c.Job.Epoch)
	for i := range max(len(left), len(right)) {
		cell := func(side []fact) (string, string) {
			if i < len(side) {
				return side[i].name, dash(side[i].text)
			}
			return "", "-"
		}
		name, l := cell(left)
		other, rt := cell(right)
		if name == "" {
			name = other
		}
		t.row(name, l, rt)
	}
	b.WriteString(indent(t.String()))
	if k := c.Key; k != nil {
		fmt.Fprintf(&b, "  owner key  %s, epoch %d, written by %s, claim %s\n", k.Node, k.Epoch, dash(k.Attempt), dash(k.Claim))
	}
	fmt.Fprintf(&b, "  attempt    %s, epoch %d\n", c.Job.Attempt, c.Job.Epoch)
	if w := c.Job.Word; w != nil {
		fmt.Fprintf(&b, "  your word  %s\n", wordText(w))
	}
	return b.String()
}

func wordText(w *jobs.Word) string {
	if w.Lost != "" {
		return w.Lost + " is dead for good: nothing of the VM runs there, nor ever will again"
	}
	return "the copy on " + w.Keep + " counts, the other one is destroyed"
}

// fact is a line of one host's evidence.
type fact struct{ name, text string }

// column is one host's evidence: the promises of this attempt, oldest first.
func column(e *jobs.Evidence, epoch uint64) []fact {
	if e == nil {
		return []fact{{"answers", "no"}}
	}
	all := []fact{{"answers", "yes, its clock says " + e.At.UTC().Format(time.TimeOnly)}, {"booted", At(e.Booted)}, {"domain", "none"}}
	for i, d := range e.Domains {
		text := fmt.Sprintf("%s (domain %d): %s", d.Name, d.DomID, d.State)
		if i == 0 {
			all[2].text = text
		} else {
			all = append(all, fact{"domain", text})
		}
	}
	of := slices.DeleteFunc(slices.Clone(e.Journal), func(p jobs.Promise) bool { return p.Epoch != epoch })
	if len(of) == 0 {
		return append(all, fact{"promised", "nothing in this attempt"})
	}
	for _, p := range of {
		all = append(all, fact{"promised", string(p.Fact) + " at " + p.At.UTC().Format(time.TimeOnly)})
	}
	return all
}

// Act tells one act of a resolution.
func Act(n int, r jobs.Resolution) string {
	var b strings.Builder
	switch r.Act {
	case jobs.ActNothing:
		fmt.Fprintf(&b, "nothing to resolve: %s\n", r.Why)
	case jobs.ActAsk:
		fmt.Fprintf(&b, "nothing is done: %s\n", r.Why)
	case jobs.ActGone:
		fmt.Fprintf(&b, "nothing can be done: %s\n", r.Why)
	default:
		fmt.Fprintf(&b, "%2d. %s: %s\n", n, actText(r), r.Why)
	}
	if r.Risk != "" {
		fmt.Fprintf(&b, "    at your word: %s\n", r.Risk)
	}
	if r.Next != "" {
		fmt.Fprintf(&b, "    what to do: %s\n", r.Next)
	}
	return b.String()
}

func actText(r jobs.Resolution) string {
	switch r.Act {
	case jobs.ActBar:
		return "swap the owner key for the way back"
	case jobs.ActHandOver:
		return "swap the owner key over the line"
	case jobs.ActGo:
		return r.At + " has the guest run"
	case jobs.ActAbort:
		return r.At + " aborts and destroys its paused copy"
	case jobs.ActBack:
		return r.At + " has the guest run on"
	case jobs.ActFinish:
		return r.At + " gives its copy up"
	case jobs.ActDiscard:
		return r.At + " destroys its copy, running or not"
	case jobs.ActKey:
		return "repair the owner key"
	case jobs.ActEnd:
		return "end the job as " + string(r.State)
	}
	return string(r.Act)
}
