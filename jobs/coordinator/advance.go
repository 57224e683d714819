package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

const (
	// maxTries of one VM's move before a person must ask again.
	maxTries = 5
	// retryAfter doubles with each try up to retryAtMost: a host that fails all
	// moves must not be hammered.
	retryAfter  = 20 * time.Second
	retryAtMost = 10 * time.Minute
	// drainPriority goes before what people submit.
	drainPriority = 100
	// takenBack marks jobs that a drain itself took back, to place them anew.
	takenBack = "the drain, to place it anew"
)

// todo is what follows from a drain's new state, once that is stored.
type todo struct {
	submit []jobs.Spec // with their job ids beside
	ids    []string
	back   []string // jobs to be taken back
	by     string   // who takes them back
	hook   Phase    // to be run; "" for none
	say    []said
}

// said is an event of the host.
type said struct{ what, text string }

func (t *todo) tell(what, text string) { t.say = append(t.say, said{what, text}) }

// look is how a drain sees a job of its own.
type look struct {
	rec   jobs.Record
	known bool // false: no record; it is still to be made
}

// advance brings a host's drain or restore forward by what is known, and says
// what is to be done. f has room taken off for what is decided, so that drains
// that are advanced one after another do not plan for the same place.
func (f *fleet) advance(m *Mark, job func(id string) look, newID func() string) todo {
	var t todo
	d := m.Drain
	f.takeIn(m, job, &t)
	if d.State.Ended() {
		f.takeBack(d, job, &t)
		return t
	}
	home := f.rooms[m.Node]
	if why := blind(m.Node, home); why != "" {
		if d.Blind.IsZero() {
			d.Blind = f.Now
		}
		if d.Text = why; f.Now.Sub(d.Blind) > blindFor {
			d.hold(&t, "%s", why)
		}
		return t
	}
	d.Blind = time.Time{}
	f.list(m, home)
	if d.State == DrainWaiting || d.State == DrainHeld && !d.Planned {
		if !f.mayBegin(m, &t) {
			return t
		}
	}
	plan := f.placeMoves(m, home)
	if !d.Planned {
		d.Planned = true
		if stuck := d.count(MoveStuck); d.Whole && stuck > 0 {
			d.end(DrainFailed, f.Now, fmt.Sprintf("%d of %d VMs have no place to go: %s", stuck, len(d.Moves), d.stuck()))
			if m.Cordon != nil && m.Cordon.Drain == d.ID {
				m.Cordon = nil
			}
			t.tell(string(d.Kind)+".failed", d.Text)
			return t
		}
		d.State, d.Text = DrainRunning, ""
		t.tell(string(d.Kind)+".planned", fmt.Sprintf("%d VMs, %d of them cannot move", len(d.Moves), d.count(MoveStuck)))
	}
	if !f.Now.After(d.Deadline) {
		f.send(m, plan, newID, &t)
	}
	f.conclude(m, home, &t)
	return t
}

// blindFor is how long a host may be away, or not know its VMs, until its drain
// is held: a worker that is started again or an xl that is slow is no news.
const blindFor = 2 * time.Minute

// blind says why nothing can be decided about a host's VMs.
func blind(node string, home *room) string {
	switch {
	case home == nil:
		return "host " + node + " is not there; it goes on when its worker is back"
	case home.host.Problem != "":
		return "host " + node + " does not know all of its VMs: " + home.host.Problem
	}
	return ""
}

// takeIn learns what became of the jobs.
func (f *fleet) takeIn(m *Mark, job func(id string) look, t *todo) {
	for i := range m.Drain.Moves {
		mv := &m.Drain.Moves[i]
		if mv.State != MoveUnder {
			continue
		}
		l := job(mv.Job)
		switch r := l.rec; {
		case !l.known:
			if m.Drain.State.Ended() {
				mv.State = MoveWaiting // never made, and never will be
				continue
			}
			t.submit, t.ids = append(t.submit, m.spec(mv)), append(t.ids, mv.Job)
		case r.State == jobs.Indeterminate:
			mv.Text = "nobody knows for sure where it runs: `xmig job show " + r.ID + "`"
		case r.State == jobs.Queued && mv.To != "" && !m.Drain.State.Ended():
			mv.Text = ""
			if r.Held != nil {
				mv.Text = r.Held.Reason
			}
			late := f.Now.After(m.Drain.Deadline) // what has not begun does not begin any more
			if d := f.rooms[mv.To]; late || d == nil || d.bars != "" && m.Drain.Kind == Emptying || f.overfull(&r, d) {
				t.back, t.by = append(t.back, r.ID), takenBack
			}
		case !r.State.Final():
			mv.Text = string(r.Step)
		default:
			m.ended(mv, r, f, t)
		}
	}
}

