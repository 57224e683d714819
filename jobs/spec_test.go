package jobs

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// good is a spec that nothing stands against, changed by f.
func good(f func(*Spec)) Spec {
	s := Spec{VM: "web01"}.WithDefaults()
	if f != nil {
		f(&s)
	}
	return s
}

func syncSpec(f func(*Spec)) Spec {
	s := Spec{Kind: KindSync, From: "hv1", To: "hv2", SyncFrom: "/dev/a", SyncTo: "/dev/b"}.WithDefaults()
	if f != nil {
		f(&s)
	}
	return s
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		want string // part of the error; empty: none
	}{
		{"a VM and nothing else", good(nil), ""},
		{"from and to", good(func(s *Spec) { s.From, s.To = "hv1", "hv2" }), ""},
		{"a VM name with spaces and a leading dash", good(func(s *Spec) { s.VM = "-my vm" }), ""},
		{"no VM", good(func(s *Spec) { s.VM = "" }), "no vm named"},
		{"same host twice", good(func(s *Spec) { s.From, s.To = "hv1", "hv1" }), "source and destination are the same host, hv1"},
		{"a host with a dot", good(func(s *Spec) { s.To = "hv1.example.org" }), `host "hv1.example.org": a node name is 1 to 32 of a-z, 0-9 and -`},
		{"a host in capitals", good(func(s *Spec) { s.From = "HV1" }), `host "HV1"`},
		{"a kind nobody knows", good(func(s *Spec) { s.Kind = "teleport" }), `kind "teleport": want migrate or sync`},
		{"a mode nobody knows", good(func(s *Spec) { s.Mode = "warm" }), `mode "warm": want one of [auto live suspend cold]`},
		{"verify", good(func(s *Spec) { s.Verify = "maybe" }), `verify "maybe": want one of [delta full none]`},
		{"on-timeout", good(func(s *Spec) { s.OnTimeout = "shrug" }), `on-timeout "shrug": want one of [abort hold suspend]`},
		{"downtime below zero", good(func(s *Spec) { s.MaxDowntime = -time.Second }), "max-downtime -1s: below zero"},
		{"bandwidth below zero", good(func(s *Spec) { s.BWLimit = -1 }), "bwlimit -1 bytes/s: below zero"},
		{"keep-source below zero", good(func(s *Spec) { s.KeepSource = -1 }), "keep-source -1ns: below zero"},
		{"a mapping of a relative path", good(func(s *Spec) { s.Map.Disks = map[string]string{"vg0/a": "/dev/b"} }), "map disk=vg0/a:/dev/b: both paths must begin with /"},
		{"a mapping to nothing", good(func(s *Spec) { s.Map.Disks = map[string]string{"/dev/a": ""} }), "map disk=/dev/a:: both paths"},
		{"a bridge to nothing", good(func(s *Spec) { s.Map.Bridges = map[string]string{"xenbr0": ""} }), "map bridge=xenbr0:: both names must be given"},
		{"sync", syncSpec(nil), ""},
		{"sync within one host", syncSpec(func(s *Spec) { s.To = "hv1" }), ""},
		{"sync of a device onto itself", syncSpec(func(s *Spec) { s.To, s.SyncTo = "hv1", "/dev/a" }), "source and destination are the same device, hv1:/dev/a"},
		{"sync without a device", syncSpec(func(s *Spec) { s.SyncTo = "" }), "sync needs HOST:DEVICE twice"},
		{"sync without a host", syncSpec(func(s *Spec) { s.From = "" }), "sync needs HOST:DEVICE twice"},
	} {
		err := c.spec.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err != nil && (ClassOf(err) != Final || CodeOf(err) != CodeUsage):
			t.Errorf("%s: class %s, code %s", c.name, ClassOf(err), CodeOf(err))
		}
	}
}

