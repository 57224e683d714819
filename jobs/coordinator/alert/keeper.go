package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"xmig/jobs"
)

// Fleet is what can be done to hosts. Every order may be given again: an order
// that was taken already is taken once.
type Fleet interface {
	Hosts(ctx context.Context) ([]Host, error)
	// CanDrain proves that there is room for all VMs of a host elsewhere; the
	// error says what stands against it.
	CanDrain(ctx context.Context, node string) error
	Cordon(ctx context.Context, node, by, reason string) error
	Uncordon(ctx context.Context, node, by, reason string) error
	Drain(ctx context.Context, node, by, reason string, how How) error
}

// Keeper does what the rules say, while Run runs; one server at a time.
type Keeper struct {
	Store  Store
	Fleet  Fleet
	Events jobs.Events
	Rules  Rules
	Name   string // of this server, in events
	Clock  func() time.Time
	Log    zerolog.Logger

	book    book
	refused map[string]refusal // by node
}

// refusal is what the fleet said no to, and until when that is believed.
type refusal struct {
	Refusal
	until time.Time
}

// book is what watching told of incidents and mutes. It may be behind: whoever
// acts on it writes by compare-and-swap.
type book struct {
	mu        sync.Mutex
	incidents map[string]jobs.Incident
	mutes     map[string]jobs.Mute
}

func (b *book) incident(fingerprint string, in *jobs.Incident) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in == nil {
		delete(b.incidents, fingerprint)
	} else if in.Revision > b.incidents[fingerprint].Revision {
		b.incidents[fingerprint] = *in
	}
}

func (b *book) mute(id string, m *jobs.Mute) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m == nil {
		delete(b.mutes, id)
	} else {
		b.mutes[id] = *m
	}
}

func (b *book) read() ([]jobs.Incident, []jobs.Mute) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.incidents)), slices.Collect(maps.Values(b.mutes))
}

const (
	// lookEvery is how often all incidents are looked at. Rules count in minutes.
	lookEvery = time.Second
	// proveAgain is how long it is believed that there is no room.
	proveAgain = 15 * time.Second
	// orderAgain is how long it is believed that an order is refused for good.
	// Each try is written down, so it is not tried often.
	orderAgain = 5 * time.Minute
)

// Run decides until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	k.book.incidents, k.book.mutes, k.refused = map[string]jobs.Incident{}, map[string]jobs.Mute{}, map[string]refusal{}
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.Store.Watch(ctx, k.book.incident, k.book.mute) })
	g.Go(func() error { return k.lookOn(ctx) })
	return g.Wait()
}

// catchUp reads all there is: a decision on half of the incidents would go over
// the limits.
func (k *Keeper) catchUp(ctx context.Context) error {
	incidents, err := k.Store.Incidents(ctx)
	if err != nil {
		return fmt.Errorf("incidents: %w", err)
	}
	for _, in := range incidents {
		k.book.incident(in.Alert.Fingerprint, &in)
	}
	mutes, err := k.Store.Mutes(ctx)
	if err != nil {
		return fmt.Errorf("mutes: %w", err)
	}
	for _, m := range mutes {
		k.book.mute(m.ID, &m)
	}
	return nil
}

func (k *Keeper) lookOn(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		switch err := k.look(ctx); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			k.Log.Warn().Err(err).Msg("alerts not looked at; trying again")
		}
	}
}

// look decides once and does what was decided.
func (k *Keeper) look(ctx context.Context) error {
	s, err := k.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, step := range Decide(k.Rules, s) {
		if err := k.carryOut(ctx, s, step); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !errors.Is(err, jobs.ErrConflict) { // else: an alert came in between; decided anew
				k.Log.Warn().Err(err).Str("alert", step.Incident.Alert.Fingerprint).Str("host", step.Incident.Host).Msg("rule not carried out; trying again")
			}
		}
	}
	return nil
}

func (k *Keeper) snapshot(ctx context.Context) (Snapshot, error) {
	s := Snapshot{Now: k.Clock(), Refused: map[string]Refusal{}}
	if s.Incidents, s.Mutes = k.book.read(); len(s.Incidents) == 0 {
		return s, nil
	}
	var err error
	if s.Hosts, err = k.Fleet.Hosts(ctx); err != nil {
		return s, fmt.Errorf("hosts: %w", err)
	}
	for node, r := range k.refused {
		if s.Now.Before(r.until) {
			s.Refused[node] = r.Refusal
		}
	}
	return s, nil
}

