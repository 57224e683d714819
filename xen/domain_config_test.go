package xen

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseDomainConfigGolden(t *testing.T) {
	got, err := parseDomainConfig([]byte(recording(t, "xl-list-l-d1.json")), 1)
	want := DomainConfig{
		Type:  "pv",
		Disks: []DomainDisk{{Vdev: "xvda", Path: "/dev/vg0/d1-disk", Format: "raw"}},
		NICs:  []DomainNIC{{MAC: "00:16:3e:00:00:01", Bridge: "xenbr0"}},
		On:    Endings{Crash: "preserve", Reboot: "restart"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestParseDomainConfig(t *testing.T) {
	one := func(config string) string { return `[{"domid": 4, "config": ` + config + `}]` }
	tests := []struct {
		name, text string
		want       DomainConfig
	}{
		{"read-only by what is left out", one(`{"c_info": {"type": "pvh"}, "disks": [{"pdev_path": "/a", "vdev": "xvda", "format": "raw"}]}`),
			DomainConfig{Type: "pvh", Disks: []DomainDisk{{"xvda", "/a", "raw", "", true}}}},
		{"an empty drive", one(`{"c_info": {"type": "hvm"}, "disks": [{"vdev": "hdc", "format": "empty", "removable": 1, "is_cdrom": 1}]}`),
			DomainConfig{Type: "hvm", Disks: []DomainDisk{{"hdc", "", "empty", "", true}}}},
		{"no path at all", one(`{"c_info": {"type": "hvm"}, "disks": [{"pdev_path": null, "vdev": "hdc"}]}`),
			DomainConfig{Type: "hvm", Disks: []DomainDisk{{"hdc", "", "", "", true}}}},
		{"type by its union key", one(`{"c_info": {}, "b_info": {"type.hvm": {}}}`), DomainConfig{Type: "hvm"}},
		{"passed through", one(`{"c_info": {"type": "pv"}, "pcidevs": [{"bus": 3}, {"bus": 4}]}`), DomainConfig{Type: "pv", PCI: 2}},
		{"among others", `[{"domid": 0, "config": {"c_info": {"type": "pv"}}}, {"domid": 4, "config": {"c_info": {"type": "hvm"}}}]`, DomainConfig{Type: "hvm"}},
	}
	for _, tt := range tests {
		got, err := parseDomainConfig([]byte(tt.text), 4)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestParseDomainConfigRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"SXP", "(domain (domid 4) (name d1))\n", `xl list -l: answers in SXP; take output_format="sxp" out of xl.conf`},
		{"nothing", "", "xl list -l: unexpected end of JSON input"},
		{"another domain", `[{"domid": 5, "config": {}}]`, "xl list -l: domain 4: there is no such domain"},
		{"none", "[]", "xl list -l: domain 4: there is no such domain"},
	} {
		_, err := parseDomainConfig([]byte(tt.text), 4)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := parseDomainConfig([]byte("[]"), 4); !errors.Is(err, ErrNoDomain) {
		t.Errorf("none: got %v, want ErrNoDomain", err)
	}
}

func TestIdentity(t *testing.T) {
	d1 := Domain{Name: "d1", UUID: uuidD1}
	tests := []struct {
		name, config string
		domain       Domain
		want         bool
	}{
		{"image", `{"c_info": {"name": "d1", "uuid": "` + uuidD1 + `"}}`, d1, true},
		{"config", "name = 'd1'\nuuid = \"" + uuidD1 + "\"\n", d1, true},
		{"config without uuid", "name = 'd1'\n", d1, true},
		{"uuid written otherwise", "name = 'd1'\nuuid = \"" + strings.ToUpper(strings.ReplaceAll(uuidD1, "-", "")) + "\"\n", d1, true},
		{"a blank that xl list swallows", "name = 'd1 '\n", d1, true},
		{"another name", "name = 'd2'\nuuid = \"" + uuidD1 + "\"\n", d1, false},
		{"another uuid", "name = 'd1'\nuuid = '7ab295fe-717a-4a3b-9229-930d105db819'\n", d1, false},
	}
	for _, tt := range tests {
		who, err := identityOf([]byte(tt.config))
		if err != nil || who.is(tt.domain) != tt.want {
			t.Errorf("%s: %+v is %+v: want %v (%v)", tt.name, who, tt.domain, tt.want, err)
		}
	}
	for _, bad := range []string{"{", "name = 'd1", `{"c_info": []}`} {
		if who, err := identityOf([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, who)
		}
	}
}

func FuzzParseDomainConfig(f *testing.F) {
	f.Add([]byte(recording(f, "xl-list-l-d1.json")))
	f.Add([]byte(`[{"domid": 1, "config": {"c_info": {}, "b_info": {"type.hvm": {}}, "disks": [{"vdev": "hdc"}], "pcidevs": [{}]}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseDomainConfig(text, 1)
		if err == nil && c.PCI < 0 {
			t.Fatalf("%q: %+v", text, c)
		}
	})
}
