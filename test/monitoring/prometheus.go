package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"xmig/test/cluster"
)

// Prometheus watches disks and servers, and has an Alertmanager post what fails.
type Prometheus struct{ url string }

const diskRule = `
groups:
- name: disks
  rules:
  - alert: DiskWillFail
    expr: smart_reallocated_sectors > 10
    labels: {severity: critical}
    annotations: {summary: "disk {{ $labels.disk }} of {{ $labels.instance }} fails"}
`

// Start starts both beside a cluster that has rules: a failing disk is the
// alert DiskWillFail, critical, with the host as instance, which Alertmanager
// posts to every server a second or two later.
func Start(t *testing.T, c *cluster.Cluster, d *Disks) *Prometheus {
	t.Helper()
	manager := startAlertmanager(t, c.URLs)
	var servers []string
	for _, u := range c.URLs {
		servers = append(servers, fmt.Sprintf("%q", strings.TrimPrefix(u, "http://")))
	}
	address := port(t)
	cfg := file(t, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
- job_name: disks
  honor_labels: true
  static_configs: [{targets: [%q]}]
- job_name: xmig
  authorization: {credentials: %s}
  static_configs: [{targets: [%s]}]
`, file(t, "rules.yml", diskRule), manager, d.address(), cluster.ReadToken, strings.Join(servers, ", ")))
	run(t, "prometheus", "--config.file", cfg, "--storage.tsdb.path", t.TempDir(), "--web.listen-address", address)
	await(t, address)
	return &Prometheus{url: "http://" + address}
}

func startAlertmanager(t *testing.T, servers []string) (address string) {
	t.Helper()
	address = port(t)
	hooks := ""
	for _, u := range servers {
		hooks += fmt.Sprintf(`
  - url: %s/v1/alerts/alertmanager
    send_resolved: true
    http_config: {authorization: {credentials: %s}}`, u, cluster.AlertToken)
	}
	cfg := file(t, "alertmanager.yml", `
route: {receiver: xmig, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 5s}
receivers:
- name: xmig
  webhook_configs:`+hooks)
	run(t, "prometheus-alertmanager", "--config.file", cfg, "--storage.path", t.TempDir(), "--web.listen-address", address, "--cluster.listen-address=")
	await(t, address)
	return address
}

// Says asks for one value, and is an error unless it is the one wanted.
func (p *Prometheus) Says(query, want string) error {
	resp, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(query))
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
