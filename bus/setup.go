package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// schema is the shape of streams and buckets. A program meets only its own or an older one.
const schema = 1

// apiLevel is the server's feature level that is needed: 2.14 (message TTL,
// markers, the work-queue fix for messages past their deliveries).
const apiLevel = 4

// Layout is what Setup makes; the zero value has the defaults.
type Layout struct {
	Replicas  int           // 1 on one server, 3 on three
	LeaseTTL  time.Duration // a lease that nobody renews is free after it
	NodeTTL   time.Duration // a host that says nothing is gone after it
	KeepEvent time.Duration
	Memory    Storage
}

// Storage says where the control streams lie.
type Storage string

const (
	OnDisk   Storage = ""       // always, but for
	InMemory Storage = "memory" // tests
)

const (
	// DefaultTTL of leases and presence: three missed renewals. Whole seconds only.
	DefaultTTL = 30 * time.Second
	// defaultKeepEvents covers "what happened last month".
	defaultKeepEvents = 30 * 24 * time.Hour
	// markerTTL keeps the mark of an expired key long enough for watchers that reconnect.
	markerTTL = time.Minute
	// makeTime is how long an answer to making a stream is waited for before
	// the stream is looked for: where several make the same one at once, the
	// cluster answers one of them.
	makeTime = time.Second
	// recordHistory is a free audit of the last changes of each record.
	recordHistory = 10
)

func (l Layout) withDefaults() Layout {
	if l.Replicas == 0 {
		l.Replicas = 1
	}
	if l.LeaseTTL == 0 {
		l.LeaseTTL = DefaultTTL
	}
	if l.NodeTTL == 0 {
		l.NodeTTL = DefaultTTL
	}
	if l.KeepEvent == 0 {
		l.KeepEvent = defaultKeepEvents
	}
	return l
}

// Setup makes every stream and bucket that is missing, and brings what is
// there to l. Running it again changes nothing. It waits for a bus that is
// away, or whose servers have not found each other yet, until ctx ends.
func (b *Bus) Setup(ctx context.Context, l Layout) error {
	l = l.withDefaults()
	began := time.Now()
	if err := b.serverFits(ctx); err != nil {
		return b.explain(began, err)
	}
	for _, c := range b.streams(l) {
		if err := b.persist(ctx, c); err != nil {
			return b.explain(began, fmt.Errorf("bus setup: %s: %w", c.Name, err))
		}
	}
	return nil
}

// AwaitSetup waits until the bus was set up: a worker may be started before
// the first `xmig server` was. The bucket asked for is the last that Setup makes.
func (b *Bus) AwaitSetup(ctx context.Context) error {
	for said := false; ; {
		try, cancel := context.WithTimeout(ctx, oneTry)
		_, err := b.bucket(bucketNodes).ttl(try)
		cancel()
		if err == nil || errors.Is(err, errForbidden) {
			return err
		}
		if !said && jobs.CodeOf(err) == jobs.CodeNotFound {
			said = true
			b.log.Warn().Msg("the bus has nothing of xmig yet, waiting for `xmig server`")
		}
		if !pause(ctx, tryAgain) {
			return away("bus setup", err)
		}
	}
}

func (b *Bus) serverFits(ctx context.Context) error {
	for {
		try, cancel := context.WithTimeout(ctx, oneTry)
		info, err := b.js.AccountInfo(try)
		cancel()
		switch {
		case err == nil && info.API.Level < apiLevel:
			return jobs.Failed(jobs.CodeUsage, "bus server %s is too old (feature level %d, need %d): nats-server 2.14 or newer", b.nc.ConnectedServerVersion(), info.API.Level, apiLevel)
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
			return jobs.Failed(jobs.CodeUsage, "bus server %s: %w; start it with -js", b.nc.ConnectedUrlRedacted(), err)
		}
		if !pause(ctx, tryAgain) { // a fresh cluster elects its leader first
			return away("bus setup", err)
		}
	}
}

// streams lists what Setup makes, in order.
func (b *Bus) streams(l Layout) []jetstream.StreamConfig {
	n := b.names
	storage := jetstream.FileStorage
	if l.Memory == InMemory {
		storage = jetstream.MemoryStorage
	}
	base := func(name, what string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{Name: name, Description: what, Subjects: subjects, Storage: storage, Replicas: l.Replicas}
	}
	queue := base(n.stream(streamJobs), "xmig: doorbells, one per VM at most", n.subject(tokenJob, "*", "*"))
	queue.Retention = jetstream.WorkQueuePolicy
	queue.MaxMsgsPerSubject = 1 // one job per VM: the server refuses the second,
	queue.Discard = jetstream.DiscardNew
	queue.DiscardNewPerSubject = true // while the first is queued and in flight

	events := base(n.stream(streamEvents), "xmig: what happened", n.subject(tokenEvent, ">"))
	events.MaxAge = l.KeepEvent
	events.AllowDirect = true

	dead := base(n.stream(streamDead), "xmig: doorbells nobody could answer",
		advisoryMaxDeliveries+queue.Name+".*", advisoryTerminated+queue.Name+".*")
	dead.MaxAge = l.KeepEvent

	keys := func(name, what string, history int64, ttl time.Duration) jetstream.StreamConfig {
		c := base(n.kvStream(name), what, n.kvKey(name, ">"))
		c.MaxMsgsPerSubject = history
		c.Discard = jetstream.DiscardNew
		c.AllowRollup, c.DenyDelete, c.AllowDirect = true, true, true
		c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = true, markerTTL
		c.Duplicates = 2 * time.Minute
		if c.MaxAge = ttl; ttl > 0 {
			c.Duplicates = min(ttl, c.Duplicates)
			// The server raises a key's age to the marker's if that is longer.
			c.SubjectDeleteMarkerTTL = max(time.Second, min(ttl, markerTTL))
		}
		return c
	}
	records := keys(bucketJobs, "xmig: job records", recordHistory, 0)
	records.AllowAtomicPublish = true // a record and the office that it is written under
	return []jetstream.StreamConfig{
		queue, events, dead, records,
		keys(bucketVMs, "xmig: who owns a VM", recordHistory, 0),
		keys(bucketFleet, "xmig: what was decided about hosts, VMs and jobs", recordHistory, 0),
		keys(bucketLeases, "xmig: who acts", 1, l.LeaseTTL),
		keys(bucketInventory, "xmig: what hosts have, where their heartbeats begin", 1, 0),
		keys(bucketNodes, "xmig: hosts alive", 1, l.NodeTTL),
	}
}

