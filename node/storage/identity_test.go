package storage

import "testing"

// TestIsOwn: which file may be taken for the volume of a record.
func TestIsOwn(t *testing.T) {
	id := Identity{Dev: 1, Ino: 2, Birth: 3}
	r := Record{ID: "me", Identity: id}
	mine, other := &mark{ID: "me"}, &mark{ID: "other"}
	born := func(n int64) Identity { return Identity{Dev: 1, Ino: 2, Birth: n} }
	for name, c := range map[string]struct {
		pending pending
		record  Identity
		file    Identity
		tag     *mark
		tags    bool
		want    bool
	}{
		"tag and inode":                           {"", id, id, mine, true, true},
		"other device number after a reboot":      {"", id, Identity{Dev: 9, Ino: 2, Birth: 3}, mine, true, true},
		"copy with its tag":                       {"", id, Identity{Dev: 1, Ino: 7, Birth: 3}, mine, true, false},
		"tag of another record":                   {"", id, id, other, true, false},
		"tag taken off":                           {"", id, id, nil, true, false},
		"shadow intended, not tagged yet":         {pendingShadow, id, id, nil, true, true},
		"shadow intended, another file by now":    {pendingShadow, id, born(4), nil, true, false},
		"shadow intended, birth unknown":          {pendingShadow, born(0), born(0), nil, true, false},
		"adopt intended, not tagged yet":          {pendingAdopt, id, id, nil, true, true},
		"settle intended, tag off already":        {pendingSettle, id, id, nil, true, true},
		"remove intended, tag taken off":          {pendingRemove, id, id, nil, true, false},
		"not learned yet":                         {pendingCreate, Identity{}, id, mine, true, false},
		"no tags, all the same":                   {"", id, id, nil, false, true},
		"no tags, inode given out again":          {"", id, born(4), nil, false, false},
		"no tags, device number changed":          {"", id, Identity{Dev: 9, Ino: 2, Birth: 3}, nil, false, false},
		"no tags, birth unknown: nothing is ours": {"", born(0), born(0), nil, false, false},
	} {
		r := r
		r.Pending, r.Identity = c.pending, c.record
		if got := isOwn(r, c.file, c.tag, c.tags); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestSameDevice: a device without a stable name is known within one boot only.
func TestSameDevice(t *testing.T) {
	for name, c := range map[string]struct {
		a, b Identity
		want bool
	}{
		"same number, same boot":       {Identity{Rdev: 1, Boot: "x"}, Identity{Rdev: 1, Boot: "x"}, true},
		"same number, another boot":    {Identity{Rdev: 1, Boot: "x"}, Identity{Rdev: 1, Boot: "y"}, false},
		"boot unknown":                 {Identity{Rdev: 1}, Identity{Rdev: 1}, false},
		"other number, same UUID":      {Identity{Rdev: 1, Stable: "dm:u", Boot: "x"}, Identity{Rdev: 2, Stable: "dm:u", Boot: "y"}, true},
		"same number, another UUID":    {Identity{Rdev: 1, Stable: "dm:u", Boot: "x"}, Identity{Rdev: 1, Stable: "dm:v", Boot: "x"}, false},
		"same number, one has no name": {Identity{Rdev: 1, Stable: "dm:u", Boot: "x"}, Identity{Rdev: 1, Boot: "x"}, false},
	} {
		if got := sameDevice(c.a, c.b); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