// ended notes how a VM's job ended.
func (m *Mark) ended(mv *Move, r jobs.Record, f *fleet, t *todo) {
	mv.Text = ""
	if r.State == jobs.Succeeded {
		mv.State = MoveDone
		if m.Drain.Kind == Homing {
			m.Away = slices.DeleteFunc(m.Away, func(a Away) bool { return a.VM.UUID == mv.VM.UUID })
		} else if f.homeOf(mv.VM.UUID) == "" && !m.away(mv.VM.UUID) {
			m.Away = append(m.Away, Away{VM: mv.VM, Since: f.Now})
		}
		t.tell(string(m.Drain.Kind)+".moved", fmt.Sprintf("vm %s is on %s", mv.VM.Name, r.Destination))
		return
	}
	why := string(r.State)
	if r.Failure != nil {
		why = r.Failure.Text
	}
	mv.State, mv.Job = MoveWaiting, ""
	if r.State == jobs.Cancelled {
		if !strings.Contains(why, takenBack) {
			mv.State, mv.Tries, mv.Text = MoveStuck, maxTries, "job "+r.ID+" was "+why+"; ask for the drain again to have it moved"
		}
		return
	}
	mv.Tries++
	mv.Text = fmt.Sprintf("job %s: %s", r.ID, why)
	mv.Next = f.Now.Add(min(retryAfter<<(mv.Tries-1), retryAtMost))
	if m.Drain.Kind == Emptying && !slices.Contains(mv.Not, r.Destination) && r.Destination != "" {
		mv.Not = append(mv.Not, r.Destination)
	}
	if mv.Tries >= maxTries {
		mv.State = MoveStuck
	}
	t.tell(string(m.Drain.Kind)+".vm.failed", fmt.Sprintf("vm %s: %s", mv.VM.Name, mv.Text))
}

func (m *Mark) away(uuid string) bool {
	return slices.ContainsFunc(m.Away, func(a Away) bool { return a.VM.UUID == uuid })
}

// homeOf is the host that remembers a VM as its own, "" for none.
func (f *fleet) homeOf(uuid string) string {
	if f.homes == nil {
		f.homes = map[string]string{}
		for node, m := range f.Marks {
			for _, a := range m.Away {
				f.homes[a.VM.UUID] = node
			}
		}
	}
	return f.homes[uuid]
}

// takeBack has the jobs of a cancelled drain taken back, as long as each can be.
func (f *fleet) takeBack(d *Drain, job func(string) look, t *todo) {
	t.by = strings.TrimPrefix(d.Text, "cancelled by ")
	for _, mv := range d.Moves {
		if mv.State != MoveUnder {
			continue
		}
		if r := job(mv.Job).rec; !r.HandedOver && r.Cancel == nil && r.State != jobs.Indeterminate {
			t.back = append(t.back, mv.Job)
		}
	}
}

// list brings the moves in line with what is on the host, or away from it.
func (f *fleet) list(m *Mark, home *room) {
	d := m.Drain
	known := make(map[string]int, len(d.Moves))
	for i, mv := range d.Moves {
		known[mv.VM.UUID] = i
	}
	add := func(vm jobs.VMRef) {
		if i, ok := known[vm.UUID]; !ok {
			d.Moves = append(d.Moves, Move{VM: vm, State: MoveWaiting})
		} else if d.Moves[i].State == MoveDone || d.Moves[i].State == MoveGone {
			if d.Kind == Emptying && f.settled(d.Moves[i]) { // it came back
				d.Moves[i] = Move{VM: vm, State: MoveWaiting}
			}
		}
	}
	if d.Kind == Homing {
		for _, a := range m.Away {
			add(a.VM)
		}
		return
	}
	for _, vm := range home.host.VMs {
		add(vm.VMRef)
	}
	for i := range d.Moves {
		mv := &d.Moves[i]
		if _, here := home.host.Find(mv.VM.UUID); !here && (mv.State == MoveWaiting || mv.State == MoveStuck) {
			mv.State, mv.Text = MoveGone, "it is not on "+m.Node+" any more"
		}
	}
}

