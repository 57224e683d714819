package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"xmig/jobs"
)

// mappedJob moves /srv/a to /data/b and br0 to lan.
func mappedJob() jobs.Job {
	return jobs.Job{
		ID: job1, VM: jobs.VMRef{UUID: "5eed0000-0000-4000-8000-000000000001", Name: "web01"}, Source: "a", Destination: "b",
		Spec: jobs.Spec{Map: jobs.Mapping{Disks: map[string]string{"/srv/a": "/data/b"}, Bridges: map[string]string{"br0": "lan"}}},
		Plan: jobs.Plan{Disks: []jobs.DiskMove{{Name: "xvda", From: "/srv/a/x.img", To: "/data/b/x.img"}, {Name: "xvdb", From: "/dev/vg/web01-data", To: "/dev/vg/web01-data"}}},
	}
}

// TestMapConfig: disks and bridges change, and not one other byte.
func TestMapConfig(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing to map", "name = 'x'\t# a comment\r\ndisk=['phy:/dev/vg/web01-data,xvdb,w']", ""},
		{"keys", "disk = [ 'format=raw, vdev=xvda, access=rw, target=/srv/a/x.img' ]\n", "disk = [ 'format=raw, vdev=xvda, access=rw, target=/data/b/x.img' ]\n"},
		{"positions and quotes", "disk=[\"/srv/a/x.img,,xvda\", # system 'disk'\n  'phy:/dev/vg/web01-data,xvdb,w',]\n", "disk=[\"/data/b/x.img,,xvda\", # system 'disk'\n  'phy:/dev/vg/web01-data,xvdb,w',]\n"},
		{"added later", "disk=[]\nname='x'\ndisk+=['/srv/a/x.img,raw,xvda,rw']", "disk=[]\nname='x'\ndisk+=['/data/b/x.img,raw,xvda,rw']"},
		{"old prefix", "disk=['file:/srv/a/x.img,xvda,w']", "disk=['file:/data/b/x.img,xvda,w']"},
		{"ejected CD by its directory", "disk=['/srv/a/install.iso,,hdc,cdrom', ',hdd:cdrom,r']", "disk=['/data/b/install.iso,,hdc,cdrom', ',hdd:cdrom,r']"},
		{"vifs", "vif = [ 'mac=00:16:3e:00:00:01, bridge=br0, script=vif-bridge', '' , 'bridge=other']\n", "vif = [ 'mac=00:16:3e:00:00:01, bridge=lan, script=vif-bridge', '' , 'bridge=other']\n"},
		{"unknown keys", "xen_platform_pci=1; weird_key = [ 'br0', \"/srv/a/x.img\" ]\nvif=['bridge=br0']", "xen_platform_pci=1; weird_key = [ 'br0', \"/srv/a/x.img\" ]\nvif=['bridge=lan']"},
	} {
		want := c.want
		if want == "" {
			want = c.text
		}
		got, err := mapConfig([]byte(c.text), mappedJob())
		must(t, err)
		equal(t, c.name, string(got), want)
	}
	for text, want := range map[string]string{
		"disk = ['/srv/a/x.img,,xvda,w!']": "disk 1: ",
		`vif = ['bridge=br0', "a\nb"]`:     "vif 2: ",
		"def x():":                         "Python",
	} {
		_, err := mapConfig([]byte(text), mappedJob())
		refused(t, err, want)
	}
}

// TestMapConfigAndBack: mapping there and home again gives the same bytes.
func TestMapConfigAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z][a-z0-9._-]{0,12}`).Draw(t, "name")
		quote := rapid.SampledFrom([]string{"'", `"`}).Draw(t, "quote")
		form := rapid.SampledFrom([]string{"phy:%s,xvda,w", "%s,raw,xvda,rw", "vdev=xvda,target=%s", " format=raw,  vdev=xvda, target=%s"}).Draw(t, "form")
		end := rapid.SampledFrom([]string{"\n", "\r\n", ""}).Draw(t, "end")
		text := "# head" + end + "\ndisk = [ " + quote + strings.Replace(form, "%s", "/srv/a/"+name, 1) + quote + " ]" + end
		there := mappedJob()
		there.Plan.Disks = []jobs.DiskMove{{Name: "xvda", From: "/srv/a/" + name, To: "/data/b/" + name}}
		home := there
		home.Spec.Map = jobs.Mapping{Disks: map[string]string{"/data/b": "/srv/a"}, Bridges: map[string]string{"lan": "br0"}}
		home.Plan.Disks = []jobs.DiskMove{{Name: "xvda", From: "/data/b/" + name, To: "/srv/a/" + name}}
		moved, err := mapConfig([]byte(text), there)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(moved), "/srv/a") {
			t.Fatalf("not mapped: %q", moved)
		}
		back, err := mapConfig(moved, home)
		if err != nil || string(back) != text {
			t.Fatalf("%q became %q, then %q (%v)", text, moved, back, err)
		}
	})
}

