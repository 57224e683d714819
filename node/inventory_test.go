package node

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestNews: of a VM that went the bus hears although the job did not wait for it,
// although another guest stands still, and of the whole host: a look at a slow
// one is not cut short.
func TestNews(t *testing.T) {
	w := newWorld(t)
	h := w.host("hv1")
	gone := h.guest(xlsim.GuestSpec{Name: "web01"}, mib)
	stays := h.guest(xlsim.GuestSpec{Name: "web02"}, mib)
	h.cfg.NewsWait = 50 * time.Millisecond
	h.run()
	h.hush(time.Now().Add(time.Hour))
	h.xl("destroy", "web01")
	must(t, os.Remove(h.etc("web01.cfg")))
	must(t, os.Remove(h.etc("auto/web01.cfg")))
	must(t, xlsim.ChangeHost(h.sim, func(s *xlsim.HostSpec) { s.Delays = slowList() }))
	var ended sync.WaitGroup
	for range 3 {
		ended.Go(func() { h.news(w.ctx) })
	}
	ended.Wait()
	known := func() (is, was bool, problem string) {
		hosts, err := w.bus.Hosts(w.ctx)
		must(t, err)
		for _, host := range hosts {
			_, is = host.Find(stays.UUID)
			_, was = host.Find(gone.UUID)
			problem = host.Problem
		}
		return is, was, problem
	}
	eventually(t, "the bus hears of it", func() bool { _, was, _ := known(); return !was })
	is, _, problem := known()
	equal(t, "the other guest is known", is, true)
	equal(t, "problem", problem, "")
}

