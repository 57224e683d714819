package alerts

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
	"xmig/test/cluster"
	"xmig/test/monitoring"
)

// TestAlertmanager: Debian's Prometheus sees a disk fail, its rule fires, its
// Alertmanager posts, and the host drains with nobody doing anything; when the
// disk is well again the host is opened. Prometheus asks the server as well,
// and promtool finds nothing to say about what it is told.
func TestAlertmanager(t *testing.T) {
	if os.Getenv("XMIG_ALERTS") == "" {
		t.Skip("NOT TESTED here, but in a part of its own of .ci/run: the real Alertmanager and Prometheus. Set XMIG_ALERTS=1 after test/monitoring/install.sh; takes about a minute")
	}
	s := newSite(t, 3, 3)
	disks := monitoring.NewDisks(t, "hv1", "hv2", "hv3")
	prom := monitoring.Start(t, s.Cluster, disks)

	disks.Fail("hv1")
	in := s.awaitIncident(jobs.Acted)
	if in.Host != "hv1" || in.Alert.Source != "alertmanager:am" {
		t.Errorf("%+v", in)
	}
	s.awaitHost("hv1", alert.Drained)
	s.drained()
	s.Eventually(func() error { return prom.Says(`xmig_hosts{state="drained"}`, "1") })
	if err := prom.Says(`xmig_jobs{state="succeeded"}`, "3"); err != nil {
		t.Error(err)
	}
	s.lint("server", s.url+"/metrics", cluster.ReadToken)
	s.lint("worker", s.workerMetrics(), "")
	disks.Fail("")
	s.awaitHost("hv1", alert.Active)
	s.tells("received: DiskWillFail (disk sda of hv1.example.org:9100 fails)", "acting: rule \"failing disk\" drains hv1", "hv1 was uncordoned, as rule \"failing disk\" says")
	t.Logf("the story:\n%s", strings.Join(s.story(), "\n"))
}

var metricsLine = regexp.MustCompile(`"metrics":"([^"]+)"`)

// workerMetrics is where the first host's worker said that it can be asked.
func (s *site) workerMetrics() string {
	s.t.Helper()
	log, err := os.ReadFile(s.Hosts[0].Node.Log)
	if err != nil {
		s.t.Fatal(err)
	}
	m := metricsLine.FindSubmatch(log)
	if m == nil {
		s.t.Fatalf("%s does not say where its metrics are", s.Hosts[0].Node.Log)
	}
	return string(m[1])
}

// lint has promtool look at what a page of metrics says.
func (s *site) lint(what, url, token string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("xmig_build_info")) {
		s.t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		s.t.Errorf("promtool on the metrics of the %s: %v\n%s", what, err, out)
	}
}
