package jobs

import (
	"strings"
	"testing"
	"time"
)

func TestMayPrune(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	gave := said(BEGIN, SEALED, COMMITTING, DONE)
	there := []Host{{Node: dNode, VMs: []VM{{VMRef: VMRef{testVM, "web01"}}}}}
	key := &Owner{VM: testVM, Node: dNode}
	for _, c := range []struct {
		name  string
		until time.Time
		said  Journal
		key   *Owner
		hosts []Host
		why   string
	}{
		{"over", now.Add(-time.Second), gave, key, there, ""},
		{"wanted", now.Add(time.Second), gave, key, there, "wanted until"},
		{"not given away", now, said(BEGIN, SEALED, COMMITTING), key, there, "does not say"},
		{"it came back since", now, append(at(9, BEGIN, READY, GO), gave...), key, there, "does not say"},
		{"no key", now, gave, nil, there, "nobody knows"},
		{"its key is here", now, gave, &Owner{Node: sNode}, there, "gives the VM to this host"},
		{"about to move", now, gave, &Owner{Node: dNode, Claim: "job"}, there, "about to move"},
		{"its host is gone", now, gave, key, nil, "last copy"},
		{"it is on another host than its key says", now, gave, &Owner{Node: "hv3"}, there, "last copy"},
	} {
		s := KeptDisk{Host: sNode, VM: VMRef{testVM, "web01"}, Until: c.until}
		got := s.MayPrune(now, c.said, c.key, c.hosts)
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%s: %q, want %q", c.name, got, c.why)
		}
	}
}
