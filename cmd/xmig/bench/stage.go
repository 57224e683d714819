package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Stage is a disk at the source and its counterpart at the destination, both
// files in one directory.
type Stage struct {
	Name                string
	Source, Destination string
	Image               Image

	changed []change // of the source, since it was written
	equal   bool     // both were compared, and nobody wrote since
}

type change struct {
	at  int64
	old []byte
}

// NewStage writes the image at the source; the destination is all zeroes, written.
func NewStage(dir, name string, m Image) (*Stage, error) {
	s := &Stage{Name: name, Source: filepath.Join(dir, name+".source"), Destination: filepath.Join(dir, name+".destination"), Image: m}
	err := onFile(s.Source, func(f *os.File) error { return m.Write(f) })
	if err == nil {
		err = s.Blank()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image %s: %w", name, err), s.Remove())
	}
	return s, nil
}

// onFile opens a file for changes and puts them on the disk.
func onFile(path string, do func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = do(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Lane is a lane of this disk alone.
func (s *Stage) Lane() []Lane {
	return []Lane{{Job: "bench", Disks: []Disk{s.Disk()}}}
}

// Disk is this disk as part of a lane.
func (s *Stage) Disk() Disk {
	return Disk{Name: s.Name, Source: s.Source, Destination: s.Destination}
}

// piece is how much is read and written at a time.
const piece = 1 << 20

// Blank writes zeroes over the whole destination.
func (s *Stage) Blank() error {
	s.equal = false
	return onFile(s.Destination, func(f *os.File) error {
		zeroes := make([]byte, piece)
		for at := int64(0); at < s.Image.Size; at += piece {
			if _, err := f.WriteAt(zeroes[:min(piece, s.Image.Size-at)], at); err != nil {
				return err
			}
		}
		return nil
	})
}

// Fresh makes the destination a new file that holds nothing, as a volume that
// was made for a migration does.
func (s *Stage) Fresh() error {
	s.equal = false
	return onFile(s.Destination, func(f *os.File) error { return errors.Join(f.Truncate(0), f.Truncate(s.Image.Size)) })
}

// Change gives spans of the source new random content.
func (s *Stage) Change(spans []Span, seed uint64) error {
	s.equal = s.equal && len(spans) == 0
	return onFile(s.Source, func(f *os.File) error {
		for i, p := range spans {
			c := change{at: p.Offset, old: make([]byte, p.Length)}
			if _, err := f.ReadAt(c.old, p.Offset); err != nil {
				return err
			}
			fresh := make([]byte, p.Length)
			fillRandom(fresh, seed+uint64(i))
			if _, err := f.WriteAt(fresh, p.Offset); err != nil {
				return err
			}
			s.changed = append(s.changed, c)
		}
		return nil
	})
}

// Undo gives the source the content back that it was written with, and the
// destination too if it was seen to be equal.
func (s *Stage) Undo() error {
	back := func(f *os.File) error {
		for i := len(s.changed) - 1; i >= 0; i-- {
			if _, err := f.WriteAt(s.changed[i].old, s.changed[i].at); err != nil {
				return err
			}
		}
		return nil
	}
	err := onFile(s.Source, back)
	if err == nil && s.equal {
		err = onFile(s.Destination, back)
	}
	if err == nil {
		s.changed = nil
	}
	return err
}

// Equalize makes the destination equal to the source.
func (s *Stage) Equalize() error {
	if s.equal {
		return nil
	}
	err := s.walk(func(dst *os.File, at int64, a, b []byte) error {
		if bytes.Equal(a, b) {
			return nil
		}
		_, err := dst.WriteAt(a, at)
		return err
	})
	s.equal = err == nil
	return err
}

// Compare reports the first difference between source and destination.
func (s *Stage) Compare() error {
	err := s.walk(func(_ *os.File, at int64, a, b []byte) error {
		if bytes.Equal(a, b) {
			return nil
		}
		for i := range a {
			if a[i] != b[i] {
				return fmt.Errorf("%s differs from %s at byte %d: the copy is wrong", s.Destination, s.Source, at+int64(i))
			}
		}
		return nil
	})
	s.equal = err == nil
	return err
}

func (s *Stage) walk(do func(dst *os.File, at int64, a, b []byte) error) error {
	src, err := os.Open(s.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	return onFile(s.Destination, func(dst *os.File) error {
		a, b := make([]byte, piece), make([]byte, piece)
		for at := int64(0); at < s.Image.Size; at += piece {
			n := min(piece, s.Image.Size-at)
			if _, err := io.ReadFull(io.NewSectionReader(src, at, n), a[:n]); err != nil {
				return err
			}
			if _, err := io.ReadFull(io.NewSectionReader(dst, at, n), b[:n]); err != nil {
				return err
			}
			if err := do(dst, at, a[:n], b[:n]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove takes both files away.
func (s *Stage) Remove() error {
	var errs []error
	for _, p := range []string{s.Source, s.Destination} {
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
