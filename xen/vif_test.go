package xen

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestVIF(t *testing.T) {
	for _, tt := range []struct{ spec, bridge, moved string }{
		{"bridge=xenbr0", "xenbr0", "bridge=br9"},
		{"mac=00:16:3e:00:00:01,bridge=xenbr0,model=e1000", "xenbr0", "mac=00:16:3e:00:00:01,bridge=br9,model=e1000"},
		{"ip=192.0.2.10, mac=00:16:3E:00:00:01,  bridge=br-dmz.20,script=vif-openvswitch,new_key=x", "br-dmz.20",
			"ip=192.0.2.10, mac=00:16:3E:00:00:01,  bridge=br9,script=vif-openvswitch,new_key=x"},
		{"bridge=a,bridge=b", "b", "bridge=a,bridge=br9"},
		{"bridge=,mac=00:16:3e:00:00:01", "", "bridge=br9,mac=00:16:3e:00:00:01"},
		{"bridge=xenbr0 ", "xenbr0 ", "bridge=br9"}, // as in all of xl, the blank belongs to the word
		{"mybridge=x,bridgex=y", "", "mybridge=x,bridgex=y,bridge=br9"},
		{"\tbridge=x", "", "\tbridge=x,bridge=br9"}, // xl skips blanks only
		{"mac=00:16:3e:00:00:01", "", "mac=00:16:3e:00:00:01,bridge=br9"},
		{"mac=00:16:3e:00:00:01, ", "", "mac=00:16:3e:00:00:01, bridge=br9"},
		{"", "", "bridge=br9"},
		{"  ", "", "  bridge=br9"},
	} {
		v, err := ParseVIF(tt.spec)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if v.Bridge != tt.bridge || v.WithBridge("br9") != tt.moved {
			t.Errorf("%q: on %q, moved %q; want %q, %q", tt.spec, v.Bridge, v.WithBridge("br9"), tt.bridge, tt.moved)
		}
	}
	for _, spec := range []string{"bridge=a\nb", "bridge=\x00"} {
		if v, err := ParseVIF(spec); err == nil {
			t.Errorf("%q: %+v, want an error", spec, v)
		}
	}
}

// TestWithBridgeChangesNothingElse: the new name is read back, and the other
// items are those that were there.
func TestWithBridgeChangesNothingElse(t *testing.T) {
	item := rapid.OneOf(rapid.StringMatching(` {0,2}bridge=[a-z0-9.]{0,5}`), rapid.StringMatching(`[ -+.-~]{0,9}`))
	rapid.Check(t, func(t *rapid.T) {
		spec := strings.Join(rapid.SliceOfN(item, 1, 5).Draw(t, "items"), ",")
		name := rapid.StringMatching(`[a-z][a-z0-9._-]{0,9}`).Draw(t, "bridge")
		v, err := ParseVIF(spec)
		if err != nil {
			t.Fatal(err)
		}
		moved := v.WithBridge(name)
		again, err := ParseVIF(moved)
		if err != nil || again.Bridge != name {
			t.Fatalf("%q on %s: %q is on %q, %v", spec, name, moved, again.Bridge, err)
		}
		if v.from >= 0 {
			if back := again.WithBridge(v.Bridge); back != spec {
				t.Fatalf("%q to %s and back: %q", spec, name, back)
			}
		} else if !strings.HasPrefix(moved, spec) {
			t.Fatalf("%q on %s: %q", spec, name, moved)
		}
	})
}
