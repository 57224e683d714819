package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"xmig/jobs"
)

const (
	// keepAlive is how often a silent stream says that it is there: proxies cut
	// what is silent for a minute.
	keepAlive = 15 * time.Second
	// writeTime is how long a reader may be slow before it is cut off; it
	// carries on with Last-Event-ID.
	writeTime = 10 * time.Second
	// streamBuffer is how far a reader may be behind before it must be waited for.
	streamBuffer = 256
)

// stream tells events as they happen.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, _ Client) {
	f, err := filterOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		fail(w, jobs.RetryLater(jobs.CodeAway, "%d streams of events are open, which is all there may be", maxStreams))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	out := &sse{w: w, c: http.NewResponseController(w)}
	if out.write(": xmig\n\n") != nil {
		return
	}
	// The watch has its own goroutine, which ends with this function.
	ctx, stop := context.WithCancel(r.Context())
	events := make(chan jobs.Event, streamBuffer)
	ended := make(chan error, 1)
	go func() {
		defer close(events)
		for e, err := range h.control.Events(ctx, f) {
			if err != nil {
				ended <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	h.copyEvents(r, out, events, ended)
	stop()
	for range events { // until the watch has ended
	}
}

func (h *Handler) copyEvents(r *http.Request, out *sse, events <-chan jobs.Event, ended <-chan error) {
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		var err error
		select {
		case e, ok := <-events:
			if !ok {
				select {
				case cause := <-ended:
					h.log.Warn().Err(cause).Msg("stream of events ended; whoever reads it asks again")
				default:
				}
				return
			}
			err = out.event(e)
		case <-alive.C:
			err = out.write(": \n\n")
		case <-h.closing:
			return
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return // whoever read it is gone, or too slow
		}
	}
}

func filterOf(r *http.Request) (f EventFilter, err error) {
	q := r.URL.Query()
	f = EventFilter{Job: q.Get("job"), VM: q.Get("vm"), Host: q.Get("host"), Alert: q.Get("alert")}
	n := 0
	for _, s := range []string{f.Job, f.VM, f.Host, f.Alert} {
		if s != "" {
			n++
		}
	}
	if n > 1 {
		return f, jobs.Failed(jobs.CodeUsage, "job, vm, host and alert: want one of them, or none")
	}
	if f.Since, err = sinceOf(q.Get("since"), time.Now()); err != nil {
		return f, err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if f.After, err = strconv.ParseUint(last, 10, 64); err != nil {
			return f, jobs.Failed(jobs.CodeUsage, "Last-Event-ID %q: want a number", last)
		}
	}
	return f, nil
}

// sse writes server-sent events.
type sse struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (s *sse) event(e jobs.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.What, data))
}

func (s *sse) write(text string) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.c.Flush()
}
