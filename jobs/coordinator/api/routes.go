package api

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
)

// route is one path with all that is to be known of it.
type route struct {
	method, path string
	role         Role
	summary      string
	query        map[string]string // parameter → what it says
	in, out      reflect.Type      // nil: no JSON body
	status       int
	do           do
}

// Jobs and the other lists are objects, so that they can get more fields.
type (
	// JobList is the oldest first.
	JobList struct {
		Jobs []jobs.Record `json:"jobs"`
	}
	// HostList is by name.
	HostList struct {
		Hosts []HostView `json:"hosts"`
	}
	// AlertList is what rules answer, and what is muted.
	AlertList struct {
		Incidents []jobs.Incident `json:"incidents"`
		Mutes     []jobs.Mute     `json:"mutes"`
	}
	// Wish says why.
	Wish struct {
		Reason string `json:"reason,omitempty"`
	}
	// DrainWish is how a host shall be emptied.
	DrainWish struct {
		Reason   string        `json:"reason,omitempty"`
		Deadline time.Duration `json:"deadline_ns,omitempty"`
		Whole    bool          `json:"whole,omitempty"`  // begin only if every VM has a place to go
		Canary   bool          `json:"canary,omitempty"` // the first VM goes alone
		How      jobs.Spec     `json:"how,omitzero"`     // mode, max_downtime_ns and the like, for every VM
	}
	// Done says nothing more.
	Done struct{}
)

// ask makes the handler of a route that takes a JSON body and answers with one.
func ask[In, Out any](status int, f func(h *Handler, r *http.Request, by Client, in In) (Out, error)) (in, out reflect.Type, _ int, _ do) {
	handle := func(h *Handler, w http.ResponseWriter, r *http.Request, by Client) {
		v, err := body[In](r)
		if err != nil {
			fail(w, err)
			return
		}
		a, err := f(h, r, by, v)
		if err != nil {
			fail(w, err)
			return
		}
		answer(w, status, a)
	}
	in = reflect.TypeFor[In]()
	if in == reflect.TypeFor[Done]() {
		in = nil
	}
	return in, reflect.TypeFor[Out](), status, handle
}

// with puts a route together.
func (r route) with(in, out reflect.Type, status int, do do) route {
	r.in, r.out, r.status, r.do = in, out, status, do
	return r
}

// routes is the one list.
func routes() []route {
	return slices.Concat(jobRoutes(), hostRoutes(), alertRoutes(), []route{
		route{method: "GET", path: "/v1/overview", role: Read, summary: "Hosts, jobs under way with their progress, and what happened last, in few bytes."}.
			with(ask(http.StatusOK, (*Handler).overview)),
		{method: "GET", path: "/v1/events", role: Read, summary: "What happens, as server-sent events: each has its type as event, its JSON as data and its sequence number as id, which Last-Event-ID carries on from.",
			query:  map[string]string{"since": "a span back from now, such as 24h, or a time; default: from now on", "job": "of one job", "vm": "of one VM (UUID) without a job", "host": "of one host", "alert": "of one alert (fingerprint), or * for all"},
			status: http.StatusOK, do: (*Handler).stream},
		{method: "GET", path: "/v1/openapi.json", role: Anyone, summary: "This document.", status: http.StatusOK, do: func(_ *Handler, w http.ResponseWriter, _ *http.Request, _ Client) {
			answer(w, http.StatusOK, Document())
		}},
	})
}

