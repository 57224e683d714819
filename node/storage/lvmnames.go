package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// lvName names a logical volume: the volume group's name and its own.
type lvName struct{ group, volume string }

// path is the name under which records and configurations know the volume.
func (n lvName) path() string { return "/dev/" + n.group + "/" + n.volume }

// arg is the name as commands of lvm2 take it.
func (n lvName) arg() string { return n.group + "/" + n.volume }

// mapped is the name that the device mapper gives the volume.
func (n lvName) mapped() string { return doubled(n.group) + "-" + doubled(n.volume) }

func doubled(s string) string { return strings.ReplaceAll(s, "-", "--") }

// unmapped is the inverse of mapped. Names with more than one single dash are
// of layers below a volume (vg0-d1-real) or none of LVM's.
func unmapped(s string) (lvName, bool) {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '-':
			part.WriteByte(s[i])
		case strings.HasPrefix(s[i:], "--"):
			part.WriteByte('-')
			i++
		default:
			parts = append(parts, part.String())
			part.Reset()
		}
	}
	if len(parts) != 1 {
		return lvName{}, false
	}
	n := lvName{parts[0], part.String()}
	return n, n.plain()
}

// lvNameOf reads a path of one of the two forms that LVM's volumes have below
// /dev. It says nothing about whether there is such a volume, or could be.
func lvNameOf(path string) (lvName, bool) {
	rest, ok := strings.CutPrefix(filepath.Clean(path), "/dev/")
	if !ok {
		return lvName{}, false
	}
	group, volume, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(volume, "/") {
		return lvName{}, false
	}
	if group == "mapper" {
		return unmapped(volume)
	}
	n := lvName{group, volume}
	return n, n.plain()
}

// lvNameAt is the logical volume that path means where no device is: by what it
// leads to, or as it was given, if a symlink was left behind by a volume.
func lvNameAt(path, real string) (lvName, bool) {
	if n, ok := lvNameOf(real); ok {
		return n, true
	}
	return lvNameOf(path)
}

// Limits of lvm2 2.03 and of the device mapper, in bytes.
const (
	maxLVName     = 124 // of both names together
	maxMappedName = 127
)

var (
	plainName = regexp.MustCompile(`^[a-zA-Z0-9_+.][a-zA-Z0-9_+.-]*$`)
	// reservedName is what lvm2 keeps for itself: parts of mirrors, pools and snapshots.
	reservedName = regexp.MustCompile(`^(snapshot|pvmove)|_(cdata|cmeta|corig|cpool|cvol|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|vorigin)`)
)

// plain tells whether both are made of what lvm2 allows in names.
func (n lvName) plain() bool {
	for _, s := range []string{n.group, n.volume} {
		if !plainName.MatchString(s) || s == "." || s == ".." {
			return false
		}
	}
	return true
}

// check says why lvm2 would not take the names.
func (n lvName) check() error {
	switch {
	case !n.plain():
		return fmt.Errorf("%s cannot be the name of a logical volume: %w", n.path(), ErrUnfit)
	case reservedName.MatchString(n.volume):
		return fmt.Errorf("lvm2 keeps names like %q for itself: %w", n.volume, ErrUnfit)
	case len(n.group)+len(n.volume) > maxLVName || len(n.mapped()) > maxMappedName:
		return fmt.Errorf("%s is longer than lvm2 allows: %w", n.path(), ErrUnfit)
	}
	return nil
}

// shadow is the name under which the volume is kept after its VM moved away.
// One that would become too long loses its end to a digest of the whole.
func (n lvName) shadow() lvName {
	s := lvName{n.group, n.volume + shadowSuffix}
	digest := sha256.Sum256([]byte(n.volume))
	for cut := len(n.volume); s.check() != nil && cut > 0; cut-- {
		s.volume = n.volume[:cut-1] + "." + hex.EncodeToString(digest[:6]) + shadowSuffix
	}
	return s
}
