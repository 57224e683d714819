package api

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
)

// Overview is all that the page shows, in few bytes.
type Overview struct {
	At     time.Time          `json:"at"`
	Hosts  []HostLine         `json:"hosts"`
	Jobs   []JobLine          `json:"jobs"` // under way, and the last that ended
	Totals map[jobs.State]int `json:"totals"`
	Alerts []AlertLine        `json:"alerts"` // those that are not over
	More   int                `json:"more"`   // jobs that wait and are not listed
}

// HostLine is one host in short.
type HostLine struct {
	Name      string          `json:"name"`
	State     alert.HostState `json:"state"`
	Why       string          `json:"why,omitempty"`
	Simulated bool            `json:"simulated"`
	Problem   string          `json:"problem,omitempty"`
	VMs       int             `json:"vms"`
	Running   int             `json:"running"`
	Memory    int64           `json:"memory_bytes"`
	Free      int64           `json:"free_memory_bytes"`
	In        int             `json:"in"` // moves under way
	Out       int             `json:"out"`
	Moved     int             `json:"drain_moved"` // of a drain or restore under way
	Moves     int             `json:"drain_moves"`
}

// JobLine is one job in short.
type JobLine struct {
	ID          string        `json:"id"`
	VM          string        `json:"vm"`
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	State       jobs.State    `json:"state"`
	Step        jobs.StepName `json:"step,omitempty"`
	Text        string        `json:"text,omitempty"` // why it waits or failed
	Pass        uint32        `json:"pass"`
	Done        int64         `json:"done_bytes"`
	Size        int64         `json:"size_bytes"`
	Rate        float64       `json:"rate_bytes"`
	Predicted   time.Duration `json:"predicted_blackout_ns"`
	Blackout    time.Duration `json:"blackout_ns"`
	Created     time.Time     `json:"created"`
	Ended       time.Time     `json:"ended,omitzero"`
}

// AlertLine is one incident in short.
type AlertLine struct {
	Name   string             `json:"name"`
	Host   string             `json:"host,omitempty"`
	Rule   string             `json:"rule"`
	State  jobs.IncidentState `json:"state"`
	Reason string             `json:"reason"`
	Since  time.Time          `json:"since"`
}

const (
	// mostWaiting and mostEnded bound what is listed: thousands may wait.
	mostWaiting = 20
	mostEnded   = 10
	mostAlerts  = 50
)

func (h *Handler) overview(r *http.Request, _ Client, _ Done) (Overview, error) {
	ctx := r.Context()
	hosts, err := h.control.Hosts(ctx)
	if err != nil {
		return Overview{}, err
	}
	all, err := h.control.Jobs(ctx)
	if err != nil {
		return Overview{}, err
	}
	incidents, err := h.control.Incidents(ctx)
	if err != nil {
		return Overview{}, err
	}
	return Summarize(time.Now(), hosts, all, incidents, h.control.Progress()), nil
}

// Summarize makes an overview of what is known.
func Summarize(now time.Time, hosts []HostView, all []jobs.Record, incidents []jobs.Incident, progress []jobs.Progress) Overview {
	o := Overview{At: now, Hosts: []HostLine{}, Jobs: []JobLine{}, Alerts: []AlertLine{}, Totals: map[jobs.State]int{}}
	in, out := map[string]int{}, map[string]int{}
	for _, j := range all {
		o.Totals[j.State]++
		if j.State == jobs.Planned || j.State == jobs.Running {
			out[j.Source]++
			in[j.Destination]++
		}
	}
	for _, v := range hosts {
		o.Hosts = append(o.Hosts, hostLine(v, in[v.Name], out[v.Name]))
	}
	moving := map[string]jobs.Progress{}
	for _, p := range progress {
		moving[p.Job] = p
	}
	o.Jobs, o.More = jobLines(all, moving)
	for _, i := range incidents {
		if i.State != jobs.IncidentIsOver && len(o.Alerts) < mostAlerts {
			o.Alerts = append(o.Alerts, AlertLine{Name: alert.Summary(i.Alert), Host: i.Host, Rule: i.Rule, State: i.State, Reason: i.Reason, Since: i.Since})
		}
	}
	return o
}

func hostLine(v HostView, in, out int) HostLine {
	l := HostLine{Name: v.Name, State: v.State, In: in, Out: out}
	if v.Host != nil {
		l.Simulated, l.Problem, l.Memory, l.Free, l.VMs = v.Host.Simulated, v.Host.Problem, v.Host.Memory, v.Host.FreeMemory, len(v.Host.VMs)
		for _, vm := range v.Host.VMs {
			if vm.State == jobs.VMRunning {
				l.Running++
			}
		}
	}
	if v.Mark != nil {
		l.Why = v.Mark.Bars()
		if v.Mark.Active() {
			d := v.Mark.Drain
			l.Moves = len(d.Moves)
			for _, m := range d.Moves {
				if m.State == "moved" || m.State == "gone" {
					l.Moved++
				}
			}
			if d.Text != "" {
				l.Why = string(d.Kind) + " " + string(d.State) + ": " + d.Text
			}
		}
	}
	return l
}

// jobLines lists what runs, the first that wait and the last that ended.
func jobLines(all []jobs.Record, moving map[string]jobs.Progress) (lines []JobLine, more int) {
	lines = []JobLine{}
	var waiting, ended []jobs.Record
	for _, j := range all {
		switch {
		case j.State.Final():
			ended = append(ended, j)
		case j.State == jobs.Queued:
			waiting = append(waiting, j)
		default:
			lines = append(lines, jobLine(j, moving[j.ID]))
		}
	}
	slices.SortFunc(waiting, func(a, b jobs.Record) int {
		return cmp.Or(cmp.Compare(b.Spec.Priority, a.Spec.Priority), cmp.Compare(a.ID, b.ID))
	})
	for i, j := range waiting {
		if i == mostWaiting {
			more = len(waiting) - i
			break
		}
		lines = append(lines, jobLine(j, jobs.Progress{}))
	}
	slices.SortFunc(ended, func(a, b jobs.Record) int { return b.Ended.Compare(a.Ended) })
	for i, j := range ended {
		if i == mostEnded {
			break
		}
		lines = append(lines, jobLine(j, jobs.Progress{}))
	}
	return lines, more
}

func jobLine(j jobs.Record, p jobs.Progress) JobLine {
	l := JobLine{ID: j.ID, VM: j.VM.Name, Source: j.Source, Destination: j.Destination, State: j.State, Step: j.Step,
		Predicted: j.Report.Predicted, Blackout: j.Report.Blackout, Created: j.Created, Ended: j.Ended, Pass: p.Pass}
	switch {
	case j.Failure != nil && j.State != jobs.Succeeded:
		l.Text = j.Failure.Text
	case j.Held != nil:
		l.Text = j.Held.Reason
	case j.Paused != nil:
		l.Text = "paused: " + j.Paused.Reason
	}
	for _, d := range p.Disks {
		l.Done, l.Size, l.Rate = l.Done+d.Done, l.Size+d.Size, l.Rate+d.Rate
	}
	if p.Predicted > 0 {
		l.Predicted = p.Predicted
	}
	return l
}
