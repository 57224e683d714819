package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
)

// alertStore is what rules keep, on the bus.
type alertStore struct {
	incidents *bus.Table[jobs.Incident]
	mutes     *bus.Table[jobs.Mute]
}

func newAlertStore(b *bus.Bus) alertStore {
	return alertStore{bus.NewTable[jobs.Incident](b, "incident"), bus.NewTable[jobs.Mute](b, "mute")}
}

func incidentOf(row jobs.Row[jobs.Incident]) jobs.Incident {
	row.Value.Revision = row.Revision
	return row.Value
}

func rowOf(in jobs.Incident) jobs.Row[jobs.Incident] {
	return jobs.Row[jobs.Incident]{Key: in.Alert.Fingerprint, Value: in, Revision: in.Revision}
}

func (s alertStore) Incident(ctx context.Context, fingerprint string) (jobs.Incident, error) {
	row, err := s.incidents.Load(ctx, fingerprint)
	if err == nil && row.Revision == 0 {
		err = fmt.Errorf("alert %s: %w", fingerprint, jobs.ErrNotFound)
	}
	return incidentOf(row), err
}

func (s alertStore) SaveIncident(ctx context.Context, in jobs.Incident) (jobs.Incident, error) {
	row, err := s.incidents.Save(ctx, rowOf(in))
	return incidentOf(row), err
}

func (s alertStore) RemoveIncident(ctx context.Context, in jobs.Incident) error {
	return s.incidents.Remove(ctx, rowOf(in))
}

// Incidents lists the oldest first.
func (s alertStore) Incidents(ctx context.Context) ([]jobs.Incident, error) {
	rows, err := s.incidents.List(ctx)
	var out []jobs.Incident
	for _, row := range rows {
		out = append(out, incidentOf(row))
	}
	slices.SortFunc(out, func(a, b jobs.Incident) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Alert.Fingerprint, b.Alert.Fingerprint))
	})
	return out, err
}

func (s alertStore) Watch(ctx context.Context, incident func(string, *jobs.Incident), mute func(string, *jobs.Mute)) error {
	ctx, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop(s.mutes.Watch(ctx, func(row jobs.Row[jobs.Mute], gone bool) {
			if gone {
				mute(row.Key, nil)
				return
			}
			mute(row.Key, &row.Value)
		}))
	}()
	err := s.incidents.Watch(ctx, func(row jobs.Row[jobs.Incident], gone bool) {
		if gone {
			incident(row.Key, nil)
			return
		}
		in := incidentOf(row)
		incident(row.Key, &in)
	})
	stop(err)
	<-done
	return err
}

// Mutes lists those that have not ended, and removes those that have.
func (s alertStore) Mutes(ctx context.Context) ([]jobs.Mute, error) {
	rows, err := s.mutes.List(ctx)
	var out []jobs.Mute
	for _, row := range rows {
		if time.Now().Before(row.Value.Until) {
			out = append(out, row.Value)
		} else {
			_ = s.mutes.Remove(ctx, row) // it covers nothing any more; the next listing tries again
		}
	}
	slices.SortFunc(out, func(a, b jobs.Mute) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.ID, b.ID)) })
	return out, err
}

// hostViews joins what workers say with what was decided about hosts.
func hostViews(s coordinator.Snapshot) []api.HostView {
	views := map[string]api.HostView{}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		views[h.Node] = api.HostView{Name: h.Node, State: alert.Active, Host: h}
	}
	for node, m := range s.Marks {
		v := views[node]
		v.Name, v.Mark = node, &m
		v.State = stateOf(m)
		if v.Host == nil {
			if m.Cordon == nil && m.Drain == nil {
				continue // nobody decided anything about a host that is not there
			}
			v.State = alert.Gone
		}
		views[node] = v
	}
	return slices.SortedFunc(maps.Values(views), func(a, b api.HostView) int { return cmp.Compare(a.Name, b.Name) })
}

func stateOf(m coordinator.Mark) alert.HostState {
	switch {
	case m.Active() && m.Drain.Kind == coordinator.Emptying:
		return alert.Draining
	case m.Cordon == nil:
		return alert.Active
	case m.Drain != nil && m.Drain.Kind == coordinator.Emptying && m.Drain.State == coordinator.DrainDone:
		return alert.Drained
	}
	return alert.Cordoned
}

// alertHosts is what rules need to know of hosts.
func alertHosts(views []api.HostView) []alert.Host {
	var out []alert.Host
	for _, v := range views {
		h := alert.Host{Node: v.Name, State: v.State}
		if v.Host != nil {
			h.Hostname, h.Problem, h.Tags = v.Host.Hostname, v.Host.Problem, v.Host.Tags
		}
		switch {
		case v.Mark == nil:
		case v.State == alert.Draining:
			h.By = v.Mark.Drain.By
		case v.Mark.Cordon != nil:
			h.By = v.Mark.Cordon.By
		}
		out = append(out, h)
	}
	return out
}

// fleetForRules is what rules do to hosts, by the coordinator.
type fleetForRules struct{ *coordinator.Coordinator }

func (f fleetForRules) Hosts(context.Context) ([]alert.Host, error) {
	s, err := f.Snapshot()
	return alertHosts(hostViews(s)), err
}

// CanDrain: a VM that no drain moves anyway, because it is pinned or not
// managed, is no reason to leave the others on a host that fails.
func (f fleetForRules) CanDrain(_ context.Context, node string) error {
	s, err := f.Snapshot()
	if err != nil {
		return err
	}
	plan, err := coordinator.PlanFor(s, f.Limits, node, coordinator.Emptying, jobs.Spec{})
	if err != nil {
		return err
	}
	var no []string
	for _, m := range plan.Moves {
		if m.To == "" && s.Policies[m.VM.UUID].Pin == nil && manageable(s, node, m.VM.UUID) {
			no = append(no, fmt.Sprintf("vm %s: %s", m.VM.Name, m.Text))
		}
	}
	if len(no) == 0 {
		return nil
	}
	more := ""
	if len(no) > 3 {
		more = fmt.Sprintf("; and %d more", len(no)-3)
		no = no[:3]
	}
	return errors.New(strings.Join(no, "; ") + more)
}

func manageable(s coordinator.Snapshot, node, uuid string) bool {
	for _, h := range s.Hosts {
		if vm, ok := h.Find(uuid); ok && h.Node == node {
			return vm.Problem == ""
		}
	}
	return true
}

func (f fleetForRules) Cordon(ctx context.Context, node, by, reason string) error {
	_, err := f.Coordinator.Cordon(ctx, node, by, reason)
	return err
}

func (f fleetForRules) Uncordon(ctx context.Context, node, by, _ string) error {
	_, err := f.Coordinator.Uncordon(ctx, node, by)
	return err
}

func (f fleetForRules) Drain(ctx context.Context, node, by, reason string, how alert.How) error {
	_, err := f.Coordinator.Drain(ctx, coordinator.DrainRequest{Host: node, By: by, Reason: reason, Canary: how.Canary, Deadline: how.Deadline,
		How: jobs.Spec{Mode: how.Mode, MaxDowntime: how.MaxDowntime}})
	return err
}

// postReply answers a post of alerts on the bus, in the words of HTTP.
func postReply(r alert.Receipt, err error) []byte {
	var v any = r
	if err != nil {
		v = api.Problem{Error: api.ProblemText{Code: jobs.CodeOf(err), Text: err.Error()}}
	}
	data, merr := json.Marshal(v)
	if merr != nil {
		return []byte(`{"error":{"code":"internal","text":"the answer cannot be encoded"}}`)
	}
	return data
}
