package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"xmig/jobs"
)

// ServiceSeen is one worker or server that answers on the bus.
type ServiceSeen struct {
	Name string            `json:"name"` // xmig-node, xmig-coordinator
	Meta map[string]string `json:"meta"`
}

// quiet ends a roll call: nobody answered for so long.
const quiet = 500 * time.Millisecond

// Services calls the roll of all workers and servers of xmig.
func (b *Bus) Services(ctx context.Context) ([]ServiceSeen, error) {
	sub, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		return nil, away("roll call", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	if err := b.nc.PublishMsg(&nats.Msg{Subject: "$SRV.INFO", Reply: sub.Subject}); err != nil {
		return nil, away("roll call", err)
	}
	var out []ServiceSeen
	for {
		wait, cancel := context.WithTimeout(ctx, quiet)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case err != nil && ctx.Err() != nil:
			return out, context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout):
			slices.SortFunc(out, func(a, b ServiceSeen) int {
				return strings.Compare(a.Name+a.Meta["node"]+a.Meta["server"], b.Name+b.Meta["node"]+b.Meta["server"])
			})
			return out, nil
		case err != nil:
			return out, away("roll call", err)
		}
		var info micro.Info
		if json.Unmarshal(m.Data, &info) == nil && strings.HasPrefix(info.Name, "xmig-") {
			out = append(out, ServiceSeen{info.Name, info.Metadata})
		}
	}
}

// Examine holds the streams and buckets against what Setup makes, and tells
// what a person should know of the server.
func (b *Bus) Examine(ctx context.Context) []jobs.Finding {
	var found []jobs.Finding
	add := func(l jobs.Level, code, next, text string, args ...any) {
		found = append(found, jobs.Finding{Level: l, Code: code, Text: fmt.Sprintf(text, args...), Next: next})
	}
	if err := b.serverFits(ctx); err != nil {
		add(jobs.Bad, "bus_version", "run nats-server 2.14 or newer", "%v", err)
	} else {
		add(jobs.Good, "bus_version", "", "the bus is nats-server %s", b.nc.ConnectedServerVersion())
	}
	if b.nc.MaxPayload() < maxMessage {
		add(jobs.Bad, "max_payload", "set max_payload: 8MB", "the bus takes messages of %d bytes, configs and boot files need %d", b.nc.MaxPayload(), maxMessage)
	}
	copies := map[int]bool{}
	for _, want := range b.streams(Layout{}.withDefaults()) {
		s, err := b.js.Stream(ctx, want.Name)
		if err != nil {
			add(jobs.Bad, "stream", "start `xmig server`, which makes it", "%s: %v", want.Name, err)
			continue
		}
		info := s.CachedInfo()
		copies[info.Config.Replicas] = true
		if info.Config.Storage != jetstream.FileStorage {
			add(jobs.Bad, "storage", "remove it and start `xmig server`; if it is the VMs', run `xmig recover`", "%s lies in memory: a restart of the bus loses it", want.Name)
		}
		if c := info.Cluster; c != nil {
			for _, r := range c.Replicas {
				if r.Offline || !r.Current {
					add(jobs.Warn, "replica", "see that the server "+r.Name+" is well", "%s: the copy on %s is behind (%d messages) or away", want.Name, r.Name, r.Lag)
				}
			}
		}
		if want.Name == b.names.stream(streamDead) && info.State.Msgs > 0 {
			add(jobs.Warn, "dead", "`xmig job ls --dead` shows which jobs still wait for one, and what to do", "%d doorbells were given up in the time that events are kept, the last %s", info.State.Msgs, info.State.LastTime.UTC().Format(time.RFC3339))
		}
	}
	for n := range copies {
		add(jobs.Good, "copies", "", "records and owner keys have %d copies", n)
	}
	return found
}
