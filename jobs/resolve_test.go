package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// caseOf is a job of epoch 7 with what both ends promised and have.
type caseOf struct {
	s, d           Journal
	sHas, dHas     VMState // "": no domain
	sAway, dAway   bool
	key            *Owner
	state          State
	driven, halted bool
	word           *Word
}

func (x caseOf) build() Case {
	c := Case{State: x.state, Driven: x.driven, Key: x.key,
		Job: Job{ID: "job", Attempt: "job.2", Epoch: 7, Kind: KindMigrate, VM: VMRef{testVM, "web01"}, Source: sNode, Destination: dNode, Word: x.word}}
	if c.State == "" {
		c.State = Indeterminate
	}
	if c.Key == nil {
		c.Key = new(c.Job.begun())
	}
	if x.halted {
		c.Job.Plan.Guest.State = VMHalted
	}
	end := func(node string, j Journal, has VMState) *Evidence {
		e := &Evidence{Node: node, Journal: j}
		if has != "" {
			e.Domains = []Seen{{DomID: 4, Name: "web01", State: has}}
		}
		return e
	}
	if !x.sAway {
		c.Source = end(sNode, x.s, x.sHas)
	}
	if !x.dAway {
		c.Destination = end(dNode, x.d, x.dHas)
	}
	return c
}

