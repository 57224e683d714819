package xen

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseInfoGolden(t *testing.T) {
	got, err := parseInfo(recording(t, "xl-info.txt"))
	want := Info{
		Version: Version{Major: 4, Minor: 17, Extra: ".7"}, TotalMemory: 2047 << 20, FreeMemory: 872 << 20, CPUs: 2,
		VirtCaps: []string{"pv", "hvm", "gnttab-v1", "gnttab-v2"},
		HWCaps:   "178bf3fd:80002001:20100800:00000007:00000000:00000000:00000000:00000000",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// TestParseInfoNeeds: a host whose memory or version is not known must not look
// like one that is empty or old.
func TestParseInfoNeeds(t *testing.T) {
	whole := recording(t, "xl-info.txt")
	for _, key := range []string{"xen_major", "xen_minor", "total_memory", "free_memory", "nr_cpus"} {
		var lines []string
		for line := range strings.Lines(whole) {
			if !strings.HasPrefix(line, key) {
				lines = append(lines, line)
			}
		}
		if info, err := parseInfo(strings.Join(lines, "")); err == nil {
			t.Errorf("without %s: got %+v, want an error", key, info)
		}
	}
	empty := strings.Replace(whole, "xen_extra              : .7", "xen_extra              : ", 1)
	if info, err := parseInfo(empty); err != nil || info.Version.String() != "4.17" {
		t.Errorf("without an extra version: got %v, %v", info.Version, err)
	}
}

func TestParseVersion(t *testing.T) {
	good := map[string]Version{
		"4.17.7":                  {4, 17, ".7"},
		"4.17":                    {4, 17, ""},
		"4.4.4OVM":                {4, 4, ".4OVM"},
		"4.20-unstable":           {4, 20, "-unstable"},
		"4.17.7+13-g2445b30a44-0": {4, 17, ".7+13-g2445b30a44-0"},
		"3.1.2-416.el5":           {3, 1, ".2-416.el5"},
	}
	for text, want := range good {
		if got, err := ParseVersion(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "4", "4.", ".17", "four.one", " 4.17", "4.17\n", "44444.1", "-4.1"} {
		if got, err := ParseVersion(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	tests := []struct {
		is, than string
		want     bool
	}{
		{"4.17.7", "4.17.7", true},
		{"4.17.3", "4.17.7", true}, // a stable series keeps its format
		{"4.18.0", "4.17.7", true},
		{"4.16.9", "4.17.0", false},
		{"4.9.0", "4.17.0", false},
		{"5.0", "4.22", true},
		{"4.22", "5.0", false},
	}
	for _, tt := range tests {
		is, err1 := ParseVersion(tt.is)
		than, err2 := ParseVersion(tt.than)
		if err1 != nil || err2 != nil || is.AtLeast(than) != tt.want {
			t.Errorf("%s at least %s: want %v", tt.is, tt.than, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Custom(func(t *rapid.T) Version {
			return Version{Major: rapid.IntRange(3, 5).Draw(t, "major"), Minor: rapid.IntRange(0, 25).Draw(t, "minor")}
		})
		a, b, c := some.Draw(t, "a"), some.Draw(t, "b"), some.Draw(t, "c")
		if !a.AtLeast(b) && !b.AtLeast(a) || a.AtLeast(b) && b.AtLeast(c) && !a.AtLeast(c) {
			t.Fatalf("no order of %s, %s and %s", a, b, c)
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add(recording(f, "xl-info.txt"))
	f.Fuzz(func(t *testing.T, text string) {
		info, err := parseInfo(text)
		if err != nil {
			return
		}
		if info.FreeMemory>>20<<20 != info.FreeMemory || info.TotalMemory>>20<<20 != info.TotalMemory {
			t.Fatalf("%q: %+v: memory that is no whole MiB", text, info)
		}
		if again, err := ParseVersion(info.Version.String()); err != nil || again != info.Version {
			t.Fatalf("%q: version %+v reads back as %+v, %v", text, info.Version, again, err)
		}
	})
}
