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

// QueueConfig holds the settings of a node's queue; zero values are the defaults.
type QueueConfig struct {
	// AckWait is how long a doorbell stays with a worker that says nothing.
	AckWait time.Duration
	// Parallel is how many doorbells a worker may hold at once.
	Parallel int
}

const (
	// DefaultAckWait: three missed beats of ten seconds.
	DefaultAckWait = 30 * time.Second
	// maxDeliver is a backstop: attempts are counted in the record.
	maxDeliver = 20
	// confirm is how long a beat may go unanswered.
	confirm = 2 * time.Second
	// fetchWait is how long one request for a doorbell stays open at the
	// server. A new one costs nothing; a forgotten one gives a doorbell to nobody.
	fetchWait = 5 * time.Second
)

// codeSlotTaken: the subject holds as many messages as it may.
const codeSlotTaken = 10077

// Ring puts the doorbell of a job into its source node's queue. Ringing again
// is harmless. ErrConflict: another job's doorbell holds the VM.
func (b *Bus) Ring(ctx context.Context, rec jobs.Record) error {
	vm := rec.VM.UUID
	if rec.Spec.Kind == jobs.KindSync {
		vm = rec.ID // no VM: the job stands for itself
	} else if err := checkVM(vm); err != nil {
		return err
	}
	if err := errors.Join(checkNode(rec.Source), checkToken("job", rec.ID)); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	// The id differs per attempt: a retry soon after must not pass for a repeat.
	_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: b.names.bell(rec.Source, vm), Data: []byte(rec.ID)},
		jetstream.WithMsgID(rec.AttemptID()), jetstream.WithExpectStream(b.names.stream(streamJobs)))
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api) && api.ErrorCode == codeSlotTaken:
		holder, err := b.ringing(ctx, b.names.bell(rec.Source, vm))
		if err != nil {
			return fmt.Errorf("job %s: its VM's place in the queue is taken: %w", rec.ID, err)
		}
		if holder == rec.ID {
			return nil
		}
		return jobs.Failed(jobs.CodeConflict, "vm %s: job %s is in the queue: %w", rec.VM.Name, holder, jobs.ErrConflict)
	}
	return b.explain(began, away("job "+rec.ID+": doorbell", err))
}

// ringing reads whose doorbell lies on a subject, without taking it.
func (b *Bus) ringing(ctx context.Context, subject string) (string, error) {
	s, err := b.js.Stream(ctx, b.names.stream(streamJobs))
	if err != nil {
		return "", away("queue", err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return "", away("queue", err)
	}
	return string(m.Data), nil
}

// Queue is a node's end of the work queue.
type Queue struct {
	b    *Bus
	node string
	c    jetstream.Consumer
}

// Queue opens the queue of node, and makes its consumer if it has none.
func (b *Bus) Queue(ctx context.Context, node string, cfg QueueConfig) (*Queue, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = DefaultAckWait
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 4
	}
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	// No BackOff: its first value would replace AckWait. No InactiveThreshold:
	// a host that is off for a week must find its queue.
	c, err := b.js.CreateOrUpdateConsumer(ctx, b.names.stream(streamJobs), jetstream.ConsumerConfig{
		Durable:       consumerOf(node),
		FilterSubject: b.names.bell(node, "*"),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       cfg.AckWait,
		MaxDeliver:    maxDeliver,
		MaxAckPending: cfg.Parallel,
	})
	if err != nil {
		return nil, b.explain(began, fmt.Errorf("queue of %s: %w", node, missing(b.names.stream(streamJobs), err)))
	}
	return &Queue{b: b, node: node, c: c}, nil
}

// Next waits for a doorbell until ctx ends. One is asked for at a time: a
// doorbell that waits in a client's buffer is already counted against AckWait.
func (q *Queue) Next(ctx context.Context) (*Delivery, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		began := time.Now()
		wait, cancel := context.WithTimeout(ctx, fetchWait)
		batch, err := q.c.Fetch(1, jetstream.FetchContext(wait))
		if err == nil {
			for m := range batch.Messages() {
				cancel()
				return q.delivery(m), nil
			}
			err = batch.Error()
		}
		cancel()
		if err = q.b.explain(began, err); errors.Is(err, errForbidden) {
			return nil, fmt.Errorf("queue of %s: %w", q.node, err)
		}
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, jobs.RetryLater(jobs.CodeNotFound, "queue of %s: %w", q.node, err)
		}
		if errors.Is(err, nats.ErrNoResponders) && q.gone(ctx) {
			return nil, jobs.RetryLater(jobs.CodeNotFound, "queue of %s: the bus was made anew since it was opened", q.node)
		}
		if err != nil && time.Since(began) < tryAgain { // refused at once: the bus is away
			pause(ctx, tryAgain)
		}
	}
}

// gone tells whether the bus has no such queue any more: one that was lost and
// made anew answers an old request with nobody.
func (q *Queue) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	_, err := q.c.Info(ctx)
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// Delivery is a doorbell in this worker's hands. It proves no ownership: a
// worker that was slow may hold one that another holds too. Whoever lost the
// lease must neither touch nor end it.
type Delivery struct {
	Job   string
	Tries uint64 // deliveries of this doorbell so far, this one included
	b     *Bus
	reply string
}

func (q *Queue) delivery(m jetstream.Msg) *Delivery {
	d := &Delivery{Job: string(m.Data()), b: q.b, reply: m.Reply(), Tries: 1}
	if meta, err := m.Metadata(); err == nil {
		d.Tries = meta.NumDelivered
	}
	return d
}

// Touch keeps the doorbell for another AckWait. It is a request: the answer
// proves that the server was reached.
func (d *Delivery) Touch(ctx context.Context) error {
	return d.request(ctx, "+WPI", "beat")
}

// Done removes the doorbell; the record must be final by now.
func (d *Delivery) Done(ctx context.Context) error {
	return d.request(ctx, "+ACK", "end")
}

func (d *Delivery) request(ctx context.Context, verb, what string) error {
	ctx, cancel := bounded(ctx, confirm)
	defer cancel()
	began := time.Now()
	if _, err := d.b.nc.RequestWithContext(ctx, d.reply, []byte(verb)); err != nil {
		return d.b.explain(began, away("job "+d.Job+": "+what+" of its doorbell", err))
	}
	return nil
}

// Later hands the doorbell back, to ring again after d.
func (d *Delivery) Later(ctx context.Context, after time.Duration) error {
	delay, err := json.Marshal(map[string]int64{"delay": int64(max(after, time.Millisecond))})
	if err != nil {
		return err
	}
	return d.say(ctx, "-NAK "+string(delay))
}

// Drop removes the doorbell for good; the reason goes into XMIG_DEAD.
func (d *Delivery) Drop(ctx context.Context, reason string) error {
	return d.say(ctx, "+TERM "+reason)
}

func (d *Delivery) say(ctx context.Context, text string) error {
	ctx, cancel := bounded(ctx, confirm)
	defer cancel()
	if err := d.b.nc.Publish(d.reply, []byte(text)); err != nil {
		return away("job "+d.Job+": doorbell", err)
	}
	if err := d.b.nc.FlushWithContext(ctx); err != nil {
		return away("job "+d.Job+": doorbell", err)
	}
	return nil
}
