package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
	"xmig/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// rulesText drains by one alert and cordons by another; both look at hosts that
// are opted in only. Moves of simulated guests on a loaded machine take longer
// than the usual five seconds.
const rulesText = `
[limits]
keep = 2

[[rule]]
name = "failing disk"
match = {alertname = "DiskWillFail", severity = "critical"}
action = "drain"
for = "2s"
cooldown = "1h"
max-downtime = "60s"
resolved = "uncordon"

[[rule]]
name = "anything else"
match = {severity = "critical"}
action = "notify"
for = "0s"
`

// site is a cluster with rules, HTTP and guests.
type site struct {
	*cluster.Cluster
	t      *testing.T
	url    string
	guests []*cluster.Guest
}

func newSite(t *testing.T, hosts, guests int) *site {
	t.Helper()
	s := &site{t: t}
	s.Cluster = cluster.New(t, cluster.Settings{Hosts: hosts, Rules: rulesText, Node: []string{"--tags", alert.DefaultTag, "--metrics", "127.0.0.1:0"}})
	s.url = s.URLs[0]
	for i := range guests {
		s.guests = append(s.guests, s.Guest(s.Hosts[0], cluster.GuestSpec{Name: fmt.Sprintf("web%02d", i+1), Disks: []int64{8 << 20}, Rate: 64 << 10}))
	}
	for _, g := range s.guests {
		s.AwaitSeen(g, s.Hosts[0])
	}
	return s
}

// get decodes the answer to a GET.
func get[T any](s *site, path string) (v T) {
	s.t.Helper()
	status, body := s.Ask("GET", path, cluster.ReadToken, nil)
	if err := json.Unmarshal(body, &v); err != nil || status != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s (%v)", path, status, body, err)
	}
	return v
}

// awaitHost waits until a host is in a state.
func (s *site) awaitHost(name string, want alert.HostState) {
	s.t.Helper()
	s.Eventually(func() error {
		v := get[api.HostView](s, "/v1/hosts/"+name)
		if v.State != want {
			why := ""
			if v.Mark != nil && v.Mark.Drain != nil {
				why = v.Mark.Drain.Text
			}
			return fmt.Errorf("%s is %s, want %s (%s); %s", name, v.State, want, why, s.Server.Log)
		}
		return nil
	})
}

// awaitIncident waits until the one incident is in a state, and gives it.
func (s *site) awaitIncident(want jobs.IncidentState) (in jobs.Incident) {
	s.t.Helper()
	s.Eventually(func() error {
		all := get[api.AlertList](s, "/v1/alerts").Incidents
		i := slices.IndexFunc(all, func(i jobs.Incident) bool { return i.Action == jobs.DrainHost && i.State == want })
		if i < 0 {
			return fmt.Errorf("no incident is %s: %+v", want, all)
		}
		in = all[i]
		return nil
	})
	return in
}

// drained proves that all guests run elsewhere and lost nothing, and that the
// story says who moved them and why.
func (s *site) drained() {
	s.t.Helper()
	for _, g := range s.guests {
		all := get[api.JobList](s, "/v1/jobs?state=succeeded&vm="+g.UUID).Jobs
		if len(all) != 1 {
			s.t.Fatalf("guest %s: %d moves, want 1", g.Name, len(all))
		}
		j := all[0]
		if !strings.Contains(j.Spec.Reason, "DiskWillFail") || !strings.HasPrefix(j.Spec.By, "alert:") {
			s.t.Errorf("job %s: by %q because of %q", j.ID, j.Spec.By, j.Spec.Reason)
		}
		i := slices.IndexFunc(s.Hosts, func(h *cluster.Host) bool { return h.Name == j.Destination })
		s.Proven(g, s.Hosts[i], j.ID)
	}
	s.oneVMFirst()
}

// oneVMFirst: nothing else moved before the first VM had arrived.
func (s *site) oneVMFirst() {
	s.t.Helper()
	all := get[api.JobList](s, "/v1/jobs?state=succeeded").Jobs
	slices.SortFunc(all, func(a, b jobs.Record) int { return a.Created.Compare(b.Created) })
	for _, j := range all[1:] {
		if j.Created.Before(all[0].Ended) {
			s.t.Errorf("job %s was made at %s, before the first VM had arrived at %s", j.ID, j.Created, all[0].Ended)
		}
	}
}

// story is what the stream says of alerts, as "state: text".
func (s *site) story() (lines []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for e, err := range s.Bus().Events(ctx, bus.EventFilter{Alert: "*"}) {
		if err != nil {
			s.t.Fatal(err)
		}
		lines = append(lines, e.What+": "+e.Text)
	}
	return lines
}

func (s *site) tells(want ...string) {
	s.t.Helper()
	s.Eventually(func() error { // what is done is told a moment later
		lines := s.story()
		for _, w := range want {
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, w) }) {
				return fmt.Errorf("the story has no %q:\n%s", w, strings.Join(lines, "\n"))
			}
		}
		return nil
	})
}
