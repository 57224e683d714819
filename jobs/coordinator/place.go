package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xmig/jobs"
)

// candidates fills in the hosts that a job may go to now. A host that was
// named is the only one, and it is left to the check on both hosts whether it
// can take the VM: its answer is the exact one.
func (t *count) candidates(a *Action, l Limits) {
	to := a.Job.Spec.To
	switch {
	case to == "":
		t.place(a, l)
	case t.hosts[to] == nil:
		a.Wait = fmt.Sprintf("host %s is not there", to)
	case t.in[to] >= l.In:
		a.Wait = t.full(to, l)
	default:
		a.Candidates = []string{to}
	}
}

func (t *count) full(node string, l Limits) string {
	return fmt.Sprintf("%d of %d moves onto %s are under way", t.in[node], l.In, node)
}

// place sorts the hosts that can take the VM by the memory that is free there,
// and says why the others cannot.
func (t *count) place(a *Action, l Limits) {
	source := t.hosts[a.Job.Source]
	vm, ok := source.Find(a.Job.VM.UUID)
	if !ok {
		a.Wait = fmt.Sprintf("vm %s is not seen on %s", a.Job.VM.Name, source.Node)
		return
	}
	free := map[string]int64{}
	for _, name := range t.names() {
		free[name] = t.hosts[name].FreeMemory - t.coming[name]
		switch b := Refusal(vm, *source, *t.hosts[name], free[name], a.Job.Spec); {
		case name == source.Node:
		case b != nil:
			a.Against = append(a.Against, *b)
		case t.in[name] >= l.In:
			a.Wait = t.full(name, l)
		default:
			a.Candidates = append(a.Candidates, name)
		}
	}
	slices.SortStableFunc(a.Candidates, func(x, y string) int { return cmp.Compare(free[y], free[x]) })
	if len(t.hosts) == 1 {
		a.Wait = "there is no host beside " + source.Node
	}
}

func (t *count) names() []string {
	names := make([]string, 0, len(t.hosts))
	for n := range t.hosts {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Refusal says why host to cannot take the VM, as far as its presence tells;
// nil if nothing is known against it. free is its memory in bytes, less what
// is on its way there.
func Refusal(vm jobs.VM, from, to jobs.Host, free int64, spec jobs.Spec) *jobs.Blocker {
	no := func(code, next, format string, args ...any) *jobs.Blocker {
		return &jobs.Blocker{Host: to.Node, Code: code, Text: fmt.Sprintf(format, args...), Next: next}
	}
	if to.Problem != "" {
		return no("inventory", "mend that host: `xmig check "+to.Node+"`", "%s", to.Problem)
	}
	for _, other := range to.VMs {
		switch {
		case other.UUID == vm.UUID:
			return no("uuid_taken", "look at both hosts: it must run on one only", "it has a VM with the UUID %s", vm.UUID)
		case other.Name == vm.Name:
			return no("name_taken", "rename one of them", "it has another VM called %s", vm.Name)
		}
	}
	for _, b := range vm.Bridges {
		if want := spec.Map.Bridge(b); want != "" && !slices.Contains(to.Bridges, want) {
			return no("bridge", "make it, or map another: --map bridge="+b+":NAME", "there is no bridge %s", want)
		}
	}
	if vm.State == jobs.VMHalted {
		return nil
	}
	if need := vm.MemoryNeed(); free < need {
		return no("memory", "free memory there", "%d MiB of memory are free, vm %s needs %d MiB", max(0, free)>>20, vm.Name, need>>20)
	}
	if older(to.Xen, from.Xen) {
		return no("xen_version", "upgrade it, or submit with --mode cold", "its Xen %s is older than %s", to.Xen, from.Xen)
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