func resolveCases() map[string]struct {
	at   caseOf
	want string // acts in order, the end's state last
} {
	key := func(node string, epoch uint64, attempt string) *Owner {
		return &Owner{VM: testVM, Node: node, Epoch: epoch, Attempt: attempt, Claim: "job"}
	}
	handed, barred := key(dNode, 8, "job.2"), key(sNode, 8, AbortAttempt(7))
	lostS, lostD := &Word{By: "ann", Lost: sNode}, &Word{By: "ann", Lost: dNode}
	keepS, keepD := &Word{By: "ann", Keep: sNode}, &Word{By: "ann", Keep: dNode}
	type row = struct {
		at   caseOf
		want string
	}
	sealed, committed, ready, gone := said(BEGIN, SEALED), said(BEGIN, SEALED, COMMITTING), said(BEGIN, READY), said(BEGIN, READY, GO)
	released := said(BEGIN, SEALED, COMMITTING, RELEASED)
	return map[string]row{
		"it has ended":            {caseOf{state: Succeeded}, "nothing"},
		"somebody drives it":      {caseOf{state: Running, driven: true, s: said(BEGIN), sHas: VMRunning, d: said(BEGIN)}, "nothing"},
		"nobody answers":          {caseOf{sAway: true, dAway: true}, "ask"},
		"--lost of a third host":  {caseOf{word: &Word{Lost: "hv9"}}, "ask"},
		"--lost of one there":     {caseOf{word: lostS, s: committed, sHas: VMPaused, d: ready, dHas: VMPaused}, "ask"},
		"never stopped":           {caseOf{s: said(BEGIN), sHas: VMRunning, d: said(BEGIN)}, "back@hv1 abort@hv2 end:rolled_back"},
		"held, never committed":   {caseOf{s: sealed, sHas: VMPaused, d: ready, dHas: VMPaused}, "back@hv1 abort@hv2 end:rolled_back"},
		"committed, copy whole":   {caseOf{s: committed, sHas: VMPaused, d: ready, dHas: VMPaused}, "handover go@hv2 finish@hv1 end:succeeded"},
		"committed and handed":    {caseOf{s: committed, sHas: VMSuspended, d: ready, dHas: VMPaused, key: handed}, "go@hv2 finish@hv1 end:succeeded"},
		"released":                {caseOf{s: released, sHas: VMPaused, d: ready, dHas: VMPaused, key: key(sNode, 9, "")}, "go@hv2 key finish@hv1 end:succeeded"},
		"committed, copy lost":    {caseOf{s: committed, sHas: VMPaused, d: ready, key: handed}, "abort@hv2 back@hv1 key end:rolled_back"},
		"committed and barred":    {caseOf{s: committed, sHas: VMPaused, d: ready, dHas: VMPaused, key: barred}, "back@hv1 abort@hv2 end:rolled_back"},
		"aborted":                 {caseOf{s: committed, sHas: VMPaused, d: said(BEGIN, READY, ABORTED), key: handed}, "back@hv1 key end:rolled_back"},
		"GO and a paused copy":    {caseOf{s: committed, sHas: VMPaused, d: gone, dHas: VMPaused, key: handed}, "go@hv2 finish@hv1 end:succeeded"},
		"GO and no domain":        {caseOf{s: committed, sHas: VMPaused, d: gone, key: handed}, "go@hv2 finish@hv1 end:succeeded"},
		"it ran and ended":        {caseOf{s: committed, sHas: VMPaused, d: said(BEGIN, READY, GO, RUNNING), key: handed}, "finish@hv1 end:succeeded"},
		"it runs there":           {caseOf{s: committed, sHas: VMPaused, d: said(BEGIN, READY, GO, RUNNING), dHas: VMRunning, key: handed}, "finish@hv1 end:succeeded"},
		"resumed by hand, no GO":  {caseOf{s: committed, sHas: VMRunning, d: ready, dHas: VMPaused, key: handed}, "abort@hv2 back@hv1 key end:rolled_back"},
		"resumed by hand, paused": {caseOf{s: committed, sHas: VMRunning, d: gone, dHas: VMPaused, key: handed}, "abort@hv2 back@hv1 key end:rolled_back"},
		"resumed by hand after":   {caseOf{s: committed, sHas: VMRunning, d: gone, key: handed}, "ask"},
		"let go by hand":          {caseOf{s: committed, sHas: VMPaused, d: ready, dHas: VMRunning}, "ask"},
		"let go by hand, chosen":  {caseOf{s: committed, sHas: VMPaused, d: ready, dHas: VMRunning, word: keepD}, "discard@hv1 go@hv2 key finish@hv1 end:succeeded"},
		"two run":                 {caseOf{s: committed, sHas: VMRunning, d: said(BEGIN, READY, GO, RUNNING), dHas: VMRunning, key: handed}, "ask"},
		"two run, source chosen":  {caseOf{s: committed, sHas: VMRunning, d: said(BEGIN, READY, GO, RUNNING), dHas: VMRunning, key: handed, word: keepS}, "discard@hv2 back@hv1 key end:rolled_back"},
		"two run, other chosen":   {caseOf{s: committed, sHas: VMRunning, d: said(BEGIN, READY, GO, RUNNING), dHas: VMRunning, key: handed, word: keepD}, "discard@hv1 finish@hv1 end:succeeded"},
		"chosen, does not run":    {caseOf{s: committed, sHas: VMPaused, d: gone, dHas: VMRunning, word: keepS}, "ask"},
		"halted, committed":       {caseOf{s: committed, d: ready, halted: true}, "handover go@hv2 finish@hv1 end:succeeded"},

		"D silent, never committed": {caseOf{s: sealed, sHas: VMPaused, dAway: true}, "back@hv1 end:rolled_back"},
		"D silent, committed":       {caseOf{s: committed, sHas: VMPaused, dAway: true}, "bar back@hv1 end:rolled_back"},
		"D silent, handed":          {caseOf{s: committed, sHas: VMPaused, dAway: true, key: handed}, "ask"},
		"D silent, released":        {caseOf{s: released, sHas: VMPaused, dAway: true}, "ask"},
		"D silent, done":            {caseOf{s: said(BEGIN, SEALED, COMMITTING, DONE), dAway: true, key: handed}, "ask"},
		"D lost, handed":            {caseOf{s: committed, sHas: VMSuspended, dAway: true, key: handed, word: lostD}, "back@hv1 key end:rolled_back"},
		"D lost, released":          {caseOf{s: released, sHas: VMPaused, dAway: true, word: lostD}, "back@hv1 end:rolled_back"},
		"D lost, done":              {caseOf{s: said(BEGIN, SEALED, COMMITTING, DONE), dAway: true, key: handed, word: lostD}, "gone"},
		"D lost, driven":            {caseOf{s: committed, sHas: VMPaused, dAway: true, key: handed, word: lostD, state: Running, driven: true}, "back@hv1 key end:rolled_back"},

		"S silent, nothing known":   {caseOf{sAway: true, d: ready, dHas: VMPaused}, "ask"},
		"S silent, handed":          {caseOf{sAway: true, d: ready, dHas: VMPaused, key: handed}, "go@hv2 end:succeeded"},
		"S silent, handed, running": {caseOf{sAway: true, d: ready, dHas: VMPaused, key: handed, state: Running}, "go@hv2 nothing"},
		"S silent, copy lost":       {caseOf{sAway: true, d: ready, key: handed}, "ask"},
		"S silent, GO":              {caseOf{sAway: true, d: gone, dHas: VMPaused, key: handed}, "go@hv2 end:succeeded"},
		"S lost, handed, running":   {caseOf{sAway: true, d: ready, dHas: VMPaused, key: handed, state: Running, word: lostS}, "go@hv2 end:succeeded"},
		"S lost, copy whole":        {caseOf{sAway: true, d: ready, dHas: VMPaused, state: Running, word: lostS}, "handover go@hv2 end:succeeded"},
		"S lost, copy rebooted":     {caseOf{sAway: true, d: ready, state: Running, word: lostS}, "handover go@hv2 end:succeeded"},
		"S lost, it took it back":   {caseOf{sAway: true, d: ready, dHas: VMPaused, key: barred, state: Running, word: lostS}, "go@hv2 key end:succeeded"},
		"S lost, copy half":         {caseOf{sAway: true, d: said(BEGIN), dHas: "", state: Running, word: lostS}, "gone"},
		"S lost, aborted":           {caseOf{sAway: true, d: said(BEGIN, READY, ABORTED), state: Running, word: lostS}, "gone"},
		"S silent, runs by hand":    {caseOf{sAway: true, d: ready, dHas: VMRunning}, "ask"},
	}
}

