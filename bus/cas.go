package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// bucket is a key-value bucket as compare-and-swap needs it: reads come from
// the stream's leader, never from a replica that may be behind, and a write
// whose answer was lost is made again until its outcome is known.
type bucket struct {
	b    *Bus
	name string // with the prefix
}

func (b *Bus) bucket(name string) bucket { return bucket{b, b.names.bucket(name)} }

// entry is the newest value of a key.
type entry struct {
	key      string
	value    []byte
	revision uint64
	gone     bool // deleted, purged or expired; revision is that of the marker
	at       time.Time
}

// codeNoMessage is the server's answer for a key that never was.
const codeNoMessage = 10037

func (k bucket) subject(key string) string { return "$KV." + k.name + "." + key }

// latest reads a key from the leader. key may hold wildcards if at most one
// key matches. It returns ErrNotFound for a key that never was; one that was
// deleted comes back as gone. It asks again until ctx ends or readTime is over.
func (k bucket) latest(ctx context.Context, key string) (entry, error) {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	for {
		e, err := k.once(ctx, key)
		if err == nil || errors.Is(err, jobs.ErrNotFound) {
			return e, err
		}
		if err = k.b.explain(began, err); errors.Is(err, errForbidden) {
			return entry{}, err
		}
		if !pause(ctx, 100*time.Millisecond) {
			return entry{}, away(k.name+": read "+key, err)
		}
	}
}

func (k bucket) once(ctx context.Context, key string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	ask, err := json.Marshal(map[string]string{"last_by_subj": k.subject(key)})
	if err != nil {
		return entry{}, err
	}
	m, err := k.b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+k.name, ask)
	if err != nil {
		return entry{}, err
	}
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Headers []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return entry{}, err
	}
	if a.Error != nil {
		if a.Error.ErrorCode == codeNoMessage {
			return entry{}, fmt.Errorf("%s: key %s: %w", k.name, key, jobs.ErrNotFound)
		}
		return entry{}, a.Error
	}
	if a.Message == nil {
		return entry{}, errors.New("answer without a message")
	}
	e := entry{value: a.Message.Data, revision: a.Message.Seq, at: a.Message.Time}
	e.key = a.Message.Subject[min(len(k.subject("")), len(a.Message.Subject)):]
	if len(a.Message.Headers) > 0 {
		h, err := nats.DecodeHeadersMsg(a.Message.Headers)
		if err != nil {
			return entry{}, err
		}
		e.gone = h.Get("KV-Operation") != "" || h.Get(jetstream.MarkerReasonHeader) != ""
	}
	return e, nil
}

// swap writes value if key is still at revision, 0 for a key that never was.
//
// A request that got no answer may have been applied or not, or may be
// applied yet, so it is repeated: success means that no earlier one was
// applied and none ever will be; a mismatch means that the key moved on,
// by an earlier try of ours (the newest value is ours, byte for byte: value
// must hold a random write id) or by somebody else. Whoever moved it, a late
// try of ours can never match again, because revisions only grow.
//
// It returns ErrConflict for somebody else, ErrAway when ctx ended first.
func (k bucket) swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	began := time.Now()
	what := fmt.Sprintf("%s: write %s", k.name, key)
	for {
		rev, err := k.try(ctx, key, value, revision)
		switch {
		case err == nil:
			return rev, nil
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, jobs.Failed(jobs.CodeInternal, "%s: %d bytes, the bus takes %d", what, len(value), k.b.nc.MaxPayload())
		case mismatch(err):
			e, rerr := k.latest(ctx, key)
			switch {
			case rerr == nil && bytes.Equal(e.value, value) && !e.gone:
				return e.revision, nil
			case rerr == nil && e.revision != revision:
				return 0, fmt.Errorf("%s: %w", what, jobs.ErrConflict)
			case errors.Is(rerr, jobs.ErrNotFound) && revision != 0:
				return 0, fmt.Errorf("%s: the key is gone: %w", what, jobs.ErrConflict)
			}
			// A write that the replicas have not agreed on yet stood in the
			// way (or the read failed): ask again.
		}
		if err = k.b.explain(began, err); errors.Is(err, errForbidden) {
			return 0, err
		}
		if !pause(ctx, 100*time.Millisecond) {
			return 0, away(what+", outcome not known", err)
		}
	}
}

func (k bucket) try(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	ack, err := k.b.js.PublishMsg(ctx, &nats.Msg{Subject: k.subject(key), Data: value, Header: nats.Header{}},
		jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// create writes a key that is not there, or was deleted or expired.
func (k bucket) create(ctx context.Context, key string, value []byte) (uint64, error) {
	for {
		e, err := k.latest(ctx, key)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
		case err != nil:
			return 0, err
		case !e.gone && bytes.Equal(e.value, value):
			return e.revision, nil
		case !e.gone:
			return 0, fmt.Errorf("%s: key %s is there: %w", k.name, key, jobs.ErrConflict)
		}
		rev, err := k.swap(ctx, key, value, e.revision)
		if !errors.Is(err, jobs.ErrConflict) {
			return rev, err
		}
		// Somebody was faster, or the mark of an expired key expired itself: look again.
	}
}

// mismatch reports whether the server refused a write because of its revision:
// one code for a writer that is late, another for one of several that race on replicas.
func mismatch(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	return api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == codeRacing
}

// codeRacing is "wrong last sequence" of a replicated stream with a write under way.
const codeRacing = 10164

// pause waits d and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// all reads every key that matches pattern, newest values only, in one go.
func (k bucket) all(ctx context.Context, pattern string) ([]entry, error) {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	kv, err := k.b.js.KeyValue(ctx, k.name)
	if err != nil {
		return nil, k.b.explain(began, missing(k.name, err))
	}
	w, err := kv.Watch(ctx, pattern, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, k.b.explain(began, away(k.name+": list", err))
	}
	defer func() { _ = w.Stop() }() // it only fails on a connection that is gone anyway
	var out []entry
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, away(k.name+": list", errors.New("the watch ended"))
			}
			if e == nil {
				return out, nil
			}
			out = append(out, entry{key: e.Key(), value: e.Value(), revision: e.Revision(), at: e.Created()})
		case <-ctx.Done():
			return nil, k.b.explain(began, away(k.name+": list", context.Cause(ctx)))
		}
	}
}

// missing tells a bucket that was never made from a bus that does not answer.
func missing(name string, err error) error {
	if errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return jobs.Failed(jobs.CodeNotFound, "bus has no %s: %w; `xmig server` makes it when it starts", name, err)
	}
	return away(name, err)
}

// remove deletes a key that is still at revision, history and all.
func (k bucket) remove(ctx context.Context, key string, revision uint64) error {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	_, err := k.b.js.PublishMsg(ctx, &nats.Msg{Subject: k.subject(key), Header: nats.Header{
		"KV-Operation":         {"PURGE"},
		jetstream.MsgRollup:    {jetstream.MsgRollupSubject},
		jetstream.MsgTTLHeader: {markerTTL.String()}, // so that marks do not pile up
	}}, jetstream.WithExpectLastSequencePerSubject(revision))
	switch {
	case err == nil:
		return nil
	case mismatch(err):
		e, rerr := k.latest(ctx, key)
		if errors.Is(rerr, jobs.ErrNotFound) || rerr == nil && e.gone {
			return nil
		}
		return fmt.Errorf("%s: remove %s: %w", k.name, key, jobs.ErrConflict)
	}
	return k.b.explain(began, away(k.name+": remove "+key, err))
}
