package coordinator

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// Snapshot is all that a decision is made of.
type Snapshot struct {
	Now      time.Time
	Hosts    []jobs.Host   // those that are alive
	Records  []jobs.Record // those that are not final
	Marks    map[string]Mark
	Policies map[string]Policy                    // by UUID
	Wishes   map[string]jobs.Wish                 // by job
	Asking   map[string]string                    // job → host that is asked just now, which has a place kept
	Refused  map[string]map[string][]jobs.Blocker // job → hosts that said no when they were asked
}

// Limits bound what runs at once.
type Limits struct {
	Out     int     // migrations away from a host at a time
	In      int     // migrations onto a host at a time
	Cluster int     // migrations in all; 0: as many as there are hosts
	Hours   []Hours // other limits at some times

	by string // the hours that these limits come from, as a reason says it
}

// DefaultLimits keep a gigabit link and an ordinary disk busy; more moves at
// once only make each of them longer. How many guests of a host may stand
// still at once is another limit, which its worker keeps.
func DefaultLimits() Limits { return Limits{Out: 2, In: 2} }

// room is a host as a place for VMs, with what is on its way there taken off.
type room struct {
	host    *jobs.Host
	bars    string // why nothing may be placed here
	free    int64  // bytes of memory
	space   map[string]int64
	out, in int
	apart   map[string]string // group → VM of it that is here or comes here
}

// fleet is a snapshot with its indexes, and with what is decided on the way.
type fleet struct {
	Snapshot
	limits  Limits
	rooms   map[string]*room
	order   []*room             // those nothing bars, the roomiest first
	names   map[string][]*room  // hosts that have a VM of that name
	uuids   map[string]*seenAt  // where a VM is
	shadows map[string][]*room  // VM → hosts that keep an older copy
	moving  map[string]struct{} // VMs with a job under way
	kept    map[string]struct{} // jobs that wait, and whose room a drain keeps
	homes   map[string]string   // VM → host that remembers it as its own; made when asked for
	ids     map[string]int      // job → its place in Records; made when asked for
	running int
}

// seenAt is where a VM is seen.
type seenAt struct {
	vm    *jobs.VM
	rooms []*room // more than one for the moment of a hand-over, or when something is wrong
}

func newFleet(s Snapshot, l Limits) *fleet {
	f := &fleet{Snapshot: s, limits: l.At(s.Now), rooms: make(map[string]*room, len(s.Hosts)), shadows: map[string][]*room{}, moving: map[string]struct{}{}, kept: map[string]struct{}{}}
	if f.limits.Cluster == 0 {
		f.limits.Cluster = max(len(s.Hosts), f.limits.Out)
	}
	total := 0
	for i := range s.Hosts {
		total += len(s.Hosts[i].VMs)
	}
	f.names, f.uuids = make(map[string][]*room, total), make(map[string]*seenAt, total)
	seen := make([]seenAt, 0, total)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		r := &room{host: h, free: h.FreeMemory}
		if m, ok := s.Marks[h.Node]; ok {
			r.bars = m.Bars()
		}
		f.rooms[h.Node] = r
		for j := range h.VMs {
			vm := &h.VMs[j]
			f.names[vm.Name] = append(f.names[vm.Name], r)
			if at := f.uuids[vm.UUID]; at != nil {
				at.rooms = append(at.rooms, r)
			} else {
				seen = append(seen, seenAt{vm: vm, rooms: []*room{r}})
				f.uuids[vm.UUID] = &seen[len(seen)-1]
			}
			if g := s.Policies[vm.UUID].Apart; g != "" {
				r.take(g, vm.Name)
			}
		}
		for _, sh := range h.Shadows {
			f.shadows[sh.VM] = append(f.shadows[sh.VM], r)
		}
	}
	f.underWay()
	for _, r := range f.rooms {
		if r.bars == "" {
			f.order = append(f.order, r)
		}
	}
	slices.SortFunc(f.order, roomier)
	return f
}

// record is a job that is under way.
func (f *fleet) record(id string) (jobs.Record, bool) {
	if f.ids == nil {
		f.ids = make(map[string]int, len(f.Records))
		for i, r := range f.Records {
			f.ids[r.ID] = i
		}
	}
	i, ok := f.ids[id]
	if !ok {
		return jobs.Record{}, false
	}
	return f.Records[i], true
}

// underWay counts what moves already, and what is being asked.
func (f *fleet) underWay() {
	for i := range f.Records {
		r := &f.Records[i]
		f.moving[r.VM.UUID] = struct{}{}
		to := r.Destination
		if r.State == jobs.Queued {
			if to = f.Asking[r.ID]; to == "" {
				f.promised(r)
				continue
			}
		} else if r.State != jobs.Planned && r.State != jobs.Running {
			continue
		}
		f.count(r, to, !holdsMemory(*r))
	}
}

// promised keeps the room that a drain found for a job that has not started.
func (f *fleet) promised(r *jobs.Record) {
	d, from, at := f.rooms[r.Spec.To], f.rooms[r.Source], f.uuids[r.VM.UUID]
	if r.Spec.Drain != "" && d != nil && from != nil && at != nil {
		f.fill(d, at.vm, from.host, r.Spec)
		f.kept[r.ID] = struct{}{}
	}
}

// overfull: more was promised to others than the host has, since something
// came in between. Who was promised room must look for another place.
func (f *fleet) overfull(r *jobs.Record, d *room) bool {
	if _, kept := f.kept[r.ID]; !kept {
		return false
	}
	if d.free < 0 {
		return true
	}
	for _, p := range d.host.Pools {
		if d.space[p.Name] > p.Free {
			return true
		}
	}
	return false
}

