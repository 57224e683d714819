package storage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// groupVar names a volume group that the tests may use: they make volumes called
// xmig-test-… in it, and remove these again. They need root.
const groupVar = "XMIG_TEST_VG"

// groupBench is a host whose disks are volumes of a real volume group. All of one
// test begin with its prefix.
type groupBench struct {
	*Host
	state, group, prefix string
	written              map[string]bool // volumes with a text of the test at their start, by Identity.Stable
}

func newGroupBench(t testing.TB) groupBench {
	t.Helper()
	group := os.Getenv(groupVar)
	if group == "" {
		t.Skipf("SKIPPED: %s names no volume group that may be used; logical volumes were not tested", groupVar)
	}
	g := groupBench{state: filepath.Join(t.TempDir(), "state"), group: group, prefix: "xmig-test-" + strings.ToLower(newID()[:8]) + "-", written: map[string]bool{}}
	var err error
	if g.Host, err = New(Config{StateDir: g.state}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		args := []string{"lvremove", "--yes"}
		for _, l := range g.volumesHere(t) {
			args = append(args, l.name.arg())
		}
		if len(args) > 2 {
			lvm2(t, args...)
		}
	})
	return g
}

// lvm2 runs a command as an administrator would.
func lvm2(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(lvmProgram, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// volumesHere returns the test's volumes, ours and foreign.
func (g groupBench) volumesHere(t testing.TB) []logical {
	t.Helper()
	all := ok[[]logical](t)(lvm{}.logicals(context.Background(), g.group))
	var out []logical
	for _, l := range all {
		if strings.HasPrefix(l.name.volume, g.prefix) {
			out = append(out, l)
		}
	}
	return out
}

// volume returns one of them by the name without the prefix.
func (g groupBench) volume(t testing.TB, name string) (logical, bool) {
	t.Helper()
	for _, l := range g.volumesHere(t) {
		if l.name.volume == g.prefix+name {
			return l, true
		}
	}
	return logical{}, false
}

func (g groupBench) path(name string) string { return lvName{g.group, g.prefix + name}.path() }

func (g groupBench) request(job, vm, name string) Request {
	return Request{Path: g.path(name), Size: 8 * mib, Job: job, VM: vm, Disk: "xvda", Host: "hv2"}
}

// foreign makes a volume as an administrator would, with text at its start.
func (g groupBench) foreign(t testing.TB, name, text string, options ...string) {
	t.Helper()
	lvm2(t, append([]string{"lvcreate", "--yes", "-Wn", "-Zn", "--size", "8m", "--name", g.prefix + name, g.group}, options...)...)
	write(t, g.path(name), text)
	g.written[mustVolume(t, g, name).stable] = true
}

// block is how much of a volume the tests look at.
const block = 4096

func write(t testing.TB, device, text string) {
	t.Helper()
	f := ok[*os.File](t)(os.OpenFile(device, os.O_RDWR|unix.O_DSYNC, 0))
	b := make([]byte, block)
	copy(b, text)
	_, err := f.WriteAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, device string) string {
	t.Helper()
	f := ok[*os.File](t)(os.Open(device))
	b := make([]byte, block)
	_, err := f.ReadAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(b), "\x00")
}

func second[T any](_ T, err error) error { return err }

func mustVolume(t testing.TB, g groupBench, name string) logical {
	t.Helper()
	l, there := g.volume(t, name)
	if !there {
		t.Fatalf("no volume %s", name)
	}
	return l
}

func shell(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}