// TestInventory: what lives here and what is halted, each once, with what is
// wrong about it.
func TestInventory(t *testing.T) {
	w := newWorld(t)
	h := w.host("hv1", func(s *xlsim.HostSpec) { s.MemoryMiB, s.Dom0MiB = 1024, 512 })
	h.guest(xlsim.GuestSpec{Name: "runs", MemoryMiB: 32, VCPUs: 2, Bridge: "xenbr0"}, 8*mib, 4*mib)
	h.guest(xlsim.GuestSpec{Name: "transient"}, mib)
	must(t, os.Remove(h.etc("auto/transient.cfg")))
	must(t, os.Remove(h.etc("transient.cfg")))
	twice := h.guest(xlsim.GuestSpec{Name: "twice"}, mib)
	write(t, h.etc("copy.cfg"), read(t, h.etc("twice.cfg")))
	h.guest(xlsim.GuestSpec{Name: "spoiled"}, mib)
	text := read(t, h.etc("spoiled.cfg"))
	write(t, h.etc("spoiled.cfg"), text+"import os\n")
	h.config(xlsim.GuestSpec{Name: "halted", MemoryMiB: 64, Bridge: "xenbr0"}, 2*mib)
	h.config(xlsim.GuestSpec{Name: "two"}, mib)
	write(t, h.etc("two-again.cfg"), read(t, h.etc("two.cfg")))
	write(t, h.etc("nouuid.cfg"), "name = 'nouuid'\nmemory = 128\ndisk = [ 'file:/no/such.img,xvda,w' ]\n")
	write(t, h.etc("broken.cfg"), "name = 'broken'\nmemory = \n")
	h.guest(xlsim.GuestSpec{Name: "web01--incoming"}) // another's migration
	must(t, os.Remove(h.etc("web01--incoming.cfg")))
	must(t, os.Remove(h.etc("auto/web01--incoming.cfg")))

	host := h.inventory(w.ctx)
	equal(t, "problem", host.Problem, "")
	equal(t, "xen", host.Xen, "4.17.7")
	equal(t, "memory in MiB", host.Memory>>20, 1024)
	equal(t, "pools", len(host.Pools), 1)
	var got []string
	for _, vm := range host.VMs {
		line := vm.Name + " " + string(vm.State)
		if vm.Config == "" {
			line += " without config"
		}
		if vm.Autostart {
			line += " autostart"
		}
		if vm.Problem != "" {
			line += ": " + strings.NewReplacer(h.etc(""), "ETC", h.etc("")+"/", "ETC/").Replace(vm.Problem)
		}
		got = append(got, line)
	}
	equal(t, "VMs", strings.Join(got, "\n"), strings.Join([]string{
		"runs running autostart",
		"transient running without config",
		"twice running without config: vm twice: 2 configs describe it, leave one: ETC/copy.cfg, ETC/twice.cfg",
		"spoiled running autostart: ETC/spoiled.cfg: line 11, column 1: \"import\": likely Python, a config for xm (xl does not evaluate programs: write the values out, or see what xl made of it with `xl list -l`)",
		"broken halted: ETC/broken.cfg: line 2, column 10: end of line where a value should begin (want a string in quotes, a number or a [ list ])",
		"halted halted autostart",
		"nouuid halted",
		"two halted: vm two: 2 configs describe it, leave one: ETC/two-again.cfg, ETC/two.cfg",
		"two halted autostart: vm two: 2 configs describe it, leave one: ETC/two-again.cfg, ETC/two.cfg",
	}, "\n"))

	runs, _ := host.Find("runs")
	equal(t, "memory of a guest in MiB", runs.Memory>>20, 32)
	equal(t, "CPUs of a guest", runs.VCPUs, 2)
	equal(t, "bridges of a guest", strings.Join(runs.Bridges, ","), "xenbr0")
	equal(t, "disks of a guest", len(runs.Disks), 2)
	equal(t, "size of a disk", runs.Disks[1].Size, 4*mib)
	halted, _ := host.Find("halted")
	equal(t, "memory of a halted guest in MiB", halted.Memory>>20, 64)
	equal(t, "disk of a halted guest", halted.Disks[0].Size, 2*mib)
	nouuid, _ := host.Find("nouuid")
	equal(t, "UUID of a config without one", nouuid.UUID, derivedUUID("hv1", h.etc("nouuid.cfg")))
	if v, _ := host.Find(twice.UUID); v.State != jobs.VMRunning {
		t.Errorf("%s is found as %s", twice.UUID, v.State)
	}

	// What cannot be read is said; the rest is still told.
	fault(t, h, "info", "libxl: error: no hypervisor")
	host = h.inventory(w.ctx)
	refused(t, errorOf(host.Problem), "no hypervisor")
	equal(t, "VMs all the same", len(host.VMs), 9)
	fault(t, h, "list", "libxl: error: no xenstored")
	host = h.inventory(w.ctx)
	refused(t, errorOf(host.Problem), "list domains on hv1")
}

// fault has the next such command of xl fail.
func fault(t *testing.T, h *host, command, text string) {
	t.Helper()
	must(t, xlsim.ChangeHost(h.sim, func(s *xlsim.HostSpec) {
		s.Faults = append(s.Faults, xlsim.Fault{Command: command, Exit: 1, Text: text + "\n"})
	}))
}

// TestHome: the id of the state directory is made once.
func TestHome(t *testing.T) {
	h := newWorld(t).host("hv1")
	first, err := h.home()
	must(t, err)
	second, err := h.home()
	must(t, err)
	equal(t, "home", second, first)
	if len(first) < 20 {
		t.Errorf("home %q is no random id", first)
	}
}

// TestBridges: on a host without a list of its own /sys tells.
func TestBridges(t *testing.T) {
	h := newWorld(t).host("hv1")
	h.cfg.Bridges = nil
	for _, name := range h.bridges() {
		if _, err := os.Stat("/sys/class/net/" + name + "/bridge"); err != nil {
			t.Errorf("%s is no bridge: %v", name, err)
		}
	}
	equal(t, "a VLAN of an Open vSwitch bridge", hasBridge([]string{"ovs0"}, "ovs0.17"), true)
	equal(t, "a network device of any kind", hasBridge(nil, "lo"), true)
	equal(t, "none", hasBridge([]string{"xenbr0"}, "xenbr1"), false)
}
