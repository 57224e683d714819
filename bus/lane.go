package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"xmig/blocksync"
	"xmig/jobs"
)

// laneRole is the end of a lane; also the name of its stream's consumer.
type laneRole string

const (
	source      laneRole = "source"
	destination laneRole = "destination"
)

func (r laneRole) other() laneRole {
	if r == source {
		return destination
	}
	return source
}

// Last tokens of a lane's subjects.
const (
	laneChunk  = "chunk"  // source to destination, in a stream
	laneDigest = "digest" // destination to source, in a stream
	laneCredit = "credit" // either way, plain
	laneIntake = "intake" // where a stream delivers to its end
)

func laneInbox(user string) string { return "_INBOX_" + strings.ReplaceAll(user, ".", "-") }

// LaneEnd is one end of an open lane.
type LaneEnd struct {
	spec    LaneSpec
	names   names
	role    laneRole
	log     zerolog.Logger
	nc      *nats.Conn
	wires   *wires // of the source, nil in-process
	t       ticket // at the source
	atClose func()

	subject  string              // of all frames that this end sends
	channels map[string]*channel // by name
	numbered []*channel          // as in LaneSpec.Channels, which both ends share

	ctx    context.Context // of the lane's life; its cause is why it was lost
	cancel context.CancelCauseFunc
	ended  sync.WaitGroup
	heard  atomic.Int64 // when the other end was heard last, Unix nanoseconds; 0: never
	bye    atomic.Pointer[string]
	closed sync.Once

	callMu sync.Mutex
	calls  *nats.Conn // second connection, for calls
}

func newEnd(spec LaneSpec, n names, role laneRole, log zerolog.Logger) *LaneEnd {
	e := &LaneEnd{spec: spec, names: n, role: role, log: log.With().Str("job", spec.Job).Uint64("epoch", spec.Epoch).Logger(),
		subject: n.lane(spec, laneChunk), channels: map[string]*channel{}}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	give, take := spec.chunkWindow(), int64(channelWindow)
	if role == destination {
		e.subject = n.lane(spec, laneDigest)
		give, take = take, give
	}
	for i, name := range spec.Channels {
		c := &channel{end: e, name: name, number: uint8(i),
			window: newWindow(uint64(give)), recvWindow: uint64(take),
			granted: make(chan struct{}, 1), arrived: make(chan struct{}, 1)}
		e.channels[name] = c
		e.numbered = append(e.numbered, c)
	}
	return e
}

// Channel is the lane of one disk or of the memory image. It is nil for a
// name that the lane was not opened with.
func (e *LaneEnd) Channel(name string) blocksync.Lane {
	c, ok := e.channels[name]
	if !ok {
		return nil
	}
	return c
}

// Lost ends when the lane can carry nothing any more.
func (e *LaneEnd) Lost() <-chan struct{} { return e.ctx.Done() }

// run starts receiving and the keepalive. Frames come by consume, which
// returns what ends it.
func (e *LaneEnd) run(consume func() (stop func(), err error)) error {
	fail := func(err error) error {
		return jobs.RetryLater(jobs.CodeLane, "%w: job %s: %w", blocksync.ErrLaneLost, e.spec.Job, err)
	}
	if _, err := e.subscribe(e.names.lane(e.spec, string(e.role.other()), laneCredit), e.onBeat); err != nil {
		return fail(err)
	}
	stop, err := consume()
	if err != nil {
		return fail(err)
	}
	e.ended.Add(1)
	go func() {
		defer e.ended.Done()
		e.keepalive()
		stop()
	}()
	return nil
}

// listen receives what the destination sends, which is little.
func (e *LaneEnd) listen() (stop func(), err error) {
	sub, err := e.subscribe(e.names.lane(e.spec, string(source), laneIntake), func(m *nats.Msg) { e.onFrame(m.Data, nil) })
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil // its connection is closed next
}

// subscribe keeps all that comes: a client drops silently what goes over its
// limits, and credit is the limit here.
func (e *LaneEnd) subscribe(subject string, take nats.MsgHandler) (*nats.Subscription, error) {
	sub, err := e.nc.Subscribe(subject, take)
	if err != nil {
		return nil, err
	}
	return sub, sub.SetPendingLimits(-1, -1)
}

// fail loses the lane for good. It may be called by anyone, again and again.
func (e *LaneEnd) fail(err error) {
	if e.ctx.Err() != nil {
		return
	}
	e.cancel(err)
	if e.wires != nil {
		e.wires.cut() // a send that hangs in a dead socket must end now
	}
}

// lost is the error of everything that is asked of a lost lane.
func (e *LaneEnd) lost() error {
	return jobs.RetryLater(jobs.CodeLane, "%w: job %s: %w", blocksync.ErrLaneLost, e.spec.Job, context.Cause(e.ctx))
}

