package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
)

// ShortID is enough of a job's id to name it: its time and some chance.
func ShortID(id string) string {
	if len(id) < 14 {
		return id
	}
	return id[:14]
}

// Jobs lists jobs, one line each.
func Jobs(all []jobs.Record, now time.Time) string {
	t := newTable("job", "vm", "from", "to", "state", "step", "blackout", "age")
	for _, r := range all {
		blackout := "-"
		if r.Report.Blackout > 0 {
			blackout = Span(r.Report.Blackout)
		}
		t.row(r.ID, subject(r), dash(r.Source), dash(r.Destination), state(r), dash(string(r.Step)), blackout, Ago(r.Created, now))
	}
	return t.String()
}

// state with its flags: a job that waits looks like one that hangs otherwise.
func state(r jobs.Record) string {
	s := string(r.State)
	if r.State.Final() {
		return s
	}
	for _, f := range []struct {
		name string
		flag *jobs.Flag
	}{{"held", r.Held}, {"paused", r.Paused}, {"degraded", r.Degraded}, {"cancelling", r.Cancel}} {
		if f.flag != nil {
			s += "," + f.name
		}
	}
	return s
}

// Hosts lists hosts, one line each.
func Hosts(all []jobs.Host, marks map[string]coordinator.Mark, now time.Time) string {
	t := newTable("host", "state", "vms", "memory", "free", "xen", "xl", "seen", "problem")
	there := map[string]bool{}
	for _, h := range all {
		there[h.Node] = true
		t.row(h.Node, HostState(&h, marks[h.Node]), len(h.VMs), Bytes(h.Memory), Bytes(h.FreeMemory), dash(h.Xen), toolstack(h), Ago(h.Seen, now), dash(h.Problem))
	}
	for _, node := range slices.Sorted(maps.Keys(marks)) {
		if m := marks[node]; !there[node] && (m.Cordon != nil || m.Active()) {
			t.row(node, HostState(nil, m), "-", "-", "-", "-", "-", "-", "its worker is not seen")
		}
	}
	return t.String()
}

// toolstack says loudly that a host is not real.
func toolstack(h jobs.Host) string {
	if h.Simulated {
		return "SIMULATED"
	}
	return "real"
}

// Host tells all of one host.
func Host(h jobs.Host, now time.Time) string {
	var b strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s "+format+"\n", append([]any{name}, args...)...)
	}
	p("host", "%s (%s)", h.Node, dash(h.Hostname))
	p("toolstack", "%s, Xen %s, %s", toolstack(h), dash(h.Xen), dash(strings.Join(h.VirtCaps, " ")))
	p("worker", "%s, up since %s, seen %s", dash(h.Version), At(h.Started), Ago(h.Seen, now))
	p("cpus", "%d", h.CPUs)
	p("memory", "%s, %s free", Bytes(h.Memory), Bytes(h.FreeMemory))
	p("bridges", "%s", dash(strings.Join(h.Bridges, " ")))
	p("sends", "%s", Sends(h.Sends))
	for _, pool := range h.Pools {
		size := ""
		if pool.Size > 0 {
			size = " of " + Bytes(pool.Size)
		}
		p("pool", "%s: %s free%s", pool.Name, Bytes(pool.Free), size)
	}
	if h.Problem != "" {
		p("problem", "%s", h.Problem)
	}
	if len(h.VMs) > 0 {
		b.WriteString(VMs([]jobs.Host{h}))
	}
	return b.String()
}

// VMs lists the VMs of hosts, one line each.
func VMs(hosts []jobs.Host) string {
	t := newTable("vm", "host", "state", "type", "memory", "vcpus", "disks", "size", "autostart", "problem")
	for _, h := range hosts {
		for _, v := range h.VMs {
			var size int64
			for _, d := range v.Disks {
				size += d.Size
			}
			auto := "no"
			if v.Autostart {
				auto = "yes"
			}
			t.row(v.Name, h.Node, string(v.State), dash(v.Type), Bytes(v.Memory), v.VCPUs, len(v.Disks), Bytes(size), auto, dash(v.Problem))
		}
	}
	return t.String()
}

// VM tells all of one VM: where it is seen and who owns it.
func VM(host string, v jobs.VM, owner *jobs.Owner) string {
	var b strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s "+format+"\n", append([]any{name}, args...)...)
	}
	p("vm", "%s", v.Name)
	p("uuid", "%s", v.UUID)
	p("host", "%s, %s", host, v.State)
	p("type", "%s, %d vcpus, %s memory", dash(v.Type), v.VCPUs, Bytes(v.Memory))
	p("config", "%s, autostart %t", dash(v.Config), v.Autostart)
	p("bridges", "%s", dash(strings.Join(v.Bridges, " ")))
	switch {
	case owner == nil:
		p("owner", "none yet: it never moved")
	case owner.Claim != "":
		p("owner", "%s, epoch %d, being moved by job %s", owner.Node, owner.Epoch, owner.Claim)
	default:
		p("owner", "%s, epoch %d", owner.Node, owner.Epoch)
	}
	if v.Problem != "" {
		p("problem", "%s", v.Problem)
	}
	if len(v.Disks) > 0 {
		t := newTable("disk", "path", "size", "allocated", "kind", "mode")
		for _, d := range v.Disks {
			mode := "rw"
			if d.ReadOnly {
				mode = "ro"
			}
			t.row(d.Name, d.Path, Bytes(d.Size), Bytes(d.Allocated), dash(d.Kind), mode)
		}
		b.WriteString(t.String())
	}
	return b.String()
}

// disk is what became of one disk.
type disk struct {
	first             jobs.DiskReport // its first pass: what of it was there already
	found, sent, wire int64           // by all passes
}

func diskTable(r jobs.Record) string {
	var order []string
	sums := map[string]*disk{}
	for _, p := range r.Report.Passes {
		for _, d := range p.Disks {
			s := sums[d.Name]
			if s == nil {
				s = &disk{first: d}
				sums[d.Name] = s
				order = append(order, d.Name)
			}
			s.found += d.Found
			s.sent += d.Sent
			s.wire += d.Wire
		}
	}
	if len(order) == 0 {
		return ""
	}
	t := newTable("disk", "size", "same at first", "differing", "zero", "first pass", "sent in all", "on the wire")
	for _, name := range order {
		s := sums[name]
		t.row(name, Bytes(s.first.Size), chunks(s.first.Same), chunks(s.first.Differing), Bytes(s.first.Zero),
			Span(s.first.Elapsed)+", "+Rate(Over(s.first.Size, s.first.Elapsed)), Bytes(s.sent), Bytes(s.wire))
	}
	text := t.String()
	for _, name := range order {
		if n := sums[name].found; n > 0 {
			text += fmt.Sprintf("%s: %s were on another disk of %s and did not travel\n", name, Bytes(n), r.Destination)
		}
	}
	return text
}

func chunks(n int64) string {
	if n == 1 {
		return "1 chunk"
	}
	return fmt.Sprintf("%d chunks", n)
}

func passTable(all []jobs.PassReport) string {
	if len(all) == 0 {
		return ""
	}
	t := newTable("pass", "kind", "changed", "wire", "took")
	for _, p := range all {
		t.row(p.Number, string(p.Kind), Bytes(p.Changed()), Bytes(p.Wire()), Span(p.Elapsed))
	}
	return t.String()
}

func moveTable(disks []jobs.DiskMove) string {
	t := newTable("disk", "from", "to", "size", "allocated")
	for _, d := range disks {
		t.row(d.Name, d.From, d.To, Bytes(d.Size), Bytes(d.Allocated))
	}
	return t.String()
}
