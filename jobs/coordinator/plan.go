package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// Plan is who would go where if a host were emptied now, or if its VMs came
// home. It is a proof: taken together, all that have a To fit.
type Plan struct {
	Host  string        `json:"host"`
	Kind  DrainKind     `json:"kind"`
	Moves []PlannedMove `json:"moves"`
}

// PlannedMove is one VM of a plan. To is empty where no host takes it.
type PlannedMove struct {
	VM        jobs.VMRef     `json:"vm"`
	From      string         `json:"from"`
	To        string         `json:"to,omitempty"`
	Text      string         `json:"text,omitempty"` // why it cannot move
	Against   []jobs.Blocker `json:"against,omitempty"`
	Bytes     int64          `json:"bytes_to_move"`
	Seeded    int64          `json:"bytes_there"` // of an older copy
	Took      time.Duration  `json:"predicted_ns"`
	Predicted time.Duration  `json:"predicted_blackout_ns"`
}

// Fits reports whether every VM of the plan has a place to go.
func (p Plan) Fits() bool {
	return !slices.ContainsFunc(p.Moves, func(m PlannedMove) bool { return m.To == "" })
}

// Bytes sums what would travel.
func (p Plan) Bytes() (n int64) {
	for _, m := range p.Moves {
		if m.To != "" {
			n += m.Bytes
		}
	}
	return n
}

// PlanFor plans a drain or a restore of a host as things are.
func PlanFor(s Snapshot, l Limits, host string, kind DrainKind, how jobs.Spec) (Plan, error) {
	f := newFleet(s, l)
	r := f.rooms[host]
	if r == nil {
		return Plan{}, jobs.Failed(jobs.CodeNotFound, "host %s is not there; `xmig host ls` lists those that are", host)
	}
	how = how.WithDefaults()
	p := Plan{Host: host, Kind: kind}
	if kind == Homing {
		for _, a := range s.Marks[host].Away {
			p.Moves = append(p.Moves, f.planHome(a.VM, r, how))
		}
		return p, nil
	}
	f.bar(r, host+" is to be emptied")
	var wants []want
	for i := range r.host.VMs {
		wants = append(wants, want{vm: &r.host.VMs[i]})
	}
	p.Moves = f.planAway(wants, r, how)
	return p, nil
}

// bar takes a host off those that VMs may be placed on.
func (f *fleet) bar(r *room, why string) {
	if r.bars == "" {
		if i := f.find(r); i >= 0 {
			f.order = slices.Delete(f.order, i, i+1)
		}
		r.bars = why
	}
}

// want is a VM that shall leave, and the hosts that it failed for.
type want struct {
	vm  *jobs.VM
	not []string
}