func TestResolve(t *testing.T) {
	for name, x := range resolveCases() {
		all := Foresee(x.at.build())
		var got []string
		for _, r := range all {
			s := string(r.Act)
			if r.At != "" {
				s += "@" + r.At
			}
			if r.Act == ActEnd {
				s += ":" + string(r.State)
			}
			got = append(got, s)
			if r.Why == "" || (r.Act == ActAsk || r.Act == ActGone) && r.Next == "" {
				t.Errorf("%s: %s says neither why nor what next: %+v", name, r.Act, r)
			}
		}
		if s := strings.Join(got, " "); s != x.want {
			t.Errorf("%s:\n got %s\nwant %s\n%s", name, s, x.want, all[len(all)-1].Why)
		}
	}
}

// TestResolveTellsTheRisk: whatever rests on nothing but a person's word says
// what it may cost, and nothing else does.
func TestResolveTellsTheRisk(t *testing.T) {
	for name, x := range resolveCases() {
		c := x.at.build()
		risky := false
		for _, r := range Foresee(c) {
			risky = risky || r.Risk != ""
		}
		// A lost source behind the line, a lost destination before it: the
		// rules alone allow what is done.
		free := []string{"S lost, handed, running", "--lost of a third host", "--lost of one there", "D lost, done", "S lost, copy half", "S lost, aborted", "chosen, does not run"}
		if want := c.Job.Word != nil && !slices.Contains(free, name); risky != want {
			t.Errorf("%s: tells a risk: %v, want %v", name, risky, want)
		}
	}
}

// resolver is one that reaches the bench's two hosts from outside.
func (b *bench) resolver() *Resolver {
	return &Resolver{Source: &b.s, Destination: &b.d, Store: b, Owners: b,
		Clock: func() time.Time { b.now = b.now.Add(time.Millisecond); return b.now }, Sleep: b.sleep,
		Tell:   func(r Resolution) { b.events = append(b.events, fmt.Sprintf("resolve %s %s: %s", r.Act, r.At, r.Why)) },
		Driven: func(context.Context, Record) bool { return false }, Patience: time.Minute}
}

// resolved has the resolver end what no worker drives any more.
func (b *bench) resolved(t *testing.T, word *Word) (Record, Resolution) {
	t.Helper()
	b.dead, b.ended, b.sleeps = false, false, 0
	b.cancel = func(error) {}
	rec, did, err := b.resolver().Run(context.Background(), b.stored(), word)
	if err != nil {
		t.Fatalf("resolve: %v\n%s", err, b.story())
	}
	return rec, did
}

