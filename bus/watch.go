package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// resync is how often a watcher reads everything again: a watch is a hint,
// and one that was lost silently must not be believed for longer.
const resync = 30 * time.Second

// watcher follows a bucket and tells each change once, in order per key.
type watcher struct {
	k       bucket
	pattern string
	seen    map[string]uint64 // key → revision told last
	tell    func(entry)
}

// watch tells what is there, then every change, until ctx ends. A bus that is
// away is waited for; what changed meanwhile is told when it is back. Only
// the newest value of a key is told, older ones may be skipped.
func (k bucket) watch(ctx context.Context, pattern string, tell func(entry)) error {
	w := &watcher{k: k, pattern: pattern, seen: map[string]uint64{}, tell: tell}
	for {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errForbidden) {
			return err
		}
		if err != nil {
			k.b.log.Debug().Err(err).Str("bucket", k.name).Msg("watch interrupted, starting anew")
			pause(ctx, tryAgain)
		}
	}
}

// follow runs one watch for as long as it is trusted.
func (w *watcher) follow(ctx context.Context) error {
	began := time.Now()
	open, cancel := bounded(ctx, readTime)
	kv, err := w.k.b.js.KeyValue(open, w.k.name)
	cancel()
	if err != nil {
		return w.k.b.explain(began, missing(w.k.name, err))
	}
	live, cancel := context.WithTimeout(ctx, resync)
	defer cancel()
	updates, err := kv.Watch(live, w.pattern)
	if err != nil {
		return w.k.b.explain(began, err)
	}
	defer func() { _ = updates.Stop() }() // fails only if the connection is gone
	here := map[string]bool{}
	whole := false
	for {
		select {
		case e, ok := <-updates.Updates():
			switch {
			case !ok:
				return nil
			case e == nil:
				whole = true
				w.vanished(here)
				continue
			}
			gone := e.Operation() != jetstream.KeyValuePut
			if !whole && !gone {
				here[e.Key()] = true
			}
			w.news(entry{key: e.Key(), value: e.Value(), revision: e.Revision(), gone: gone, at: e.Created()})
		case <-live.Done():
			return nil // trusted long enough: read all again
		}
	}
}

func (w *watcher) news(e entry) {
	told, known := w.seen[e.key]
	if e.revision <= told || e.gone && !known {
		return
	}
	if e.gone {
		delete(w.seen, e.key)
	} else {
		w.seen[e.key] = e.revision
	}
	w.tell(e)
}

// vanished tells the keys that are not there any more and whose end was missed.
func (w *watcher) vanished(here map[string]bool) {
	for key, rev := range w.seen {
		if !here[key] {
			delete(w.seen, key)
			w.tell(entry{key: key, revision: rev, gone: true, at: time.Now()})
		}
	}
}
