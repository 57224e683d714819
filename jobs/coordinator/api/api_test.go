package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	jobID   = "01JNX8V0000000000000000000"
	webUUID = "5eed0000-0000-4000-8000-000000000001"
)

// book is a Control that answers with something in every field, and notes what
// it was asked.
type book struct {
	mu     sync.Mutex
	asked  []string
	err    error // answers with it
	events chan jobs.Event
	took   func(source string, body []byte) (alert.Receipt, error)
}

func (b *book) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, fmt.Sprintf(format, args...))
	return b.err
}

func (b *book) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		return ""
	}
	return b.asked[len(b.asked)-1]
}

func fullRecord() jobs.Record {
	flag := &jobs.Flag{Reason: "r", Since: noon}
	return jobs.Record{ID: jobID, Spec: jobs.Spec{VM: "web01", To: "hv2"}.WithDefaults(), VM: jobs.VMRef{UUID: webUUID, Name: "web01"}, Source: "hv1", Destination: "hv2",
		State: jobs.Running, Step: jobs.Seed, Done: []jobs.StepName{jobs.Check}, Attempt: 1, Held: flag, Paused: flag, Cancel: flag, Degraded: flag,
		Failure: &jobs.Failure{Class: jobs.Final, Code: jobs.CodeBlocked, Text: "t", Blockers: []jobs.Blocker{{Host: "hv2", Code: "space", Text: "no"}}, At: noon},
		Report: jobs.Report{Steps: []jobs.StepReport{{Step: jobs.Check, Begin: noon}}, Memory: &jobs.Memory{Bytes: 1},
			Passes: []jobs.PassReport{{Kind: jobs.SeedPass, Disks: []jobs.DiskReport{{Name: "xvda"}}}}},
		Created: noon, Started: noon, Updated: noon}
}

func fullMark(host string) coordinator.Mark {
	order := &coordinator.Order{By: "ann", At: noon}
	return coordinator.Mark{Node: host, Cordon: order, Away: []coordinator.Away{{VM: jobs.VMRef{UUID: webUUID, Name: "web01"}, Since: noon}},
		Drain: &coordinator.Drain{ID: "d", Kind: coordinator.Emptying, State: coordinator.DrainRunning, By: "ann", Begun: noon,
			Moves: []coordinator.Move{{VM: jobs.VMRef{Name: "web01"}, State: coordinator.MoveDone, Job: jobID}}}}
}