// TestValidateReportsAllFaults: in one answer, and the same one each time.
func TestValidateReportsAllFaults(t *testing.T) {
	s := Spec{Kind: KindMigrate, From: "A", To: "A", Mode: "x", Verify: "y", OnTimeout: "z", MaxDowntime: -1, BWLimit: -1, KeepSource: -1,
		Map: Mapping{Disks: map[string]string{"a": "b", "c": "d", "e": "f"}}}
	first := s.Validate().Error()
	if n := strings.Count(first, "\n") + 1; n != 13 {
		t.Errorf("%d faults in:\n%s", n, first)
	}
	for range 20 {
		if again := s.Validate().Error(); again != first {
			t.Fatalf("first:\n%s\nthen:\n%s", first, again)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	want := Spec{Kind: KindMigrate, VM: "web01", Mode: Auto, MaxDowntime: DefaultMaxDowntime, Priority: DefaultPriority,
		OnTimeout: TimeoutAbort, Verify: VerifyDelta, KeepSource: DefaultKeepSource}
	got := Spec{VM: "web01"}.WithDefaults()
	if got.Kind != want.Kind || got.Mode != want.Mode || got.MaxDowntime != want.MaxDowntime || got.Priority != want.Priority ||
		got.OnTimeout != want.OnTimeout || got.Verify != want.Verify || got.KeepSource != want.KeepSource {
		t.Errorf("%+v", got)
	}
	asked := Spec{Kind: KindSync, Mode: Cold, MaxDowntime: 1, Priority: 100, OnTimeout: TimeoutHold, Verify: VerifyNone, KeepSource: 1}
	if d := asked.WithDefaults(); d.Kind != KindSync || d.Mode != Cold || d.MaxDowntime != 1 || d.Priority != 100 ||
		d.OnTimeout != TimeoutHold || d.Verify != VerifyNone || d.KeepSource != 1 {
		t.Errorf("what was asked for was changed: %+v", d)
	}
}

func TestValidNode(t *testing.T) {
	for name, ok := range map[string]bool{
		"hv1": true, "rack-3-hv-07": true, "-": true, strings.Repeat("a", 32): true,
		"": false, strings.Repeat("a", 33): false, "HV1": false, "hv.1": false, "hv 1": false, "hv*": false, "hv>": false, "hv1\n": false, "hü": false,
	} {
		if ValidNode(name) != ok {
			t.Errorf("%q: valid is %v", name, !ok)
		}
	}
}

func TestMapping(t *testing.T) {
	m := Mapping{
		Disks: map[string]string{
			"/dev/vg0":         "/dev/fast",
			"/dev/vg0/special": "/srv/special.img",
			"/var/lib/xen/":    "/data/xen/",
			"/var/lib/xen/old": "/archive",
		},
		Bridges: map[string]string{"xenbr0": "br-lan"},
	}
	for from, want := range map[string]string{
		"/dev/vg0/web01":        "/dev/fast/web01",
		"/dev/vg0/special":      "/srv/special.img",
		"/dev/vg0/special/x":    "/srv/special.img/x",
		"/dev/vg01/web01":       "/dev/vg01/web01", // not in /dev/vg0
		"/dev/vg0":              "/dev/fast",
		"/var/lib/xen/a/b.img":  "/data/xen/a/b.img",
		"/var/lib/xen/old/a":    "/archive/a",
		"/var/lib/xen/older/a":  "/data/xen/older/a",
		"/somewhere/else":       "/somewhere/else",
		"":                      "",
		"relative/dev/vg0/disk": "relative/dev/vg0/disk",
	} {
		if got := m.Disk(from); got != want {
			t.Errorf("disk %s goes to %s, want %s", from, got, want)
		}
	}
	if m.Bridge("xenbr0") != "br-lan" || m.Bridge("xenbr1") != "xenbr1" || (Mapping{}).Disk("/a") != "/a" {
		t.Error("bridges, or the empty mapping")
	}
	if got := (Mapping{Disks: map[string]string{"/": "/mnt"}}).Disk("/a/b"); got != "/mnt/a/b" {
		t.Errorf("everything under / goes to %s", got)
	}
}

// TestMappingProperties: two disks of one directory never end in one place, and
// a path that no mapping is about stays as it is.
func TestMappingProperties(t *testing.T) {
	dir := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 1, 3).Draw(t, "parts"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		from, to := dir.Draw(t, "from"), dir.Draw(t, "to")
		m := Mapping{Disks: map[string]string{from: to}}
		x, y := dir.Draw(t, "x"), dir.Draw(t, "y")
		if in := x == from || strings.HasPrefix(x, from+"/"); !in && m.Disk(x) != x {
			t.Fatalf("%s is not under %s and goes to %s", x, from, m.Disk(x))
		} else if in && m.Disk(x) != to+strings.TrimPrefix(x, from) {
			t.Fatalf("%s under %s goes to %s", x, from, m.Disk(x))
		}
		if x != y && strings.HasPrefix(x, from+"/") && strings.HasPrefix(y, from+"/") && m.Disk(x) == m.Disk(y) {
			t.Fatalf("%s and %s both go to %s", x, y, m.Disk(x))
		}
	})
}

// TestSameRequest: whoever asks, and however the VM is called, counts for nothing; all
// of what is asked counts. A field that is new here must be thought of.
func TestSameRequest(t *testing.T) {
	at := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	base := Spec{VM: "web01", To: "hv2", NotBefore: at, Map: Mapping{Disks: map[string]string{"/a": "/b"}}}.WithDefaults()
	for name, c := range map[string]struct {
		change func(*Spec)
		same   bool
	}{
		"nothing":               {func(*Spec) {}, true},
		"who and why":           {func(s *Spec) { s.By, s.Reason = "ann", "noise" }, true},
		"by its UUID":           {func(s *Spec) { s.VM, s.From = "5eed0000-0000-4000-8000-000000000001", "hv1" }, true},
		"another zone":          {func(s *Spec) { s.NotBefore = at.In(time.FixedZone("", 3600)) }, true},
		"no list, an empty one": {func(s *Spec) { s.Map.Shared, s.Map.Bridges = []string{}, map[string]string{} }, true},
		"to":                    {func(s *Spec) { s.To = "" }, false},
		"mode":                  {func(s *Spec) { s.Mode = Cold }, false},
		"downtime":              {func(s *Spec) { s.MaxDowntime++ }, false},
		"priority":              {func(s *Spec) { s.Priority++ }, false},
		"map":                   {func(s *Spec) { s.Map.Disks = map[string]string{"/a": "/c"} }, false},
		"time":                  {func(s *Spec) { s.NotBefore = at.Add(time.Second) }, false},
		"cutover":               {func(s *Spec) { s.Cutover = CutoverManual }, false},
		"drain":                 {func(s *Spec) { s.Drain = "d" }, false},
		"retry":                 {func(s *Spec) { s.RetryOf = "01J" }, false},
	} {
		other := base
		c.change(&other)
		if base.SameRequest(other) != c.same || other.SameRequest(base) != c.same {
			t.Errorf("%s: want %t", name, c.same)
		}
	}
	if n := reflect.TypeFor[Spec]().NumField(); n != 21 {
		t.Errorf("a spec has %d fields: is the new one part of what is asked?", n)
	}
}
