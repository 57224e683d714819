package alerts

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
	"xmig/jobs/coordinator/api"
	"xmig/test/cluster"
)

// post is a webhook post of one alert.
func post(status, name, instance string) map[string]any {
	return map[string]any{"version": "4", "receiver": "xmig", "alerts": []any{map[string]any{
		"status": status, "labels": map[string]string{"alertname": name, "severity": "critical", "instance": instance},
		"annotations": map[string]string{"summary": "sda reallocates sectors"}, "startsAt": time.Now().UTC().Format(time.RFC3339Nano),
	}}}
}

// TestDrainByAlert: an alert empties its host, one VM first, and nothing else
// happens; the same alert again, by another way, changes nothing; a mute and an
// unknown host are told; when it is over the host is opened as the rule says.
func TestDrainByAlert(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: a whole installation drains a host; it takes half a minute")
	}
	s := newSite(t, 3, 2)
	if status, body := s.Ask("POST", "/v1/alerts/alertmanager", cluster.ReadToken, post("firing", "DiskWillFail", "hv1:9100")); status != http.StatusForbidden {
		t.Fatalf("with the wrong role: %d %s", status, body)
	}
	mute := s.Command("rule", "mute", "--host", "hv1", "--for", "1h", "--reason", "first look", "-o", "json")
	var m jobs.Mute
	if err := json.Unmarshal([]byte(mute.Stdout), &m); err != nil || mute.Code != 0 {
		t.Fatalf("%+v %v", mute, err)
	}
	if status, body := s.Ask("POST", "/v1/alerts/alertmanager", cluster.AlertToken, post("firing", "DiskWillFail", "hv1:9100")); status != http.StatusOK || !strings.Contains(string(body), `"taken":1`) {
		t.Fatalf("%d %s", status, body)
	}
	if in := s.awaitIncident(jobs.HeldBack); in.Obstacle != "muted" || !strings.Contains(in.Reason, "first look") {
		t.Errorf("%+v", in)
	}
	if r := s.Command("rule", "unmute", m.ID); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	s.awaitIncident(jobs.Acted)
	s.awaitHost("hv1", alert.Drained)
	s.drained()
	// Said again, on the bus: known.
	again, err := json.Marshal(post("firing", "DiskWillFail", "hv1:9100"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reply, err := s.Bus().Conn().RequestWithContext(ctx, "xmig.alert.post", again)
	if err != nil || !strings.Contains(string(reply.Data), `"known":1`) {
		t.Errorf("on the bus: %v %+v", err, reply)
	}
	if reply, err := s.Bus().Conn().RequestWithContext(ctx, "xmig.alert.post", []byte("{")); err != nil || !strings.Contains(string(reply.Data), `"code":"usage"`) {
		t.Errorf("no JSON on the bus: %v %+v", err, reply)
	}
	s.Ask("POST", "/v1/alerts/grafana", cluster.AlertToken, post("firing", "DiskWillFail", "hv9"))
	if in := s.awaitIncident(jobs.HeldBack); in.Obstacle != "unknown" {
		t.Errorf("%+v", in)
	}
	s.Ask("POST", "/v1/alerts/alertmanager", cluster.AlertToken, post("resolved", "DiskWillFail", "hv1:9100"))
	s.awaitHost("hv1", alert.Active)
	s.tells("received: DiskWillFail (sda reallocates sectors): rule \"failing disk\"", "held: muted by ", "acting: rule \"failing disk\" drains hv1",
		"held: instance=\"hv9\" means no host", "resolved: the alert is over; hv1 was uncordoned")
	if n := len(get[api.JobList](s, "/v1/jobs").Jobs); n != len(s.guests) {
		t.Errorf("%d jobs, want %d", n, len(s.guests))
	}
	if r := s.Command("rule", "ls"); r.Code != 0 || !strings.Contains(r.Stdout, "drain, one VM first") || !strings.Contains(r.Stdout, "hv9") {
		t.Errorf("%+v", r)
	}
}
