package xlsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// xenstore answers xenstore-ls, xenstore-read and xenstore-list.
func (c *call) xenstore(program string, args []string) int {
	o, paths, err := parseOptions(args, "fps")
	if err != nil || len(paths) > 1 || len(paths) == 0 && program != "xenstore-ls" {
		fmt.Fprintf(c.stderr, "Usage: %s [-h] [-f] path\n", program)
		return 1
	}
	h, err := lockHost(c.dir)
	if err != nil {
		return c.fail(err, 1)
	}
	tree := h.tree()
	h.unlock()
	path := strings.TrimSuffix(first(paths), "/")
	if _, ok := tree[path]; !ok {
		text := map[string]string{
			"xenstore-ls":   "xenstore-ls: xs_directory (%s): No such file or directory\n",
			"xenstore-read": "xenstore-read: couldn't read path %s\n",
			"xenstore-list": "xenstore-list: could not list path %s\n",
		}[program]
		fmt.Fprintf(c.stderr, text, first(paths))
		return 1
	}
	switch {
	case program == "xenstore-read":
		fmt.Fprintln(c.stdout, tree[path])
	case program == "xenstore-list":
		for _, name := range children(tree, path) {
			fmt.Fprintln(c.stdout, name)
		}
	case o.has('f'):
		fmt.Fprint(c.stdout, flatListing(tree, path))
	default:
		fmt.Fprint(c.stdout, treeListing(tree, path, 0))
	}
	return 0
}