// settled: the host's inventory is younger than the end of the VM's job, as
// far as it shows: only one place has the VM.
func (f *fleet) settled(mv Move) bool {
	at := f.uuids[mv.VM.UUID]
	return at != nil && len(at.rooms) == 1
}

// mayBegin waits for the host before it and for the hook before the drain.
func (f *fleet) mayBegin(m *Mark, t *todo) bool {
	d := m.Drain
	if d.After != "" {
		wait, no := f.before(d.After)
		switch {
		case no != "":
			d.hold(t, "%s", no)
			return false
		case wait != "":
			d.State, d.Text = DrainWaiting, wait
			return false
		}
	}
	if !d.Asked {
		d.State, d.Text = DrainWaiting, "its hook before is asked"
		t.hook = before(d.Kind)
		return false
	}
	return true
}

// before judges the host that goes first in a roll: wait for it, or why nothing
// may follow it. The VMs that left it must run where they went.
func (f *fleet) before(host string) (wait, no string) {
	m, ok := f.Marks[host]
	if !ok || m.Drain == nil {
		return "", "host " + host + ", which goes first, is not drained and not being drained"
	}
	switch d := m.Drain; {
	case d.State == DrainHeld, d.State == DrainFailed, d.State == DrainCancelled:
		return "", fmt.Sprintf("the %s of %s, which goes first, is %s: %s", d.Kind, host, d.State, d.Text)
	case d.State != DrainDone:
		return fmt.Sprintf("waits for the %s of %s", d.Kind, host), ""
	default:
		for _, mv := range d.Moves {
			if mv.State != MoveDone {
				continue
			}
			at := f.uuids[mv.VM.UUID]
			if at == nil || at.vm.State == jobs.VMOther || at.vm.Problem != "" {
				return fmt.Sprintf("waits for vm %s, which left %s, to be well", mv.VM.Name, host), ""
			}
		}
	}
	return "", ""
}

// placeMoves plans every VM that waits; what has no place is stuck, with the reason,
// until that changes.
func (f *fleet) placeMoves(m *Mark, home *room) []PlannedMove {
	d := m.Drain
	how := d.How.WithDefaults()
	var wants []want
	var plan []PlannedMove
	for _, mv := range d.Moves {
		if mv.State != MoveWaiting && mv.State != MoveStuck || mv.Tries >= maxTries {
			continue
		}
		if _, moves := f.moving[mv.VM.UUID]; moves {
			continue // by somebody else's job: what comes of it is seen later
		}
		if d.Kind == Homing {
			plan = append(plan, f.planHome(mv.VM, home, how))
			continue
		}
		if at := f.uuids[mv.VM.UUID]; at != nil {
			wants = append(wants, want{at.vm, mv.Not})
		}
	}
	if d.Kind == Emptying {
		plan = f.planAway(wants, home, how)
	}
	at := make(map[string]*Move, len(d.Moves))
	for i := range d.Moves {
		at[d.Moves[i].VM.UUID] = &d.Moves[i]
	}
	for _, p := range plan {
		mv := at[p.VM.UUID]
		switch {
		case p.To == "":
			mv.State, mv.To, mv.Text = MoveStuck, "", p.Text
		case p.From == p.To: // at home already
			mv.State, mv.To, mv.Text = MoveDone, p.To, ""
			m.Away = slices.DeleteFunc(m.Away, func(a Away) bool { return a.VM.UUID == mv.VM.UUID })
		default:
			if mv.State == MoveStuck {
				mv.Text = ""
			}
			mv.State, mv.To = MoveWaiting, p.To
		}
	}
	return plan
}