// TestResolveAfterEveryCall: the source's worker dies at any call and never
// comes back, while its host stands: resolving ends the job, by one command,
// with one copy, and says where.
func TestResolveAfterEveryCall(t *testing.T) {
	ends := map[State]int{}
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for _, after := range []bool{false, true} {
				b := mk().crash(atCall(k), after)
				b.live()
				if b.stored().State != Running {
					continue
				}
				rec, did := b.resolved(t, nil)
				at := fmt.Sprintf("%s, call %d (%s) after %v", name, k, b.calls[k-1], after)
				if did.Act != ActEnd {
					t.Errorf("%s: %+v", at, did)
				}
				ends[rec.State]++
				if b.check(t, rec); t.Failed() {
					t.Fatal(at)
				}
			}
		}
	}
	if ends[Succeeded] == 0 || ends[RolledBack] == 0 {
		t.Errorf("ends %v", ends)
	}
}

// TestResolveDies: the resolver dies at any of its own calls and is run again.
func TestResolveDies(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for k := 1; k <= n; k++ {
			for die := 1; die < 30; die++ {
				b := mk().crash(atCall(k), true)
				b.live()
				if b.stored().State != Running {
					break
				}
				b.dead = false
				b.crash(atCall(len(b.calls)+die), die%2 == 0)
				b.cancel = func(error) {}
				if _, _, err := b.resolver().Run(context.Background(), b.stored(), nil); err == nil {
					b.check(t, b.stored())
					break // it was done before it could die
				}
				rec, did := b.resolved(t, nil)
				if b.check(t, rec); did.Act != ActEnd && did.Act != ActNothing || t.Failed() {
					t.Fatalf("%s, call %d (%s), died %d calls after: %+v", name, k, b.calls[k-1], die, did)
				}
			}
		}
	}
}

// TestResolveLost: one host is lost for good at any call. With a person's word
// the guest runs on the other, if that ever had a whole copy, and else nothing
// is touched.
func TestResolveLost(t *testing.T) {
	for name, mk := range benches {
		n := happyCalls(t, mk)
		for _, node := range []string{sNode, dNode} {
			runs := 0
			for k := 1; k <= n; k++ {
				b := mk().crash(atCall(k), true)
				b.live()
				if b.stored().State != Running {
					continue
				}
				lose(b, node)
				rec, did := b.resolved(t, &Word{By: "ann", Lost: node})
				at := fmt.Sprintf("%s, %s lost at call %d (%s)", name, node, k, b.calls[k-1])
				left := &b.s.host
				if node == sNode {
					left = &b.d.host
				}
				switch did.Act {
				case ActEnd:
					if !rec.State.Final() || b.key.Node != left.node || b.key.Claim != "" || !b.off && left.guest != VMRunning {
						t.Errorf("%s: %s, key %+v, guest %q at %s", at, rec.State, b.key, left.guest, left.node)
					}
					runs++
				case ActGone:
					if left.guest != "" && left.guest != VMPaused || rec.State.Final() {
						t.Errorf("%s: gone, and the guest is %q at %s; %s", at, left.guest, left.node, rec.State)
					}
				default:
					t.Errorf("%s: %+v", at, did)
				}
				if len(b.harms) > 0 || t.Failed() {
					t.Fatalf("%s: %v\n%s", at, b.harms, b.story())
				}
			}
			if runs == 0 {
				t.Errorf("%s, %s lost: the guest never ran on the other", name, node)
			}
		}
	}
}

// lose takes a host away for good, with all that ran on it. What the guest
// wrote there alone is lost with it, by the person's word.
func lose(b *bench, node string) {
	part, at := "S.", &b.s.host
	other := &b.d.host
	if node == dNode {
		part, at, other = "D.", &b.d.host, &b.s.host
	}
	at.guest = ""
	b.written = max(other.disk, 0)
	b.meets(always(inPart(part)).says(fmt.Errorf("%s: %w", node, ErrAway)))
}
