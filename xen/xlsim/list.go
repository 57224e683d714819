package xlsim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// row is a line of the tables: a domain as xl shows it.
type row struct {
	id, memory, vcpus int
	name, uuid        string
	state             string
	reason            int
	cpu               time.Duration
	up                time.Duration
}

// dom0 is the first line everywhere.
func (c *call) dom0(now time.Time) row {
	up := time.Duration(0)
	if boot, err := bootTime(); err == nil {
		up = now.Sub(boot)
	}
	return row{
		name: "Domain-0", memory: c.spec.Dom0MiB, vcpus: c.spec.CPUs, state: "r-----", reason: notShutDown,
		uuid: "00000000-0000-0000-0000-000000000000", cpu: up / 10, up: up,
	}
}

func (h *host) row(d *domain, now time.Time) row {
	s := h.status(d)
	vcpus := len(d.Config.BInfo.AvailVCPUs)
	if !s.Built {
		vcpus = 0
	}
	return row{
		id: d.ID, name: d.Name, uuid: d.UUID(), memory: d.Config.memoryMiB(), vcpus: vcpus,
		state: s.letters(), reason: s.Reason, cpu: s.CPU, up: now.Sub(d.Created),
	}
}

// look is the host with all of its rows, or with the one who is asked for.
func (c *call) look(who string) (rows []row, domains []*domain, err error) {
	h, err := lockHost(c.dir)
	if err != nil {
		return nil, nil, err
	}
	defer h.unlock()
	now := time.Now()
	if who == "" {
		rows = []row{c.dom0(now)}
	}
	if who == "0" || who == "Domain-0" {
		return []row{c.dom0(now)}, nil, nil
	}
	for _, d := range h.Domains {
		if who == "" || d == h.find(who) {
			rows, domains = append(rows, h.row(d, now)), append(domains, d)
		}
	}
	if len(rows) == 0 {
		return nil, nil, xlError{fmt.Sprintf("%s is an invalid domain identifier (rc=-6)\n", who)}
	}
	return rows, domains, nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (c *call) list(o options, args []string) int {
	rows, domains, err := c.look(first(args))
	if err != nil {
		return c.fail(err, 1)
	}
	if !o.has('l') {
		fmt.Fprint(c.stdout, listTable(rows, o))
		return 0
	}
	entries := []listEntry{}
	if rows[0].id == 0 {
		entries = append(entries, listEntry{0, c.dom0Config(rows[0])})
	}
	for _, d := range domains {
		config := d.Config.live()
		config.CInfo.Name = d.Name
		entries = append(entries, listEntry{d.ID, config})
	}
	fmt.Fprint(c.stdout, toJSON(entries)+"\n")
	return 0
}

// listEntry is a member of what `xl list -l` prints.
type listEntry struct {
	DomID  int          `json:"domid"`
	Config domainConfig `json:"config"`
}

// dom0Config: a real xl lists dom0 too, as the stub xen-init-dom0 makes of it.
func (c *call) dom0Config(r row) domainConfig {
	config := domainConfig{CInfo: createInfo{Type: "pv", Name: r.name, UUID: r.uuid, Run: "True"}}
	config.BInfo = buildInfo{MaxKB: int64(r.memory) << 10, TargetKB: int64(r.memory) << 10, MaxVCPUs: r.vcpus, Claim: "True", PV: &empty{}}
	for i := range r.vcpus {
		config.BInfo.AvailVCPUs = append(config.BInfo.AvailVCPUs, i)
	}
	config.OnReboot, config.OnSoftReset = "restart", "soft_reset"
	return config.live()
}

func listTable(rows []row, o options) string {
	var b strings.Builder
	b.WriteString("Name                                        ID   Mem VCPUs\tState\tTime(s)")
	if o.has('v') {
		b.WriteString("   UUID                            Reason-Code\tSecurity Label")
	}
	b.WriteByte('\n')
	for _, r := range rows {
		fmt.Fprintf(&b, "%-40s %5d %5d %5d     %s  %8.1f", r.name, r.id, r.memory, r.vcpus, r.state, r.cpu.Seconds())
		if o.has('v') {
			reason := "-"
			if r.reason >= 0 {
				reason = strconv.FormatInt(int64(r.reason), 16)
			}
			fmt.Fprintf(&b, " %s %8s %16s", r.uuid, reason, "-")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (c *call) uptime(_ options, args []string) int {
	rows, _, err := c.look(first(args))
	if err != nil {
		return c.fail(err, 1)
	}
	fmt.Fprint(c.stdout, uptimeTable(rows))
	return 0
}

func uptimeTable(rows []row) string {
	var b strings.Builder
	b.WriteString("Name                                ID Uptime\n")
	for _, r := range rows {
		s := int(r.up.Seconds())
		days := ""
		if d := s / 86400; d > 0 {
			days = fmt.Sprintf("%d day%s, ", d, plural(d))
		}
		fmt.Fprintf(&b, "%-33s %4d %s%2d:%02d:%02d\n", r.name, r.id, days, s/3600%24, s/60%60, s%60)
	}
	return b.String()
}

func (c *call) vcpuList(_ options, args []string) int {
	rows, _, err := c.look(first(args))
	if err != nil {
		return c.fail(err, 1)
	}
	fmt.Fprint(c.stdout, vcpuTable(rows, c.spec.CPUs))
	return 0
}

func vcpuTable(rows []row, cpus int) string {
	var b strings.Builder
	b.WriteString("Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n")
	for _, r := range rows {
		for v := range r.vcpus {
			state := "---"
			switch {
			case r.state[2] == 'p':
				state = "--p"
			case r.state[0] == 'r' && v == 0:
				state = "r--"
			case r.state[1] == 'b':
				state = "-b-"
			}
			fmt.Fprintf(&b, "%-32s %5d %5d %4d   %s  %8.1f  all / all\n", r.name, r.id, v, (r.id+v)%cpus, state, r.cpu.Seconds()/float64(r.vcpus))
		}
	}
	return b.String()
}

func (c *call) domid(_ options, args []string) int {
	h, err := lockHost(c.dir)
	if err != nil {
		return c.fail(err, 1)
	}
	defer h.unlock()
	id := 0
	if d := h.named(args[0]); d != nil {
		id = d.ID
	} else if args[0] != "Domain-0" {
		fmt.Fprintf(c.stderr, "Can't get domid of domain name '%s', maybe this domain does not exist.\n", args[0])
		return 1
	}
	fmt.Fprintf(c.stdout, "%d\n", id)
	return 0
}

func (c *call) domname(_ options, args []string) int {
	h, err := lockHost(c.dir)
	if err != nil {
		return c.fail(err, 1)
	}
	defer h.unlock()
	id, err := strconv.Atoi(args[0])
	if err != nil {
		fmt.Fprintf(c.stderr, "Invalid domain id.\n\n")
		return 1
	}
	name := "Domain-0"
	if id != 0 {
		d := h.byID(id)
		if d == nil {
			fmt.Fprintf(c.stderr, "Can't get domain name of domain id '%s', maybe this domain does not exist.\n", args[0])
			return 1
		}
		name = d.Name
	}
	fmt.Fprintln(c.stdout, name)
	return 0
}

func (c *call) blockList(_ options, args []string) int {
	fmt.Fprint(c.stdout, c.devices(args, "Vdev  BE  handle state evt-ch ring-ref BE-path                       \n", blockTable))
	return 0
}

func blockTable(d *domain) string {
	var b strings.Builder
	for i, a := range d.Disks {
		fmt.Fprintf(&b, "%-5d %-3d %-6d %-5d %-6d %-8d %-30s\n", a.DevID, 0, d.ID, 4, 8+i, 8+i,
			fmt.Sprintf("/local/domain/0/backend/vbd/%d/%d", d.ID, a.DevID))
	}
	return b.String()
}

func (c *call) networkList(_ options, args []string) int {
	fmt.Fprint(c.stdout, c.devices(args, "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                       \n", nicTable))
	return 0
}

func nicTable(d *domain) string {
	var b strings.Builder
	for _, n := range d.Config.Nics {
		fmt.Fprintf(&b, "%-3d %-2d %-17s %5d %5d %6d %5d/%-11d %-30s\n", n.DevID, 0, n.MAC, n.DevID, 4, -1, 522+2*n.DevID, 523+2*n.DevID,
			fmt.Sprintf("/local/domain/0/backend/vif/%d/%d", d.ID, n.DevID))
	}
	return b.String()
}

// devices prints a table over several domains. A domain that is not there is
// a line on stderr, and no failure.
func (c *call) devices(args []string, header string, table func(*domain) string) string {
	out := header
	for _, who := range args {
		_, domains, err := c.look(who)
		if err != nil {
			fmt.Fprintf(c.stderr, "%s is an invalid domain identifier\n", who)
			continue
		}
		for _, d := range domains {
			out += table(d)
		}
	}
	return out
}
