package show

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
)

// Findings tells what an examination found, the worst first; what is in order
// only if all is asked for.
func Findings(found []jobs.Finding, all bool) string {
	rank := []jobs.Level{jobs.Bad, jobs.Warn, jobs.Good}
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b jobs.Finding) int {
		if d := slices.Index(rank, a.Level) - slices.Index(rank, b.Level); d != 0 {
			return d
		}
		return strings.Compare(a.Host, b.Host)
	})
	var b strings.Builder
	counts := map[jobs.Level]int{}
	for _, f := range found {
		if counts[f.Level]++; f.Level == jobs.Good && !all {
			continue
		}
		host := f.Host
		if host == "" {
			host = "bus"
		}
		fmt.Fprintf(&b, "%-4s %s: %s: %s\n", f.Level, host, f.Code, f.Text)
		if f.Next != "" {
			fmt.Fprintf(&b, "     %s\n", f.Next)
		}
	}
	fmt.Fprintf(&b, "%d bad, %d to be seen to, %d in order\n", counts[jobs.Bad], counts[jobs.Warn], counts[jobs.Good])
	return b.String()
}

// Shadows tells what hosts keep of VMs that moved away.
func Shadows(all []jobs.KeptDisk, now time.Time) string {
	t := newTable("vm", "host", "disk", "path", "size", "went to", "keep until", "kept because")
	for _, s := range all {
		until := At(s.Until)
		if !now.Before(s.Until) {
			until += " (over)"
		}
		name := s.VM.Name
		if name == "" {
			name = s.VM.UUID
		}
		t.row(name, s.Host, s.Disk, s.Path, Bytes(s.Size), dash(s.Went), until, dash(s.Needs))
	}
	return t.String()
}