func (b *book) Submit(_ context.Context, s jobs.Spec) (jobs.Record, error) {
	return fullRecord(), b.note("submit %s to %s by %s", s.VM, s.To, s.By)
}
func (b *book) Cancel(_ context.Context, id, by string) (jobs.Record, error) {
	return fullRecord(), b.note("cancel %s by %s", id, by)
}
func (b *book) Job(_ context.Context, id string) (jobs.Record, error) {
	return fullRecord(), b.note("job %s", id)
}
func (b *book) Jobs(context.Context) ([]jobs.Record, error) {
	done := jobs.Record{ID: "01A", VM: jobs.VMRef{Name: "db01"}, State: jobs.Succeeded, Ended: noon}
	return []jobs.Record{done, fullRecord()}, b.note("jobs")
}
func (b *book) Hosts(context.Context) ([]HostView, error) {
	m := fullMark("hv1")
	vm := jobs.VM{VMRef: jobs.VMRef{UUID: webUUID, Name: "web01"}, State: jobs.VMRunning, Disks: []jobs.Disk{{Name: "xvda"}}, Bridges: []string{"br0"}}
	return []HostView{
		{Name: "hv1", State: alert.Draining, Mark: &m, Host: &jobs.Host{Node: "hv1", Memory: 8 << 30, FreeMemory: 1 << 30, VMs: []jobs.VM{vm}, Pools: []jobs.Pool{{Name: "p"}},
			Tags: []string{"automatic"}, Shadows: []jobs.Shadow{{VM: webUUID}}, Started: noon, Seen: noon}},
		{Name: "hv2", State: alert.Gone},
	}, b.note("hosts")
}
func (b *book) Cordon(_ context.Context, h, by, why string) (coordinator.Mark, error) {
	return fullMark(h), b.note("cordon %s by %s: %s", h, by, why)
}
func (b *book) Uncordon(_ context.Context, h, by string) (coordinator.Mark, error) {
	return coordinator.Mark{Node: h}, b.note("uncordon %s by %s", h, by)
}
func (b *book) Drain(_ context.Context, r coordinator.DrainRequest) (coordinator.DrainAnswer, error) {
	return coordinator.DrainAnswer{Mark: fullMark(r.Host)}, b.note("%s %s by %s: %s, %s, canary %v", r.Kind, r.Host, r.By, r.Reason, r.Deadline, r.Canary)
}
func (b *book) CancelDrain(_ context.Context, h string, k coordinator.DrainKind, by string) (coordinator.Mark, error) {
	return fullMark(h), b.note("cancel %s of %s by %s", k, h, by)
}
func (b *book) Plan(_ context.Context, h string, k coordinator.DrainKind) (coordinator.Plan, error) {
	return coordinator.Plan{Host: h, Kind: k, Moves: []coordinator.PlannedMove{{VM: jobs.VMRef{Name: "web01"}, Against: []jobs.Blocker{{Host: "hv2"}}}}}, b.note("plan %s of %s", k, h)
}
func (b *book) Events(ctx context.Context, f EventFilter) iter.Seq2[jobs.Event, error] {
	_ = b.note("events job=%s host=%s after=%d", f.Job, f.Host, f.After)
	return func(yield func(jobs.Event, error) bool) {
		for {
			select {
			case e := <-b.events:
				if e.What == "broken" {
					yield(e, errors.New("the bus is away"))
					return
				}
				if !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
func (b *book) Progress() []jobs.Progress {
	return []jobs.Progress{{Job: jobID, Pass: 2, Predicted: time.Second, Disks: []jobs.DiskProgress{{Size: 100, Done: 40, Rate: 5}, {Size: 100, Done: 10, Rate: 1}}}}
}
func (b *book) TakeAlerts(_ context.Context, source string, body []byte) (alert.Receipt, error) {
	if b.took != nil {
		return b.took(source, body)
	}
	return alert.Receipt{Alerts: 1, Taken: 1, Rejected: []alert.Rejected{{Index: 1, Why: "w"}}}, b.note("alerts from %s: %d bytes", source, len(body))
}
func (b *book) Incidents(context.Context) ([]jobs.Incident, error) {
	a := jobs.Alert{Fingerprint: "f", Status: jobs.Firing, Labels: map[string]string{"alertname": "A"}, Seen: noon}
	return []jobs.Incident{{Alert: a, Rule: "r", Action: jobs.DrainHost, State: jobs.HeldBack, Reason: "why", Since: noon, Updated: noon}}, b.note("incidents")
}
func (b *book) Mutes(context.Context) ([]jobs.Mute, error) {
	return []jobs.Mute{{ID: "m", Until: noon, By: "ann", Created: noon}}, nil
}
func (b *book) Mute(_ context.Context, r MuteRequest) (jobs.Mute, error) {
	return jobs.Mute{ID: "m", Until: noon, By: r.By, Created: noon}, b.note("mute %s for %s by %s", r.Host, r.For, r.By)
}
func (b *book) Unmute(_ context.Context, id string) error { return b.note("unmute %s", id) }
func (b *book) Rules() RulesView                          { return RulesView{Server: "s1", File: "f", Text: "t"} }

const clientsFile = `
[[client]]
name = "am"
role = "alert"
token = "alert-token-0123456"
[[client]]
name = "eye"
role = "read"
token = "read-token-01234567"
[[client]]
name = "ann"
role = "admin"
token = "admin-token-0123456"
`

func newServer(t *testing.T, clients string) (*book, *httptest.Server) {
	t.Helper()
	var a Access
	if clients != "" {
		var err error
		if a, err = ParseAccess([]byte(clients)); err != nil {
			t.Fatal(err)
		}
	}
	b := &book{events: make(chan jobs.Event)}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	s := httptest.NewServer(New(b, a, metrics, zerolog.Nop()))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return b, s
}

func do1(t *testing.T, method, url, token, body string, more ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i] == "Host" {
			req.Host = more[i+1]
			continue
		}
		req.Header.Set(more[i], more[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// concrete fills in the parameters of a path.
func concrete(path string) string {
	return strings.NewReplacer("{id}", jobID, "{host}", "hv1").Replace(path)
}

// TestDocument: every route answers as the document says, for real; and the
// document names exactly the routes that are answered.
func TestDocument(t *testing.T) {
	b, s := newServer(t, clientsFile)
	_, _, text := do1(t, "GET", s.URL+"/v1/openapi.json", "", "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	paths := doc["paths"].(map[string]any)
	documented := 0
	for _, p := range paths {
		documented += len(p.(map[string]any))
	}
	if documented != len(routes()) {
		t.Errorf("%d operations in the document, %d routes", documented, len(routes()))
	}
	for _, r := range routes() {
		name := r.method + " " + r.path
		op, ok := paths[r.path].(map[string]any)[strings.ToLower(r.method)].(map[string]any)
		if !ok {
			t.Errorf("%s is not in the document", name)
			continue
		}
		if strings.HasSuffix(r.path, "/events") {
			continue // TestStream
		}
		status, head, answer := do1(t, r.method, s.URL+concrete(r.path), "admin-token-0123456", "")
		want := op["responses"].(map[string]any)[fmt.Sprint(status)]
		if status != r.status || want == nil {
			t.Errorf("%s: status %d, the document has %v: %s", name, status, op["responses"], answer)
			continue
		}
		if head.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", name, head.Get("Content-Type"))
		}
		if r.path == "/v1/openapi.json" {
			continue
		}
		schema := want.(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)["schema"]
		var v any
		if err := json.Unmarshal([]byte(answer), &v); err != nil {
			t.Fatal(err)
		}
		for _, fault := range against(doc, schema.(map[string]any), v, "$") {
			t.Errorf("%s: %s", name, fault)
		}
		// A body that the document does not have is refused, and so is what fails.
		if r.in != nil {
			if status, _, text := do1(t, r.method, s.URL+concrete(r.path), "admin-token-0123456", `{"nonsense":1}`); status != 400 || !strings.Contains(text, "nonsense") {
				t.Errorf("%s with an unknown field: %d %s", name, status, text)
			}
		}
	}
	b.err = jobs.Failed(jobs.CodeConflict, "no")
	problem := doc["components"].(map[string]any)["responses"].(map[string]any)["problem"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
	_, _, text = do1(t, "GET", s.URL+"/v1/jobs", "admin-token-0123456", "")
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	for _, fault := range against(doc, problem, v, "$") {
		t.Errorf("problem: %s", fault)
	}
}

// against holds a value against a schema: the words of JSON Schema that the
// document uses, and no others.
func against(doc, schema map[string]any, v any, at string) (faults []string) {
	bad := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if ref, ok := schema["$ref"].(string); ok {
		named := doc["components"].(map[string]any)["schemas"].(map[string]any)[strings.TrimPrefix(ref, "#/components/schemas/")]
		if named == nil {
			return []string{at + ": no schema " + ref}
		}
		return against(doc, named.(map[string]any), v, at)
	}
	if any, ok := schema["anyOf"].([]any); ok {
		for _, s := range any {
			if len(against(doc, s.(map[string]interface{}), v, at)) == 0 {
				return nil
			}
		}
		return append(faults, at+": fits none of anyOf")
	}
	types, many := schema["type"].([]any)
	if !many {
		types = []any{schema["type"]}
	}
	kind := map[bool]string{true: "integer", false: "number"}
	got := ""
	switch x := v.(type) {
	case nil:
		got = "null"
	case bool:
		got = "boolean"
	case string:
		got = "string"
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, x); err != nil {
				bad("%v", err)
			}
		}
	case float64:
		got = kind[x == float64(int64(x))]
	case []any:
		got = "array"
		if items, ok := schema["items"].(map[string]any); ok {
			for i, e := range x {
				faults = append(faults, against(doc, items, e, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
	case map[string]any:
		got = "object"
		props, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := x[name.(string)]; !ok {
				bad("%s is missing", name)
			}
		}
		for k, e := range x {
			if p, ok := props[k].(map[string]any); ok {
				faults = append(faults, against(doc, p, e, at+"."+k)...)
			} else if more, ok := schema["additionalProperties"].(map[string]any); ok {
				faults = append(faults, against(doc, more, e, at+"."+k)...)
			} else {
				bad("%s is not in the schema", k)
			}
		}
	}
	if !slices.Contains(types, any(got)) && !(got == "integer" && slices.Contains(types, any("number"))) {
		bad("%s, want %v", got, types)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		bad("%v is none of %v", v, enum)
	}
	return faults
}

// TestRoles: each route is for its role and admins, and for nobody else.
func TestRoles(t *testing.T) {
	_, s := newServer(t, clientsFile)
	tokens := map[Role]string{Alert: "alert-token-0123456", Read: "read-token-01234567", Admin: "admin-token-0123456"}
	for _, r := range append(routes(), route{method: "GET", path: "/metrics", role: Read}) {
		if strings.HasSuffix(r.path, "/events") {
			continue
		}
		for role, token := range tokens {
			status, _, text := do1(t, r.method, s.URL+concrete(r.path), token, "")
			if may := r.role == Anyone || role == r.role || role == Admin; may != (status < 300) || !may && status != 403 {
				t.Errorf("%s %s as %s: %d %s", r.method, r.path, role, status, text)
			}
		}
	}
	for _, token := range []string{"", "wrong-token-0123456", "read-token-0123456"} {
		if status, head, _ := do1(t, "GET", s.URL+"/v1/jobs", token, ""); status != 401 || head.Get("WWW-Authenticate") == "" {
			t.Errorf("token %q: %d", token, status)
		}
	}
	limited := false
	for range 2 * wrongPerSecond {
		status, _, _ := do1(t, "GET", s.URL+"/v1/jobs", "guess-guess-guess-g", "")
		limited = limited || status == 429
	}
	if !limited {
		t.Error("tokens may be guessed without end")
	}
	if status, _, _ := do1(t, "GET", s.URL+"/v1/jobs", tokens[Read], ""); status != 200 {
		t.Errorf("who is known suffers from who guesses: %d", status)
	}
}

// TestWithoutClients: this machine may look, and that is all.
func TestWithoutClients(t *testing.T) {
	b, s := newServer(t, "")
	if status, _, text := do1(t, "GET", s.URL+"/v1/jobs", "", ""); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	for _, path := range []string{"/v1/jobs", "/v1/alerts/alertmanager", "/v1/hosts/hv1/drain"} {
		if status, _, text := do1(t, "POST", s.URL+path, "", `{}`); status != 403 || !strings.Contains(text, "--http-clients") {
			t.Errorf("POST %s: %d %s", path, status, text)
		}
	}
	// A name of somebody else's that leads here, as a browser would ask.
	if status, _, _ := do1(t, "GET", s.URL+"/v1/jobs", "", "", "Host", "evil.example.org"); status != 401 {
		t.Errorf("another name: %d", status)
	}
	if b.last() != "jobs" {
		t.Errorf("asked: %q", b.asked)
	}
}

func TestCrossSite(t *testing.T) {
	_, s := newServer(t, clientsFile)
	status, _, _ := do1(t, "POST", s.URL+"/v1/hosts/hv1/drain", "admin-token-0123456", `{}`, "Sec-Fetch-Site", "cross-site")
	if status != 403 {
		t.Errorf("a page of another site drained a host: %d", status)
	}
}

// TestAsked: what is in a request arrives where it belongs, with who asked.
func TestAsked(t *testing.T) {
	b, s := newServer(t, clientsFile)
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "/v1/jobs", `{"kind":"migrate","vm":"web01","to":"hv2","max_downtime_ns":1,"priority":1,"on_timeout":"abort","verify":"none","keep_source_ns":1,"map":{},"by":"somebody else"}`, "submit web01 to hv2 by http:ann"},
		{"POST", "/v1/jobs/01J/cancel", "", "cancel 01J by http:ann"},
		{"PUT", "/v1/hosts/hv1/cordon", `{"reason":"fan"}`, "cordon hv1 by http:ann: fan"},
		{"DELETE", "/v1/hosts/hv1/cordon", "", "uncordon hv1 by http:ann"},
		{"POST", "/v1/hosts/hv1/drain", `{"reason":"fan","deadline_ns":60000000000,"canary":true}`, "drain hv1 by http:ann: fan, 1m0s, canary true"},
		{"DELETE", "/v1/hosts/hv1/drain", "", "cancel drain of hv1 by http:ann"},
		{"POST", "/v1/hosts/hv1/restore", "", "restore hv1 by http:ann: , 0s, canary false"},
		{"DELETE", "/v1/hosts/hv1/restore", "", "cancel restore of hv1 by http:ann"},
		{"GET", "/v1/hosts/hv1/drain/plan", "", "plan drain of hv1"},
		{"POST", "/v1/mutes", `{"host":"hv1","for_ns":60000000000}`, "mute hv1 for 1m0s by http:ann"},
		{"DELETE", "/v1/mutes/m1", "", "unmute m1"},
		{"POST", "/v1/alerts/grafana", `{}`, "alerts from grafana:ann: 2 bytes"},
	} {
		status, _, text := do1(t, tt.method, s.URL+tt.path, "admin-token-0123456", tt.body)
		if status >= 300 || b.last() != tt.want {
			t.Errorf("%s %s: %d %s, asked for %q, want %q", tt.method, tt.path, status, text, b.last(), tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	b, s := newServer(t, clientsFile)
	admin := "admin-token-0123456"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"no such path", "GET", "/v1/nothing", "", 404, "openapi.json lists all"},
		{"no such method", "DELETE", "/v1/jobs", "", 404, "no such path or method"},
		{"two values", "POST", "/v1/mutes", `{} {}`, 400, "behind the JSON"},
		{"no JSON", "POST", "/v1/mutes", `{`, 400, "unexpected EOF"},
		{"wrong type", "POST", "/v1/mutes", `{"for_ns":"2h"}`, 400, "for_ns"},
		{"too long", "POST", "/v1/mutes", `{"host":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too large"},
		{"deep", "POST", "/v1/mutes", strings.Repeat("[", 20000), 400, "max depth"},
		{"limit", "GET", "/v1/jobs?limit=0", "", 400, "limit"},
		{"state", "GET", "/v1/jobs?state=odd", "", 400, "odd"},
		{"since", "GET", "/v1/events?since=yesterday", "", 400, "yesterday"},
		{"two filters", "GET", "/v1/events?job=a&host=b", "", 400, "one of them"},
		{"no host", "GET", "/v1/hosts/hv9", "", 404, "hv9 is not there"},
	} {
		if status, _, text := do1(t, tt.method, s.URL+tt.path, admin, tt.body); status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %.200s, want %d %q", tt.name, status, text, tt.status, tt.want)
		}
	}
	if status, _, text := do1(t, "POST", s.URL+"/v1/mutes", admin, `{"host":"hv1"}`, "Content-Type", "text/plain"); status != 400 || !strings.Contains(text, "application/json") {
		t.Errorf("text/plain: %d %s", status, text)
	}
	for _, tt := range []struct {
		err    error
		status int
	}{
		{jobs.Failed(jobs.CodeUsage, "x"), 400}, {jobs.Failed(jobs.CodeNotFound, "x"), 404}, {jobs.Failed(jobs.CodeConflict, "x"), 409},
		{&jobs.BlockedError{VM: "v", Blockers: []jobs.Blocker{{Host: "h", Text: "t"}}}, 422}, {jobs.RetryLater(jobs.CodeAway, "x"), 503},
		{errors.New("x"), 500}, {fmt.Errorf("x: %w", alert.ErrBusy), 503},
	} {
		b.err = tt.err
		status, head, text := do1(t, "GET", s.URL+"/v1/jobs", admin, "")
		if status != tt.status || (status == 503) != (head.Get("Retry-After") != "") {
			t.Errorf("%v: %d %s", tt.err, status, text)
		}
		var p Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.Error.Code != jobs.CodeOf(tt.err) || p.Error.Text == "" {
			t.Errorf("%v: %s (%v)", tt.err, text, err)
		}
	}
}

func TestListJobs(t *testing.T) {
	_, s := newServer(t, clientsFile)
	for query, want := range map[string]string{"": "01A " + jobID, "?active=true": jobID, "?state=succeeded": "01A", "?vm=db01": "01A", "?vm=" + webUUID: jobID, "?limit=1": jobID, "?state=failed": ""} {
		_, _, text := do1(t, "GET", s.URL+"/v1/jobs"+query, "read-token-01234567", "")
		var l JobList
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, j := range l.Jobs {
			ids = append(ids, j.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// TestStream: events come as they happen, a reader carries on where it was, and
// what leaves leaves nothing behind (goleak).
func TestStream(t *testing.T) {
	b, s := newServer(t, clientsFile)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/events?job="+jobID, nil)
	req.Header.Set("Authorization", "Bearer read-token-01234567")
	req.Header.Set("Last-Event-ID", "41")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v", resp.Header)
	}
	b.events <- jobs.Event{Job: jobID, What: "state", Text: "a\nb", Seq: 42, Time: noon}
	want := "id: 42\nevent: state\ndata: {"
	got := make([]byte, 0, 512)
	buf := make([]byte, 512)
	for !bytes.Contains(got, []byte(want)) {
		n, err := resp.Body.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
	}
	if b.last() != "events job="+jobID+" host= after=41" {
		t.Errorf("asked for %q", b.last())
	}
	b.events <- jobs.Event{What: "broken"}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("a stream whose source breaks ends softly: %v", err)
	}
}

// TestServeEnds: a stream that is open does not keep a server from ending.
func TestServeEnds(t *testing.T) {
	a, err := ParseAccess([]byte(clientsFile))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	h := New(&book{events: make(chan jobs.Event)}, a, http.NotFoundHandler(), zerolog.Nop())
	go func() { ended <- h.Serve(ctx, l, nil) }()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/v1/events", nil)
	req.Header.Set("Authorization", "Bearer read-token-01234567")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	cancel(jobs.ErrShutdown)
	if err := <-ended; !errors.Is(err, jobs.ErrShutdown) {
		t.Errorf("ended with %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
}

func TestParseAccess(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "nobody is named"},
		{"[[client]]\nname=\"a\"\nrole=\"root\"\ntoken=\"0123456789abcdef\"", "role \"root\""},
		{"[[client]]\nname=\"a\"\nrole=\"read\"\ntoken=\"short\"", "too short"},
		{"[[client]]\nname=\"a\"\nrole=\"read\"", "a token or"},
		{"[[client]]\nname=\"a\"\nrole=\"read\"\ntoken=\"0123456789abcdef\"\ncertificate=\"a\"", "one of them"},
		{"[[client]]\nrole=\"read\"\ntoken=\"0123456789abcdef\"", "name of its own"},
		{"[[client]]\nname=\"a\"\nrole=\"read\"\ntoken=\"0123456789abcdef\"\ntokn=1", "unknown key client.tokn"},
	} {
		if _, err := ParseAccess([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%q: %v, want %q and no secret", tt.text, err, tt.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	b := &book{}
	hosts, _ := b.Hosts(t.Context())
	all, _ := b.Jobs(t.Context())
	for i := range 30 {
		all = append(all, jobs.Record{ID: fmt.Sprintf("Q%02d", i), State: jobs.Queued, Source: "hv1", Spec: jobs.Spec{Priority: i % 2}})
	}
	incidents, _ := b.Incidents(t.Context())
	incidents = append(incidents, jobs.Incident{State: jobs.IncidentIsOver})
	o := Summarize(noon, hosts, all, incidents, b.Progress())
	if o.More != 30-mostWaiting || o.Totals[jobs.Queued] != 30 || len(o.Alerts) != 1 || len(o.Jobs) != 2+mostWaiting {
		t.Errorf("%d jobs, %d more, %v, %d alerts", len(o.Jobs), o.More, o.Totals, len(o.Alerts))
	}
	first := o.Jobs[0]
	if first.ID != jobID || first.Done != 50 || first.Size != 200 || first.Rate != 6 || first.Predicted != time.Second {
		t.Errorf("%+v", first)
	}
	if o.Jobs[1].ID != "Q01" || o.Jobs[len(o.Jobs)-1].ID != "01A" {
		t.Errorf("order: %s … %s", o.Jobs[1].ID, o.Jobs[len(o.Jobs)-1].ID)
	}
	h := o.Hosts[0]
	if h.Out != 1 || h.Moves != 1 || h.Moved != 1 || h.Running != 1 || o.Hosts[1].State != alert.Gone {
		t.Errorf("%+v", o.Hosts)
	}
}

// TestPage: it may run its own script and style, and load nothing else.
func TestPage(t *testing.T) {
	_, s := newServer(t, clientsFile)
	status, head, text := do1(t, "GET", s.URL+"/", "", "")
	policy := head.Get("Content-Security-Policy")
	if status != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Count(policy, "sha256-") != 2 || strings.Contains(policy, "unsafe") {
		t.Errorf("%d %s", status, policy)
	}
	for _, never := range []string{"innerHTML", "src=", "http://", "https://", "@import", "url(", "onclick"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
}
