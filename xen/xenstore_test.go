package xen

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestParseNodesGolden(t *testing.T) {
	nodes, err := parseNodes(recording(t, "xenstore-backend-vbd.txt"))
	if err != nil || len(nodes) != 32 {
		t.Fatalf("%d nodes, %v; the recording has 32", len(nodes), err)
	}
	disk := "/local/domain/0/backend/vbd/1/51712"
	for name, want := range map[string]string{
		"": "", "/params": "/dev/vg0/d1-disk", "/physical-device": "fd:0", "/mode": "w", "/frontend": "/local/domain/1/device/vbd/51712",
	} {
		if got, ok := nodes[disk+name]; !ok || got != want {
			t.Errorf("%s: got %q (%v), want %q", disk+name, got, ok, want)
		}
	}
	nodes, err = parseNodes(recording(t, "xenstore-domain.txt"))
	if err != nil || nodes["/local/domain/1/control/feature-suspend"] != "1" || nodes["/local/domain/1/name"] != "d1" {
		t.Errorf("a domain: got %v, %v", nodes, err)
	}
}

func TestParseNodesOddValues(t *testing.T) {
	text := `/a = "x = "y""` + "\n" + `/b = "C:\\new\tline\nend \x7f \001\303\244"` + "\n" + "/gone:\n" + `/c = ""` + "\n"
	want := map[string]string{"/a": `x = "y"`, "/b": "C:\\new\tline\nend \x7f \x01\xc3\xa4", "/c": ""}
	if got, err := parseNodes(text); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	for _, bad := range []string{"xenstore-ls: could not connect\n", `/a = "x`, "/a"} {
		if got, err := parseNodes(bad); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

// sanitised writes a value as xenstore-ls does.
func sanitised(value string) string {
	var b strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\\':
			b.WriteString(`\\`)
		case c >= ' ' && c <= '~':
			b.WriteByte(c)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c < 8:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func TestParseNodesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringMatching(`(/[a-z0-9-]{1,9}){1,4}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "nodes")
		text := ""
		for path, value := range want {
			text += path + ` = "` + sanitised(value) + "\"\n"
		}
		if got, err := parseNodes(text); err != nil || !maps.Equal(got, want) {
			t.Fatalf("%q: got %q, %v", text, got, err)
		}
	})
}

func FuzzParseNodes(f *testing.F) {
	f.Add(recording(f, "xenstore-backend-vbd.txt"))
	f.Add(recording(f, "xenstore-domain.txt"))
	f.Add(`/local/domain/0/backend/qdisk/3/51712/params = "aio:/x\\y"` + "\n/gone:\n")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := parseNodes(text)
		if err != nil {
			return
		}
		users, err := diskUsers(nodes)
		if err != nil {
			return
		}
		for _, use := range users.uses {
			if use.path != "" && !slices.Contains(users.Of(use.path), use.domid) {
				t.Fatalf("%q: domain %d does not use its own disk %q", text, use.domid, use.path)
			}
			if slices.Contains(users.Without(use.domid).Of(use.path), use.domid) {
				t.Fatalf("%q: domain %d was left out and is there", text, use.domid)
			}
		}
	})
}

// TestDiskUsers: one thing by whatever name it is called.
func TestDiskUsers(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "a.img"), filepath.Join(dir, "b.img")
	for _, f := range []string{file, other} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hard, soft, loop := filepath.Join(dir, "hard"), filepath.Join(dir, "soft"), filepath.Join(dir, "loop")
	if err := os.Link(file, hard); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{soft: file, loop: loop} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	users, err := diskUsers(map[string]string{
		"/local/domain/0/backend/vbd/3/51712": "", "/local/domain/0/backend/vbd/3/51712/params": file,
		"/local/domain/0/backend/vbd/3/51712/physical-device": "7:186a0",
		"/local/domain/0/backend/qdisk/5/51728":               "", "/local/domain/0/backend/qdisk/5/51728/params": "aio:" + soft,
		"/local/domain/0/backend/vbd/6/51712": "", "/local/domain/0/backend/vbd/6/51712/params": "/dev/vg0/is-not-here",
		"/local/domain/0/backend/vbd/7/5632": "", "/local/domain/0/backend/vbd/7/5632/params": "", // an empty drive
		"/local/domain/0/backend/vif/8/0": "", "/local/domain/0/backend/vif/8/0/params": file,
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path string
		want []int
	}{
		{file, []int{3, 5}},
		{hard, []int{3, 5}},
		{soft, []int{3, 5}},
		{dir + "/./a.img", []int{3, 5}},
		{other, nil},
		{"/dev/vg0/is-not-here", []int{6}},
		{"/dev/vg0//is-not-here", []int{6}},
		{"/nowhere", nil},
		{loop, nil}, // leads nowhere, and is no reason to fail
		{"", nil},
	}
	for _, tt := range tests {
		if got := users.Of(tt.path); !slices.Equal(got, tt.want) {
			t.Errorf("users of %q: got %v, want %v", tt.path, got, tt.want)
		}
	}
	if got := users.Without(3).Of(file); !slices.Equal(got, []int{5}) {
		t.Errorf("without domain 3: got %v", got)
	}
	if got := users.Of(file); !slices.Equal(got, []int{3, 5}) {
		t.Errorf("Without changed what it was made of: %v", got)
	}
}

// TestDiskUsersByNumber: a device is one whatever its names are, and the number
// that the backend has open counts, not only the name it was configured by.
func TestDiskUsersByNumber(t *testing.T) {
	device, number := someBlockDevice(t)
	users, err := diskUsers(map[string]string{
		"/local/domain/0/backend/vbd/9/51712": "", "/local/domain/0/backend/vbd/9/51712/params": "/dev/vg0/renamed-since",
		"/local/domain/0/backend/vbd/9/51712/physical-device": fmt.Sprintf("%x:%x", unix.Major(number), unix.Minor(number)),
	})
	link := filepath.Join(t.TempDir(), "disk")
	if lerr := os.Symlink(device, link); err != nil || lerr != nil {
		t.Fatal(err, lerr)
	}
	for _, path := range []string{device, link, "/dev/vg0/renamed-since"} {
		if got := users.Of(path); !slices.Equal(got, []int{9}) {
			t.Errorf("users of %s: got %v, want [9]", path, got)
		}
	}
	if _, err := diskUsers(map[string]string{"/local/domain/0/backend/vbd/9/1": "", "/local/domain/0/backend/vbd/9/1/physical-device": "disk"}); err == nil {
		t.Error("a device number that is none was taken")
	}
}

// someBlockDevice is any there is, or the test cannot be made.
func someBlockDevice(t *testing.T) (path string, number uint64) {
	t.Helper()
	entries, err := os.ReadDir("/dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join("/dev", e.Name())
		if info, err := os.Stat(path); err == nil {
			if st := info.Sys().(*syscall.Stat_t); st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
				return path, st.Rdev
			}
		}
	}
	t.Skip("NOT TESTED: this machine shows no block device in /dev")
	return "", 0
}
