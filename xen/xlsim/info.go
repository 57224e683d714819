package xlsim

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func (c *call) info(_ options, _ []string) int {
	h, err := lockHost(c.dir)
	if err != nil {
		return c.fail(err, 1)
	}
	defer h.unlock()
	fmt.Fprint(c.stdout, infoText(c.spec, h.freeMiB(c.spec)))
	return 0
}

// infoText is `xl info` of a Debian 12 dom0.
func infoText(s HostSpec, freeMiB int) string {
	v := strings.SplitN(s.XenVersion, ".", 3)
	extra := ""
	if len(v) == 3 {
		extra = "." + v[2]
	}
	lines := [][2]string{
		{"host", s.Name},
		{"release", "6.1.0-56-amd64"},
		{"version", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"},
		{"machine", "x86_64"},
		{"nr_cpus", strconv.Itoa(s.CPUs)},
		{"max_cpu_id", strconv.Itoa(s.CPUs - 1)},
		{"nr_nodes", "1"},
		{"cores_per_socket", strconv.Itoa(s.CPUs)},
		{"threads_per_core", "1"},
		{"cpu_mhz", "2596.096"},
		{"hw_caps", "178bf3fd:80002001:20100800:00000007:00000000:00000000:00000000:00000000"},
		{"virt_caps", s.VirtCaps},
		{"total_memory", strconv.Itoa(s.MemoryMiB)},
		{"free_memory", strconv.Itoa(freeMiB)},
		{"sharing_freed_memory", "0"},
		{"sharing_used_memory", "0"},
		{"outstanding_claims", "0"},
		{"free_cpus", "0"},
		{"xen_major", v[0]},
		{"xen_minor", v[1]},
		{"xen_extra", extra},
		{"xen_version", s.XenVersion},
		{"xen_caps", "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "},
		{"xen_scheduler", "credit2"},
		{"xen_pagesize", "4096"},
		{"platform_params", "virt_start=0xffff800000000000"},
		{"xen_changeset", ""},
		{"xen_commandline", fmt.Sprintf("console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem=%[1]dM,max:%[1]dM dom0_max_vcpus=%[2]d noreboot spec-ctrl=no xpti=no ", s.Dom0MiB, s.CPUs)},
		{"cc_compiler", "x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0"},
		{"cc_compile_by", "pkg-xen-devel"},
		{"cc_compile_domain", "lists.alioth.debian.org"},
		{"cc_compile_date", "Wed Nov  4 16:52:28 UTC 2026"},
		{"build_id", "151b373fd64b321593bf987fd923cd10dabadac4"},
		{"xend_config_format", "4"},
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-23s: %s\n", l[0], l[1])
	}
	return b.String()
}

// bootTime is when this machine began, dom0's age.
func bootTime() (time.Time, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	var seconds float64
	if _, err := fmt.Sscan(string(data), &seconds); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(-time.Duration(seconds * float64(time.Second))), nil
}
