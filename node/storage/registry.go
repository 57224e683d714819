package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// recordVersion is the format of the registry's files. A file of a later version is refused.
const recordVersion = 1

// pending is a change that was begun: the intent.
type pending string

const (
	pendingNone   pending = ""
	pendingCreate pending = "create"
	pendingAdopt  pending = "adopt"
	pendingReturn pending = "return" // adopted, becoming a shadow again
	pendingShadow pending = "shadow"
	pendingRemove pending = "remove"
	pendingSettle pending = "settle"
)

// Record is what the registry keeps about one volume. Place identifies it: one
// record per name that guests' configurations use.
type Record struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"`    // random; repeated in the tag on the volume
	Place     string    `json:"place"` // the active name: resolved for files, /dev/GROUP/NAME for logical volumes, as given for devices
	Kind      Kind      `json:"kind"`
	Role      Role      `json:"role"`
	Pending   pending   `json:"pending,omitempty"`
	Job       string    `json:"job"`
	VM        string    `json:"vm"`
	Disk      string    `json:"disk"`
	Time      time.Time `json:"time"`
	Host      string    `json:"host,omitempty"`
	KeepUntil time.Time `json:"keep_until,omitzero"`
	Size      int64     `json:"size"`
	Identity  Identity  `json:"identity,omitzero"`
	Before    *Tag      `json:"before,omitempty"` // adopted shadow: what it was and will be again if the job goes back
	Dirs      []string  `json:"dirs,omitempty"`   // directories made for it, outermost first
}

// Tag returns the record as others see it.
func (r Record) Tag() *Tag {
	return &Tag{
		Job: r.Job, VM: r.VM, Disk: r.Disk, Role: r.Role, Time: r.Time,
		Host: r.Host, KeepUntil: r.KeepUntil, Pending: string(r.Pending),
	}
}

// kept is the name of the volume as shadow. A block device has just one name.
func (r Record) kept() string {
	switch r.Kind {
	case KindFile:
		return r.Place + shadowSuffix
	case KindLVM:
		n, _ := lvNameOf(r.Place)
		return n.shadow().path()
	}
	return r.Place
}

// grows tells whether the volume may be made larger: a file, what xmig made, and a
// shadow that it adopted. Any other device has the size that its owner gave it.
func (r Record) grows() bool {
	return r.Kind == KindFile || r.Kind == KindLVM && (r.Role != RoleAdopted || r.Before != nil)
}

// sameDisk tells whether the record is about this disk of this VM.
func (r Record) sameDisk(vm, disk string) bool { return r.VM == vm && r.Disk == disk }

// holder names who has the volume, for errors.
func (r Record) holder() string {
	switch r.Role {
	case RoleShadow:
		return fmt.Sprintf("shadow of disk %s of vm %s, which went to %s (job %s)", r.Disk, r.VM, r.Host, r.Job)
	default:
		return fmt.Sprintf("%s by job %s for disk %s of vm %s since %s", r.Role, r.Job, r.Disk, r.VM, r.Time.Format(time.RFC3339))
	}
}

// newID returns a name that nobody else uses: 26 letters and digits, 130 random bits.
func newID() string { return rand.Text() }

// directory keeps values as small JSON files, one per key. A file is replaced
// in one rename and is on disk when put returns.
type directory[T any] struct{ path string }

func (d directory[T]) file(key string) string { return filepath.Join(d.path, fileKey(key)+".json") }

// put stores v under key.
func (d directory[T]) put(key string, v T) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("registry: encode %s: %w", key, err)
	}
	name := d.file(key)
	temp := name + ".new" // changes are under the lock: one name suffices, a crash's rest is overwritten
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("registry: %w", err), os.Remove(temp))
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(fmt.Errorf("registry: %w", err), os.Remove(temp))
	}
	if err := syncDir(d.path); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// read returns the value in the file name; ok is false if there is none.
func (d directory[T]) read(name string) (v T, ok bool, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, fmt.Errorf("registry: %w", err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, false, fmt.Errorf("registry: %s is damaged, look at it and at the volume that it names, then move it away: %w", name, err)
	}
	return v, true, nil
}

// remove forgets key; it may be gone already.
func (d directory[T]) remove(key string) error {
	if err := os.Remove(d.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("registry: %w", err)
	}
	if err := syncDir(d.path); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// all returns everything stored, in the order of the file names.
func (d directory[T]) all() ([]T, error) {
	names, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	var out []T
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".json") {
			continue
		}
		v, ok, err := d.read(filepath.Join(d.path, n.Name()))
		if err != nil {
			return nil, err
		}
		if ok { // else removed since ReadDir
			out = append(out, v)
		}
	}
	return out, nil
}

// records returns the registry, ordered by place.
func (h *Host) records() ([]Record, error) {
	all, err := h.volumes.all()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Version != recordVersion {
			return nil, fmt.Errorf("registry: record of %s has version %d, this program writes %d: use the program that wrote it", r.Place, r.Version, recordVersion)
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Place, b.Place) })
	return all, nil
}

// fileKey makes a file name of a key: its end, for people who list the directory,
// and enough of its digest to tell any two keys apart.
func fileKey(key string) string {
	digest := sha256.Sum256([]byte(key))
	tail := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			return c
		}
		return '_'
	}, filepath.Base(key))
	return tail[:min(len(tail), 40)] + "-" + hex.EncodeToString(digest[:12])
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
