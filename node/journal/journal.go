package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStale is wrapped when Append was asked for a number that is not the next:
// somebody wrote since the caller read. Read again, decide again.
var ErrStale = errors.New("journal has moved on")

// Path names the journal of vm below dir.
func Path(dir, vm string) (string, error) { return pathOf(dir, vm, ".journal") }

// LockPath names the lock of vm below dir, for Acquire.
func LockPath(dir, vm string) (string, error) { return pathOf(dir, vm, ".lock") }

func pathOf(dir, vm, suffix string) (string, error) {
	if vm == "" || vm[0] == '.' || strings.ContainsAny(vm, "/\x00\n") {
		return "", fmt.Errorf("%q does not name a VM: a UUID is expected", vm)
	}
	return filepath.Join(dir, vm+suffix), nil
}

// Read returns what the journal at path says, oldest first. A missing file is an
// empty journal. Everything returned is on disk, see the package comment.
func Read(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	entries, _, err := parse(path, content)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("read journal: what stands there may not be on disk: %w", err)
	}
	return entries, nil
}

// Journal appends to one file. It may be used by several goroutines, and the
// file by several processes. It holds no descriptor between calls, for Archive
// in another process replaces the file.
type Journal struct {
	path string

	mu     sync.Mutex
	broken error // set when a failed write could not be taken back
}

// Open returns the journal at path, which need not exist yet (its directory
// must). It fails with ErrDamaged where Read would.
func Open(path string) (*Journal, error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if _, err := Read(path); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{path: path}, nil
}

// Path returns the file's name.
func (j *Journal) Path() string { return j.path }

// Entries reads the journal anew.
func (j *Journal) Entries() ([]Entry, error) { return Read(j.path) }

// Append writes e behind everything that any process has written so far, and
// returns it as Read will. It sets Seq, and Time where that is zero. A Seq that
// is not zero is a condition: the entry is written only if it gets that number,
// else the error is ErrStale. After an error nothing of e is in the journal;
// if that could not be brought about, this Journal refuses to go on.
func (j *Journal) Append(e Entry) (Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return Entry{}, fmt.Errorf("append to %s: an earlier failure could not be taken back: %w", j.path, j.broken)
	}
	if e.Fact == "" || e.Fact == FactArchived {
		return Entry{}, fmt.Errorf("append to %s: %q is not a fact", j.path, e.Fact)
	}
	f, err := openLocked(j.path)
	if err != nil {
		return Entry{}, fmt.Errorf("append to journal: %w", err)
	}
	defer f.Close() // ends the short lock
	done, err := j.appendTo(f, e)
	if err != nil {
		return Entry{}, fmt.Errorf("append %s to %s: %w", e.Fact, j.path, err)
	}
	return done, nil
}

func (j *Journal) appendTo(f *os.File, e Entry) (Entry, error) {
	content, err := io.ReadAll(f)
	if err != nil {
		return Entry{}, err
	}
	entries, whole, err := parse(j.path, content)
	if err != nil {
		return Entry{}, err
	}
	next := uint64(1)
	if n := len(entries); n > 0 {
		next = entries[n-1].Seq + 1
	}
	if e.Seq != 0 && e.Seq != next {
		return Entry{}, fmt.Errorf("%w: the next entry is %d, not %d", ErrStale, next, e.Seq)
	}
	e.Seq = next
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	text, err := encode(e)
	if err != nil {
		return Entry{}, err
	}
	done, err := decode(text[:len(text)-1])
	if err != nil {
		return Entry{}, fmt.Errorf("this entry could not be read back: %w", err)
	}
	if len(content) == 0 {
		// Before the first byte: a file with content has a durable name,
		// whoever created it and died.
		if err := syncDir(filepath.Dir(j.path)); err != nil {
			return Entry{}, err
		}
	}
	if err := write(f, text, int64(whole), len(content) > whole); err != nil {
		return Entry{}, j.takeBack(f, int64(whole), err)
	}
	return done, nil
}

// write puts text at offset and on disk; torn says that a torn line is there now.
// That is cut off first: were it longer than text, its rest would stay behind it.
func write(f *os.File, text []byte, offset int64, torn bool) error {
	if torn {
		if err := f.Truncate(offset); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(text, offset); err != nil {
		return err
	}
	return f.Sync()
}

// takeBack removes what a failed write may have left. After a failed sync the
// kernel takes the pages for clean, so a later reader would trust what is not on disk.
func (j *Journal) takeBack(f *os.File, offset int64, cause error) error {
	if err := errors.Join(f.Truncate(offset), f.Sync()); err != nil {
		j.broken = err
		return fmt.Errorf("%w; taking it back: %w", cause, err)
	}
	return cause
}

// openLocked opens the journal at path for appending, created if missing, with
// the short lock on it, and makes sure that it still is the file of that name.
// The lock is held for one append or one Archive only, hence no context.
func openLocked(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		same, err := names(path, f)
		if err == nil && same {
			return f, nil
		}
		if cerr := f.Close(); err != nil || cerr != nil {
			return nil, errors.Join(err, cerr)
		}
	}
}

// names tells whether path is a name of the open file f.
func names(path string, f *os.File) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(open, named), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// archived is the data of an ARCHIVED entry.
type archived struct {
	Entries int    `json:"entries"` // moved by this Archive
	File    string `json:"file"`    // where to
}

func markFor(moved []Entry, old string) (Entry, error) {
	mark := Entry{Seq: moved[len(moved)-1].Seq, Time: moved[len(moved)-1].Time, Fact: FactArchived}
	for _, e := range moved {
		mark.Epoch = max(mark.Epoch, e.Epoch)
	}
	data, err := json.Marshal(archived{Entries: len(moved), File: filepath.Base(old)})
	mark.Data = data
	return mark, err
}