// children are the names right below path, sorted.
func children(tree map[string]string, path string) []string {
	var names []string
	for p := range tree {
		if rest, ok := strings.CutPrefix(p, path+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

func flatListing(tree map[string]string, path string) string {
	var b strings.Builder
	for _, name := range children(tree, path) {
		p := path + "/" + name
		fmt.Fprintf(&b, "%s = \"%s\"\n%s", p, tree[p], flatListing(tree, p))
	}
	return b.String()
}

func treeListing(tree map[string]string, path string, depth int) string {
	var b strings.Builder
	for _, name := range children(tree, path) {
		p := path + "/" + name
		fmt.Fprintf(&b, "%s%s = \"%s\"\n%s", strings.Repeat(" ", depth), name, tree[p], treeListing(tree, p, depth+1))
	}
	return b.String()
}

// tree is the whole store as far as the simulation has one.
func (h *host) tree() map[string]string {
	t := map[string]string{"": "", "/local/domain/0/name": "Domain-0", "/local/domain/0/domid": "0"}
	for _, d := range h.Domains {
		maps.Copy(t, d.store())
		maps.Copy(t, d.configStore())
		for i, a := range d.Disks {
			maps.Copy(t, d.diskStore(i, a))
		}
		for i, n := range d.Config.Nics {
			maps.Copy(t, d.nicStore(i, n))
		}
	}
	for _, p := range slices.Collect(maps.Keys(t)) {
		for i := strings.LastIndexByte(p, '/'); i >= 0; i = strings.LastIndexByte(p[:i], '/') {
			if _, ok := t[p[:i]]; !ok {
				t[p[:i]] = ""
			}
		}
	}
	return t
}

// below puts a base before every name.
func below(base string, names map[string]string) map[string]string {
	t := map[string]string{}
	for name, value := range names {
		t[base+"/"+name] = value
	}
	return t
}

func (d *domain) base() string { return fmt.Sprintf("/local/domain/%d", d.ID) }

// store is the domain's own part.
func (d *domain) store() map[string]string {
	kb := strconv.FormatInt(d.Config.BInfo.MaxKB, 10)
	t := below(d.base(), map[string]string{
		"attr": "", "data": "", "drivers": "", "error": "", "feature": "",
		"console/backend":          fmt.Sprintf("/local/domain/0/backend/console/%d/0", d.ID),
		"console/backend-id":       "0",
		"console/limit":            "1048576",
		"console/output":           "pty",
		"console/port":             "2",
		"console/ring-ref":         "259586",
		"console/tty":              "/dev/pts/0",
		"console/type":             "xenconsoled",
		"control/feature-poweroff": "1",
		"control/feature-reboot":   "1",
		"control/feature-suspend":  "1",
		"control/platform-feature-multiprocessor-suspend": "1",
		"control/platform-feature-xs_reset_watches":       "1",
		"control/shutdown":             "",
		"control/sysrq":                "",
		"device/suspend/event-channel": "",
		"domid":                        strconv.Itoa(d.ID),
		"memory/static-max":            kb,
		"memory/target":                strconv.FormatInt(d.Config.BInfo.TargetKB, 10),
		"memory/videoram":              "0",
		"name":                         d.Name,
		"store/port":                   "1",
		"store/ring-ref":               "259585",
		"vm":                           "/vm/" + d.UUID(),
	})
	if value, _ := d.Config.argument(argSuspend); value == argNever {
		t[d.base()+"/control/feature-suspend"] = "0"
	}
	for _, v := range d.Config.BInfo.AvailVCPUs {
		t[fmt.Sprintf("%s/cpu/%d/availability", d.base(), v)] = "online"
	}
	return t
}

// configStore is what stands under /vm/UUID.
func (d *domain) configStore() map[string]string {
	return below("/vm/"+d.UUID(), map[string]string{"name": d.Name, "uuid": d.UUID(), "start_time": fmt.Sprintf("%d.00", d.Created.Unix())})
}

// diskStore is both ends of a disk.
func (d *domain) diskStore(i int, a attachment) map[string]string {
	front, back := fmt.Sprintf("%s/device/vbd/%d", d.base(), a.DevID), fmt.Sprintf("/local/domain/0/backend/vbd/%d/%d", d.ID, a.DevID)
	mode, kind, info := "w", "disk", "0"
	if a.ReadWrite == 0 {
		mode, info = "r", "4"
	}
	if a.CDROM != 0 {
		kind, info = "cdrom", "5"
	}
	removable := strconv.Itoa(a.Removable)
	t := below(back, map[string]string{
		"bootable": "1", "dev": a.Vdev, "device-type": kind,
		"discard-alignment": "0", "discard-enable": "1", "discard-granularity": "512", "discard-secure": "0",
		"feature-barrier": "1", "feature-discard": "1", "feature-flush-cache": "1",
		"feature-max-indirect-segments": "256", "feature-persistent": "1",
		"frontend": front, "frontend-id": strconv.Itoa(d.ID), "hotplug-status": "connected", "info": info,
		"max-ring-page-order": "4", "mode": mode, "multi-queue-max-queues": "2", "online": "1",
		"params": a.Path, "physical-device": a.number(), "physical-device-path": a.node(),
		"physical-sector-size": "512", "removable": removable, "script": "/etc/xen/scripts/block",
		"sector-size": "512", "sectors": strconv.FormatInt(a.Sectors, 10), "specification": "xen", "state": "4", "type": "phy",
	})
	if !a.Device.Block {
		t[back+"/node"] = a.node()
	}
	maps.Copy(t, below(front, map[string]string{
		"backend": back, "backend-id": "0", "device-type": kind, "event-channel": strconv.Itoa(8 + i), "feature-persistent": "1",
		"protocol": "x86_64-abi", "ring-ref": strconv.Itoa(8 + i), "state": "4", "trusted": "1", "virtual-device": strconv.Itoa(a.DevID),
	}))
	return t
}

// nicStore is both ends of a network card.
func (d *domain) nicStore(i int, n nicConfig) map[string]string {
	front, back := fmt.Sprintf("%s/device/vif/%d", d.base(), n.DevID), fmt.Sprintf("/local/domain/0/backend/vif/%d/%d", d.ID, n.DevID)
	t := below(back, map[string]string{
		"bridge": n.Bridge, "frontend": front, "frontend-id": strconv.Itoa(d.ID), "handle": strconv.Itoa(n.DevID),
		"hotplug-status": "connected", "mac": n.MAC, "online": "1", "script": "/etc/xen/scripts/vif-bridge", "state": "4", "type": "vif",
	})
	maps.Copy(t, below(front, map[string]string{
		"backend": back, "backend-id": "0", "event-channel-rx": strconv.Itoa(10 + 2*i), "event-channel-tx": strconv.Itoa(9 + 2*i),
		"feature-gso-tcpv4": "1", "feature-gso-tcpv6": "1", "feature-ipv6-csum-offload": "1", "feature-rx-notify": "1",
		"feature-sg": "1", "handle": strconv.Itoa(n.DevID), "mac": n.MAC, "mtu": "1500", "multi-queue-num-queues": "1",
		"request-rx-copy": "1", "rx-ring-ref": strconv.Itoa(523 + 2*i), "state": "4", "trusted": "1", "tx-ring-ref": strconv.Itoa(522 + 2*i),
		"xdp-headroom": "0",
	}))
	return t
}
