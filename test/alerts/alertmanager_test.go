package alerts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
)

// TestAlertmanager: Debian's Prometheus sees a disk fail, its rule fires, its
// Alertmanager posts, and the host drains with nobody doing anything; when the
// disk is well again the host is opened. Prometheus asks the server as well,
// and promtool finds nothing to say about what it is told.
func TestAlertmanager(t *testing.T) {
	if os.Getenv("XMIG_ALERTS") == "" {
		t.Skip("NOT TESTED: the real Alertmanager and Prometheus. Set XMIG_ALERTS=1 after test/alerts/install.sh; takes about a minute")
	}
	s := newSite(t, 3, 3)
	var failing atomic.Bool
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range s.Hosts {
			n := 0
			if failing.Load() && h == s.Hosts[0] {
				n = 24
			}
			fmt.Fprintf(w, "smart_reallocated_sectors{instance=\"%s.example.org:9100\",disk=\"sda\"} %d\n", h.Name, n)
		}
	}))
	defer exporter.Close()
	manager, prom := port(t), port(t)
	s.startAlertmanager(manager)
	s.startPrometheus(prom, manager, strings.TrimPrefix(exporter.URL, "http://"))

	failing.Store(true)
	in := s.awaitIncident(jobs.Acted)
	if in.Host != "hv1" || in.Alert.Source != "alertmanager:am" {
		t.Errorf("%+v", in)
	}
	s.awaitHost("hv1", alert.Drained)
	s.drained()
	s.Eventually(func() error { return promSays("http://"+prom, `xmig_hosts{state="drained"}`, "1") })
	if err := promSays("http://"+prom, `xmig_jobs{state="succeeded"}`, "3"); err != nil {
		t.Error(err)
	}
	s.lint("server", s.url+"/metrics", readToken)
	s.lint("worker", s.workerMetrics(), "")
	failing.Store(false)
	s.awaitHost("hv1", alert.Active)
	s.tells("received: DiskWillFail (disk sda of hv1.example.org:9100 fails)", "acting: rule \"failing disk\" drains hv1", "hv1 was uncordoned, as rule \"failing disk\" says")
	t.Logf("the story:\n%s", strings.Join(s.story(), "\n"))
}

func (s *site) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *site) startAlertmanager(address string) {
	s.t.Helper()
	cfg := s.file("alertmanager.yml", fmt.Sprintf(`
route: {receiver: xmig, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 5s}
receivers:
- name: xmig
  webhook_configs:
  - url: %s/v1/alerts/alertmanager
    send_resolved: true
    http_config: {authorization: {credentials: %s}}
`, s.url, alertToken))
	s.run("prometheus-alertmanager", "--config.file", cfg, "--storage.path", s.t.TempDir(), "--web.listen-address", address, "--cluster.listen-address=")
	s.await("http://" + address + "/-/ready")
}

func (s *site) startPrometheus(address, manager, exporter string) {
	s.t.Helper()
	rules := s.file("rules.yml", `
groups:
- name: disks
  rules:
  - alert: DiskWillFail
    expr: smart_reallocated_sectors > 10
    labels: {severity: critical}
    annotations: {summary: "disk {{ $labels.disk }} of {{ $labels.instance }} fails"}
`)
	cfg := s.file("prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
- job_name: disks
  honor_labels: true
  static_configs: [{targets: [%q]}]
- job_name: xmig
  authorization: {credentials: %s}
  static_configs: [{targets: [%q]}]
`, rules, manager, exporter, readToken, strings.TrimPrefix(s.url, "http://")))
	s.run("prometheus", "--config.file", cfg, "--storage.tsdb.path", s.t.TempDir(), "--web.listen-address", address)
	s.await("http://" + address + "/-/ready")
}

// promSays asks Prometheus for one value.
func promSays(url, query, want string) error {
	resp, err := http.Get(url + "/api/v1/query?query=" + strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "=", "%3D").Replace(query))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var a struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return err
	}
	if len(a.Data.Result) != 1 || a.Data.Result[0].Value[1] != want {
		return fmt.Errorf("Prometheus says of %s: %+v, want %s", query, a.Data.Result, want)
	}
	return nil
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
