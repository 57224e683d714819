package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	return ok[[]byte](t)(os.ReadFile(filepath.Join("testdata/lvm2", name)))
}

// TestLogicalsAreRead: what lvm2 printed, see testdata/lvm2/record.sh.
func TestLogicalsAreRead(t *testing.T) {
	type seen struct {
		size                                  int64
		active, open, skipped, joined, origin bool
		tags                                  string
	}
	for file, want := range map[string]map[string]seen{
		"lvs-none.json": {},
		"lvs-plain.json": {
			"xr-plain/idle":       {size: 12 * mib},
			"xr-plain/active-one": {size: 4 * mib, active: true, tags: "backup xmig.id=ABC xmig.job=a#2Fb"},
			"xr-plain/held":       {size: 4 * mib, active: true, open: true},
		},
		"lvs-mixed.json": {
			"xr-mixed/origin":             {size: 8 * mib, active: true, joined: true, origin: true},
			"xr-mixed/snap":               {size: 4 * mib, active: true, joined: true},
			"xr-mixed/pool":               {size: 32 * mib, active: true, open: true},
			"xr-mixed/thin":               {size: 64 * mib, active: true},
			"xr-mixed/thinsnap":           {size: 64 * mib, skipped: true},
			"xr-mixed/shadow.xmig-shadow": {size: mib, skipped: true},
		},
	} {
		all, err := readLogicals(recorded(t, file))
		if err != nil || len(all) != len(want) {
			t.Errorf("%s: %d volumes, %v", file, len(all), err)
		}
		for _, l := range all {
			got := seen{l.size, l.active(), l.open(), l.skipped(), l.joined(), l.origin(), strings.Join(l.tags, " ")}
			if got != want[l.name.arg()] || len(l.stable) != stableLV {
				t.Errorf("%s: %s: %+v, want %+v (%s)", file, l.name.arg(), got, want[l.name.arg()], l.stable)
			}
		}
	}
}

func TestGroupsAreRead(t *testing.T) {
	for _, c := range []struct {
		file, group  string
		extent, free int64
		unfit        string
	}{
		{"pvs-plain.json", "xr-plain", 4 * mib, 10 * 4 * mib, ""}, // 15 extents less 5; the other device is not allocatable
		{"pvs-exported.json", "xr-odd", 4 * mib, 15 * 4 * mib, "is exported (vgimport)"},
		{"pvs-exported.json", "xr-mixed", mib, 206 * mib, ""},
		{"pvs-partial.json", "xr-plain", 4 * mib, 10 * 4 * mib, "lacks devices"},
	} {
		all, err := readPhysicals(recorded(t, c.file))
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		g, err := stateOf(c.group, all)
		if err != nil || g.extent != c.extent || g.free != c.free || g.unfit != c.unfit || g.sector != fileSector {
			t.Errorf("%s, %s: %+v, %v", c.file, c.group, g, err)
		}
	}
	all, err := readPhysicals(recorded(t, "pvs-twice.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stateOf("xr-plain", all)
	wantErr(t, err, ErrUnfit, "two volume groups")
}

func TestReportsThatMakeNoSense(t *testing.T) {
	lv := func(fields string) string {
		return `{"report":[{"lv":[{"vg_name":"v","vg_uuid":"u","lv_name":"l","lv_uuid":"w",` + fields + `}]}]}`
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"no report":     "{}",
		"field missing": lv(`"lv_size":"1","lv_tags":""`),
		"size":          lv(`"lv_size":"1.00m","lv_attr":"-wi-a-----","lv_tags":""`),
		"negative size": lv(`"lv_size":"-1","lv_attr":"-wi-a-----","lv_tags":""`),
		"short flags":   lv(`"lv_size":"1","lv_attr":"-wi-a-","lv_tags":""`),
		"a number":      lv(`"lv_size":1,"lv_attr":"-wi-a-----","lv_tags":""`),
	} {
		if all, err := readLogicals([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, all)
		}
	}
}

func FuzzReports(f *testing.F) {
	names, err := filepath.Glob("testdata/lvm2/*.json")
	if err != nil || len(names) < 5 {
		f.Fatalf("%v, %v", names, err)
	}
	for _, n := range names {
		f.Add(recorded(f, filepath.Base(n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := readLogicals(b); err == nil {
			for _, l := range all {
				_ = l.active() || l.open() || l.skipped() || l.joined() // none may be out of range
				if l.size < 0 {
					t.Fatalf("%+v", l)
				}
			}
		}
		if all, err := readPhysicals(b); err == nil {
			for _, p := range all {
				g, err := stateOf(p.group, all)
				if err == nil && (g.free < 0 || g.extent <= 0) && p.group != "" {
					t.Fatalf("%+v", g)
				}
			}
		}
	})
}
