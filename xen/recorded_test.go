package xen

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What `test/xenlab/lab record` took down from Xen 4.17 with three guests: d1
// (PV) and h1 (PVH) at work, c1 (PVH) built and paused, three disks each.

func fromLab(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "lab", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRecordedHost(t *testing.T) {
	info, err := parseInfo(fromLab(t, "xl-info.txt"))
	if err != nil || info.Version.String() != "4.17.7" || !slices.Contains(info.VirtCaps, "hap") || slices.Contains(info.VirtCaps, "shadow") || info.HWCaps == "" {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestRecordedGuests(t *testing.T) {
	for file, state := range map[string]State{"xl-list-v.txt": "--p---", "xl-list-v-saved.txt": "--p---"} {
		all, err := parseList(fromLab(t, file))
		if err != nil || len(all) != 4 {
			t.Fatalf("%s: %+v, %v", file, all, err)
		}
		i := slices.IndexFunc(all, func(d Domain) bool { return d.Name == "c1" })
		if i < 0 || all[i].State != state || !all[i].State.Paused() || all[i].UUID != "5f0e7c1a-0000-4000-8000-0000000000c1" {
			t.Errorf("%s: %+v", file, all)
		}
	}
	configs, err := parseDomainConfigs([]byte(fromLab(t, "xl-list-l.json")))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]int{}
	for _, c := range configs {
		types[c.Type]++
		if len(c.Disks) == 0 { // dom0
			continue
		}
		if len(c.Disks) != 3 || c.Disks[2].Vdev != "xvdc" || c.Disks[2].ReadOnly || !strings.HasPrefix(c.Disks[0].Path, "/dev/vg0/") || len(c.NICs) != 1 || c.NICs[0].Bridge != "xenbr0" {
			t.Errorf("%+v", c)
		}
	}
	if types["pvh"] != 2 || types["pv"] != 2 { // dom0 is one
		t.Errorf("types of domains: %v", types)
	}
}

// TestRecordedDisks: every disk of every guest is found in use by its own
// domain, of several in one tree.
func TestRecordedDisks(t *testing.T) {
	nodes, err := parseNodes(fromLab(t, "xenstore-backend-vbd.txt"))
	if err != nil {
		t.Fatal(err)
	}
	users, err := diskUsers(nodes)
	if err != nil {
		t.Fatal(err)
	}
	configs, err := parseDomainConfigs([]byte(fromLab(t, "xl-list-l.json")))
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range configs {
		for _, d := range c.Disks {
			if of := users.Of(d.Path); !slices.Equal(of, []int{id}) {
				t.Errorf("%s is used by %v, want domain %d", d.Path, of, id)
			}
		}
	}
	disks, err := parseBlockList(fromLab(t, "xl-block-list-d1.txt"))
	if err != nil || len(disks) != 3 || disks[2].Backend == "" {
		t.Errorf("%+v, %v", disks, err)
	}
}

// TestRecordedStreams: what xl says while it saves and restores a PVH guest.
func TestRecordedStreams(t *testing.T) {
	for name, words := range map[string][]string{
		"create-paused.txt": {"$ xl create -p", "exit=0"},
		"save-ok.txt":       {"$ xl save -p", "type x86 HVM", "End of stream", "exit=0"},
		"restore-ok.txt":    {"$ xl restore -p", "Found x86 HVM domain from Xen 4.17", "Restore successful", "exit=0"},
	} {
		text := fromLab(t, name)
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s: %q is not in it", name, word)
			}
		}
	}
}