var errClosedHere = errors.New("closed")

// Close says good-bye and frees all of this end. What the other end did not
// yet receive may still arrive there; then it sees the lane lost.
func (e *LaneEnd) Close() {
	e.closed.Do(func() {
		if e.ctx.Err() == nil {
			e.beat("closed by the " + string(e.role))
			// A socket that takes nothing any more is cut by the write deadline.
			if err := e.nc.FlushTimeout(e.spec.Timeout); err != nil {
				e.log.Debug().Err(err).Msg("good-bye of the lane not sent")
			}
		}
		e.fail(errClosedHere)
		e.ended.Wait()
		if e.atClose != nil {
			e.atClose()
		}
		e.nc.Close()
		e.callMu.Lock()
		defer e.callMu.Unlock()
		if e.calls != nil {
			e.calls.Close()
		}
	})
}

// beat is what each end tells the other again and again. All numbers are
// totals, so that one beat makes up for any that were lost.
type beat struct {
	Epoch uint64            `json:"epoch"`
	Taken map[string]uint64 `json:"taken"` // bytes the receiver is done with, by channel
	Sent  map[string]uint64 `json:"sent"`  // frames sent, by channel
	Bye   string            `json:"bye,omitempty"`
}

func (e *LaneEnd) beat(bye string) {
	b := beat{Epoch: e.spec.Epoch, Bye: bye, Taken: make(map[string]uint64, len(e.channels)), Sent: make(map[string]uint64, len(e.channels))}
	for name, c := range e.channels {
		c.mu.Lock()
		b.Taken[name], b.Sent[name] = c.taken, c.sentSeq
		c.mu.Unlock()
	}
	data, err := Encode(b)
	if err == nil {
		err = e.nc.Publish(e.names.lane(e.spec, string(e.role), laneCredit), data)
	}
	if err != nil {
		e.fail(fmt.Errorf("keepalive: %w", err))
	}
}

func (e *LaneEnd) onBeat(m *nats.Msg) {
	var b beat
	if err := Decode(m.Data, &b); err != nil {
		e.fail(err)
		return
	}
	if b.Epoch != e.spec.Epoch {
		e.fail(fmt.Errorf("keepalive of epoch %d, this is %d", b.Epoch, e.spec.Epoch))
		return
	}
	first := e.heard.Swap(time.Now().UnixNano()) == 0
	for name, c := range e.channels {
		c.grant(b.Taken[name], b.Sent[name])
	}
	if b.Bye != "" {
		e.bye.Store(&b.Bye)
		e.farewell()
	}
	if first && e.role == destination {
		e.beat("") // the source need not wait for a tick to know us
	}
}

// farewell ends the lane once all that the other end sent before its
// good-bye is here; the good-bye itself overtakes frames.
func (e *LaneEnd) farewell() {
	why := e.bye.Load()
	if why == nil {
		return
	}
	for _, c := range e.channels {
		if c.missing() {
			return
		}
	}
	e.fail(errors.New(*why))
}

// keepalive beats four times per timeout and judges the other end.
func (e *LaneEnd) keepalive() {
	tick := time.NewTicker(e.spec.Timeout / 4)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-tick.C:
			e.beat("")
			heard := e.heard.Load()
			if heard == 0 && e.role == destination {
				continue // the source has not come yet; who opened the lane decides how long to wait
			}
			if silent := now.Sub(time.Unix(0, heard)); silent > e.spec.Timeout {
				e.fail(fmt.Errorf("the %s is silent for %s", e.role.other(), silent.Round(time.Millisecond)))
				return
			}
			for _, c := range e.channels {
				if c.overdue(now) {
					e.fail(fmt.Errorf("channel %s: frames sent did not arrive within %s", c.name, e.spec.Timeout))
					return
				}
			}
		}
	}
}

// onFrame sorts frames into their channels. It never blocks: credit bounds
// what can arrive, and who sends more loses the lane.
func (e *LaneEnd) onFrame(message, slab []byte) {
	if e.ctx.Err() != nil {
		return
	}
	h, f, err := decodeFrame(message)
	if err == nil && int(h.channel) >= len(e.numbered) {
		err = fmt.Errorf("frame for channel %d, there are %d", h.channel, len(e.numbered))
	}
	if err != nil {
		e.fail(err)
		return
	}
	f.Slab = slab
	c := e.numbered[h.channel]
	if err := c.push(h, f, uint64(len(message))); err != nil {
		e.fail(fmt.Errorf("channel %s: %w", c.name, err))
		return
	}
	e.heard.Store(time.Now().UnixNano())
	e.farewell()
}
