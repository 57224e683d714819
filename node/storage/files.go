package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// files is the pool of raw files on one file system.
type files struct {
	dir    string // an existing directory on it
	device uint64
	name   string
	at     func(point string) // Host.at
}

// newFiles returns the pool that a file at place is in or would be in.
func newFiles(place string, at func(string)) (*files, error) {
	dir := filepath.Dir(place)
	for {
		fi, err := os.Stat(dir)
		if err == nil && !fi.IsDir() {
			return nil, fmt.Errorf("%s: %s is not a directory: %w", place, dir, ErrUnfit)
		}
		if err == nil {
			st, ok := fi.Sys().(*syscall.Stat_t)
			if !ok {
				return nil, fmt.Errorf("%s: no file status", dir)
			}
			p := &files{dir: dir, device: uint64(st.Dev), at: at}
			p.name = fileSystemName(dir)
			return p, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return nil, err
		}
		dir = filepath.Dir(dir)
	}
}

func (p *files) Kind() Kind   { return KindFile }
func (p *files) Name() string { return p.name }
func (p *files) Key() string {
	return fmt.Sprintf("fs %d:%d", unix.Major(p.device), unix.Minor(p.device))
}

// Free counts what an ordinary user could take: the part that a file system keeps for root stays out.
func (p *files) Free(context.Context) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, err)
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Bavail) * unit, nil
}

// Cost leaves the file system's own tables out; the reserve covers them.
func (p *files) Cost(_ context.Context, size int64) (int64, error) {
	return roundUp(size, fileSector), nil
}

func (p *files) Taken(_ context.Context, r Record) (int64, error) {
	for _, path := range []string{r.Place, ShadowPath(r.Place)} {
		f, err := openOwn(r, path)
		if err != nil {
			return 0, err
		}
		if f == nil {
			continue
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return 0, err
		}
		return st.Blocks * 512, nil
	}
	return 0, nil
}

func (p *files) Find(_ context.Context, r Record) (Position, error) {
	for _, at := range []struct {
		path string
		pos  Position
	}{{r.Place, Active}, {ShadowPath(r.Place), Shadowed}} {
		f, err := openOwn(r, at.path)
		if err != nil {
			return Absent, err
		}
		if f != nil {
			return at.pos, f.Close()
		}
	}
	return Absent, nil
}

// draft is the name of a file that is not finished. It contains the record's
// random ID: a file of that name is ours for certain.
func draft(r Record) string { return r.Place + ".xmig-" + r.ID }

func (p *files) Make(ctx context.Context, r Record, learn func(Identity) error) error {
	pos, err := p.Find(ctx, r)
	if err != nil {
		return err
	}
	if err := removeIfThere(draft(r)); err != nil {
		return err
	}
	if pos == Active {
		return syncDir(filepath.Dir(r.Place))
	}
	for _, dir := range r.Dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	id, err := p.makeDraft(r)
	if err != nil {
		return err
	}
	p.at("create: draft made")
	if err := learn(id); err != nil {
		return err
	}
	p.at("create: draft known")
	if err := moveNoReplace(draft(r), r.Place); err != nil {
		return err
	}
	return syncDir(filepath.Dir(r.Place))
}

func (p *files) makeDraft(r Record) (Identity, error) {
	f, err := os.OpenFile(draft(r), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Identity{}, err
	}
	defer f.Close()
	if err := writeTag(f, markOf(r)); err != nil {
		return Identity{}, err
	}
	if err := f.Truncate(roundUp(r.Size, fileSector)); err != nil {
		return Identity{}, err
	}
	if err := f.Sync(); err != nil {
		return Identity{}, err
	}
	id, err := identify(f)
	if err != nil {
		return Identity{}, err
	}
	if _, err := readTag(f); errors.Is(err, errNoTags) && id.Birth == 0 {
		return Identity{}, fmt.Errorf("%s keeps neither extended attributes nor times of birth: a file made there could not be told from another: %w", p.name, ErrUnfit)
	}
	return id, nil
}

func (p *files) Resize(_ context.Context, r Record) error {
	f, err := openOwn(r, r.Place)
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("%s: %w", r.Place, ErrMissing)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if want := roundUp(r.Size, fileSector); fi.Size() < want {
		if err := f.Truncate(want); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (p *files) Move(_ context.Context, r Record, to Position) error {
	target, other := r.Place, ShadowPath(r.Place)
	if to == Shadowed {
		target, other = other, target
	}
	there, err := openOwn(r, target)
	if err != nil {
		return err
	}
	if there != nil {
		defer there.Close()
		if err := retag(there, r); err != nil {
			return err
		}
		// A move by link and unlink may have been cut between the two.
		if rest, err := openOwn(r, other); err != nil || rest == nil {
			return errors.Join(err, syncDir(filepath.Dir(r.Place)))
		} else if err := errors.Join(rest.Close(), os.Remove(other)); err != nil {
			return err
		}
		return syncDir(filepath.Dir(r.Place))
	}
	from, err := openOwn(r, other)
	if err != nil {
		return err
	}
	if from == nil {
		return fmt.Errorf("%s: neither it nor %s is the volume that the registry names: %w", r.Place, ShadowPath(r.Place), ErrMissing)
	}
	defer from.Close()
	if err := retag(from, r); err != nil {
		return err
	}
	p.at("move: tagged")
	if err := moveNoReplace(other, target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(r.Place))
}

// retag makes the tag on f say what r says, durably.
func retag(f *os.File, r Record) error {
	if err := writeTag(f, markOf(r)); err != nil {
		return err
	}
	return f.Sync()
}

func (p *files) Release(_ context.Context, r Record) error {
	f, err := openOwn(r, r.Place)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	if err := dropTag(f); err != nil {
		return err
	}
	return f.Sync()
}

func (p *files) Remove(_ context.Context, r Record) error {
	if err := removeIfThere(draft(r)); err != nil {
		return err
	}
	for _, path := range []string{r.Place, ShadowPath(r.Place)} {
		f, err := openOwn(r, path)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		tag, err := readTag(f)
		if cerr := f.Close(); cerr != nil {
			return cerr
		}
		// No tag where there can be none: openOwn has compared all else.
		if err != nil && !errors.Is(err, errNoTags) {
			return err
		}
		if tag != nil && (tag.Role != r.Role || tag.Job != r.Job) {
			return fmt.Errorf("%s: its tag says %s by job %s, the registry says %s by job %s: not removed, look at it: %w", path, tag.Role, tag.Job, r.Role, r.Job, ErrTaken)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := syncIfThere(filepath.Dir(r.Place)); err != nil {
		return err
	}
	for _, dir := range slices.Backward(r.Dirs) {
		err := os.Remove(dir)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
			break // somebody else uses it by now
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncIfThere(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// moveNoReplace renames from to to, where nothing may be.
func moveNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		// File systems without that flag: a link never replaces either. A crash
		// between the two leaves two names of one inode, which Make and Move mend.
		if err = os.Link(from, to); err == nil {
			err = os.Remove(from)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is not xmig's: move it away: %w", to, ErrTaken)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	return nil
}

func syncIfThere(dir string) error {
	if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
