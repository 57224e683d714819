package storage

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLogicalVolumeNames(t *testing.T) {
	for path, want := range map[string]lvName{
		"/dev/vg0/d1":                        {"vg0", "d1"},
		"/dev/vg0//d1":                       {"vg0", "d1"},
		"/dev/vg0/d1-disk":                   {"vg0", "d1-disk"},
		"/dev/mapper/vg0-d1--disk":           {"vg0", "d1-disk"},
		"/dev/mapper/my--vg-d1":              {"my-vg", "d1"},
		"/dev/mapper/vg---lv":                {"vg-", "lv"},
		"/dev/vg0/d1.xmig-shadow":            {"vg0", "d1.xmig-shadow"},
		"/dev/mapper/vg0-d1.xmig--shadow":    {"vg0", "d1.xmig-shadow"},
		"/dev/mapper/vg0-d1-real":            {},
		"/dev/mapper/luks-1234-5678":         {},
		"/dev/mapper/cryptroot":              {},
		"/dev/mapper/vg0-":                   {},
		"/dev/mapper/-lv":                    {},
		"/dev/disk/by-id/dm-uuid-LVM-xy":     {},
		"/dev/sda":                           {},
		"/dev/vg0/..":                        {},
		"/dev/vg0/-d":                        {},
		"/dev/vg0/a b":                       {},
		"/dev/vg0/ä":                         {},
		"/dev/":                              {},
		"/srv/vg0/d1":                        {},
		"":                                   {},
		"/dev/mapper/vg0-x'--option=evil":    {},
		`/dev/vg0/x"&&lv_name!="`:            {},
		"/dev/" + strings.Repeat("v/", 3000): {},
	} {
		if got, ok := lvNameOf(path); ok != (want != lvName{}) || ok && got != want {
			t.Errorf("%.60s: %+v, %v", path, got, ok)
		}
	}
	for _, n := range []lvName{{"vg0", "snapshot1"}, {"vg0", "pvmove0"}, {"vg0", "d_rimage_0"}, {"vg0", "p_tmeta"}, {"vg0", strings.Repeat("n", 122)}, {"vg0", strings.Repeat("n-", 60)}, {"", "x"}, {"vg0", "."}} {
		if err := n.check(); !errors.Is(err, ErrUnfit) {
			t.Errorf("%+v: %v", n, err)
		}
	}
	if err := (lvName{"vg0", strings.Repeat("n", 121)}).check(); err != nil {
		t.Errorf("lvm2 2.03.16 takes it: %v", err)
	}
}

func drawLVName(t *rapid.T) lvName {
	part := rapid.StringMatching(`[a-z0-9_+][a-z0-9_+.-]{0,60}`)
	n := lvName{part.Draw(t, "group"), part.Draw(t, "volume")}
	if n.check() != nil {
		t.Skip("reserved or too long")
	}
	return n
}

// TestLogicalVolumeNameForms: both forms of a path mean the volume, no two
// volumes share a shadow's name, and lvm2 would take each.
func TestLogicalVolumeNameForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, other := drawLVName(t), drawLVName(t)
		for _, p := range []string{n.path(), "/dev/mapper/" + n.mapped()} {
			if got, ok := lvNameOf(p); !ok || got != n {
				t.Fatalf("%s: %+v, %v", p, got, ok)
			}
		}
		s := n.shadow()
		if err := s.check(); err != nil || s == n || s.group != n.group || !strings.HasSuffix(s.volume, shadowSuffix) {
			t.Fatalf("shadow of %+v: %+v, %v", n, s, err)
		}
		if n != other && s == other.shadow() {
			t.Fatalf("%+v and %+v are kept under one name", n, other)
		}
		if ShadowPath(n.path()) != s.path() || (Record{Kind: KindLVM, Place: n.path()}).kept() != s.path() {
			t.Fatalf("three names for one shadow: %s", s.path())
		}
	})
}

func FuzzUnmapped(f *testing.F) {
	for _, s := range []string{"vg0-d1--disk", "vg0-d1-real", "a---b", "---", "vg0-d1--disk.xmig--shadow", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := unmapped(s)
		if ok && (n.mapped() != s || !n.plain()) {
			t.Fatalf("%q: %+v is %q", s, n, n.mapped())
		}
	})
}
