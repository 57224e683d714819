package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// DeadBell is a doorbell that was given up: it rang as often as it may and was
// never answered for good. It still lies in the queue and holds its VM's place
// there, so that nobody else's rings; Revive makes it ring again.
type DeadBell struct {
	Job   string    `json:"job"`
	Tries uint64    `json:"tries"`
	At    time.Time `json:"at"`
	seq   uint64
}

// advisory is what the server says of it; it does not have the doorbell itself.
type advisory struct {
	Time       time.Time `json:"timestamp"`
	StreamSeq  uint64    `json:"stream_seq"`
	Deliveries uint64    `json:"deliveries"`
}

// DeadBells lists them, by job.
func (b *Bus) DeadBells(ctx context.Context) (map[string]DeadBell, error) {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	out := map[string]DeadBell{}
	queue, err := b.js.Stream(ctx, b.names.stream(streamJobs))
	if err != nil {
		return nil, b.explain(began, missing(b.names.stream(streamJobs), err))
	}
	told, err := b.advisories(ctx, advisoryMaxDeliveries+b.names.stream(streamJobs)+".*")
	if err != nil {
		return nil, b.explain(began, err)
	}
	for _, a := range told {
		m, err := queue.GetMsg(ctx, a.StreamSeq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // answered after all, or revived
		}
		if err != nil {
			return nil, b.explain(began, away("queue", err))
		}
		out[string(m.Data)] = DeadBell{Job: string(m.Data), Tries: a.Deliveries, At: a.Time, seq: a.StreamSeq}
	}
	return out, nil
}

// advisories reads what is kept of one kind.
func (b *Bus) advisories(ctx context.Context, subject string) ([]advisory, error) {
	s, err := b.js.Stream(ctx, b.names.stream(streamDead))
	if err != nil {
		return nil, missing(b.names.stream(streamDead), err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, away("dead doorbells", err)
	}
	left := uint64(0)
	for _, n := range info.State.Subjects {
		left += n
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return nil, away("dead doorbells", err)
	}
	var out []advisory
	for ; left > 0; left-- {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return nil, away("dead doorbells", err)
		}
		var a advisory
		if err := json.Unmarshal(m.Data(), &a); err != nil {
			return nil, fmt.Errorf("dead doorbell: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}

// Revive has the doorbell of a job ring again that was given up. ErrNotFound:
// it was not, or not this job's. Dying between its two halves leaves the job
// without a doorbell; the coordinator rings for it then.
func (b *Bus) Revive(ctx context.Context, rec jobs.Record) error {
	dead, err := b.DeadBells(ctx)
	if err != nil {
		return err
	}
	d, ok := dead[rec.ID]
	if !ok {
		return fmt.Errorf("job %s: a doorbell that was given up: %w", rec.ID, jobs.ErrNotFound)
	}
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	s, err := b.js.Stream(ctx, b.names.stream(streamJobs))
	if err != nil {
		return b.explain(began, missing(b.names.stream(streamJobs), err))
	}
	m, err := s.GetMsg(ctx, d.seq)
	if err == nil {
		err = s.DeleteMsg(ctx, d.seq)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // somebody else revives it
	}
	if err != nil {
		return b.explain(began, away("job "+rec.ID+": doorbell", err))
	}
	// By an id of its own: the old one's may still be remembered.
	_, err = b.js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Data: m.Data}, jetstream.WithMsgID(fmt.Sprintf("%s.revived.%d", rec.AttemptID(), d.seq)))
	var api *jetstream.APIError
	if err == nil || errors.As(err, &api) && api.ErrorCode == codeSlotTaken {
		return nil // or the coordinator was faster
	}
	return b.explain(began, away("job "+rec.ID+": doorbell", err))
}
