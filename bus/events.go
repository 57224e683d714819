package bus

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// Emit stores one line of a job's story, and returns at once: a guest may be
// held paused by who calls it. An event that cannot be stored is lost, with a
// line in the log; nothing is decided by events.
func (b *Bus) Emit(_ context.Context, e jobs.Event) {
	kind, id := "job", e.Job
	switch {
	case e.Job != "":
	case e.Alert != nil:
		kind, id = "alert", e.Alert.Fingerprint
	case e.VM.UUID != "":
		kind, id = "vm", e.VM.UUID
	default:
		kind, id = "host", e.Node
	}
	value, err := Encode(e)
	if err == nil {
		_, err = b.js.PublishMsgAsync(&nats.Msg{Subject: b.names.eventSubject(kind, id, e.What), Data: value})
	}
	if err != nil {
		b.counts.eventsLost.Add(1)
		b.log.Warn().Err(err).Str("job", e.Job).Str("what", e.What).Msg("event lost")
	}
}

func (b *Bus) eventLost(_ jetstream.JetStream, m *nats.Msg, err error) {
	b.counts.eventsLost.Add(1)
	b.log.Warn().Err(err).Str("subject", m.Subject).Msg("event lost")
}

// EventFilter picks events; the zero value takes all there are, from the first.
type EventFilter struct {
	Job, VM, Host string // one of them, or none
	Alert         string // a fingerprint, or "*" for all alerts
	Since         time.Time
	After         uint64 // behind this sequence number; wins over Since
	Follow        Follow
}

// Follow says what to do at the end of what is stored.
type Follow string

const (
	Stored  Follow = ""       // stop
	Forever Follow = "follow" // wait for more until ctx ends
)

func (f EventFilter) subject(n names) string {
	switch {
	case f.Job != "":
		return n.subject(tokenEvent, "job", token(f.Job), ">")
	case f.Alert == "*":
		return n.subject(tokenEvent, "alert", ">")
	case f.Alert != "":
		return n.subject(tokenEvent, "alert", token(f.Alert), ">")
	case f.VM != "":
		return n.subject(tokenEvent, "vm", token(f.VM), ">")
	case f.Host != "":
		return n.subject(tokenEvent, "host", token(f.Host), ">")
	}
	return n.subject(tokenEvent, ">")
}

// Events tells stored events in order. It ends with an error, or at the end
// of what is stored, or with ctx.
func (b *Bus) Events(ctx context.Context, f EventFilter) iter.Seq2[jobs.Event, error] {
	return func(yield func(jobs.Event, error) bool) {
		if err := b.replay(ctx, f, yield); err != nil && ctx.Err() == nil {
			yield(jobs.Event{}, err)
		}
	}
}

func (b *Bus) replay(ctx context.Context, f EventFilter, yield func(jobs.Event, error) bool) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{f.subject(b.names)}}
	switch {
	case f.After > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.After+1
	case !f.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
	}
	open, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	c, err := b.js.OrderedConsumer(open, b.names.stream(streamEvents), cfg)
	if err != nil {
		return b.explain(began, missing(b.names.stream(streamEvents), err))
	}
	if f.Follow == Stored {
		info, err := c.Info(open)
		if err != nil {
			return b.explain(began, away("events", err))
		}
		if info.NumPending == 0 {
			return nil
		}
	}
	msgs, err := c.Messages()
	if err != nil {
		return b.explain(began, away("events", err))
	}
	defer msgs.Stop()
	for {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return away("events", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return jobs.Failed(jobs.CodeInternal, "events: %w", err)
		}
		var e jobs.Event
		if err := Decode(m.Data(), &e); err != nil {
			b.log.Error().Err(err).Str("subject", m.Subject()).Msg("event that cannot be read")
		} else if e.Seq = meta.Sequence.Stream; !yield(e, nil) {
			return nil
		}
		if f.Follow == Stored && meta.NumPending == 0 {
			return nil
		}
	}
}

// Report publishes progress. It is never stored and may be lost.
func (b *Bus) Report(p jobs.Progress) {
	if checkToken("job", p.Job) != nil {
		return
	}
	value, err := Encode(p)
	if err == nil {
		err = b.nc.Publish(b.names.progress(p.Job), value)
	}
	if err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) {
		b.log.Debug().Err(err).Str("job", p.Job).Msg("progress lost")
	}
}

// Progress tells the progress of one job, or of all for "*", until ctx ends.
func (b *Bus) Progress(ctx context.Context, job string, tell func(jobs.Progress)) error {
	if job != "*" {
		if err := checkToken("job", job); err != nil {
			return err
		}
	}
	sub, err := b.nc.SubscribeSync(b.names.progress(job))
	if err != nil {
		return away("progress", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // some were dropped: newer ones follow
		case err != nil:
			return away("progress", err)
		}
		var p jobs.Progress
		if Decode(m.Data, &p) == nil {
			tell(p)
		}
	}
}
