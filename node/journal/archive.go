package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// OldPath names the file that Archive moves entries to. Read reads it too.
func OldPath(path string) string { return path + ".old" }

// Archive moves the oldest entries, up to the first of an attempt that is not
// finished, to the old file and returns how many. What stays begins with an
// ARCHIVED entry that keeps the number and the highest epoch of what went.
// Only a leading run is moved: numbers stay without gaps, and so a lost line
// still shows. A crash in between leaves entries in both files; the next Archive
// sees that by their numbers.
func (j *Journal) Archive(finished func(attempt string) bool) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := openLocked(j.path)
	if err != nil {
		return 0, fmt.Errorf("archive journal: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", j.path, err)
	}
	entries, _, err := parse(j.path, content)
	if err != nil {
		return 0, fmt.Errorf("archive: %w", err)
	}
	count, fresh := 0, 0 // leading entries to move, of which not a mark
	for _, e := range entries {
		if e.Fact != FactArchived && !finished(e.Attempt) {
			break
		}
		count++
		if e.Fact != FactArchived {
			fresh++
		}
	}
	if fresh == 0 {
		return 0, nil
	}
	if err := j.appendOld(entries[:count]); err != nil {
		return 0, fmt.Errorf("archive %s: %w", j.path, err)
	}
	if err := j.replace(entries[:count], entries[count:]); err != nil {
		return 0, fmt.Errorf("archive %s: %w", j.path, err)
	}
	return fresh, nil
}

// appendOld puts those of moved that are not there yet behind the old file. Its
// lock is the journal's, which is held.
func (j *Journal) appendOld(moved []Entry) error {
	old, err := os.OpenFile(OldPath(j.path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer old.Close()
	content, err := io.ReadAll(old)
	if err != nil {
		return err
	}
	there, whole, err := parse(OldPath(j.path), content)
	if err != nil {
		return err
	}
	last := uint64(0)
	if len(there) > 0 {
		last = there[len(there)-1].Seq
	}
	var text bytes.Buffer
	for _, e := range moved {
		if e.Seq <= last {
			continue // moved before a crash, or the mark of what was
		}
		b, err := encode(e)
		if err != nil {
			return err
		}
		text.Write(b)
	}
	if err := write(old, text.Bytes(), int64(whole), len(content) > whole); err != nil {
		return errors.Join(err, old.Truncate(int64(whole)))
	}
	return syncDir(filepath.Dir(j.path))
}

// replace makes the journal the mark of moved followed by kept, in one rename.
// The new file is locked before it gets its name: who waits for the old one
// finds it gone and then waits for this one.
func (j *Journal) replace(moved, kept []Entry) error {
	mark, err := markFor(moved, OldPath(j.path))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, e := range append([]Entry{mark}, kept...) {
		b, err := encode(e)
		if err != nil {
			return err
		}
		text.Write(b)
	}
	temp := j.path + ".new" // one name: what a crash leaves is overwritten next time
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, j.path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(j.path))
}