// TestMapDomain: the config in an image is rewritten by meaning, numbers keep
// every digit, and nothing is touched where nothing is mapped.
func TestMapDomain(t *testing.T) {
	const text = `{ "c_info": {"name":"web01","uuid":"5eed"}, "b_info": {"max_memkb":18446744073709551615},
	 "disks": [{"pdev_path":"/srv/a/x.img","vdev":"xvda","readwrite":1},{"vdev":"hdc"}], "nics":[{"devid":0,"bridge":"br0"},{"bridge":"other"}]}`
	got, err := mapDomain([]byte(text), mappedJob())
	must(t, err)
	var a, b any
	must(t, json.Unmarshal([]byte(strings.NewReplacer("/srv/a/", "/data/b/", `"br0"`, `"lan"`).Replace(text)), &a))
	must(t, json.Unmarshal(got, &b))
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	equal(t, "mapped", string(y), string(x))
	if !strings.Contains(string(got), "18446744073709551615") {
		t.Errorf("a number lost digits: %s", got)
	}
	job := mappedJob()
	job.Spec.Map = jobs.Mapping{}
	got, err = mapDomain([]byte(text), job)
	must(t, err)
	equal(t, "unmapped", string(got), text)
	_, err = mapDomain([]byte("(domain"), mappedJob())
	refused(t, err, "config in the saved domain")
}

// configHost is a host with nothing but its directories.
func configHost(t *testing.T) *host {
	return newWorld(t).host("b")
}

// TestInstall: config, boot file and link come to their places; a crash after
// any step is made good by the same call again.
func TestInstall(t *testing.T) {
	h := configHost(t)
	job := mappedJob()
	kernel := filepath.Join(h.sim, "boot", "vmlinuz")
	job.Plan.Config = h.etc("web01.cfg")
	job.Plan.Guest = jobs.Guest{VM: jobs.VM{Config: "/etc/xen/web01.cfg"}, ConfigMode: 0o640, ConfigText: []byte("disk=['/srv/a/x.img,,xvda']\n"),
		AutostartLink: "/etc/xen/auto/10-web01", AutostartText: "../web01.cfg", BootFiles: []jobs.BootFile{{Key: "kernel", Path: kernel, Send: true}}}
	check := func(step string) {
		t.Helper()
		must(t, h.install(job))
		equal(t, step+": config", read(t, h.etc("web01.cfg")), "disk=['/data/b/x.img,,xvda']\n")
		equal(t, step+": kernel", read(t, kernel), "KERNEL")
		equal(t, step+": boot directory", names(t, filepath.Dir(kernel)), "vmlinuz")
		link, _ := os.Readlink(h.etc("auto/10-web01"))
		equal(t, step+": link", link, "../web01.cfg")
		equal(t, step+": staged", names(t, filepath.Join(h.cfg.StateDir, "staged")), "")
		info, err := os.Stat(h.etc("web01.cfg"))
		must(t, err)
		equal(t, step+": mode", info.Mode().Perm(), 0o640)
	}
	for _, crash := range []struct {
		name string
		left func() // what the first call had done when it died
	}{
		{"before anything", func() {}},
		{"after the config", func() { write(t, h.etc("web01.cfg"), "disk=['/data/b/x.img,,xvda']\n") }},
		{"after the kernel's link", func() { must(t, os.Link(incoming(job, kernel), kernel)) }},
		{"after the kernel", func() { must(t, os.Rename(incoming(job, kernel), kernel)) }},
		{"after the autostart link", func() { must(t, os.Symlink("../web01.cfg", h.etc("auto/10-web01"))) }},
		{"after all", func() { must(t, h.install(job)) }},
	} {
		for _, path := range []string{h.etc("web01.cfg"), kernel, h.etc("auto/10-web01")} {
			must(t, removeIfThere(path))
		}
		must(t, h.stage(job))
		must(t, h.stage(job))
		write(t, incoming(job, kernel), "KERNEL")
		crash.left()
		check(crash.name)
		check(crash.name + ", again")
	}

	// Nobody's edits are written over, nobody else's file is.
	write(t, h.etc("web01.cfg"), "edited")
	must(t, h.install(job))
	equal(t, "edited config", read(t, h.etc("web01.cfg")), "edited")
	must(t, h.stage(job))
	write(t, incoming(job, kernel), "OTHER")
	check("over a foreign config")
	equal(t, "foreign config", read(t, h.etc("web01.cfg."+job1+".old")), "edited")
	files, err := h.configs()
	must(t, err)
	equal(t, "configs that count", len(files), 1)

	must(t, os.Remove(h.etc("auto/10-web01")))
	must(t, os.Symlink("../mail.cfg", h.etc("auto/10-web01")))
	must(t, h.stage(job))
	refused(t, h.install(job), "autostart link "+h.etc("auto/10-web01")+" is there and leads elsewhere: remove it or give it another name")
	must(t, os.Remove(h.etc("auto/10-web01")))
	check("after the operator's help")

	job.Plan.Config = ""
	must(t, h.install(job)) // a VM without a config
	job.Plan.Config = h.etc("none.cfg")
	if err := h.install(job); err == nil {
		t.Error("a config that is neither staged nor there was installed")
	}
	kept := job
	kept.Plan.Guest.ConfigMode = 0
	equal(t, "mode when nobody told", configMode(kept), 0o600)
}

