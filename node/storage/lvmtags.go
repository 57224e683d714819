package storage

import (
	"fmt"
	"slices"
	"strings"
)

// The tag of a logical volume is a handful of LVM's own tags, one for each part,
// so that `lvs -o +lv_tags` tells whose a volume is and can select by it.
const (
	lvTagPrefix = "xmig."
	lvTagID     = lvTagPrefix + "id="
	lvTagRole   = lvTagPrefix + "role="
	lvTagJob    = lvTagPrefix + "job="
)

// maxLVTag bounds a part: lvm2 takes tags of 1024 bytes.
const maxLVTag = 1000

// lvTags is what the volume of r bears.
func lvTags(r Record) []string {
	t := markOf(r)
	all := []string{lvTagID + t.ID, lvTagJob + t.Job, lvTagPrefix + "vm=" + t.VM, lvTagPrefix + "disk=" + t.Disk, lvTagRole + string(t.Role)}
	for i, tag := range all {
		tag = lvTagText(tag)
		all[i] = tag[:min(len(tag), maxLVTag)]
	}
	return all
}

// lvTagText writes what lvm2 does not take in tags as #XX.
func lvTagText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+.-/=!:&", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "#%02X", c)
		}
	}
	return b.String()
}

// lvTagged returns the ID that a volume's tags carry, "" if there is none.
func lvTagged(tags []string) string {
	for _, t := range tags {
		if id, ok := strings.CutPrefix(t, lvTagID); ok {
			return id
		}
	}
	return ""
}

// retagging returns the options of lvchange that turn the tags have into those of
// want, which leave foreign tags alone. None if all is as it should be.
func retagging(have, want []string) []string {
	var options []string
	for _, t := range have {
		if strings.HasPrefix(t, lvTagPrefix) && !slices.Contains(want, t) {
			options = append(options, "--deltag", t)
		}
	}
	for _, t := range want {
		if !slices.Contains(have, t) {
			options = append(options, "--addtag", t)
		}
	}
	return options
}

// isOwnLV decides whether l is the volume of r. The UUID says which volume it is;
// the tag, that nobody took it from us.
func isOwnLV(r Record, l logical) bool {
	id := lvTagged(l.tags)
	switch {
	case r.Identity.Stable == "":
		// Made, but not learned yet: the tag was on it from the start.
		return id == r.ID && l.name.path() == r.Place
	case l.stable != r.Identity.Stable:
		return false
	case id != "":
		return id == r.ID
	}
	// Untagged: ours only where the intent stands and the tag is its effect
	// (adopt, shadow), or the tag's removal is (settle).
	return r.Pending == pendingAdopt || r.Pending == pendingShadow || r.Pending == pendingSettle
}

// removable fails if the tags of the volume do not say the same as r about whose it is.
func removable(r Record, l logical) error {
	for _, want := range lvTags(r) {
		part, _, _ := strings.Cut(want, "=")
		if part+"=" != lvTagRole && part+"=" != lvTagJob {
			continue
		}
		if !slices.Contains(l.tags, want) {
			return fmt.Errorf("%s: its tags (%s) do not say %s as the registry does: not removed, look at it: %w", l.name.path(), strings.Join(l.tags, ","), want, ErrTaken)
		}
	}
	return nil
}