// planAway finds a place for each VM of a host, the largest first: what is left
// over of room is good for small ones. The answer has the order in which they
// should go: those that take longest first, or the whole takes longer.
func (f *fleet) planAway(vms []want, from *room, how jobs.Spec) []PlannedMove {
	slices.SortFunc(vms, func(a, b want) int {
		return cmp.Or(cmp.Compare(need(b.vm), need(a.vm)), cmp.Compare(a.vm.UUID, b.vm.UUID))
	})
	out := make([]PlannedMove, 0, len(vms))
	for _, w := range vms {
		m := PlannedMove{VM: w.vm.VMRef, From: from.host.Node}
		if m.Text = f.stays(w.vm); m.Text == "" {
			f.planOne(&m, w, from, how)
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b PlannedMove) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out
}

func need(vm *jobs.VM) int64 {
	if vm.State == jobs.VMHalted {
		return 0
	}
	return vm.MemoryNeed()
}

// stays says why a VM is not moved by any drain; "" if it may be.
func (f *fleet) stays(vm *jobs.VM) string {
	switch p := f.Policies[vm.UUID]; {
	case p.Pin != nil:
		return because("pinned by "+p.Pin.By, p.Pin.Reason) + "; `xmig vm unpin " + vm.Name + "`, or submit it"
	case vm.Problem != "":
		return "it cannot be managed: " + vm.Problem
	}
	return ""
}

// planOne finds the best host for one VM and takes the room there.
func (f *fleet) planOne(m *PlannedMove, w want, from *room, how jobs.Spec) {
	var best *room
	for _, others := range [][]*room{f.shadows[w.vm.UUID], f.order} {
		for _, r := range others {
			if r == from || r.bars != "" || slices.Contains(w.not, r.host.Node) || f.refusal(w.vm, from, r, how) != nil {
				continue
			}
			best = r
			break
		}
		if best != nil {
			break
		}
	}
	if best == nil && len(w.not) > 0 { // then one that it failed for, once more
		w.not = nil
		f.planOne(m, w, from, how)
		return
	}
	if best == nil {
		m.Against, m.Text = f.nowhere(w.vm, from, how)
		return
	}
	f.assign(m, best, w.vm, from, how)
}

func (f *fleet) assign(m *PlannedMove, to *room, vm *jobs.VM, from *room, how jobs.Spec) {
	at := f.find(to)
	f.fill(to, vm, from.host, how)
	if at >= 0 {
		f.sink(at)
	}
	m.To, m.Bytes, m.Seeded = to.host.Node, bytesToMove(*vm, *to.host), shadowOf(*to.host, vm.UUID)
	mode := jobs.Suspend
	if vm.State == jobs.VMHalted {
		mode = jobs.Cold
	}
	var disks []jobs.DiskMove
	for _, d := range vm.Disks {
		disks = append(disks, jobs.DiskMove{Size: d.Size, ReadOnly: d.ReadOnly})
	}
	if m.Took = jobs.Predict(jobs.Cold, 0, disks, 0, 0) + time.Duration(float64(m.Bytes)/float64(jobs.AssumedLink)*float64(time.Second)); mode == jobs.Suspend {
		m.Predicted = jobs.Predict(mode, vm.Memory, disks, 0, 0)
	}
}

// nowhere says why no host takes a VM: of each host, and in one line.
func (f *fleet) nowhere(vm *jobs.VM, from *room, how jobs.Spec) (all []jobs.Blocker, line string) {
	codes := map[string]int{}
	for i := range f.Hosts {
		r := f.rooms[f.Hosts[i].Node]
		if r == from {
			continue
		}
		no := f.refusal(vm, from, r, how)
		if no == nil {
			no = &jobs.Blocker{Host: r.host.Node, Code: "closed", Text: r.bars, Next: "`xmig host uncordon " + r.host.Node + "`"}
		}
		codes[no.Code]++
		all = append(all, *no)
	}
	if len(all) == 0 {
		return nil, "there is no host beside " + from.host.Node
	}
	var words []string
	for c, n := range codes {
		words = append(words, fmt.Sprintf("%s on %d", c, n))
	}
	slices.Sort(words)
	line = fmt.Sprintf("no host of %d takes it (%s); %s", len(all), strings.Join(words, ", "), all[0])
	return all, line
}

// planHome sees whether a VM can come home, and takes the room there.
func (f *fleet) planHome(ref jobs.VMRef, home *room, how jobs.Spec) PlannedMove {
	m := PlannedMove{VM: ref}
	at := f.uuids[ref.UUID]
	switch {
	case at == nil:
		m.Text = "no host that is there has it"
		return m
	case len(at.rooms) > 1:
		m.Text = "several hosts have it; look at it with `xmig vm show " + ref.Name + "`"
		return m
	}
	m.From = at.rooms[0].host.Node
	if m.From == home.host.Node {
		m.To = m.From
		return m
	}
	if m.Text = f.stays(at.vm); m.Text != "" {
		return m
	}
	if home.bars != "" {
		m.Text = home.bars
		return m
	}
	if no := f.refusal(at.vm, at.rooms[0], home, how); no != nil {
		m.Against, m.Text = []jobs.Blocker{*no}, no.String()
		return m
	}
	f.assign(&m, home, at.vm, at.rooms[0], how)
	return m
}
