package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"xmig/jobs"
)

// enough candidates: if none of them takes the VM when asked, the next round
// looks further.
const enough = 3

// Option is a host as a place for one VM.
type Option struct {
	Host    string        `json:"host"`
	Against *jobs.Blocker `json:"against,omitempty"` // why it cannot take the VM
	Wait    string        `json:"wait,omitempty"`    // why not right now
	Bytes   int64         `json:"bytes_to_move"`     // disks less what an older copy there has, and memory
	Free    int64         `json:"free_after_bytes"`  // memory that would be left
	In      int           `json:"moves_in"`          // that go there already
}

// Options tells of every host whether it can take the VM, the best first and
// those that cannot last: what `xmig submit --dry-run` prints.
func Options(s Snapshot, l Limits, uuid, source string, spec jobs.Spec) []Option {
	f := newFleet(s, l)
	at, from := f.uuids[uuid], f.rooms[source]
	if at == nil || from == nil {
		return nil
	}
	shadow := map[*room]int{}
	for _, r := range f.shadows[uuid] {
		shadow[r] = 1
	}
	rooms := make([]*room, 0, len(f.rooms))
	for _, r := range f.rooms {
		if r != from {
			rooms = append(rooms, r)
		}
	}
	slices.SortFunc(rooms, func(a, b *room) int { return cmp.Or(cmp.Compare(shadow[b], shadow[a]), roomier(a, b)) })
	out := make([]Option, 0, len(rooms))
	for _, r := range rooms {
		o := Option{Host: r.host.Node, Against: f.refusal(at.vm, from, r, spec), Bytes: bytesToMove(*at.vm, *r.host), Free: r.free, In: r.in}
		if at.vm.State != jobs.VMHalted {
			o.Free -= at.vm.MemoryNeed()
		}
		if o.Against == nil {
			o.Wait = f.shut(r)
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b Option) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

func rank(o Option) int {
	switch {
	case o.Against != nil:
		return 2
	case o.Wait != "":
		return 1
	}
	return 0
}

func bytesToMove(vm jobs.VM, to jobs.Host) (n int64) {
	for _, d := range vm.Disks {
		if d.Allocated > 0 && d.Allocated < d.Size {
			n += d.Allocated
		} else {
			n += d.Size
		}
	}
	n = max(0, n-shadowOf(to, vm.UUID))
	if vm.State != jobs.VMHalted {
		n += vm.Memory
	}
	return n
}

// candidates fills in the hosts that a job may go to now. A host that was
// named is the only one, and it is left to the check on both hosts whether it
// can take the VM: its answer is the exact one.
func (f *fleet) candidates(a *Action) {
	to := a.Job.Spec.To
	r := f.rooms[to]
	switch {
	case to == "":
		f.place(a)
	case r == nil:
		a.Wait = fmt.Sprintf("host %s is not there", to)
	case f.shut(r) != "":
		a.Wait = f.shut(r)
	case f.overfull(&a.Job, r):
		a.Wait = "others took the room on " + to
	default:
		a.Candidates = []string{to}
	}
}

// place finds hosts that can take the VM, best first: those with an older copy
// of its disks, then the roomiest. If there is none it says why of each.
func (f *fleet) place(a *Action) {
	source := f.rooms[a.Job.Source]
	at := f.uuids[a.Job.VM.UUID]
	if at == nil || !slices.Contains(at.rooms, source) {
		f.unseen(a, source)
		return
	}
	if len(f.rooms) == 1 {
		a.Wait = "there is no host beside " + source.host.Node
		return
	}
	try := func(r *room) {
		if r == source || f.shut(r) != "" || slices.Contains(a.Candidates, r.host.Node) || f.said(a.Job.ID, r) != nil {
			return
		}
		if f.refusal(at.vm, source, r, a.Job.Spec) == nil {
			a.Candidates = append(a.Candidates, r.host.Node)
		}
	}
	for _, r := range f.shadows[a.Job.VM.UUID] {
		try(r)
	}
	for i := 0; i < len(f.order) && len(a.Candidates) < enough; i++ {
		try(f.order[i])
	}
	if len(a.Candidates) == 0 {
		f.explain(a, at.vm, source)
	}
}

// goneAfter is how long a VM must not be seen where it is to be moved from until
// its job ends: many times what a guest needs to reboot, or a hand-over until
// both hosts have told of it.
const goneAfter = 5 * time.Minute

// unseen has the job of a VM that is not on its host wait, and end when that
// does not pass: it was deleted, or somebody moved it.
func (f *fleet) unseen(a *Action, source *room) {
	wait := fmt.Sprintf("vm %s is not seen on %s", a.Job.VM.Name, source.host.Node)
	held := a.Job.Held
	if held == nil || held.Reason != wait || f.Now.Sub(held.Since) < goneAfter || source.host.Problem != "" {
		a.Wait = wait
		return
	}
	text := wait + " since " + held.Since.Format("2006-01-02 15:04:05 MST")
	if at := f.uuids[a.Job.VM.UUID]; at != nil {
		text += "; it is on " + at.rooms[0].host.Node
	}
	a.Against = []jobs.Blocker{{Host: source.host.Node, Code: "vm_gone", Text: text, Next: "look for it with `xmig vm ls`, and submit it again"}}
}

// explain says of each host why it does not take the VM: now, or at all.
func (f *fleet) explain(a *Action, vm *jobs.VM, source *room) {
	for _, h := range f.Hosts {
		r := f.rooms[h.Node]
		if r == source {
			continue
		}
		if no := f.said(a.Job.ID, r); no != nil {
			a.Against = append(a.Against, no...)
			continue
		}
		switch no := f.refusal(vm, source, r, a.Job.Spec); {
		case no != nil:
			a.Against = append(a.Against, *no)
		case f.shut(r) != "":
			a.Wait = f.shut(r)
		}
	}
}

// said is what a host answered when it was asked for this job.
func (f *fleet) said(job string, r *room) []jobs.Blocker { return f.Refused[job][r.host.Node] }

// refusal says why a host cannot take the VM, as far as is known here; nil if
// nothing is known against it.
func (f *fleet) refusal(vm *jobs.VM, from, to *room, spec jobs.Spec) *jobs.Blocker {
	no := func(code, next, format string, args ...any) *jobs.Blocker {
		return &jobs.Blocker{Host: to.host.Node, Code: code, Text: fmt.Sprintf(format, args...), Next: next}
	}
	h := to.host
	if h.Problem != "" {
		return no("inventory", "mend that host: `xmig check "+h.Node+"`", "%s", h.Problem)
	}
	if at := f.uuids[vm.UUID]; at != nil && slices.Contains(at.rooms, to) {
		return no("uuid_taken", "look at both hosts: it must run on one only", "it has a VM with the UUID %s", vm.UUID)
	}
	if slices.Contains(f.names[vm.Name], to) {
		return no("name_taken", "rename one of them", "it has another VM called %s", vm.Name)
	}
	if g := f.Policies[vm.UUID].Apart; g != "" && to.apart[g] != "" && to.apart[g] != vm.Name {
		return no("apart", "name another host", "vm %s of the group %s is there, and %s must not share a host with it", to.apart[g], g, vm.Name)
	}
	for _, b := range vm.Bridges {
		if want := spec.Map.Bridge(b); want != "" && !slices.Contains(h.Bridges, want) {
			return no("bridge", "make it, or map another: --map bridge="+b+":NAME", "there is no bridge %s", want)
		}
	}
	for pool, need := range spaceNeeds(*vm, *from.host, *h, spec) {
		for _, p := range h.Pools {
			if free := p.Free - to.space[pool]; p.Name == pool && free < need {
				return no("space", "free space there", "pool %s has %d MiB free, vm %s needs %d MiB", pool, max(0, free)>>20, vm.Name, need>>20)
			}
		}
	}
	if vm.State == jobs.VMHalted {
		return nil
	}
	if need := vm.MemoryNeed(); to.free < need {
		return no("memory", "free memory there", "%d MiB of memory are free, vm %s needs %d MiB", max(0, to.free)>>20, vm.Name, need>>20)
	}
	if spec.Mode == jobs.Cold {
		return nil
	}
	if older(h.Xen, from.host.Xen) {
		return no("xen_version", "upgrade it, or submit with --mode cold", "its Xen %s is older than %s", h.Xen, from.host.Xen)
	}
	if lacks := jobs.MissingFeatures(from.host.HWCaps, h.HWCaps); lacks != "" {
		return no("cpu", "submit with --mode cold", "its CPU lacks features that the guest was booted with (hw_caps: %s)", lacks)
	}
	return nil
}

// older compares Xen versions by major and minor; one that cannot be read is
// left to the hosts' own check.
func older(a, b string) bool {
	x, okA := version(a)
	y, okB := version(b)
	return okA && okB && slices.Compare(x[:], y[:]) < 0
}

func version(s string) (v [2]int, ok bool) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) < 2 {
		return v, false
	}
	for i := range v {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}
