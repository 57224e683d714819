package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"xmig/jobs"
	"xmig/jobs/coordinator/alert"
)

// Handler answers HTTP requests.
type Handler struct {
	control Control
	access  Access
	log     zerolog.Logger
	mux     *http.ServeMux
	cross   *http.CrossOriginProtection
	wrong   *rate.Limiter // requests of nobody that is known
	streams chan struct{} // a place for each stream of events
	closing chan struct{} // closed when streams shall end
	page    page
}

const (
	maxBody    = 1 << 20
	maxStreams = 64
	// wrongPerSecond bounds guessing of tokens; each is a line in the log at most.
	wrongPerSecond = 10
)

// New makes a handler. Metrics answers /metrics.
func New(c Control, a Access, metrics http.Handler, log zerolog.Logger) *Handler {
	h := &Handler{control: c, access: a, log: log, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(),
		wrong: rate.NewLimiter(wrongPerSecond, wrongPerSecond), streams: make(chan struct{}, maxStreams), closing: make(chan struct{}), page: newPage()}
	for _, r := range routes() {
		h.mux.Handle(r.method+" "+r.path, h.guard(r.role, r.do))
	}
	h.mux.Handle("GET /metrics", h.guard(Read, func(_ *Handler, w http.ResponseWriter, r *http.Request, _ Client) { metrics.ServeHTTP(w, r) }))
	h.mux.Handle("GET /healthz", h.guard(Anyone, func(_ *Handler, w http.ResponseWriter, _ *http.Request, _ Client) { _, _ = io.WriteString(w, "ok\n") }))
	h.mux.Handle("GET /{$}", h.guard(Anyone, h.page.serve))
	h.mux.Handle("/", h.guard(Anyone, func(_ *Handler, w http.ResponseWriter, r *http.Request, _ Client) {
		fail(w, jobs.Failed(jobs.CodeNotFound, "%s %s: there is no such path or method; /v1/openapi.json lists all", r.Method, r.URL.Path))
	}))
	return h
}

// do answers one request of a client that may ask.
type do func(h *Handler, w http.ResponseWriter, r *http.Request, by Client)

// ServeHTTP refuses what browsers send for other sites, and bounds every body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := h.cross.Check(r); err != nil {
		refuse(w, http.StatusForbidden, jobs.CodeBlocked, err.Error())
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mux.ServeHTTP(w, r)
}

// guard lets through who has the role.
func (h *Handler) guard(need Role, next do) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if need == Anyone {
			next(h, w, r, Client{})
			return
		}
		by, err := h.access.who(r)
		switch {
		case err != nil && !h.wrong.Allow():
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, jobs.CodeBlocked, "too many requests without a token that is known")
		case err != nil:
			h.log.Warn().Err(err).Str("from", r.RemoteAddr).Str("path", alert.Printable(r.URL.Path)).Msg("HTTP request refused")
			w.Header().Set("WWW-Authenticate", `Bearer realm="xmig"`)
			refuse(w, http.StatusUnauthorized, jobs.CodeBlocked, err.Error())
		case !by.Role.may(need) && len(h.access.Clients) == 0:
			refuse(w, http.StatusForbidden, jobs.CodeBlocked, "this server has no clients file, so it can only be looked at; start it with --http-clients")
		case !by.Role.may(need):
			refuse(w, http.StatusForbidden, jobs.CodeBlocked, fmt.Sprintf("client %s has the role %s, this needs %s", by.Name, by.Role, need))
		default:
			next(h, w, r, by)
		}
	})
}

// Problem is the body of every answer that is no success.
type Problem struct {
	Error ProblemText `json:"error"`
}

// ProblemText says what is wrong: code is for programs.
type ProblemText struct {
	Code     jobs.Code      `json:"code"`
	Text     string         `json:"text"`
	Blockers []jobs.Blocker `json:"blockers,omitempty"`
}

func refuse(w http.ResponseWriter, status int, code jobs.Code, text string) {
	answer(w, status, Problem{ProblemText{Code: code, Text: text}})
}

// statusOf is the one table of codes to HTTP.
func statusOf(err error) int {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, alert.ErrBusy):
		// Not 429: Alertmanager sends again what a 5xx answers, and drops the rest.
		return http.StatusServiceUnavailable
	}
	switch jobs.CodeOf(err) {
	case jobs.CodeUsage:
		return http.StatusBadRequest
	case jobs.CodeNotFound:
		return http.StatusNotFound
	case jobs.CodeConflict, jobs.CodeCancelled:
		return http.StatusConflict
	case jobs.CodeBlocked:
		return http.StatusUnprocessableEntity
	case jobs.CodeAway:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func fail(w http.ResponseWriter, err error) {
	p := Problem{ProblemText{Code: jobs.CodeOf(err), Text: err.Error()}}
	var b *jobs.BlockedError
	if errors.As(err, &b) {
		p.Error.Blockers = b.Blockers
	}
	status := statusOf(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	answer(w, status, p)
}

func answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // every type that is answered can be encoded: a test sees to it
		status, data = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","text":"the answer cannot be encoded"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // whoever asked and left needs no answer
}

// body reads a request's JSON strictly; an empty body is the zero value.
func body[T any](r *http.Request) (v T, err error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return v, jobs.Failed(jobs.CodeUsage, "request: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return v, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return v, jobs.Failed(jobs.CodeUsage, "request: Content-Type %q: want application/json", r.Header.Get("Content-Type"))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, jobs.Failed(jobs.CodeUsage, "request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return v, jobs.Failed(jobs.CodeUsage, "request: something stands behind the JSON value")
	}
	return v, nil
}

// sinceOf reads a time, or a span back from now.
func sinceOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, jobs.Failed(jobs.CodeUsage, "since %q: want a span such as 24h, or a time such as 2026-03-01T12:00:00Z", text)
	}
	return at, nil
}
