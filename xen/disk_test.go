package xen

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// diskForms are the forms of disk specs that are in use, with what libxl makes
// of them. Each was held against xl's own parser (libxlu).
var diskForms = []struct {
	spec string
	want Disk
}{
	// xl's own examples.
	{"/dev/vg/guest-volume,,hda", Disk{Target: "/dev/vg/guest-volume", Vdev: "hda", Format: "raw"}},
	{"/dev/vg/guest-volume,raw,hda,rw", Disk{Target: "/dev/vg/guest-volume", Vdev: "hda", Format: "raw"}},
	{"raw:/dev/vg/guest-volume,hda,w", Disk{Target: "/dev/vg/guest-volume", Vdev: "hda", Format: "raw"}},
	{"format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume", Disk{Target: "/dev/vg/guest-volume", Vdev: "hda", Format: "raw"}},
	{"backendtype=phy,vdev=xvdb,access=w,target=/dev/vg/lv", Disk{Target: "/dev/vg/lv", Vdev: "xvdb", Format: "raw", Backend: "phy"}},
	{"/root/image.iso,,hdc,cdrom", Disk{Target: "/root/image.iso", Vdev: "hdc", Format: "raw", ReadOnly: true, CDROM: true}},
	{"/root/image.iso,,hdc,,cdrom", Disk{Target: "/root/image.iso", Vdev: "hdc", Format: "raw", ReadOnly: true, CDROM: true}},
	{"/root/image.iso,raw,hdc,devtype=cdrom", Disk{Target: "/root/image.iso", Vdev: "hdc", Format: "raw", ReadOnly: true, CDROM: true}},
	{"raw:/root/image.iso,hdc:cdrom,ro", Disk{Target: "/root/image.iso", Vdev: "hdc", Format: "raw", ReadOnly: true, CDROM: true}},
	{"devtype=cdrom,,,hdc", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{",,hdc:cdrom,r", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{",hdc:cdrom,r", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{",empty,hdc:cdrom,r", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{"vdev=hdc,access=r,devtype=cdrom,format=empty", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{"vdev=hdc,access=r,devtype=cdrom,target=", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{"vdev=hdc,access=r,devtype=cdrom", Disk{Vdev: "hdc", Format: "empty", ReadOnly: true, CDROM: true}},
	{"iscsi:iqn.2001-05.com.example:0-8a09,xvda,w", Disk{Target: "iqn.2001-05.com.example:0-8a09", Vdev: "xvda", Format: "raw", Script: "block-iscsi"}},
	{"drbd:app01,hda,w", Disk{Target: "app01", Vdev: "hda", Format: "raw", Script: "block-drbd"}},
	{"nbd:x,hda,w", Disk{Target: "x", Vdev: "hda", Format: "raw", Script: "block-nbd"}},
	{"enbd:x,hda,w", Disk{Target: "x", Vdev: "hda", Format: "raw", Script: "block-enbd"}},
	{"vdev=xvda,script=block-iscsi,target=iqn.2001-05.com.example:x", Disk{Target: "iqn.2001-05.com.example:x", Vdev: "xvda", Format: "raw", Script: "block-iscsi"}},
	{"cdrom,no-discard,vdev=hda,target=/a.iso", Disk{Target: "/a.iso", Vdev: "hda", Format: "raw", ReadOnly: true, CDROM: true}},
	{"untrusted,vdev=hda,target=/x", Disk{Target: "/x", Vdev: "hda", Format: "raw"}},
	{"backend=stor-domU,vdev=xvda,target=/dev/vg/x", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw", BackendDomain: "stor-domU"}},
	{"discard,direct-io-safe,trusted,colo,vdev=xvda,target=/x", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},

	// Volumes, and the old prefixes.
	{"phy:/dev/mapper/vg--a-lv--b,xvda1,w", Disk{Target: "/dev/mapper/vg--a-lv--b", Vdev: "xvda1", Format: "raw"}},
	{"phy:/dev/disk/by-id/dm-name-vg-lv,xvda,w", Disk{Target: "/dev/disk/by-id/dm-name-vg-lv", Vdev: "xvda", Format: "raw"}},
	{"/dev/vg/x,raw,xvda", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw"}},
	{"/dev/zvol/p/v,,xvda", Disk{Target: "/dev/zvol/p/v", Vdev: "xvda", Format: "raw"}},
	{"tap:qcow2:/x,xvda,w", Disk{Target: "/x", Vdev: "xvda", Format: "qcow2"}},
	{"vhd:/x,xvda,w", Disk{Target: "/x", Vdev: "xvda", Format: "vhd"}},
	{"qcow:/x,xvda,w", Disk{Target: "/x", Vdev: "xvda", Format: "qcow"}},
	{"tap2:aio:/x,xvda,w", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"tapdisk:/x,xvda,w", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"/x,qed,xvda,r", Disk{Target: "/x", Vdev: "xvda", Format: "qed", ReadOnly: true}},

	// Written for xm, and read by xl too. xl opens no relative path but by a script.
	{"phy:vg/lv,sda1,w", Disk{Target: "vg/lv", Vdev: "sda1", Format: "raw"}},
	{"file:/x.img,ioemu:hda,w", Disk{Target: "/x.img", Vdev: "hda", Format: "raw"}},
	{"tap:aio:/x.img,xvda,w", Disk{Target: "/x.img", Vdev: "xvda", Format: "raw"}},
	{"phy:/dev/vg/x,hda:disk,r", Disk{Target: "/dev/vg/x", Vdev: "hda", Format: "raw", ReadOnly: true}},

	// target= takes all the rest, a blank belongs to the word before it.
	{"vdev=xvda,target=/path/with,comma and space", Disk{Target: "/path/with,comma and space", Vdev: "xvda", Format: "raw"}},
	{"vdev=xvda,target=/x ", Disk{Target: "/x ", Vdev: "xvda", Format: "raw"}},
	{"vdev=xvda,target= /x,format=qcow2", Disk{Target: " /x,format=qcow2", Vdev: "xvda", Format: "raw"}},
	{"vdev=xvda,target=/x,", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"vdev=xvda,target=/x,,", Disk{Target: "/x,", Vdev: "xvda", Format: "raw"}},
	{"  phy:/dev/vg/x,\txvda, w", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw"}},
	{"/dev/vg/x ,raw,xvda", Disk{Target: "/dev/vg/x ", Vdev: "xvda", Format: "raw"}},
	{"/dev/vg/x,,xvda,", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw"}},
	{"/dev/vg/x,,xvda,,", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw"}},

	// Positionals keep their order among keys; an empty one can be filled later.
	{"vdev=xvda,/dev/vg/x,raw,r", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw", ReadOnly: true}},
	{"/dev/vg/x,format=raw,xvda,access=r", Disk{Target: "/dev/vg/x", Vdev: "xvda", Format: "raw", ReadOnly: true}},
	{",raw,,w,vdev=xvda,target=/x", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"/x,,xvda,r,access=w", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"/x,,xvda,cdrom,devtype=disk", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},

	{"raw:/x,format=raw,xvda", Disk{Target: "/x", Vdev: "xvda", Format: "raw"}},
	{"/x,,xvda,backendtype=qdisk,backendtype=qdisk", Disk{Target: "/x", Vdev: "xvda", Format: "raw", Backend: "qdisk"}},
	{"pool:0a,,xvda", Disk{Target: "pool:0a", Vdev: "xvda", Format: "raw"}}, // no prefix: letters or digits follow

	// Names of disks.
	{"/x,,xvdaa", Disk{Target: "/x", Vdev: "xvdaa", Format: "raw"}},
	{"/x,,xvdzz", Disk{Target: "/x", Vdev: "xvdzz", Format: "raw"}},
	{"/x,,d2p3", Disk{Target: "/x", Vdev: "d2p3", Format: "raw"}},
	{"/x,,hdc1", Disk{Target: "/x", Vdev: "hdc1", Format: "raw"}},
	{"/x,,0xca00", Disk{Target: "/x", Vdev: "0xca00", Format: "raw"}},
}

func TestParseDisk(t *testing.T) {
	for _, tt := range diskForms {
		got, err := ParseDisk(tt.spec)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if !got.sameBut(tt.want) || got.Target != tt.want.Target {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.spec, got, tt.want)
		}
		if got.WithTarget(got.Target) != tt.spec && got.Target != "" {
			t.Errorf("%q with its own target: %q", tt.spec, got.WithTarget(got.Target))
		}
	}
}

func TestParseDiskRefuses(t *testing.T) {
	for _, tt := range []struct{ spec, says string }{
		// What names another disk after a reboot.
		{"phy:/dev/dm-3,xvda,w", "target /dev/dm-3: is another disk after a reboot"},
		{"phy:dm-3,xvda,w", "is another disk after a reboot"},
		{"/dev/dm-12,,xvda", "is another disk after a reboot"},
		{"vdev=xvda,target=/dev/dm-0", "is another disk after a reboot"},
		// What only xm knows.
		{"phy:/dev/vg/x,xvda,w!", `access "w!": only the old xm`},
		{"vdev=xvda,access=w!,target=/x", `access "w!": only the old xm`},
		// What xl refuses.
		{"", "no vdev"},
		{"foo", "no vdev"},
		{"/x,raw", "no vdev"},
		{"/x,raw,xvda,x", `access "x": want`},
		{"/x,raw,xvda,w,more", `"more": more than target`},
		{"/x,xvda,w", `format "xvda": want one of`},
		{"/x,format=vmdk,xvda", `format "vmdk"`},
		{"/x,format=qcow2,format=raw,xvda", "format: given twice"},
		{"qcow2:/x,format=raw,xvda", "format: given twice"},
		{"format=raw,/x,raw,xvda", `access "xvda"`},
		{"vdev=xvda,vdev=xvdb,target=/x", "vdev: given twice"},
		{"/x,,xvda,target=/y", `target: given twice, as "/x" and "/y"`},
		{"iscsi:x,xvda,script=mine", "script: given twice"},
		{"backend=a,backend=b,vdev=xvda,target=/x", "backend: given twice"},
		{"backendtype=file,vdev=xvda,target=/x", `backendtype "file"`},
		{"backendtype=phy,backendtype=qdisk,vdev=xvda,target=/x", "backendtype: given twice"},
		{"devtype=floppy,vdev=xvda,target=/x", `type "floppy"`},
		{"phy:/x,hda:floppy,w", `type "floppy"`},
		{"rbd:/x,xvda,w", "prefix rbd:"},
		{"/x=y,,xvda", "a = in"},
		{"vdev=xvda,cdrom,new-key=", "key new-key: has no value"},
		{"cdrom no-discard vdev=hda target=/a.iso", "a = in"}, // `xl block-attach` takes four arguments, a config one string
		{"  phy:/dev/vg/x , xvda , w ", `access "w "`},
		{"access=w ,vdev=xvda,target=/x", `access "w "`},
		// What the guest cannot be made of.
		{",raw,xvda,w", "no target"},
		{",empty,xvda,w", "no target"},
		{"vdev=xvda", "no target"},
		{"/x,raw,:cdrom", "no vdev"},
		{"phy:/dev/vg/x,xvda ,w", `vdev "xvda "`},
		{"vdev=hdc:cdrom,target=/x.iso", `vdev "hdc:cdrom"`},
		{"/x\n,,xvda", "a line end"},
		{"/x\x00,,xvda", "NUL"},
	} {
		d, err := ParseDisk(tt.spec)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %+v, %v; want %q", tt.spec, d, err, tt.says)
		}
	}
}

func TestWithTarget(t *testing.T) {
	for _, tt := range []struct{ spec, target, want string }{
		{"phy:/dev/vg/x,xvda,w", "/dev/vg2/y", "phy:/dev/vg2/y,xvda,w"},
		{"  phy:/dev/vg/x,\txvda, w", "/dev/vg2/y", "  phy:/dev/vg2/y,\txvda, w"},
		{"format=raw, vdev=hda, new-key=5,  access=rw, target=/x", "/y", "format=raw, vdev=hda, new-key=5,  access=rw, target=/y"},
		{"vdev=xvda,target=/path/with,comma and space", "/a,b=c ", "vdev=xvda,target=/a,b=c "},
		{"vdev=xvda,/x,raw,some_key=1,r", "/y", "vdev=xvda,/y,raw,some_key=1,r"},
		{"tap:qcow2:/x,xvda,w", "/y", "tap:qcow2:/y,xvda,w"},
		{"iscsi:iqn.2001:0-8a,xvda,w", "iqn.2002:1", "iscsi:iqn.2002:1,xvda,w"},
		{"/x.iso,,hdc,cdrom", "/a b.iso", "/a b.iso,,hdc,cdrom"},
		// Where it stood it would be read as something else.
		{"phy:/dev/vg/x,xvda,w", "/a,b", "phy:,xvda,w,target=/a,b"},
		{"/x,,xvda,", "/a=b", ",,xvda,target=/a=b"},
		{"vdev=xvda,/x", "phy:/y", "vdev=xvda,target=phy:/y"},
		{"/x,raw,xvda", "cdrom", ",raw,xvda,target=cdrom"},
		{"/x,raw,xvda", " y", ",raw,xvda,target= y"},
		// xl takes one comma from the end away.
		{"vdev=xvda,target=/x", "/y,", "vdev=xvda,target=/y,,"},
		{"vdev=xvda,target=/x,", "/y,", "vdev=xvda,target=/y,,"},
		{"/x,raw,xvda", "/y,", ",raw,xvda,target=/y,,"},
		// A drive that was empty.
		{"vdev=hdc,devtype=cdrom", "/y.iso", "vdev=hdc,devtype=cdrom,target=/y.iso"},
		{"vdev=hdc,devtype=cdrom,target=", "/y.iso", "vdev=hdc,devtype=cdrom,target=/y.iso"},
		{"vdev=hdc,devtype=cdrom,target=,", "/y.iso", "vdev=hdc,devtype=cdrom,target=/y.iso,"},
		{",,hdc:cdrom,r", "/y.iso", ",,hdc:cdrom,r,target=/y.iso"},
	} {
		d, err := ParseDisk(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		got := d.WithTarget(tt.target)
		if got != tt.want {
			t.Errorf("%q with target %q: %q, want %q", tt.spec, tt.target, got, tt.want)
		}
		if again, err := ParseDisk(got); err != nil || again.Target != tt.target {
			t.Errorf("%q with target %q: %q has target %q, %v", tt.spec, tt.target, got, again.Target, err)
		}
	}
}

// diskSpecs draws valid specs: positionals in their order, and keys and flags
// anywhere between them.
var diskSpecs = rapid.Custom(func(t *rapid.T) string {
	head := rapid.SampledFrom([]string{"/dev/vg/x", "vg/lv", " /a b", "phy:/dev/vg/x", "tap:aio:/x.img", "qcow2:/x", "nbd:a:b", ""}).Draw(t, "target")
	items := []string{head}
	if !strings.Contains(head, ":") {
		items = append(items, rapid.SampledFrom([]string{"", "raw", "qcow2"}).Draw(t, "format"))
	}
	items = append(items, rapid.SampledFrom([]string{"xvda", "sda1", "\thdc:disk"}).Draw(t, "vdev"))
	items = append(items, rapid.SampledFrom([]string{"", "w", " r", "rw"}).Draw(t, "access"))
	extras := []string{"unknown-key=5", "unknown_key=a b ", "discard", " untrusted", "backend=d", "backendtype=phy", "access=ro", "colo-host=h"}
	for _, extra := range rapid.SliceOfNDistinct(rapid.SampledFrom(extras), 0, 4, rapid.ID).Draw(t, "extras") {
		items = slices.Insert(items, rapid.IntRange(0, len(items)).Draw(t, "place"), extra)
	}
	if head == "" {
		items = append(items, "target="+rapid.StringMatching(`/[ -~]{0,9}[.-~]`).Draw(t, "target"))
	}
	return strings.Join(items, ",")
})

// TestWithTargetChangesNothingElse: the new target is read back, and all that
// was known and unknown beside it is there as before.
func TestWithTargetChangesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := ParseDisk(diskSpecs.Draw(t, "spec"))
		if err != nil {
			t.Fatal(err)
		}
		checkWithTarget(t, d, rapid.StringMatching(`/?[ -~]{1,9}`).Draw(t, "new target"))
	})
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkWithTarget(t fataler, d Disk, target string) {
	t.Helper()
	spec := d.WithTarget(target)
	again, err := ParseDisk(spec)
	if err != nil {
		if unstableTarget.MatchString(target) {
			return
		}
		t.Fatalf("%q with target %q: %v", d.spec, target, err)
	}
	before := d
	if d.Target == "" { // the drive has a medium now
		before.Format = again.Format
	}
	if again.Target != target || !again.sameBut(before) {
		t.Fatalf("%q with target %q: %q\n is %+v\nwas %+v", d.spec, target, spec, again, d)
	}
	if !strings.HasPrefix(spec, d.spec[:d.from]) || !strings.Contains(spec, strings.TrimSuffix(d.spec[d.to:], ",")) {
		t.Fatalf("%q with target %q: %q lost something", d.spec, target, spec)
	}
}

// FuzzParseDisk: any text is refused or can be given another target.
func FuzzParseDisk(f *testing.F) {
	for _, tt := range diskForms {
		f.Add(tt.spec, "/dev/vg2/y")
	}
	f.Add("/x,,xvda", "cdrom,=,")
	f.Fuzz(func(t *testing.T, spec, target string) {
		d, err := ParseDisk(spec)
		if err != nil {
			if d != (Disk{}) {
				t.Fatalf("%q: %v with %+v", spec, err, d)
			}
			return
		}
		if d.Vdev == "" || d.Target == "" && !d.CDROM || d.CDROM && !d.ReadOnly || d.spec[d.from:d.to] != d.Target {
			t.Fatalf("%q: %+v", spec, d)
		}
		if target != "" && !strings.ContainsAny(target, "\n\x00") {
			checkWithTarget(t, d, target)
		}
	})
}