func jobRoutes() []route {
	return []route{
		route{method: "GET", path: "/v1/jobs", role: Read, summary: "Jobs, the oldest first.",
			query: map[string]string{"state": "in this state", "active": "true: those that have not ended", "vm": "of this VM, by name or UUID", "limit": "at most so many, the newest"}}.
			with(ask(http.StatusOK, (*Handler).listJobs)),
		route{method: "POST", path: "/v1/jobs", role: Admin, summary: "Submit a job. The answer comes when it is stored."}.
			with(ask(http.StatusCreated, func(h *Handler, r *http.Request, by Client, spec jobs.Spec) (jobs.Record, error) {
				spec.By = "http:" + by.Name
				return h.control.Submit(r.Context(), spec)
			})),
		route{method: "GET", path: "/v1/jobs/{id}", role: Read, summary: "One job, by its id or the beginning of one."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, _ Client, _ Done) (jobs.Record, error) {
				return h.control.Job(r.Context(), r.PathValue("id"))
			})),
		route{method: "POST", path: "/v1/jobs/{id}/cancel", role: Admin, summary: "Ask for a job to be taken back. A job that runs ends when its host has done so."}.
			with(ask(http.StatusAccepted, func(h *Handler, r *http.Request, by Client, _ Done) (jobs.Record, error) {
				return h.control.Cancel(r.Context(), r.PathValue("id"), "http:"+by.Name)
			})),
	}
}

func (h *Handler) listJobs(r *http.Request, _ Client, _ Done) (JobList, error) {
	q := r.URL.Query()
	limit := 0
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return JobList{}, jobs.Failed(jobs.CodeUsage, "limit %q: want 1 or more", text)
		}
		limit = n
	}
	state := jobs.State(q.Get("state"))
	if state != "" && !slices.Contains(jobs.States(), state) {
		return JobList{}, jobs.Failed(jobs.CodeUsage, "state %q: want one of %v", state, jobs.States())
	}
	all, err := h.control.Jobs(r.Context())
	if err != nil {
		return JobList{}, err
	}
	list := JobList{Jobs: []jobs.Record{}}
	for _, j := range all {
		vm := q.Get("vm")
		if (state == "" || j.State == state) && (q.Get("active") != "true" || !j.State.Final()) && (vm == "" || j.VM.UUID == vm || j.VM.Name == vm) {
			list.Jobs = append(list.Jobs, j)
		}
	}
	if limit > 0 && len(list.Jobs) > limit {
		list.Jobs = list.Jobs[len(list.Jobs)-limit:]
	}
	return list, nil
}

func hostRoutes() []route {
	drain := func(kind coordinator.DrainKind) (_, _ reflect.Type, _ int, _ do) {
		return ask(http.StatusAccepted, func(h *Handler, r *http.Request, by Client, in DrainWish) (coordinator.DrainAnswer, error) {
			return h.control.Drain(r.Context(), coordinator.DrainRequest{Host: r.PathValue("host"), Kind: kind, By: "http:" + by.Name,
				Reason: in.Reason, Deadline: in.Deadline, Whole: in.Whole, Canary: in.Canary, How: in.How})
		})
	}
	cancel := func(kind coordinator.DrainKind) (_, _ reflect.Type, _ int, _ do) {
		return ask(http.StatusAccepted, func(h *Handler, r *http.Request, by Client, _ Done) (coordinator.Mark, error) {
			return h.control.CancelDrain(r.Context(), r.PathValue("host"), kind, "http:"+by.Name)
		})
	}
	plan := func(kind coordinator.DrainKind) (_, _ reflect.Type, _ int, _ do) {
		return ask(http.StatusOK, func(h *Handler, r *http.Request, _ Client, _ Done) (coordinator.Plan, error) {
			return h.control.Plan(r.Context(), r.PathValue("host"), kind)
		})
	}
	return []route{
		route{method: "GET", path: "/v1/hosts", role: Read, summary: "Hosts, with their VMs and with what was decided about them."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, _ Client, _ Done) (HostList, error) {
				all, err := h.control.Hosts(r.Context())
				return HostList{Hosts: append([]HostView{}, all...)}, err
			})),
		route{method: "GET", path: "/v1/hosts/{host}", role: Read, summary: "One host."}.with(ask(http.StatusOK, (*Handler).host)),
		route{method: "PUT", path: "/v1/hosts/{host}/cordon", role: Admin, summary: "Keep new VMs off a host."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, by Client, in Wish) (coordinator.Mark, error) {
				return h.control.Cordon(r.Context(), r.PathValue("host"), "http:"+by.Name, in.Reason)
			})),
		route{method: "DELETE", path: "/v1/hosts/{host}/cordon", role: Admin, summary: "Let VMs onto a host again."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, by Client, _ Done) (coordinator.Mark, error) {
				return h.control.Uncordon(r.Context(), r.PathValue("host"), "http:"+by.Name)
			})),
		route{method: "GET", path: "/v1/hosts/{host}/drain/plan", role: Read, summary: "Where each VM of a host would go if it were drained now."}.with(plan(coordinator.Emptying)),
		route{method: "POST", path: "/v1/hosts/{host}/drain", role: Admin, summary: "Empty a host. Asking again attaches to the drain that is under way."}.with(drain(coordinator.Emptying)),
		route{method: "DELETE", path: "/v1/hosts/{host}/drain", role: Admin, summary: "End a drain; what was moved stays where it is."}.with(cancel(coordinator.Emptying)),
		route{method: "GET", path: "/v1/hosts/{host}/restore/plan", role: Read, summary: "Which VMs would come home now."}.with(plan(coordinator.Homing)),
		route{method: "POST", path: "/v1/hosts/{host}/restore", role: Admin, summary: "Bring a host's VMs home."}.with(drain(coordinator.Homing)),
		route{method: "DELETE", path: "/v1/hosts/{host}/restore", role: Admin, summary: "End a restore; what was moved stays where it is."}.with(cancel(coordinator.Homing)),
	}
}

