package alert

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// What Alertmanager 0.25 and Grafana 10 post, less what they repeat.
const alertmanagerPost = `{"receiver":"xmig","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"DiskWillFail","instance":"hv1:9100","severity":"critical"},
"annotations":{"summary":"sda of hv1 reallocates sectors"},"startsAt":"2026-03-01T11:58:00.123Z","endsAt":"0001-01-01T00:00:00Z",
"generatorURL":"http://prom:9090/graph","fingerprint":"d1d9d1d9d1d9d1d9"}],"groupLabels":{"alertname":"DiskWillFail"},"commonLabels":{},
"commonAnnotations":{},"externalURL":"http://am:9093","version":"4","groupKey":"{}:{alertname=\"DiskWillFail\"}","truncatedAlerts":0}`

const grafanaPost = `{"receiver":"xmig","status":"resolved","orgId":1,"alerts":[{"status":"resolved","labels":{"alertname":"DiskWillFail","instance":"hv1:9100","severity":"critical"},
"annotations":{},"startsAt":"2026-03-01T12:58:00+01:00","endsAt":"2026-03-01T13:10:00+01:00","generatorURL":"http://grafana/alerting","fingerprint":"6d6c6e6c",
"silenceURL":"http://grafana/s","dashboardURL":"","panelURL":"","values":{"B":1.5,"C":1},"valueString":"[ var='B' ]"}],"groupLabels":{},"commonLabels":{},
"commonAnnotations":{},"externalURL":"http://grafana/","version":"1","groupKey":"{}","truncatedAlerts":0,"title":"[RESOLVED]","state":"ok","message":"m"}`

func TestParse(t *testing.T) {
	fired, rejected, err := Parse("alertmanager", []byte(alertmanagerPost), noon)
	if err != nil || len(fired) != 1 || len(rejected) != 0 {
		t.Fatalf("%v %v %v", fired, rejected, err)
	}
	a := fired[0]
	if a.Status != jobs.Firing || a.Labels["instance"] != "hv1:9100" || a.Annotations["summary"] == "" || a.Source != "alertmanager" || !a.Seen.Equal(noon) ||
		!a.StartsAt.Equal(time.Date(2026, 3, 1, 11, 58, 0, 123e6, time.UTC)) {
		t.Errorf("%+v", a)
	}
	over, _, err := Parse("grafana", []byte(grafanaPost), noon)
	if err != nil || len(over) != 1 || over[0].Status != jobs.Resolved || over[0].Fingerprint != a.Fingerprint {
		t.Errorf("the same labels by Grafana: %+v, %v; want the fingerprint %s", over, err, a.Fingerprint)
	}
}

func postOf(alerts ...string) string {
	return `{"version":"4","alerts":[` + strings.Join(alerts, ",") + `]}`
}

func TestParseRefuses(t *testing.T) {
	good := `{"status":"firing","labels":{"alertname":"A"}}`
	many := make(map[string]string)
	for i := range maxLabels + 1 {
		many[fmt.Sprint("l", i)] = "x"
	}
	tooMany, _ := json.Marshal(many)
	for _, tt := range []struct{ body, want string }{
		{"", "EOF"},
		{"null", "version"},
		{"[]", "cannot unmarshal array"},
		{"{", "unexpected EOF"},
		{`{"version":"4"}`, "no alerts"},
		{`{"version":"2","alerts":[` + good + `]}`, `version "2"`},
		{`{"alerts":[` + good + `]}`, `version ""`},
		{postOf(good) + "{}", "behind the JSON object"},
		{postOf(good) + "x", "behind the JSON object"},
		{`{"version":4,"alerts":[]}`, "cannot unmarshal number"},
		{postOf(`{"status":"firing","labels":{"a":1}}`), "cannot unmarshal number"},
		{postOf(`{"status":"firing","labels":{"a":"b"},"startsAt":"yesterday"}`), "yesterday"},
		{postOf(strings.Repeat(good+",", maxAlerts) + good), "set max_alerts"},
		{strings.Repeat("[", 1<<19), "exceeded max depth"},
		{strings.Repeat(" ", MaxPost+1), "1048577 bytes"},
	} {
		if _, _, err := Parse("x", []byte(tt.body), noon); err == nil || !strings.Contains(err.Error(), tt.want) || jobs.CodeOf(err) != jobs.CodeUsage {
			t.Errorf("%.60q: %v, want %q", tt.body, err, tt.want)
		}
	}
	for _, tt := range []struct{ alert, want string }{
		{`{"labels":{"a":"b"}}`, `status ""`},
		{`{"status":"FIRING","labels":{"a":"b"}}`, `status "FIRING"`},
		{`{"status":"firing"}`, "no labels"},
		{`{"status":"firing","labels":{"":"b"}}`, "label name"},
		{`{"status":"firing","labels":{"a\u001b[2J":"b"}}`, "label name"},
		{`{"status":"firing","labels":{"a":"` + strings.Repeat("x", maxLabelValue+1) + `"}}`, "label a has 1025 bytes"},
		{`{"status":"firing","labels":` + string(tooMany) + `}`, "65 labels"},
	} {
		alerts, rejected, err := Parse("x", []byte(postOf(good, tt.alert)), noon)
		if err != nil || len(alerts) != 1 || len(rejected) != 1 || rejected[0].Index != 1 || !strings.Contains(rejected[0].Why, tt.want) {
			t.Errorf("%.60q: %v %v %v, want %q", tt.alert, alerts, rejected, err, tt.want)
		}
	}
}

// TestParsePrintable: what comes from outside does nothing to a terminal.
func TestParsePrintable(t *testing.T) {
	got, _, err := Parse("x", []byte(postOf(`{"status":"firing","labels":{"alertname":"a\u001b[2Jb\nc"},"annotations":{"summary":"`+strings.Repeat("ä", maxLabelValue)+`"}}`)), noon)
	if err != nil || got[0].Labels["alertname"] != "a [2Jb c" {
		t.Errorf("%+v, %v", got, err)
	}
	if s := Summary(got[0]); len([]rune(s)) > 200 || !strings.HasSuffix(s, "…)") {
		t.Errorf("summary of %d runes: %s", len([]rune(s)), s)
	}
}

// FuzzParse: whatever comes in, what comes out is within bounds, or an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(alertmanagerPost))
	f.Add([]byte(grafanaPost))
	f.Add([]byte(postOf(`{"status":"firing","labels":{"a":"\ud800\u0000"}}`)))
	if more, err := os.ReadFile("testdata/hostile.json"); err == nil {
		f.Add(more)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		alerts, rejected, err := Parse("fuzz", body, noon)
		if err != nil {
			if jobs.CodeOf(err) != jobs.CodeUsage || len(alerts)+len(rejected) != 0 {
				t.Fatalf("error %v beside %d alerts", err, len(alerts))
			}
			return
		}
		if n := len(alerts) + len(rejected); n == 0 || n > maxAlerts {
			t.Fatalf("%d alerts", n)
		}
		for _, a := range alerts {
			if a.Fingerprint != jobs.Fingerprint(a.Labels) || len(a.Labels) == 0 || len(a.Labels) > maxLabels {
				t.Fatalf("%+v", a)
			}
			for k, v := range a.Labels {
				if Printable(k) != k || Printable(v) != v {
					t.Fatalf("not printable: %q=%q", k, v)
				}
			}
		}
	})
}
