package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"xmig/jobs"
)

// Store keeps incidents, by the fingerprints of their alerts, and mutes. Save
// creates an incident whose Revision is zero; it fails with jobs.ErrConflict
// where the stored one is another than the one that was read.
type Store interface {
	Incident(ctx context.Context, fingerprint string) (jobs.Incident, error) // jobs.ErrNotFound
	SaveIncident(ctx context.Context, in jobs.Incident) (jobs.Incident, error)
	RemoveIncident(ctx context.Context, in jobs.Incident) error
	Incidents(ctx context.Context) ([]jobs.Incident, error)
	Mutes(ctx context.Context) ([]jobs.Mute, error)
	// Watch tells all that there is and then every change, until ctx ends; nil: it is gone.
	Watch(ctx context.Context, incident func(fingerprint string, in *jobs.Incident), mute func(id string, m *jobs.Mute)) error
}

// Intake takes posts in.
type Intake struct {
	Store  Store
	Events jobs.Events
	Rules  Rules
	Name   string // of this server, in events
	Clock  func() time.Time
	Count  func(what string) // counts alerts by what became of them
	Log    zerolog.Logger

	once  sync.Once
	rate  *rate.Limiter
	slots chan struct{}
	open  openings
}

const (
	// postsPerSecond is ten times what a storm of 10,000 posts in a minute is
	// in alerts that matter: it protects the bus, not the rules.
	postsPerSecond = 500
	postBurst      = 1000
	// postsAtOnce bounds what is held in memory: 64 MiB of posts at worst.
	postsAtOnce = 64
	// maxIncidents are kept; a storm of more different alerts is refused.
	maxIncidents = 10000
	// tryConflicts is how often an incident that changes under the hand is read anew.
	tryConflicts = 5
)

// Receipt says what became of a post.
type Receipt struct {
	Alerts   int        `json:"alerts"`             // in the post
	Taken    int        `json:"taken"`              // new, or over now: a rule acts on them
	Known    int        `json:"known"`              // said before
	Ignored  int        `json:"ignored"`            // no rule acts on them
	Rejected []Rejected `json:"rejected,omitempty"` // not in order
}

// ErrBusy: more posts than are taken; the sender shall send it again.
var ErrBusy = errors.New("too many alerts; send again")

func busy(format string, args ...any) error {
	return &jobs.Error{Class: jobs.Retry, Code: jobs.CodeAway, Err: fmt.Errorf("%w: "+format, append([]any{ErrBusy}, args...)...)}
}

// Take takes a post in. What it answers for is stored; after an error the post
// must be sent again, which harms nothing, whatever was taken of it.
func (n *Intake) Take(ctx context.Context, source string, body []byte) (Receipt, error) {
	n.once.Do(func() {
		n.rate, n.slots = rate.NewLimiter(postsPerSecond, postBurst), make(chan struct{}, postsAtOnce)
		n.open.n = -1
	})
	if !n.rate.Allow() {
		n.count("busy", 1)
		return Receipt{}, busy("more than %d posts a second", postsPerSecond)
	}
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	default:
		n.count("busy", 1)
		return Receipt{}, busy("%d posts are being taken in", postsAtOnce)
	}
	alerts, rejected, err := Parse(source, body, n.Clock())
	if err != nil {
		n.count("malformed", 1)
		return Receipt{}, err
	}
	r := Receipt{Alerts: len(alerts) + len(rejected), Rejected: rejected}
	n.count("rejected", len(rejected))
	for _, a := range alerts {
		if err := n.alert(ctx, a, &r); err != nil {
			return r, err
		}
	}
	if len(alerts) == 0 {
		return r, jobs.Failed(jobs.CodeUsage, "post of alerts: none of %d is in order; the first: %s", r.Alerts, rejected[0].Why)
	}
	return r, nil
}

func (n *Intake) count(what string, times int) {
	for range times {
		n.Count(what)
	}
}

// alert takes one alert in.
func (n *Intake) alert(ctx context.Context, a jobs.Alert, r *Receipt) error {
	rule := n.Rules.answer(a)
	if rule == nil {
		r.Ignored++
		n.count("ignored", 1)
		n.tell(ctx, a, "no rule acts on it")
		return nil
	}
	for range tryConflicts {
		fresh, err := n.fold(ctx, a, *rule)
		switch {
		case errors.Is(err, jobs.ErrConflict):
			continue // another message about the same alert, or the keeper: read again
		case err != nil:
			n.count("failed", 1)
			return err
		case !fresh:
			r.Known++
			n.count("known", 1)
			return nil
		}
		r.Taken++
		n.count("taken", 1)
		n.tell(ctx, a, fmt.Sprintf("%s: rule %q", Summary(a), rule.Name))
		return nil
	}
	n.count("busy", 1)
	return busy("alert %s is being changed", a.Fingerprint)
}

func (n *Intake) fold(ctx context.Context, a jobs.Alert, rule Rule) (fresh bool, err error) {
	var old *jobs.Incident
	stored, err := n.Store.Incident(ctx, a.Fingerprint)
	switch {
	case err == nil:
		old = &stored
	case !errors.Is(err, jobs.ErrNotFound):
		return false, fmt.Errorf("alert %s: %w", a.Fingerprint, err)
	}
	in, fresh := Fold(old, a, rule, n.Clock())
	if !fresh {
		return false, nil
	}
	if old == nil {
		if err := n.open.room(ctx, n.Store, n.Clock()); err != nil {
			return false, err
		}
	}
	if _, err := n.Store.SaveIncident(ctx, in); err != nil {
		return false, fmt.Errorf("alert %s: %w", a.Fingerprint, err)
	}
	return true, nil
}

// tell writes the alert into the story, once per change of what it says: the
// story is what rules are rehearsed on.
func (n *Intake) tell(ctx context.Context, a jobs.Alert, text string) {
	if !n.open.told(a) {
		return
	}
	what := "received"
	if a.Status == jobs.Resolved {
		what = "resolved"
	}
	n.Events.Emit(ctx, jobs.Event{Time: a.Seen, Node: n.Name, What: what, Text: text, Alert: &a})
}

// openings guess how many incidents there are, and remember what was told.
type openings struct {
	mu      sync.Mutex
	n       int // at the last count and since; -1: not counted yet
	counted time.Time
	said    map[string]saying
}

type saying struct {
	status jobs.AlertStatus
	starts time.Time
}

// countAgain is how long a count of incidents is believed.
const countAgain = 10 * time.Second

// room refuses a new incident where there are too many.
func (o *openings) room(ctx context.Context, s Store, now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n < 0 || now.Sub(o.counted) > countAgain || now.Before(o.counted) {
		all, err := s.Incidents(ctx)
		if err != nil {
			return fmt.Errorf("incidents: %w", err)
		}
		o.n, o.counted = len(all), now
	}
	if o.n >= maxIncidents {
		return busy("%d alerts are answered by rules already", o.n)
	}
	o.n++
	return nil
}

// told notes what an alert says, and tells whether that is new. It forgets all
// when there is too much: then a few lines are written twice.
func (o *openings) told(a jobs.Alert) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := saying{a.Status, a.StartsAt}
	if o.said[a.Fingerprint] == now {
		return false
	}
	if o.said == nil || len(o.said) >= maxIncidents {
		o.said = map[string]saying{}
	}
	o.said[a.Fingerprint] = now
	return true
}
