package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func (g groupBench) host() *Host      { return g.Host }
func (g groupBench) stateDir() string { return g.state }

func (g groupBench) data(t testing.TB, name, text string) {
	t.Helper()
	g.foreign(t, name, text)
}

// picture has for each volume what lvm2 says of it, without what is random, and
// how an active one begins that the test has written to.
func (g groupBench) picture(t testing.TB) picture {
	t.Helper()
	p := picture{Files: map[string]string{}, Records: recordsOf(t, g.Host, g.path(""))}
	for _, l := range g.volumesHere(t) {
		tags := []string{}
		for _, tag := range l.tags {
			if !strings.HasPrefix(tag, lvTagID) {
				tags = append(tags, tag)
			}
		}
		text := ""
		if l.active() && g.written[l.stable] {
			text = read(t, l.name.path())
		}
		p.Files[strings.TrimPrefix(l.name.volume, g.prefix)] = fmt.Sprintf("%d %s %v %q", l.size, l.attr, tags, text)
	}
	return p
}

// everythingNamed: a volume with a tag of ours is in a record, at every moment.
func (g groupBench) everythingNamed(t testing.TB, point string) {
	t.Helper()
	known := map[string]bool{"": true}
	for _, r := range ok[[]Record](t)(g.Volumes(context.Background())) {
		known[r.ID] = true
	}
	for _, l := range g.volumesHere(t) {
		if !known[lvTagged(l.tags)] {
			t.Fatalf("killed at %q: no record names %+v", point, l)
		}
	}
}

func groupGround(t testing.TB) ground {
	g := newGroupBench(t)
	g.foreign(t, "disk-neighbour", "foreign")
	return g
}

// TestLVMKilledAtEveryPoint is TestKilledAtEveryPoint on logical volumes. With
// -short it leaves out what the registry alone decides, whatever the pool is: scenes
// that are made of others', and the points before the intent and after the end.
func TestLVMKilledAtEveryPoint(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() && (strings.Contains(s.name, " adopt") || s.name == "shadow of what a job made") {
				t.Skip("SKIPPED: -short; this scene on logical volumes was not played")
			}
			killedAtPoints(t, s, groupGround, func(point string) bool {
				return !testing.Short() || !strings.HasSuffix(point, ": before intent") && !strings.HasSuffix(point, ": after commit")
			})
		})
	}
}

// TestLVMRemovedDuringCrash: between the crash and the repetition somebody removes
// the volume. It is made again, and known by its new UUID.
func TestLVMRemovedDuringCrash(t *testing.T) {
	g := killedAt(t, scenes()[0], groupGround, "create: known").(groupBench)
	first := mustVolume(t, g, "disk")
	lvm2(t, "lvremove", "--yes", first.name.arg())
	for range 2 {
		if err := operate(g.Host, "create", sceneRequest(g, "j1")); err != nil {
			t.Fatal(err)
		}
	}
	if second := mustVolume(t, g, "disk"); second.stable == first.stable || !second.active() {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	if err := operate(g.Host, "retire", sceneRequest(g, "j1")); err != nil {
		t.Fatal(err)
	}
	if _, there := g.volume(t, "disk"); there {
		t.Fatal("left")
	}
}

// TestLVMForeignAppearsDuringCrash: between the crash and the repetition somebody
// makes a volume by the name that ours was to have. It stays, whatever is repeated.
func TestLVMForeignAppearsDuringCrash(t *testing.T) {
	for _, c := range []struct{ op, point, foreign string }{
		{"create", "create: after intent", "disk"},
		{"shadow", "shadow: after intent", "disk" + shadowSuffix},
		{"shadow", "move: tagged", "disk" + shadowSuffix},
		{"adopt", "adopt: after intent", "disk"},
		{"adopt", "move: tagged", "disk"},
	} {
		t.Run(c.op+" "+c.point, func(t *testing.T) {
			var s scene
			for _, each := range scenes() {
				if each.name == c.op {
					s = each
				}
			}
			g := killedAt(t, s, groupGround, c.point).(groupBench)
			g.foreign(t, c.foreign, "foreign")
			before := mustVolume(t, g, c.foreign)
			wantErr(t, operate(g.Host, s.op, sceneRequest(g, s.job)), ErrTaken)
			if err := operate(g.Host, "retire", sceneRequest(g, s.job)); err != nil {
				t.Fatal(err)
			}
			if after := mustVolume(t, g, c.foreign); fmt.Sprint(before) != fmt.Sprint(after) || read(t, g.path(c.foreign)) != "foreign" {
				t.Fatalf("before %+v, after %+v", before, after)
			}
		})
	}
}
