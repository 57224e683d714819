package xen

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

const (
	uuid1 = "11111111-2222-3333-4444-555555555555"
	uuid2 = "66666666-7777-8888-9999-aaaaaaaaaaaa"
)

// host lays files and links out below a directory: "-> TEXT" makes a link, and
// DIR in a text stands for the directory.
func host(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"xen", "xen/auto"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		content = strings.ReplaceAll(content, "DIR", dir)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if link, ok := strings.CutPrefix(content, "-> "); ok && err == nil {
			err = os.Symlink(link, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func find(t *testing.T, dir string) []ConfigFile {
	t.Helper()
	files, err := FindConfigs(filepath.Join(dir, "xen"), filepath.Join(dir, "xen/auto"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestConfigFile(t *testing.T) {
	dir := host(t, nil)
	for name, src := range realConfigs(t) {
		if err := os.WriteFile(filepath.Join(dir, "xen", name), src, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []ConfigFile{
		{Path: "d1.cfg", Name: "d1", Type: "pv", MemoryMiB: 128, VCPUs: 1, Bridges: []string{"xenbr0"}},
		{Path: "desktop.hvm", Name: "desktop 7", Type: "hvm", MemoryMiB: 4096, VCPUs: 4, Bridges: []string{"xenbr0.20"}},
		{Path: "micro.cfg", Name: "micro", Type: "pvh", MemoryMiB: 256, VCPUs: 1},
		{Path: "old.cfg", Name: "old"},
		{Path: "web.cfg", Name: "web", UUID: "0f5e2c1a-7f6b-4b0e-9c53-9d2d5c1e8a10", Type: "pv", MemoryMiB: 2048, VCPUs: 2, Bridges: []string{"br-dmz"}},
	}
	targets := map[string]string{
		"d1.cfg":      "xvda=/dev/vg0/d1-disk",
		"desktop.hvm": "hda=/srv/images/desktop, the new one.img hdc= hdd=/srv/iso/drivers.iso",
		"micro.cfg":   "xvda=/dev/zvol/tank/micro xvdb=iqn.2001-05.com.example:0-8a",
		"web.cfg":     "xvda2=/dev/vg0/web-root xvda1=/dev/vg0/web-swap xvdb=/dev/mapper/vg0-web--data",
	}
	got := find(t, dir)
	for i := range got {
		f := &got[i]
		var disks []string
		for _, d := range f.Disks {
			disks = append(disks, d.Vdev+"="+d.Target)
		}
		f.Path = filepath.Base(f.Path)
		if told := strings.Join(disks, " "); told != targets[f.Path] {
			t.Errorf("%s: disks %q, want %q", f.Path, told, targets[f.Path])
		}
		if errors.Is(f.Err, ErrPython) != (f.Path == "old.cfg") || f.Err != nil && f.Path != "old.cfg" {
			t.Errorf("%s: %v", f.Path, f.Err)
		}
		f.Disks, f.Err = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConfigFileDefaults(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want ConfigFile
	}{
		{"type='pv'", ConfigFile{Type: "pv", MemoryMiB: 32, VCPUs: 1}},
		{"maxmem=64\nvcpus=0", ConfigFile{Type: "pv", MemoryMiB: 64, VCPUs: 1}},
		{"builder='generic'\nmemory=16\nmaxmem=64\nmaxvcpus=4", ConfigFile{Type: "pv", MemoryMiB: 16, VCPUs: 1}},
		{"type='pvh'\nuuid='{}'", ConfigFile{Type: "pvh", MemoryMiB: 32, VCPUs: 1, Err: errors.New(`uuid "{}": not a UUID`)}},
		{"type='pvh'\nuuid='11111111222233334444555555555555'", ConfigFile{UUID: uuid1, Type: "pvh", MemoryMiB: 32, VCPUs: 1}},
		{"type='pvh'\nuuid='66666666-7777-8888-9999-AAAAAAAAAAAA'", ConfigFile{UUID: uuid2, Type: "pvh", MemoryMiB: 32, VCPUs: 1}},
		{"disk=['phy:/dev/dm-3,xvda,w','/y,,xvdb']", ConfigFile{Type: "pv", MemoryMiB: 32, VCPUs: 1, Disks: []Disk{{Target: "/y", Vdev: "xvdb", Format: "raw"}},
			Err: errors.New("item 1 of disk: disk \"phy:/dev/dm-3,xvda,w\": target /dev/dm-3")}},
		{`vif=['','bridge=a\nb','bridge=c']`, ConfigFile{Type: "pv", MemoryMiB: 32, VCPUs: 1, Bridges: []string{"c"}, Err: errors.New("item 2 of vif")}},
	} {
		var got ConfigFile
		if !got.describe([]byte("name='x'\n" + tt.src)) {
			t.Errorf("%q: taken for no domain's config", tt.src)
		}
		switch {
		case (got.Err == nil) != (tt.want.Err == nil), got.Err != nil && !strings.Contains(got.Err.Error(), tt.want.Err.Error()):
			t.Errorf("%q: error %v, want %v", tt.src, got.Err, tt.want.Err)
		case len(got.Disks) != len(tt.want.Disks), len(got.Disks) > 0 && !got.Disks[0].sameBut(tt.want.Disks[0]):
			t.Errorf("%q: disks %+v, want %+v", tt.src, got.Disks, tt.want.Disks)
		}
		got.Err, got.Disks, got.Name, tt.want.Err, tt.want.Disks = nil, nil, "", nil, nil
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.src, got, tt.want)
		}
	}
}

// TestFindConfigsChooses: what is listed, and under which name, of all that
// lies about in such a directory.
func TestFindConfigsChooses(t *testing.T) {
	domain := "name='NAME'\nmemory=64\n"
	named := func(name string) string { return strings.Replace(domain, "NAME", name, 1) }
	dir := host(t, map[string]string{
		"xen/a.cfg":      named("a"),
		"xen/b":          named("b"),
		"xen/c.hvm":      named("c"),
		"xen/linked.cfg": "-> ../srv/linked.txt",
		"srv/linked.txt": named("linked"),
		"xen/0.cfg":      "-> a.cfg", // the file itself is listed, not a link to it
		"xen/dangling":   "-> nowhere.cfg",

		"xen/broken.cfg":  "name = 'broken'\nuuid = '" + uuid1 + "' # yes\nmemory = \n",
		"xen/broken2":     "name = \"broken2\"\ndisk = [ 'x'\n",
		"xen/guess.cfg":   "name = 'vm%d' % nr\n",
		"xen/garbage.cfg": "\x7fELF\x00\x01",
		"xen/noname.cfg":  "memory = 64\n",
		"xen/huge.cfg":    strings.Repeat("#", maxConfigSize+1),

		"xen/xl.conf":                         "name='xl.conf'\nmemory=1\n",
		"xen/xend-config.sxp":                 named("sxp"),
		"xen/xlexample.pvlinux":               named("example.pvlinux"),
		"xen/xmexample1":                      named("ExampleDomain"),
		"xen/cpupool":                         "name = 'Pool-0'\nsched = 'credit'\n",
		"xen/pool.cfg":                        "name = 'Pool-1'\nsched = 'credit'\n",
		"xen/README":                          "Put the configs of domains here.\nname = 'x'\n",
		"xen/unnamed":                         "memory = 64\n",
		"xen/vmlinuz":                         "MZ" + strings.Repeat("\x00", maxConfigSize),
		"xen/gone.cfg.migrated-to-hv2":        named("gone"),
		"xen/.a.cfg.swp":                      named("swp"),
		"xen/.hidden.cfg":                     named("hidden"),
		"xen/a.cfg~":                          named("tilde"),
		"xen/#a.cfg#":                         named("hash"),
		"xen/a.cfg.bak":                       named("bak"),
		"xen/a.cfg.rpmsave":                   named("rpmsave"),
		"xen/a.cfg.dpkg-old":                  named("dpkg"),
		"xen/a.cfg.orig":                      named("orig"),
		"xen/scripts/block":                   named("script"),
		"xen/dir.cfg/x":                       named("below"),
		"xen/auto/.placeholder":               "",
		"xen/auto/README.migrated-to-nowhere": "nothing here\n",
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "xen/fifo.cfg"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{ // path: name, and ! for an Err
		"a.cfg": "a", "b": "b", "c.hvm": "c", "linked.cfg": "linked",
		"broken.cfg": "broken!", "broken2": "broken2!", "guess.cfg": "!", "garbage.cfg": "!", "noname.cfg": "!", "huge.cfg": "!",
	}
	got := map[string]string{}
	last := ""
	for _, f := range find(t, dir) {
		if f.Path <= last {
			t.Errorf("%s is listed after %s", f.Path, last)
		}
		last = f.Path
		told := f.Name
		if f.Err != nil {
			told += "!"
			if !strings.HasPrefix(f.Err.Error(), f.Path+": ") {
				t.Errorf("error %q does not begin with the path", f.Err)
			}
		}
		if f.Name == "broken" && f.UUID != uuid1 {
			t.Errorf("%s: UUID %q", f.Path, f.UUID)
		}
		if f.Autostart != "" {
			t.Errorf("%s starts by itself: %s", f.Path, f.Autostart)
		}
		got[strings.TrimPrefix(f.Path, dir+"/xen/")] = told
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found %q\nwant  %q", got, want)
	}
}

func TestFindConfigsAutostart(t *testing.T) {
	const web = "name = 'web'\nmemory = 64\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  ConfigFile
		fails string
	}{
		{"none", map[string]string{"xen/web.cfg": web},
			ConfigFile{Path: "DIR/xen/web.cfg"}, ""},
		{"absolute", map[string]string{"xen/web.cfg": web, "xen/auto/web.cfg": "-> DIR/xen/web.cfg"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/web.cfg", AutostartText: "DIR/xen/web.cfg"}, ""},
		{"relative", map[string]string{"xen/web.cfg": web, "xen/auto/10-web": "-> ../web.cfg"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/10-web", AutostartText: "../web.cfg"}, ""},
		{"whatever it is called", map[string]string{"xen/web.cfg": web, "xen/auto/web.cfg.bak": "-> ../web.cfg"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/web.cfg.bak", AutostartText: "../web.cfg"}, ""},
		{"by another link", map[string]string{"xen/web.cfg": web, "srv/w": "-> DIR/xen/web.cfg", "xen/auto/web": "-> DIR/srv/w"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/web", AutostartText: "DIR/srv/w"}, ""},
		{"both link elsewhere", map[string]string{"srv/web": web, "xen/web.cfg": "-> DIR/srv/web", "xen/auto/web": "-> ../../srv/web"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/web", AutostartText: "../../srv/web"}, ""},
		{"a config elsewhere", map[string]string{"srv/web": web, "xen/auto/web": "-> DIR/srv/web"},
			ConfigFile{Path: "DIR/srv/web", Autostart: "DIR/xen/auto/web", AutostartText: "DIR/srv/web"}, ""},
		{"one that is else passed over", map[string]string{"xen/web.cfg.old": web, "xen/auto/web": "-> ../web.cfg.old"},
			ConfigFile{Path: "DIR/xen/web.cfg.old", Autostart: "DIR/xen/auto/web", AutostartText: "../web.cfg.old"}, ""},
		{"dangling, hidden, directory", map[string]string{"xen/web.cfg": web, "xen/auto/web": "-> ../gone.cfg", "xen/auto/.web": "-> ../web.cfg", "xen/auto/d": "-> ../../xen"},
			ConfigFile{Path: "DIR/xen/web.cfg"}, ""},
		{"a copy", map[string]string{"xen/web.cfg": web, "xen/auto/web.cfg": web},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/web.cfg", AutostartText: "DIR/xen/web.cfg"}, ""},
		{"a file of its own", map[string]string{"xen/auto/web.cfg": web},
			ConfigFile{Path: "DIR/xen/auto/web.cfg", Autostart: "DIR/xen/auto/web.cfg"}, "move it out and put a link in its place"},
		{"two links", map[string]string{"xen/web.cfg": web, "xen/auto/1": "-> ../web.cfg", "xen/auto/2": "-> ../web.cfg"},
			ConfigFile{Path: "DIR/xen/web.cfg", Autostart: "DIR/xen/auto/1", AutostartText: "../web.cfg"}, "two autostart links, DIR/xen/auto/1 and DIR/xen/auto/2"},
	} {
		dir := host(t, tt.files)
		here := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
		files := find(t, dir)
		if len(files) != 1 {
			t.Errorf("%s: %d files: %+v", tt.name, len(files), files)
			continue
		}
		got := files[0]
		if (got.Err != nil) != (tt.fails != "") || got.Err != nil && !strings.Contains(got.Err.Error(), here(tt.fails)) {
			t.Errorf("%s: error %v, want %q", tt.name, got.Err, here(tt.fails))
		}
		if got.Path != here(tt.want.Path) || got.Autostart != here(tt.want.Autostart) || got.AutostartText != here(tt.want.AutostartText) || got.Name != "web" {
			t.Errorf("%s:\n got %s started by %s -> %s\nwant %s", tt.name, got.Path, got.Autostart, got.AutostartText, here(tt.want.Path))
		}
	}
}

// TestFindConfigsAutostartConflict: a stale copy that is started at boot is
// another config of the same VM, and MatchConfig says so.
func TestFindConfigsAutostartConflict(t *testing.T) {
	dir := host(t, map[string]string{"xen/web.cfg": "name='web'\nmemory=64\n", "xen/auto/web.cfg": "name='web'\nmemory=32\n"})
	_, err := MatchConfig(find(t, dir), "web", uuid1)
	if err == nil || !strings.Contains(err.Error(), dir+"/xen/auto/web.cfg, "+dir+"/xen/web.cfg") {
		t.Errorf("%v; want both files named", err)
	}
}

func TestFindConfigsDirectories(t *testing.T) {
	dir := host(t, map[string]string{"xen/web.cfg": "name='web'\nmemory=64\n", "xen/auto/db": "-> DIR/srv/db", "srv/db": "name='db'\nmemory=64\n", "file": ""})
	for _, tt := range []struct {
		config, auto string
		names        []string
		fails        error
	}{
		{"xen", "xen/auto", []string{"db", "web"}, nil},
		{"xen", "none", []string{"web"}, nil}, // a host without autostart
		{"none", "xen/auto", []string{"db"}, fs.ErrNotExist},
		{"xen", "file", []string{"web"}, syscall.ENOTDIR},
	} {
		files, err := FindConfigs(filepath.Join(dir, tt.config), filepath.Join(dir, tt.auto))
		if !errors.Is(err, tt.fails) {
			t.Errorf("%s, %s: %v, want %v", tt.config, tt.auto, err, tt.fails)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name)
		}
		if !reflect.DeepEqual(names, tt.names) {
			t.Errorf("%s, %s: %q, want %q", tt.config, tt.auto, names, tt.names)
		}
	}
}

func TestMatchConfig(t *testing.T) {
	plain := ConfigFile{Path: "/xen/web", Name: "web"}
	proven := ConfigFile{Path: "/xen/one", Name: "web", UUID: uuid1}
	other := ConfigFile{Path: "/xen/two", Name: "web", UUID: uuid2}
	unknown := ConfigFile{Path: "/xen/broken", Err: errors.New("no")}
	broken := ConfigFile{Path: "/xen/web", Name: "web", Err: errors.New("no")}
	for _, tt := range []struct {
		name     string
		files    []ConfigFile
		vm, uuid string
		want     string // the path
		says     string // of the error
		none     bool
	}{
		{"by name", []ConfigFile{plain, unknown}, "web", uuid1, "/xen/web", "", false},
		{"by UUID", []ConfigFile{proven}, "web", uuid1, "/xen/one", "", false},
		{"in capitals", []ConfigFile{other}, "web", strings.ToUpper(uuid2), "/xen/two", "", false},
		{"renamed since", []ConfigFile{proven}, "web-new", uuid1, "/xen/one", "", false},
		{"UUID tells apart", []ConfigFile{proven, other}, "web", uuid2, "/xen/two", "", false},
		{"a broken one", []ConfigFile{broken}, "web", uuid1, "/xen/web", "", false},
		{"no UUID known", []ConfigFile{proven}, "web", "", "/xen/one", "", false},
		{"none", []ConfigFile{plain, unknown}, "db", uuid1, "", "vm db: no config file", true},
		{"none at all", nil, "db", uuid1, "", "vm db: no config file", true},
		{"no name", []ConfigFile{unknown}, "", uuid1, "", "no config file", true},
		{"two by name", []ConfigFile{plain, broken}, "web", uuid1, "", "2 configs describe it, leave one: /xen/web, /xen/web", false},
		{"UUID and name", []ConfigFile{plain, proven, other}, "web", uuid1, "", "/xen/web, /xen/one", false},
		{"two by UUID", []ConfigFile{proven, {Path: "/xen/three", Name: "x", UUID: uuid1}}, "web", uuid1, "", "/xen/one, /xen/three", false},
		{"another UUID", []ConfigFile{other}, "web", uuid1, "", "has UUID " + uuid1 + ", but another in the config of its name: /xen/two", false},
	} {
		got, err := MatchConfig(tt.files, tt.vm, tt.uuid)
		if got.Path != tt.want || (err == nil) != (tt.says == "") || errors.Is(err, ErrNoConfig) != tt.none {
			t.Errorf("%s: %q, %v", tt.name, got.Path, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "vm "+tt.vm)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