// holdsMemory: from the end of its reserve step on, the destination itself
// counts the VM's memory and volumes as taken.
func holdsMemory(r jobs.Record) bool { return r.Has(jobs.Reserve) || r.HandedOver }

// count takes a job's place at both hosts; coming: what it needs is not taken
// off what the destination says is free.
func (f *fleet) count(r *jobs.Record, to string, coming bool) {
	f.running++
	if from := f.rooms[r.Source]; from != nil {
		from.out++
	}
	d := f.rooms[to]
	if d == nil {
		return
	}
	d.in++
	if g := f.Policies[r.VM.UUID].Apart; g != "" {
		d.take(g, r.VM.Name)
	}
	if !coming {
		return
	}
	if at := f.uuids[r.VM.UUID]; at != nil && f.rooms[r.Source] != nil {
		f.fill(d, at.vm, f.rooms[r.Source].host, r.Spec)
	}
}

// fill takes what a VM needs off what is free.
func (f *fleet) fill(d *room, vm *jobs.VM, from *jobs.Host, spec jobs.Spec) {
	if vm.State != jobs.VMHalted {
		d.free -= vm.MemoryNeed()
	}
	for pool, need := range spaceNeeds(*vm, *from, *d.host, spec) {
		if d.space == nil {
			d.space = map[string]int64{}
		}
		d.space[pool] += need
	}
	if g := f.Policies[vm.UUID].Apart; g != "" {
		d.take(g, vm.Name)
	}
}

func (r *room) take(group, vm string) {
	if r.apart == nil {
		r.apart = map[string]string{}
	}
	r.apart[group] = vm
}

// start counts a job that will be started, so that the next one sees it.
func (f *fleet) start(r *jobs.Record, to string) {
	d := f.rooms[to]
	at := -1
	if d != nil && d.bars == "" {
		at = f.find(d)
	}
	_, kept := f.kept[r.ID]
	f.count(r, to, !kept)
	if at >= 0 {
		f.sink(at)
	}
}

// roomier orders hosts by what a VM may expect there: free memory, shared with
// the moves that go there already. It depends on no VM, so the order is made once.
func roomier(a, b *room) int {
	return cmp.Or(cmp.Compare(b.worth(), a.worth()), cmp.Compare(a.host.Node, b.host.Node))
}

func (r *room) worth() int64 { return max(r.free, 0) / int64(1+r.in) }

func (f *fleet) find(r *room) int {
	i, ok := slices.BinarySearchFunc(f.order, r, roomier)
	if !ok {
		return -1
	}
	return i
}

// sink moves the host at i, which is worth less now, to its place.
func (f *fleet) sink(i int) {
	r := f.order[i]
	j, _ := slices.BinarySearchFunc(f.order[i+1:], r, roomier)
	copy(f.order[i:], f.order[i+1:i+1+j])
	f.order[i+j] = r
}

// shut says why a host takes no more moves now; "" if it does.
func (f *fleet) shut(r *room) string {
	if r.bars != "" || r.in < f.limits.In {
		return r.bars
	}
	return fmt.Sprintf("%d of %d moves onto %s are under way%s", r.in, f.limits.In, r.host.Node, f.limits.by)
}

// poolOf finds the pool of a host that a path lies in: the one with the
// longest directory above it.
func poolOf(h *jobs.Host, path string) (best jobs.Pool, ok bool) {
	for _, p := range h.Pools {
		dir := strings.TrimSuffix(p.Dir, "/") + "/"
		if p.Dir != "" && strings.HasPrefix(filepath.Clean(path), dir) && len(p.Dir) > len(best.Dir) {
			best, ok = p, true
		}
	}
	return best, ok
}

// Mapping is what a move maps beside what was asked for: a disk in a pool goes
// to the pool of the same role at the destination.
func Mapping(vm jobs.VM, from, to jobs.Host, asked jobs.Mapping) jobs.Mapping {
	out := jobs.Mapping{}
	for _, d := range vm.Disks {
		if asked.Disk(d.Path) != d.Path {
			continue // a person said where
		}
		src, ok := poolOf(&from, d.Path)
		if !ok || src.Role == "" {
			continue
		}
		for _, p := range to.Pools {
			if p.Role == src.Role && p.Dir != "" && p.Dir != src.Dir {
				if out.Disks == nil {
					out.Disks = map[string]string{}
				}
				out.Disks[src.Dir] = p.Dir
				break
			}
		}
	}
	return out
}

// spaceNeeds sums the bytes that a VM's disks need in each pool of the
// destination. Where an older copy lies there already it is counted as room.
func spaceNeeds(vm jobs.VM, from, to jobs.Host, spec jobs.Spec) map[string]int64 {
	if len(to.Pools) == 0 {
		return nil
	}
	m := Mapping(vm, from, to, spec.Map)
	there := shadowOf(to, vm.UUID)
	var out map[string]int64
	for _, d := range vm.Disks {
		path := spec.Map.Disk(d.Path)
		if path == d.Path {
			path = m.Disk(d.Path)
		}
		p, ok := poolOf(&to, path)
		if !ok {
			continue
		}
		need := d.Size - min(there, d.Size)
		there -= min(there, d.Size)
		if out == nil {
			out = map[string]int64{}
		}
		out[p.Name] += need
	}
	return out
}

// shadowOf is how many bytes of a VM's disks an older copy at the host has.
func shadowOf(h jobs.Host, uuid string) (n int64) {
	for _, s := range h.Shadows {
		if s.VM == uuid {
			n += s.Size
		}
	}
	return n
}
