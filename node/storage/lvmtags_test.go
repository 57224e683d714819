package storage

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTagsOfVolumes: whatever a job, a VM or a disk is called, lvm2 takes its
// tags, and different ones have different tags.
func TestTagsOfVolumes(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_+./=!:&#-]{1,1000}$`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Record {
			s := rapid.OneOf(rapid.StringN(0, 40, -1), rapid.StringMatching(`[a-z#2F/ ,"]{0,20}`))
			return Record{ID: newID(), Job: s.Draw(t, name+" job"), VM: s.Draw(t, name+" vm"), Disk: s.Draw(t, name+" disk"), Role: RoleMade}
		}
		a, b := draw("a"), draw("b")
		for _, tag := range lvTags(a) {
			if !allowed.MatchString(tag) {
				t.Fatalf("%q", tag)
			}
		}
		if (lvTags(a)[1] == lvTags(b)[1]) != (a.Job == b.Job) {
			t.Fatalf("%q and %q: %v, %v", a.Job, b.Job, lvTags(a), lvTags(b))
		}
		if lvTagged(lvTags(a)) != a.ID || lvTagged([]string{"backup", "xmig.idle"}) != "" {
			t.Fatal("ID not found in its tags")
		}
		have := append(lvTags(b), "backup", "@x")
		after := applied(have, retagging(have, lvTags(a)))
		if want := append(lvTags(a), "backup", "@x"); !same(after, want) || len(retagging(after, lvTags(a))) != 0 {
			t.Fatalf("%v, want %v", after, want)
		}
		if left := applied(have, retagging(have, nil)); !same(left, []string{"backup", "@x"}) {
			t.Fatalf("left %v", left)
		}
	})
	if long := lvTags(Record{ID: newID(), Job: strings.Repeat("é", 4000)}); !allowed.MatchString(long[1]) {
		t.Fatalf("%d bytes", len(long[1]))
	}
}

// applied does what lvchange does with options of retagging.
func applied(tags, options []string) []string {
	out := slices.Clone(tags)
	for i := 0; i < len(options); i += 2 {
		switch options[i] {
		case "--deltag":
			out = slices.DeleteFunc(out, func(s string) bool { return s == options[i+1] })
		case "--addtag":
			out = append(out, options[i+1])
		}
	}
	return out
}

func same(a, b []string) bool {
	set := func(s []string) []string {
		s = slices.Clone(s)
		slices.Sort(s)
		return slices.Compact(s)
	}
	return slices.Equal(set(a), set(b))
}

// TestIsOwnLV: which logical volume may be taken for the volume of a record.
func TestIsOwnLV(t *testing.T) {
	const place = "/dev/vg0/d"
	at := func(name, stable string, tags ...string) logical {
		return logical{name: lvName{"vg0", name}, stable: stable, tags: tags}
	}
	mine, other := lvTagID+"me", lvTagID+"other"
	for name, c := range map[string]struct {
		pending pending
		stable  string // as recorded
		volume  logical
		want    bool
	}{
		"UUID and tag":                           {"", "u", at("d", "u", "x", mine), true},
		"UUID and tag, renamed":                  {"", "u", at("e", "u", mine), true},
		"another volume by that name":            {"", "u", at("d", "v"), false},
		"another volume with copied tags":        {"", "u", at("d", "v", mine), false},
		"tag of another record":                  {"", "u", at("d", "u", other), false},
		"tag taken off":                          {"", "u", at("d", "u", "backup"), false},
		"adopt intended, not tagged yet":         {pendingAdopt, "u", at("d", "u"), true},
		"adopt intended, another has it":         {pendingAdopt, "u", at("d", "u", other), false},
		"shadow intended, not tagged yet":        {pendingShadow, "u", at("d", "u"), true},
		"shadow intended, another volume by now": {pendingShadow, "u", at("d", "v"), false},
		"settle intended, tag off already":       {pendingSettle, "u", at("d", "u"), true},
		"remove intended, tag taken off":         {pendingRemove, "u", at("d", "u"), false},
		"not learned yet":                        {pendingCreate, "", at("d", "u", mine), true},
		"not learned yet, going back":            {pendingRemove, "", at("d", "u", mine), true},
		"not learned yet, snapshot of it":        {pendingCreate, "", at("snap", "w", mine), false},
		"not learned yet, foreign":               {pendingCreate, "", at("d", "u"), false},
		"not learned yet, another record's":      {pendingCreate, "", at("d", "u", other), false},
	} {
		r := Record{ID: "me", Place: place, Kind: KindLVM, Pending: c.pending, Identity: Identity{Stable: c.stable}}
		if got := isOwnLV(r, c.volume); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestRemovable: role and job on the volume must be the record's.
func TestRemovable(t *testing.T) {
	r := Record{ID: "me", Job: "j 1", VM: "vm1", Disk: "xvda", Role: RoleMade, Kind: KindLVM, Place: "/dev/vg0/d"}
	l := logical{name: lvName{"vg0", "d"}, tags: append(lvTags(r), "backup")}
	if err := removable(r, l); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(r *Record){
		func(r *Record) { r.Job = "j2" },
		func(r *Record) { r.Role = RoleShadow },
	} {
		other := r
		change(&other)
		if err := removable(other, l); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "xmig.job=j#201") {
			t.Errorf("%+v: %v", other, err)
		}
	}
}