// TestAutostartText: a link says the same here if that leads to the config.
func TestAutostartText(t *testing.T) {
	h := configHost(t)
	for _, c := range []struct{ text, config, want string }{
		{"../web01.cfg", h.etc("web01.cfg"), "../web01.cfg"},
		{"/etc/xen/web01.cfg", h.etc("web01.cfg"), h.etc("web01.cfg")},
		{h.etc("web01.cfg"), h.etc("web01.cfg"), h.etc("web01.cfg")},
		{"../../elsewhere/web01.cfg", h.etc("web01.cfg"), h.etc("web01.cfg")},
	} {
		job := jobs.Job{Plan: jobs.Plan{Config: c.config, Guest: jobs.Guest{AutostartText: c.text}}}
		equal(t, c.text, h.autostartText(job), c.want)
	}
	// A link that says the same in other words is left as it is.
	must(t, os.Symlink("../web01.cfg", h.etc("auto/web01.cfg")))
	must(t, h.link("web01.cfg", h.etc("web01.cfg")))
	text, _ := os.Readlink(h.etc("auto/web01.cfg"))
	equal(t, "link", text, "../web01.cfg")
}

// TestDisarmAndRearm: the link goes and comes as it was, whichever step a
// crash repeats, and one that a person made meanwhile is left alone.
func TestDisarmAndRearm(t *testing.T) {
	h := configHost(t)
	for epoch, text := range []string{"../web01.cfg", h.etc("web01.cfg")} {
		job := mappedJob()
		job.Epoch = uint64(epoch + 1)
		link := h.etc("auto/web01.cfg")
		job.Plan.Guest.AutostartLink, job.Plan.Guest.AutostartText = link, text
		must(t, removeIfThere(link))
		must(t, os.Symlink(text, link))
		twice := func(f func(*held, jobs.Job) error) {
			t.Helper()
			for range 2 {
				must(t, h.hold(h.w.ctx, job.VM, func(held *held) error { return f(held, job) }))
			}
		}
		twice(h.rearm) // never disarmed: nothing to do
		twice(h.disarm)
		equal(t, "disarmed", names(t, h.etc("auto")), "")
		twice(h.rearm)
		got, err := os.Readlink(link)
		must(t, err)
		equal(t, "rearmed", got, text)
		twice(h.disarm)
		must(t, os.Symlink("/by/hand.cfg", link))
		twice(h.rearm)
		got, _ = os.Readlink(link)
		equal(t, "made by hand", got, "/by/hand.cfg")
	}
	none := mappedJob()
	none.Epoch = 9
	must(t, h.hold(h.w.ctx, none.VM, func(held *held) error { return h.disarm(held, none) }))
	equal(t, "promises", h.said(none.VM), "DISARMED(1) DISARMED(2)")
}

// TestPark: twice, with nothing there, and over an older parked one.
func TestPark(t *testing.T) {
	h := configHost(t)
	job := jobs.Job{Destination: "hv2", Plan: jobs.Plan{Guest: jobs.Guest{VM: jobs.VM{Config: h.etc("web01.cfg")}, ConfigText: []byte("old")}}}
	for _, text := range []string{"old", "edited since"} {
		write(t, h.etc("web01.cfg"), text)
		for range 2 {
			must(t, h.park(job))
			equal(t, "files", names(t, h.etc("")), "auto web01.cfg.migrated-to-hv2")
			equal(t, "parked", read(t, h.etc("web01.cfg.migrated-to-hv2")), text)
		}
	}
	files, err := h.configs()
	must(t, err)
	equal(t, "configs that count", len(files), 0)
	must(t, h.park(jobs.Job{Destination: "hv2"}))
}