// carryOut stores how the incident stands, then does what it says, then stores
// that it was taken. What dies in between is done again by whoever acts then.
func (k *Keeper) carryOut(ctx context.Context, s Snapshot, step Step) error {
	old := find(s.Incidents, step.Incident)
	switch step.Effect {
	case Forget:
		return k.Store.RemoveIncident(ctx, step.Incident)
	case Uncordon:
		// The other way round: an incident that is over is not looked at again.
		if err := k.Fleet.Uncordon(ctx, step.Incident.Host, By(step.Incident), step.Incident.Reason); err != nil {
			return err
		}
	case Drain:
		if old.State == jobs.Waiting || old.State == jobs.HeldBack {
			step = k.proven(ctx, old, step)
		}
	}
	in := step.Incident
	if !same(in, old) {
		var err error
		if in, err = k.save(ctx, old, in); err != nil {
			return err
		}
	}
	if step.Effect == None || step.Effect == Uncordon {
		return nil
	}
	step.Incident = in
	return k.order(ctx, step)
}

// proven turns a drain for which there is no room into one that is held.
func (k *Keeper) proven(ctx context.Context, old jobs.Incident, step Step) Step {
	node := step.Incident.Host
	err := k.Fleet.CanDrain(ctx, node)
	if err == nil {
		return step
	}
	no := k.refuse(node, "capacity", fmt.Sprintf("there is no room for all VMs of %s: %v", node, err), proveAgain)
	old.Host, old.Rule, old.Action = node, step.Incident.Rule, step.Incident.Action
	return hold(old, jobs.HeldBack, no)
}

// refuse remembers the fleet's no, so that this host neither is tried all the
// time nor takes what others need.
func (k *Keeper) refuse(node, word, text string, until time.Duration) *obstacle {
	k.refused[node] = refusal{Refusal{word, text}, k.Clock().Add(until)}
	return &obstacle{word, text}
}

func find(all []jobs.Incident, in jobs.Incident) jobs.Incident {
	for _, o := range all {
		if o.Alert.Fingerprint == in.Alert.Fingerprint {
			return o
		}
	}
	return in
}

// order gives the step's order.
func (k *Keeper) order(ctx context.Context, step Step) error {
	in, by := step.Incident, By(step.Incident)
	var err error
	switch step.Effect {
	case Notify: // the event and the line in the log are all
	case Cordon:
		err = k.Fleet.Cordon(ctx, in.Host, by, in.Reason)
	case Drain:
		how := How{Canary: true} // of a rule that is gone since the order was written
		if rule := k.Rules.answer(in.Alert); rule != nil {
			how = rule.How
		}
		err = k.Fleet.Drain(ctx, in.Host, by, in.Reason, how)
	}
	next := step.Took(k.Clock())
	if err != nil {
		if jobs.ClassOf(err) != jobs.Final || errors.Is(err, jobs.ErrAway) {
			return err
		}
		// The order will never be taken: say so, and look again with all that may have changed.
		next = hold(in, jobs.HeldBack, k.refuse(in.Host, "refused", fmt.Sprintf("%s of %s: %v", step.Effect, in.Host, err), orderAgain)).Incident
	}
	_, err = k.save(ctx, in, next)
	return err
}

// save stores an incident, and tells the world where it stands if that is new.
func (k *Keeper) save(ctx context.Context, old, in jobs.Incident) (jobs.Incident, error) {
	saved, err := k.Store.SaveIncident(ctx, in)
	if err != nil {
		return in, err
	}
	k.book.incident(saved.Alert.Fingerprint, &saved) // before the watch tells it
	if old.State != in.State || old.Reason != in.Reason {
		alert := in.Alert
		k.Events.Emit(ctx, jobs.Event{Time: k.Clock(), Node: in.Host, What: string(in.State), Text: in.Reason, Alert: &alert})
		k.Log.Info().Str("alert", in.Alert.Fingerprint).Str("rule", in.Rule).Str("host", in.Host).Str("state", string(in.State)).Msg(in.Reason)
	}
	return saved, nil
}
