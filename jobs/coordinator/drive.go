package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"xmig/jobs"
)

// Phase is when a hook is run.
type Phase string

const (
	BeforeDrain   Phase = "before-drain"   // an error refuses the drain
	AfterDrain    Phase = "after-drain"    // the host is empty
	BeforeRestore Phase = "before-restore" // an error refuses the restore
	AfterRestore  Phase = "after-restore"
)

func before(k DrainKind) Phase {
	if k == Homing {
		return BeforeRestore
	}
	return BeforeDrain
}

func after(k DrainKind) Phase {
	if k == Homing {
		return AfterRestore
	}
	return AfterDrain
}

// Hooks are what a site runs around a drain. A hook may be run twice: after a
// coordinator died while it ran.
type Hooks interface {
	Run(ctx context.Context, p Phase, m Mark) error
}

// advanceDrains brings every drain and restore forward. What is to be done is
// written down first and done then, so that a coordinator that takes over
// finds it; a job has its id before it is made, so that it is made once.
func (l *lead) advanceDrains(ctx context.Context) {
	var hosts []string
	s := l.view.snapshot(l.Clock())
	for node, m := range s.Marks {
		if m.Active() || m.Drain != nil && m.Drain.count(MoveUnder) > 0 {
			hosts = append(hosts, node)
		}
	}
	if len(hosts) == 0 {
		return
	}
	slices.Sort(hosts)
	f := newFleet(s, l.Limits)
	for _, node := range hosts {
		if ctx.Err() != nil {
			return
		}
		l.advanceDrain(ctx, f, node)
	}
	l.view.forgetEnded()
}

func (l *lead) advanceDrain(ctx context.Context, f *fleet, node string) {
	row := l.view.markRow(node)
	if row.Value.Drain == nil {
		return
	}
	was := row.Value
	row.Value = was.clone()
	t := f.advance(&row.Value, func(id string) look { return l.lookUp(ctx, f, id) }, l.NewID)
	if !sameMark(was, row.Value) {
		saved, err := l.Marks.Save(ctx, row)
		if err != nil {
			if !errors.Is(err, jobs.ErrConflict) && ctx.Err() == nil {
				l.Log.Warn().Err(err).Str("host", node).Msg("drain not written down; deciding anew")
			}
			return // somebody ordered something: the next round sees it
		}
		l.view.mark(saved, false)
		row = saved
	}
	for _, e := range t.say {
		l.tellHost(ctx, node, e.what, e.text)
	}
	for i, spec := range t.submit {
		l.submitMove(ctx, node, t.ids[i], spec)
	}
	for _, id := range t.back {
		if err := l.takeBackJob(ctx, id, t.by); err != nil && ctx.Err() == nil {
			l.Log.Warn().Err(err).Str("job", id).Str("host", node).Msg("job of a drain not taken back; trying again")
		}
	}
	if t.hook != "" {
		l.runHook(ctx, t.hook, row.Value)
	}
}

// lookUp finds a job of a drain: under way, ended, or nowhere.
func (l *lead) lookUp(ctx context.Context, f *fleet, id string) look {
	if r, ok := f.record(id); ok {
		return look{r, true}
	}
	if r, ok := l.view.endedJob(id); ok {
		return look{r, true}
	}
	r, err := l.Records.Load(ctx, id)
	switch {
	case err == nil:
		l.view.record(r)
		return look{r, true}
	case errors.Is(err, jobs.ErrNotFound):
		return look{}
	}
	// Nothing is known now: as if it were still under way.
	return look{jobs.Record{ID: id, State: jobs.Running}, true}
}

// submitMove makes the job of one VM of a drain. What stands against it for
// good goes into the drain.
func (l *lead) submitMove(ctx context.Context, node, id string, spec jobs.Spec) {
	_, err := l.submit(ctx, id, spec)
	if err == nil || ctx.Err() != nil || errors.Is(err, jobs.ErrAway) {
		return // made, or made again in the next round
	}
	_, merr := l.changeMark(ctx, node, func(m *Mark) error {
		if m.Drain == nil {
			return nil
		}
		for i := range m.Drain.Moves {
			if mv := &m.Drain.Moves[i]; mv.Job == id {
				mv.State, mv.Job, mv.Text = MoveWaiting, "", err.Error()
				mv.Next = l.Clock().Add(retryAfter / 4)
			}
		}
		return nil
	})
	if merr != nil && ctx.Err() == nil {
		l.Log.Warn().Err(merr).Str("host", node).Str("job", id).Msg("drain not told that a job was refused; trying again")
	}
}

// takeBackJob cancels a job, whoever has it.
func (l *lead) takeBackJob(ctx context.Context, id, by string) error {
	rec, err := l.Cancel(ctx, id, by)
	switch {
	case err == nil, rec.State.Final(), errors.Is(err, jobs.ErrNotFound):
		return nil
	case rec.State == jobs.Running:
		return l.Nodes.Cancel(ctx, rec, by)
	}
	return err
}

// hookTime bounds a hook: what it does is done beside a host that waits.
const hookTime = 10 * time.Minute

// runHook runs a hook beside the decider, one per host at a time, and writes
// down what it said.
func (l *lead) runHook(ctx context.Context, p Phase, m Mark) {
	if !l.view.hook(m.Node, true) {
		return
	}
	l.work.Go(func() error {
		defer l.view.hook(m.Node, false)
		var err error
		if l.Hooks != nil {
			limited, cancel := context.WithTimeout(ctx, hookTime)
			err = l.Hooks.Run(limited, p, m)
			cancel()
		}
		if ctx.Err() != nil {
			return nil // whoever leads next runs it again
		}
		_, cerr := l.changeMark(ctx, m.Node, func(now *Mark) error {
			if now.Drain == nil || now.Drain.ID != m.Drain.ID || now.Drain.State.Ended() {
				return nil // cancelled meanwhile
			}
			now.hooked(p, err, l.Clock())
			return nil
		})
		if cerr != nil && ctx.Err() == nil {
			l.Log.Warn().Err(cerr).Str("host", m.Node).Str("hook", string(p)).Msg("what the hook said is not written down; it runs again")
		}
		if err != nil {
			l.tellHost(ctx, m.Node, "hook.failed", string(p)+": "+err.Error())
		}
		return nil
	})
}

// hooked notes what a hook said. One that fails before refuses; one that fails
// after is told, and changes nothing: the host is empty.
func (m *Mark) hooked(p Phase, err error, now time.Time) {
	d := m.Drain
	switch {
	case p != before(d.Kind):
		d.Told = true
	case err == nil:
		d.Asked = true
	default:
		d.end(DrainFailed, now, "its hook refused: "+err.Error())
		if m.Cordon != nil && m.Cordon.Drain == d.ID {
			m.Cordon = nil
		}
	}
}

func sameMark(a, b Mark) bool {
	switch {
	case len(a.Away) != len(b.Away), (a.Cordon == nil) != (b.Cordon == nil), len(a.Drain.Moves) != len(b.Drain.Moves):
		return false
	}
	x, y := *a.Drain, *b.Drain
	for i := range x.Moves {
		p, q := x.Moves[i], y.Moves[i]
		if !slices.Equal(p.Not, q.Not) {
			return false
		}
		p.Not, q.Not = nil, nil
		if p.VM != q.VM || p.State != q.State || p.To != q.To || p.Job != q.Job || p.Text != q.Text || p.Tries != q.Tries || !p.Next.Equal(q.Next) {
			return false
		}
	}
	return x.State == y.State && x.Blind.Equal(y.Blind) && x.Text == y.Text && x.Asked == y.Asked && x.Told == y.Told && x.Planned == y.Planned
}
