package node

import (
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen"
)

// TestWhoseCopy: what a journal says of domains that are here.
func TestWhoseCopy(t *testing.T) {
	paused, runs := xen.Domain{State: "--p---"}, xen.Domain{State: "-b----"}
	suspended, crashed := xen.Domain{State: "---ss-"}, xen.Domain{State: "---sc-"}
	for _, c := range []struct {
		said     string
		copies   []xen.Domain
		lives    bool
		leftover bool
	}{
		{said: "", copies: []xen.Domain{paused}},
		{said: "BEGIN1", copies: []xen.Domain{paused}, leftover: true},
		{said: "BEGIN1", copies: []xen.Domain{crashed}, leftover: true},
		{said: "BEGIN1", copies: []xen.Domain{paused, runs}},
		{said: "BEGIN1", copies: []xen.Domain{suspended}},
		{said: "BEGIN1 READY1", copies: []xen.Domain{paused}, leftover: true},
		{said: "BEGIN1 READY1 ABORTED1", copies: []xen.Domain{paused}, leftover: true},
		{said: "BEGIN1 READY1 GO1", copies: []xen.Domain{paused}, lives: true},
		{said: "BEGIN1 READY1 GO1 ABORTED1", copies: []xen.Domain{paused}, leftover: true},
		{said: "BEGIN1 READY1 GO1 RUNNING1", copies: []xen.Domain{paused}, lives: true},
		{said: "BEGIN1 READY1 GO1 RUNNING1 BEGIN2 STOPPING2 SEALED2 COMMITTING2 BACK2", copies: []xen.Domain{paused}, lives: true},
		{said: "BEGIN1 READY1 GO1 RUNNING1 BEGIN2 STOPPING2 SEALED2 COMMITTING2 DONE2", copies: []xen.Domain{paused}},
		{said: "BEGIN1 READY1 GO1 RUNNING1 BEGIN2 SEALED2 COMMITTING2 DONE2 BEGIN3", copies: []xen.Domain{paused}, leftover: true},
		{said: "BEGIN1 ABORTED1 BEGIN2 READY2 GO2 RUNNING2", copies: []xen.Domain{paused}, lives: true},
		{said: "BEGIN1 STOPPING1 BACK1", copies: []xen.Domain{paused}},
		{said: "BEGIN1 SEALED1", copies: []xen.Domain{paused}},
	} {
		var said jobs.Journal
		for _, f := range strings.Fields(c.said) {
			said = append(said, jobs.Promise{Fact: jobs.Fact(f[:len(f)-1]), Epoch: uint64(f[len(f)-1] - '0')})
		}
		if jobs.Leftover(said, states(c.copies)) != c.leftover {
			t.Errorf("%q with %v: leftover %v", c.said, c.copies, !c.leftover)
		}
	}
}

// TestMissingFeatures compares words that two hosts tell of their CPUs.
func TestMissingFeatures(t *testing.T) {
	for _, c := range []struct{ have, here, want string }{
		{"", "", ""},
		{"ff", "ff", ""},
		{"0f:01", "ff:ff", ""},
		{"ff:01", "0f:01", "000000f0:00000000"},
		{"ff", "ff:00", ""}, // other words: nothing can be said
		{"xyz", "ff", ""},
	} {
		equal(t, c.have+" on "+c.here, jobs.MissingFeatures(c.have, c.here), c.want)
	}
}