// persist makes or updates one stream, however long the bus needs for it.
func (b *Bus) persist(ctx context.Context, c jetstream.StreamConfig) error {
	for said := false; ; {
		began := time.Now()
		try, cancel := context.WithTimeout(ctx, makeTime)
		err := b.ensure(try, c)
		cancel()
		if err == nil || !passes(err) || errors.Is(b.explain(began, err), errForbidden) {
			return err
		}
		if !said {
			said = true
			b.log.Warn().Str("stream", c.Name).Err(err).Msg("the bus cannot make it yet, trying again")
		}
		if !pause(ctx, tryAgain) {
			return away("no end of trying", err)
		}
	}
}

// Answers of a cluster whose servers have not found each other yet, beside
// those that say by their status that they pass.
const (
	codeNoPeers   = 10005
	codeNotLeader = 10009
)

// passes reports whether an error of making a stream may pass by itself.
func passes(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == http.StatusServiceUnavailable || api.ErrorCode == codeNoPeers || api.ErrorCode == codeNotLeader
	}
	return errors.Is(err, context.DeadlineExceeded) || reachable(err) || errors.Is(err, nats.ErrNoResponders)
}

// ensure makes or updates one stream.
//
// The first sequence of a new one is the time of its making: revisions of a
// store that was lost and made anew are higher than any of the old one, so
// that a late compare-and-swap of then matches nothing now. The same number
// is the generation that owner keys carry.
func (b *Bus) ensure(ctx context.Context, c jetstream.StreamConfig) error {
	s, err := b.js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		c.FirstSeq = uint64(time.Now().Unix()) << 20
		c.Metadata = metadata(c.FirstSeq)
		if c.Retention == jetstream.WorkQueuePolicy {
			c.FirstSeq = 0 // its sequences are seen by people, and decide nothing
		}
		if _, err = b.js.CreateStream(ctx, c); errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil // another setup won, with the same in hand
		}
		return err
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	if v, _ := strconv.Atoi(have.Metadata[metaSchema]); v > schema {
		return jobs.Failed(jobs.CodeUsage, "made by a newer xmig (schema %d, this one knows %d)", v, schema)
	}
	c.FirstSeq = have.FirstSeq
	gen, _ := strconv.ParseUint(have.Metadata[metaGeneration], 10, 64)
	c.Metadata = metadata(gen)
	if sameStream(have, c) {
		return nil
	}
	_, err = b.js.UpdateStream(ctx, c)
	return err
}

// sameStream compares what Setup sets; the server adds defaults and notes.
func sameStream(have, want jetstream.StreamConfig) bool {
	for k, v := range want.Metadata {
		if have.Metadata[k] != v {
			return false
		}
	}
	return have.Description == want.Description && slices.Equal(have.Subjects, want.Subjects) &&
		have.Storage == want.Storage && have.Replicas == want.Replicas && have.Retention == want.Retention &&
		have.MaxAge == want.MaxAge && have.Discard == want.Discard && have.DiscardNewPerSubject == want.DiscardNewPerSubject &&
		max(have.MaxMsgsPerSubject, 0) == want.MaxMsgsPerSubject && have.AllowDirect == want.AllowDirect &&
		have.AllowRollup == want.AllowRollup && have.DenyDelete == want.DenyDelete && have.AllowMsgTTL == want.AllowMsgTTL &&
		have.SubjectDeleteMarkerTTL == want.SubjectDeleteMarkerTTL && (want.Duplicates == 0 || have.Duplicates == want.Duplicates)
}

func metadata(generation uint64) map[string]string {
	return map[string]string{
		metaVersion:    strconv.Itoa(codecVersion),
		metaSchema:     strconv.Itoa(schema),
		metaGeneration: strconv.FormatUint(generation, 10),
	}
}

// generation reads which making of the VM bucket this is.
func (b *Bus) generation(ctx context.Context) (uint64, error) {
	ctx, cancel := bounded(ctx, readTime)
	defer cancel()
	began := time.Now()
	s, err := b.js.Stream(ctx, b.names.kvStream(bucketVMs))
	if err != nil {
		return 0, b.explain(began, missing(b.names.bucket(bucketVMs), err))
	}
	gen, err := strconv.ParseUint(s.CachedInfo().Config.Metadata[metaGeneration], 10, 64)
	if err != nil || gen == 0 {
		return 0, jobs.Failed(jobs.CodeUsage, "bucket %s was not made by xmig: it has no generation; remove it if nobody needs it, then start `xmig server`", b.names.bucket(bucketVMs))
	}
	return gen, nil
}
