package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"xmig/jobs"
)

// Each scenario is something that users of other systems complain about
// (issue trackers of XO, CloudStack, KubeVirt, Incus, Nomad and others).

// farm is n hosts of 64 GiB with vms of 4 GiB on the first.
func farm(n, vms int) []jobs.Host {
	var all []jobs.Host
	for i := range n {
		h := host(fmt.Sprintf("hv%d", i+1), 64)
		h.Memory = 64 * gib
		all = append(all, h)
	}
	for i := range vms {
		v := vm(fmt.Sprintf("vm%02d", i), 4)
		v.Disks = []jobs.Disk{{Name: "xvda", Path: "/dev/vg0/" + v.Name, Size: 10 * gib, Allocated: 10 * gib}}
		all[0].VMs = append(all[0].VMs, v)
		all[0].FreeMemory -= v.MemoryNeed()
	}
	return all
}

func drainText(m Mark) string { return fmt.Sprintf("%s: %s", m.Drain.State, m.Drain.Text) }

func TestDrainEmptiesTheHost(t *testing.T) {
	g := newGame(t, farm(4, 12)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	m := g.untilState("hv1", DrainDone)
	if len(g.hosts["hv1"].VMs) != 0 || m.Drain.count(MoveDone) != 12 || m.Drain.Text != "12 VMs moved" {
		t.Errorf("%s, left there: %v", drainText(m), g.hosts["hv1"].VMs)
	}
	if m.Bars() == "" {
		t.Error("a drained host takes VMs again without being told to")
	}
	for vm, n := range g.moved {
		if n != 1 {
			t.Errorf("vm %s was moved %d times", vm, n)
		}
	}
	if last := g.told[len(g.told)-1]; !strings.HasPrefix(last, "hv1 drain.done") {
		t.Errorf("the last that was told: %q", last)
	}
}

// 24: a drain cannot be aborted, migrations respawn.
func TestCancelLeavesAllWhereItIs(t *testing.T) {
	g := newGame(t, farm(3, 10)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.until("hv1", "half done", func(m Mark) bool { return m.Drain.count(MoveDone) >= 3 && m.Drain.count(MoveUnder) > 0 })
	over := 0
	for _, r := range g.jobs { // one is behind the line: it is finished
		if r.State == jobs.Running && over == 0 {
			r.HandedOver = true
			over++
		}
	}
	before := g.marks["hv1"].Drain.count(MoveDone)
	g.cancel("hv1")
	for range 50 {
		g.turn()
	}
	m := g.marks["hv1"]
	if got := m.Drain.count(MoveDone); got != before+over || m.Drain.count(MoveUnder) != 0 || m.Drain.State != DrainCancelled {
		t.Errorf("moved before the cancel: %d, behind the line: %d, moved at the end: %d, %s", before, over, got, drainText(m))
	}
	if len(g.hosts["hv1"].VMs) != 10-before-over || m.Bars() != "" {
		t.Errorf("on hv1: %d; it is closed: %q", len(g.hosts["hv1"].VMs), m.Bars())
	}
}

// 25: local storage blocks an evacuation: here it is what is moved; what has no
// room for its disks is named, and the others go.
func TestVMsThatCannotMoveDoNotStopTheOthers(t *testing.T) {
	hosts := farm(2, 4)
	hosts[0].VMs[0].Bridges = []string{"dmz"}
	hosts[0].VMs[1].Disks[0].Size = 900 * gib
	hosts[0].VMs[2].Problem = "two configs name it"
	hosts[1].Pools = []jobs.Pool{{Name: "vg0", Dir: "/dev/vg0", Free: 100 * gib}}
	g := newGame(t, hosts...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	m := g.untilState("hv1", DrainHeld)
	if g.where("vm03") != "hv2" || m.Drain.count(MoveStuck) != 3 {
		t.Fatalf("%s", drainText(m))
	}
	for _, want := range []string{"vm00: no host of 1 takes it (bridge on 1)", "vm01: no host of 1 takes it (space on 1)", "vm02: it cannot be managed: two configs name it"} {
		if !strings.Contains(m.Drain.Text, want) {
			t.Errorf("%s\nlacks %q", drainText(m), want)
		}
	}
	// What stood against them goes away: the drain goes on by itself.
	g.hosts["hv2"].Bridges = append(g.hosts["hv2"].Bridges, "dmz")
	g.hosts["hv2"].Pools[0].Free = 2000 * gib
	g.hosts["hv1"].VMs[2].Problem = ""
	for i := range g.hosts["hv1"].VMs {
		g.hosts["hv1"].VMs[i].Problem = ""
	}
	g.untilState("hv1", DrainDone)
}

// 26: a VM hard-stopped because its migration failed: nothing is ever killed,
// and a move that fails is tried again, elsewhere first, and not for ever.
func TestMovesThatFail(t *testing.T) {
	g := newGame(t, farm(3, 2)...)
	tried := map[string][]string{}
	g.ends = func(r *jobs.Record) jobs.State {
		tried[r.VM.Name] = append(tried[r.VM.Name], r.Destination)
		if r.VM.Name == "vm00" {
			return jobs.RolledBack
		}
		return jobs.Succeeded
	}
	g.order(DrainRequest{Host: "hv1", By: "me", Deadline: 24 * time.Hour})
	m := g.untilState("hv1", DrainHeld)
	if n := len(tried["vm00"]); n != maxTries {
		t.Errorf("tried %d times: %v", n, tried["vm00"])
	}
	if slices.Equal(tried["vm00"][:1], tried["vm00"][1:2]) {
		t.Errorf("tried %v: the second try went where the first failed", tried["vm00"])
	}
	if g.where("vm00") != "hv1" || g.where("vm01") == "hv1" || !strings.Contains(m.Drain.Text, "vm00: job J") {
		t.Errorf("vm00 at %s, vm01 at %s, %s", g.where("vm00"), g.where("vm01"), drainText(m))
	}
	g.ends = nil // mended; asking again is another try
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
}

// 27: the target chosen is itself in maintenance.
func TestNothingGoesOntoClosedHosts(t *testing.T) {
	g := newGame(t, farm(5, 8)...)
	g.marks["hv2"] = Mark{Node: "hv2", Cordon: &Order{By: "me"}}
	g.order(DrainRequest{Host: "hv3", By: "me", After: "hv1"})
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.turn()
	g.turn()
	// A host that jobs wait for is closed meanwhile: they are placed anew.
	g.marks["hv4"] = Mark{Node: "hv4", Cordon: &Order{By: "me"}}
	for range 3 {
		g.turn()
	}
	g.untilState("hv1", DrainDone)
	for _, closed := range []string{"hv2", "hv3"} {
		if n := len(g.hosts[closed].VMs); n != 0 {
			t.Errorf("%s got %d VMs", closed, n)
		}
	}
}

// 28: asking twice confuses the state.
func TestAskingTwiceAttaches(t *testing.T) {
	g := newGame(t, farm(3, 6)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	id := g.marks["hv1"].Drain.ID
	for range 4 {
		g.turn()
		g.order(DrainRequest{Host: "hv1", By: "you"})
	}
	m := g.untilState("hv1", DrainDone)
	if m.Drain.ID != id || m.Drain.By != "me" || len(g.moved) != 6 {
		t.Errorf("drain %s by %s, %d moved; want %s by me, 6", m.Drain.ID, m.Drain.By, len(g.moved), id)
	}
}

// 29: stuck in error, without a reason.
func TestAHostThatGoesAwayHoldsItsDrain(t *testing.T) {
	g := newGame(t, farm(3, 6)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.turn()
	g.turn()
	g.lost["hv1"] = true
	m := g.untilState("hv1", DrainHeld)
	if !strings.Contains(m.Drain.Text, "host hv1 is not there") {
		t.Errorf("%s", drainText(m))
	}
	g.lost["hv1"] = false
	g.untilState("hv1", DrainDone)
}

// 30: the way home fails because the home is full, and all is marked failed.
func TestRestoreBringsHomeWhatFits(t *testing.T) {
	g := newGame(t, farm(3, 6)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
	if n := len(g.marks["hv1"].Away); n != 6 {
		t.Fatalf("%d remember hv1 as home", n)
	}
	g.hosts["hv1"].FreeMemory = 17 * gib // room for four
	g.order(DrainRequest{Host: "hv1", By: "me", Kind: Homing, Deadline: time.Hour})
	m := g.untilState("hv1", DrainHeld)
	if len(g.hosts["hv1"].VMs) != 4 || m.Drain.count(MoveStuck) != 2 || len(m.Away) != 2 || !strings.Contains(m.Drain.Text, "memory") {
		t.Fatalf("at home: %d, %s", len(g.hosts["hv1"].VMs), drainText(m))
	}
	g.hosts["hv1"].FreeMemory += 20 * gib
	m = g.untilState("hv1", DrainDone)
	if len(m.Away) != 0 || len(g.hosts["hv1"].VMs) != 6 {
		t.Errorf("away: %v", m.Away)
	}
}

// What never fits is reported when the deadline is over; the restore ends.
func TestRestoreEndsAtItsDeadline(t *testing.T) {
	g := newGame(t, farm(3, 2)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
	g.hosts["hv1"].FreeMemory = 5 * gib
	g.order(DrainRequest{Host: "hv1", By: "me", Kind: Homing, Deadline: 10 * time.Minute})
	m := g.untilState("hv1", DrainDone)
	if !strings.Contains(m.Drain.Text, "1 are home, 1 are not: vm0") {
		t.Errorf("%s", drainText(m))
	}
}

// A move that was asked for and has not begun, for its home was closed meanwhile,
// is taken back at the deadline: the restore ends, and nothing waits for ever.
func TestDeadlineTakesBackWhatWaits(t *testing.T) {
	g := newGame(t, farm(3, 6)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
	g.order(DrainRequest{Host: "hv1", By: "me", Kind: Homing, Deadline: 10 * time.Minute})
	waiting := func() (n int) {
		for _, r := range g.jobs {
			if r.State == jobs.Queued {
				n++
			}
		}
		return n
	}
	for waiting() == 0 {
		g.turn()
	}
	m := g.marks["hv1"]
	m.Cordon = &Order{By: "me"}
	g.marks["hv1"] = m
	m = g.untilState("hv1", DrainDone)
	if home := len(g.hosts["hv1"].VMs); home == 6 || waiting() > 0 || !strings.Contains(m.Drain.Text, fmt.Sprintf("%d are home, %d are not", home, 6-home)) {
		t.Errorf("at home: %d, jobs in the queue: %d, %s", home, waiting(), drainText(m))
	}
}

// 31: restore without moving back is uncordon; a restore while VMs still leave
// is refused by Coordinator.Drain (TestOrders).

// 32: the first failure cancels the rest.
func TestAFailureCancelsNobodyElse(t *testing.T) {
	g := newGame(t, farm(4, 9)...)
	failed := false
	g.ends = func(r *jobs.Record) jobs.State {
		if !failed {
			failed = true
			return jobs.FailedState
		}
		return jobs.Succeeded
	}
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
}

// 33: done is reported early. A VM that appears while the host is drained, a
// halted one, and one of somebody else's job leave too before it is said.
func TestDoneIsSaidLast(t *testing.T) {
	hosts := farm(3, 3)
	hosts[0].VMs[1].State = jobs.VMHalted
	g := newGame(t, hosts...)
	other := g.submit(g.newID(), jobs.Spec{VM: "vm00", To: "hv2"}.WithDefaults())
	g.turn()
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.turn()
	late := vm("late", 1)
	g.hosts["hv1"].VMs = append(g.hosts["hv1"].VMs, late)
	for g.marks["hv1"].Drain.State != DrainDone {
		if g.marks["hv1"].Drain.State == DrainFinishing && len(g.hosts["hv1"].VMs) > 0 {
			t.Fatal("said to be empty, and is not")
		}
		g.turn()
	}
	if len(g.hosts["hv1"].VMs) != 0 || other.State != jobs.Succeeded || g.where("late") == "" || g.where("vm01") == "" {
		t.Errorf("left on hv1: %v", g.hosts["hv1"].VMs)
	}
}

// 34, 35: a drain hangs silently; what the deadline means is unclear. It starts
// nothing more, finishes what moves, kills nothing, and says who is left.
func TestDeadlineHolds(t *testing.T) {
	g := newGame(t, farm(3, 12)...)
	g.order(DrainRequest{Host: "hv1", By: "me", Deadline: 20 * time.Second})
	m := g.untilState("hv1", DrainHeld)
	left := len(g.hosts["hv1"].VMs)
	if left == 0 || left == 12 || !strings.Contains(m.Drain.Text, fmt.Sprintf("the deadline is over; %d VMs are still on hv1", left)) {
		t.Fatalf("left: %d, %s", left, drainText(m))
	}
	for range 50 {
		g.turn()
	}
	if len(g.hosts["hv1"].VMs) != left {
		t.Error("VMs were moved after the deadline")
	}
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.untilState("hv1", DrainDone)
}

// 35: the order of evacuation: what takes longest first; a canary: the smallest
// first, alone, and nobody follows if it does not arrive.
func TestOrderOfLeaving(t *testing.T) {
	hosts := farm(3, 5)
	for i := range hosts[0].VMs {
		hosts[0].VMs[i].Disks[0].Size = int64(i+1) * 20 * gib
		hosts[0].VMs[i].Disks[0].Allocated = int64(i+1) * 20 * gib
	}
	first := func(g *game) (names []string) {
		for _, r := range g.jobs {
			names = append(names, r.VM.Name)
		}
		slices.Sort(names)
		return names
	}
	g := newGame(t, hosts...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.turn()
	g.turn()
	if got := first(g); !slices.Equal(got, []string{"vm01", "vm02", "vm03", "vm04"}) {
		t.Errorf("first are %v", got)
	}
	g = newGame(t, farmLike(hosts)...)
	g.ends = func(*jobs.Record) jobs.State { return jobs.RolledBack }
	g.order(DrainRequest{Host: "hv1", By: "rule", Canary: true})
	m := g.untilState("hv1", DrainHeld)
	if got := first(g); !slices.Equal(got, []string{"vm00"}) || !strings.Contains(m.Drain.Text, "the first VM did not arrive, so nobody follows: vm00") {
		t.Errorf("moved %v, %s", got, drainText(m))
	}
}

func farmLike(hosts []jobs.Host) (out []jobs.Host) {
	for _, h := range hosts {
		h.VMs = slices.Clone(h.VMs)
		out = append(out, h)
	}
	return out
}

// 36, 41: a VM is kept out of automation, and VMs of a group are kept apart.
func TestPinsAndGroups(t *testing.T) {
	g := newGame(t, farm(3, 4)...)
	g.policies["uuid-vm00"] = Policy{Pin: &Order{By: "dba", Reason: "licence"}}
	for _, v := range []string{"vm01", "vm02", "vm03"} {
		g.policies["uuid-"+v] = Policy{Apart: "db"}
	}
	g.order(DrainRequest{Host: "hv1", By: "me"})
	m := g.untilState("hv1", DrainHeld)
	if g.where("vm00") != "hv1" || !strings.Contains(m.Drain.Text, "vm00: pinned by dba: licence") {
		t.Errorf("vm00 at %s, %s", g.where("vm00"), drainText(m))
	}
	at := map[string]int{}
	for _, v := range []string{"vm01", "vm02", "vm03"} {
		at[g.where(v)]++
	}
	if at["hv2"] != 1 || at["hv3"] != 1 || !strings.Contains(m.Drain.Text, "apart on 2") {
		t.Errorf("the group is at %v, %s", at, drainText(m))
	}
	// A person's submit moves what is pinned.
	g.submit(g.newID(), jobs.Spec{VM: "vm00"}.WithDefaults())
	for range 10 {
		g.turn()
	}
	if g.where("vm00") == "hv1" {
		t.Error("a person cannot move a pinned VM")
	}
}

// 38, 39: rolling over several hosts, each judged again before it is begun.
func TestRolling(t *testing.T) {
	hosts := farm(4, 4)
	for i := range 3 {
		v := vm(fmt.Sprintf("b%d", i), 2)
		hosts[1].VMs = append(hosts[1].VMs, v)
		hosts[1].FreeMemory -= v.MemoryNeed()
	}
	g := newGame(t, hosts...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.order(DrainRequest{Host: "hv2", By: "me", After: "hv1"})
	g.ends = func(r *jobs.Record) jobs.State {
		if r.Source == "hv2" && g.marks["hv1"].Drain.State != DrainDone {
			t.Errorf("vm %s leaves hv2 while hv1 is %s", r.VM.Name, drainText(g.marks["hv1"]))
		}
		return jobs.Succeeded
	}
	g.untilState("hv1", DrainDone)
	// One of those that left hv1 is not well: hv2 is not begun.
	sick := g.hosts[g.where("vm00")]
	i := slices.IndexFunc(sick.VMs, func(v jobs.VM) bool { return v.Name == "vm00" })
	sick.VMs[i].State = jobs.VMOther
	for range 20 {
		g.turn()
	}
	if m := g.marks["hv2"]; m.Drain.State != DrainWaiting || !strings.Contains(m.Drain.Text, "vm00, which left hv1, to be well") {
		t.Fatalf("%s", drainText(m))
	}
	sick.VMs[i].State = jobs.VMRunning
	g.untilState("hv2", DrainDone)

	g = newGame(t, farm(3, 2)...)
	g.refuses = map[Phase]error{BeforeDrain: errors.New("change freeze")}
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.order(DrainRequest{Host: "hv2", By: "me", After: "hv1"})
	m := g.untilState("hv1", DrainFailed)
	if m.Drain.Text != "its hook refused: change freeze" || m.Bars() != "" || len(g.jobs) != 0 {
		t.Errorf("%s, %d jobs", drainText(m), len(g.jobs))
	}
	if m := g.untilState("hv2", DrainHeld); !strings.Contains(m.Drain.Text, "hv1, which goes first, is failed: its hook refused") {
		t.Errorf("%s", drainText(m))
	}
}

// 40: what users submit starves drains.
func TestDrainsGoFirst(t *testing.T) {
	g := newGame(t, farm(3, 8)...)
	for i := range 4 {
		g.submit(g.newID(), jobs.Spec{VM: fmt.Sprintf("vm%02d", i), To: "hv2"}.WithDefaults())
	}
	g.order(DrainRequest{Host: "hv1", By: "me"})
	var order []string
	g.ends = func(r *jobs.Record) jobs.State { order = append(order, r.Spec.Drain); return jobs.Succeeded }
	g.turn() // two of the user's start before the drain is planned
	g.untilState("hv1", DrainDone)
	for i, d := range order {
		if i >= 2 && i < 6 && d == "" {
			t.Errorf("in the order of ending, %q, move %d is a user's", order, i)
		}
	}
}

// 42: halted VMs are moved too, and those that nobody can take are not begun.
func TestWholeOrNothing(t *testing.T) {
	hosts := farm(2, 6)
	hosts[1].FreeMemory = 9 * gib // room for two of six
	g := newGame(t, hosts...)
	g.order(DrainRequest{Host: "hv1", By: "rule", Whole: true})
	m := g.untilState("hv1", DrainFailed)
	if !strings.Contains(m.Drain.Text, "4 of 6 VMs have no place to go") || m.Bars() != "" || len(g.jobs) != 0 {
		t.Errorf("%s; closed %q; %d jobs", drainText(m), m.Bars(), len(g.jobs))
	}
}

// The only host with space is to be emptied: by a rule it is not begun, by a
// person it holds, says what lacks, and goes on when there is room.
func TestDrainOfTheOnlyHostWithSpace(t *testing.T) {
	small := func() []jobs.Host {
		hosts := farm(3, 2)
		for i := range hosts[1:] {
			hosts[i+1].Pools = []jobs.Pool{{Name: "vg0", Dir: "/dev/vg0", Free: gib}}
		}
		return hosts
	}
	g := newGame(t, small()...)
	g.order(DrainRequest{Host: "hv1", By: "rule", Whole: true})
	if m := g.untilState("hv1", DrainFailed); len(g.jobs) != 0 || m.Bars() != "" || !strings.Contains(m.Drain.Text, "no host of 2 takes it (space on 2)") {
		t.Errorf("by a rule: %d jobs, closed %q, %s", len(g.jobs), m.Bars(), drainText(m))
	}
	g = newGame(t, small()...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	if m := g.untilState("hv1", DrainHeld); len(g.jobs) != 0 || !strings.Contains(m.Drain.Text, "no host of 2 takes it (space on 2)") {
		t.Errorf("by a person: %d jobs, %s", len(g.jobs), drainText(m))
	}
	g.hosts["hv2"].Pools[0].Free = 100 * gib
	g.untilState("hv1", DrainDone)
}

// All hosts at once: nobody goes anywhere, and it is said why.
func TestDrainOfEveryHost(t *testing.T) {
	g := newGame(t, farm(3, 4)...)
	for _, h := range []string{"hv1", "hv2", "hv3"} {
		g.order(DrainRequest{Host: h, By: "rule"})
	}
	m := g.untilState("hv1", DrainHeld)
	if len(g.jobs) != 0 || !strings.Contains(m.Drain.Text, "no host of 2 takes it (closed on 2)") {
		t.Errorf("%d jobs, %s", len(g.jobs), drainText(m))
	}
}

// A VM that is deleted while its job waits, and a host installed anew.
func TestVMsThatVanish(t *testing.T) {
	g := newGame(t, farm(2, 5)...)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	g.turn()
	g.hosts["hv1"].VMs = slices.DeleteFunc(slices.Clone(g.hosts["hv1"].VMs), func(v jobs.VM) bool { return v.Name == "vm04" })
	for _, r := range g.jobs {
		if r.VM.Name == "vm04" && !r.State.Final() {
			r.State, r.Failure = jobs.FailedState, &jobs.Failure{Code: jobs.CodeNotFound, Text: "vm vm04 is not here"}
		}
	}
	m := g.untilState("hv1", DrainDone)
	if m.Drain.count(MoveDone) != 4 || m.Drain.count(MoveGone) != 1 {
		t.Errorf("%s: %+v", drainText(m), m.Drain.Moves)
	}
}

// The same for a job that a person submitted: it waits for a VM that may only be
// rebooting, and ends when that is gone for good.
func TestVMDeletedWhileQueued(t *testing.T) {
	for name, tt := range map[string]struct {
		problem string // of the host's inventory
		back    bool   // it is seen again in time
		moved   bool   // somebody moved it by hand
		want    jobs.State
		text    string
	}{
		"deleted":          {"", false, false, jobs.FailedState, "vm vm01 is not seen on hv1 since 2026-11-26 08:00:00 UTC"},
		"moved by hand":    {"", false, true, jobs.FailedState, "; it is on hv2"},
		"rebooted":         {"", true, false, jobs.Succeeded, ""},
		"xl does not tell": {"xl list: exit code 1", false, false, jobs.Queued, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGame(t, farm(2, 2)...)
			hv1, hv2 := g.hosts["hv1"], g.hosts["hv2"]
			r := g.submit(g.newID(), jobs.Spec{VM: "vm01"}.WithDefaults())
			it := hv1.VMs[1]
			hv1.VMs, hv1.Problem = hv1.VMs[:1:1], tt.problem
			if tt.moved {
				hv2.VMs = append(hv2.VMs, it)
			}
			for g.turn(); g.now.Sub(r.Held.Since) < goneAfter; g.turn() {
				if r.State != jobs.Queued || r.Held.Reason != "vm vm01 is not seen on hv1" {
					t.Fatalf("after %s it is %s: %+v", g.now.Sub(r.Held.Since), r.State, r.Held)
				}
			}
			if tt.back {
				hv1.VMs = append(hv1.VMs, it)
			}
			for range 10 {
				g.turn()
			}
			if r.State != tt.want || tt.text != "" && (r.Failure == nil || !strings.Contains(r.Failure.Text, tt.text)) {
				t.Errorf("it is %s: %+v, want %s: %q", r.State, r.Failure, tt.want, tt.text)
			}
		})
	}
}

// A host that comes and goes: nothing is done twice, others are not held up, and
// its drain ends when it stays.
func TestAHostThatFlaps(t *testing.T) {
	g := newGame(t, farm(4, 6)...)
	g.ends = func(r *jobs.Record) jobs.State {
		if g.moved[r.VM.UUID] > 0 {
			t.Errorf("vm %s moves twice", r.VM.Name)
		}
		return jobs.Succeeded
	}
	other := vm("other", 4)
	g.hosts["hv4"].VMs = append(g.hosts["hv4"].VMs, other)
	g.order(DrainRequest{Host: "hv1", By: "me"})
	mine := g.submit(g.newID(), jobs.Spec{VM: "other", To: "hv3"}.WithDefaults())
	for i := range 60 { // one that empties, one that is filled
		g.lost["hv1"], g.lost["hv2"] = i%2 == 0, i%3 != 0
		g.turn()
	}
	if mine.State != jobs.Succeeded {
		t.Errorf("a move of hosts that are well is %s: %+v", mine.State, mine.Held)
	}
	clear(g.lost)
	m := g.untilState("hv1", DrainDone)
	if len(g.hosts["hv1"].VMs) != 0 || m.Drain.count(MoveDone) != 6 {
		t.Errorf("%s, %d VMs are left", drainText(m), len(g.hosts["hv1"].VMs))
	}
}

// A clock that is put forward ends no drain and starts nothing too much; one
// that is put back does not keep it from going on.
func TestClockJumpsInADrain(t *testing.T) {
	for _, jump := range []time.Duration{-48 * time.Hour, -time.Minute, time.Minute, 48 * time.Hour} {
		g := newGame(t, farm(3, 8)...)
		g.order(DrainRequest{Host: "hv1", By: "me"})
		g.turn()
		g.turn()
		g.now = g.now.Add(jump)
		for range 100 {
			g.turn()
		}
		m := g.marks["hv1"]
		if jump > DefaultDeadline { // the deadline is over: it is held, and goes on when asked for again
			if m.Drain.State != DrainHeld || !strings.Contains(m.Drain.Text, "deadline") {
				t.Errorf("put by %s: %s", jump, drainText(m))
			}
			g.order(DrainRequest{Host: "hv1", By: "me"})
		}
		m = g.untilState("hv1", DrainDone)
		if len(g.hosts["hv1"].VMs) != 0 || len(g.moved) != 8 {
			t.Errorf("put by %s: %s, %d have moved", jump, drainText(m), len(g.moved))
		}
	}
}