func (h *Handler) host(r *http.Request, _ Client, _ Done) (HostView, error) {
	all, err := h.control.Hosts(r.Context())
	if err != nil {
		return HostView{}, err
	}
	for _, v := range all {
		if v.Name == r.PathValue("host") {
			return v, nil
		}
	}
	return HostView{}, jobs.Failed(jobs.CodeNotFound, "host %s is not there", alert.Printable(r.PathValue("host")))
}

func alertRoutes() []route {
	take := func(source string) do {
		return func(h *Handler, w http.ResponseWriter, r *http.Request, by Client) {
			data, err := io.ReadAll(r.Body)
			if err != nil {
				fail(w, jobs.Failed(jobs.CodeUsage, "request: %w", err))
				return
			}
			receipt, err := h.control.TakeAlerts(r.Context(), source+":"+by.Name, data)
			if err != nil {
				fail(w, err)
				return
			}
			answer(w, http.StatusOK, receipt)
		}
	}
	receipt := reflect.TypeFor[alert.Receipt]()
	return []route{
		{method: "POST", path: "/v1/alerts/alertmanager", role: Alert, summary: "Alertmanager's webhook, version 4. The answer comes when all is stored; 503 asks to send it again.", out: receipt, status: http.StatusOK, do: take("alertmanager")},
		{method: "POST", path: "/v1/alerts/grafana", role: Alert, summary: "Grafana's webhook.", out: receipt, status: http.StatusOK, do: take("grafana")},
		route{method: "GET", path: "/v1/alerts", role: Read, summary: "Alerts that a rule answers, how far the answer is, and mutes."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, _ Client, _ Done) (AlertList, error) {
				in, err := h.control.Incidents(r.Context())
				mutes, merr := h.control.Mutes(r.Context())
				return AlertList{Incidents: append([]jobs.Incident{}, in...), Mutes: append([]jobs.Mute{}, mutes...)}, errors.Join(err, merr)
			})),
		route{method: "GET", path: "/v1/rules", role: Read, summary: "The rules of the server that answers."}.
			with(ask(http.StatusOK, func(h *Handler, _ *http.Request, _ Client, _ Done) (RulesView, error) { return h.control.Rules(), nil })),
		route{method: "POST", path: "/v1/mutes", role: Admin, summary: "Keep rules from acting for a while."}.
			with(ask(http.StatusCreated, func(h *Handler, r *http.Request, by Client, in MuteRequest) (jobs.Mute, error) {
				in.By = "http:" + by.Name
				return h.control.Mute(r.Context(), in)
			})),
		route{method: "DELETE", path: "/v1/mutes/{id}", role: Admin, summary: "End a mute."}.
			with(ask(http.StatusOK, func(h *Handler, r *http.Request, _ Client, _ Done) (Done, error) {
				return Done{}, h.control.Unmute(r.Context(), r.PathValue("id"))
			})),
	}
}