// send makes jobs for the next VMs of the plan: so many that none of the
// host's places for moves stays empty, and no more, so that those that wait
// are placed by what is true when they go.
func (f *fleet) send(m *Mark, plan []PlannedMove, newID func() string, t *todo) {
	d := m.Drain
	window := 2 * max(f.limits.Out, f.limits.In)
	if d.Canary && d.count(MoveDone) == 0 {
		if window = 1; slices.ContainsFunc(d.Moves, func(mv Move) bool { return mv.Tries > 0 }) {
			return // the canary did not arrive: nobody follows
		}
		slices.SortStableFunc(plan, func(a, b PlannedMove) int { return int(min(max(a.Bytes-b.Bytes, -1), 1)) })
	}
	under := d.count(MoveUnder)
	for _, p := range plan {
		i := slices.IndexFunc(d.Moves, func(mv Move) bool { return mv.VM.UUID == p.VM.UUID })
		mv := &d.Moves[i]
		if under >= window || mv.State != MoveWaiting || f.Now.Before(mv.Next) {
			continue
		}
		under++
		f.moving[mv.VM.UUID] = struct{}{} // no other drain of this round moves it too
		mv.State, mv.Job, mv.Text = MoveUnder, newID(), ""
		t.submit, t.ids = append(t.submit, m.spec(mv)), append(t.ids, mv.Job)
	}
}

// spec is the job that one VM of a drain asks for.
func (m *Mark) spec(mv *Move) jobs.Spec {
	s := m.Drain.How
	s.Kind, s.VM, s.From, s.To = jobs.KindMigrate, mv.VM.UUID, m.Node, mv.To
	if m.Drain.Kind == Homing {
		s.From = ""
	}
	s.By, s.Reason, s.Drain = m.Drain.By, because(fmt.Sprintf("%s of %s", m.Drain.Kind, m.Node), m.Drain.Reason), m.Drain.ID
	if s.Priority == 0 {
		s.Priority = drainPriority
	}
	return s.WithDefaults()
}

// conclude says where the drain stands now.
func (f *fleet) conclude(m *Mark, home *room, t *todo) {
	d := m.Drain
	under, waiting, stuck := d.count(MoveUnder), d.count(MoveWaiting), d.count(MoveStuck)
	late := f.Now.After(d.Deadline)
	empty := under == 0 && waiting == 0 && stuck == 0 && (d.Kind == Homing || len(home.host.VMs) == 0)
	switch {
	case empty:
		d.State, d.Text = DrainFinishing, ""
		if !d.Told {
			t.hook = after(d.Kind)
			return
		}
		text := fmt.Sprintf("%d VMs moved", d.count(MoveDone))
		d.end(DrainDone, f.Now, text)
		t.tell(string(d.Kind)+".done", m.Node+": "+text)
	case under > 0:
		d.State, d.Text = DrainRunning, fmt.Sprintf("%d moved, %d moving, %d waiting, %d stuck", d.count(MoveDone), under, waiting, stuck)
		if late {
			d.Text = "the deadline is over, nothing more is started: " + d.Text
		}
	case late && d.Kind == Homing:
		text := fmt.Sprintf("%d are home, %d are not: %s", d.count(MoveDone), waiting+stuck, d.stuck())
		d.end(DrainDone, f.Now, text)
		t.tell("restore.done", m.Node+": "+text)
	case late:
		d.hold(t, "the deadline is over; %d VMs are still on %s and run on: %s; ask again to go on", waiting+stuck, m.Node, d.stuck())
	case d.Canary && d.count(MoveDone) == 0 && slices.ContainsFunc(d.Moves, func(mv Move) bool { return mv.Tries > 0 }):
		d.hold(t, "the first VM did not arrive, so nobody follows: %s", d.stuck())
	case waiting > 0:
		d.State, d.Text = DrainRunning, fmt.Sprintf("%d moved, %d wait for another try, %d stuck", d.count(MoveDone), waiting, stuck)
	default:
		d.hold(t, "%d of %d VMs cannot move: %s", stuck, len(d.Moves), d.stuck())
	}
}

// stuck names the VMs that do not move, with their reasons.
func (d *Drain) stuck() string {
	var out []string
	for _, mv := range d.Moves {
		if mv.State == MoveStuck || mv.State == MoveWaiting && mv.Text != "" {
			out = append(out, mv.VM.Name+": "+mv.Text)
		}
	}
	if more := len(out) - 5; more > 0 {
		out = append(out[:5], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, "; ")
}

// hold says why nothing can be done now, once per reason.
func (d *Drain) hold(t *todo, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if d.State != DrainHeld || d.Text != text {
		t.tell(string(d.Kind)+".held", text)
	}
	d.State, d.Text = DrainHeld, text
}

func (d *Drain) end(s DrainState, now time.Time, text string) {
	d.State, d.Text, d.Ended = s, text, now
}
