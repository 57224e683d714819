package show

import (
	"fmt"
	"time"

	"xmig/jobs"
)

// DeadJob is a job that somebody must look at, why, and the command for it.
type DeadJob struct {
	jobs.Record
	Why  string `json:"why"`
	Next string `json:"next"`
}

// DeadJobs lists them; a reason may be long and stands on a line of its own.
func DeadJobs(all []DeadJob, now time.Time) string {
	if len(all) == 0 {
		return "no job waits for anybody\n"
	}
	t := newTable("job", "vm", "from", "to", "state", "step", "age", "next")
	for _, d := range all {
		t.row(d.ID, subject(d.Record), dash(d.Source), dash(d.Destination), state(d.Record), dash(string(d.Step)), Ago(d.Created, now), d.Next)
	}
	out := t.String()
	for _, d := range all {
		if d.Why != "" {
			out += fmt.Sprintf("%s: %s\n", ShortID(d.ID), d.Why)
		}
	}
	return out
}
