package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"

	"xmig/blocksync"
	"xmig/jobs"
)

// digestFile reads a file that the next boot needs.
func digestFile(key, path string) (jobs.BootFile, error) {
	if info, err := os.Stat(path); err != nil {
		return jobs.BootFile{}, err
	} else if !info.Mode().IsRegular() { // to open a pipe would wait for ever
		return jobs.BootFile{}, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return jobs.BootFile{}, err
	}
	defer f.Close()
	h := blake3.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return jobs.BootFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	b := jobs.BootFile{Key: key, Path: path, Size: size}
	h.Sum(b.Digest[:0])
	return b, nil
}

// incoming is where a boot file waits until the VM is this host's. The name
// says whose it is, so that taking the job back removes just that.
func incoming(job jobs.Job, path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".xmig-"+job.ID)
}

// receiveFiles takes in the boot files that were missing here, and returns how many.
func (a *arrival) receiveFiles() (n int) {
	for i, f := range a.job.Plan.Guest.BootFiles {
		if f.Send {
			n++
			a.run(func(ctx context.Context) { a.receiveFile(ctx, fileChannel(i), f) })
		}
	}
	return n
}

// receiveFile takes one boot file in, beside its final name.
func (a *arrival) receiveFile(ctx context.Context, channel string, f jobs.BootFile) {
	err := func() error {
		out, err := os.OpenFile(incoming(a.job, f.Path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer out.Close()
		res, err := blocksync.ReceiveStream(ctx, a.lane.Channel(channel), out, blocksync.Settings{})
		if err == nil && jobs.Digest(res.Digest) != f.Digest {
			err = errors.New("its content changed on the way")
		}
		if err == nil {
			err = out.Sync()
		}
		return err
	}()
	if err != nil {
		a.fail(ctx, f.Path, err)
		return
	}
	a.note(func() { a.files-- })
}

// installBootFiles gives the files that were sent their names; one that came
// to be there meanwhile is left alone.
func (n *Node) installBootFiles(job jobs.Job) error {
	for _, f := range job.Plan.Guest.BootFiles {
		if !f.Send {
			continue
		}
		err := os.Link(incoming(job, f.Path), f.Path)
		switch _, there := os.Lstat(f.Path); {
		case errors.Is(err, fs.ErrNotExist) && there == nil, sameFile(incoming(job, f.Path), f.Path): // linked before a crash
		case errors.Is(err, fs.ErrExist):
			n.log.Warn().Str("job", job.ID).Str("vm", job.VM.Name).Str(f.Key, f.Path).Msg("is there by now, and was left as it is: the next boot reads it")
		case err != nil:
			return err
		}
		if err := syncDir(filepath.Dir(f.Path)); err != nil { // the link first, then the name it replaces
			return err
		}
		if err := removeIfThere(incoming(job, f.Path)); err != nil {
			return err
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func (n *Node) dropBootFiles(job jobs.Job) error {
	for _, f := range job.Plan.Guest.BootFiles {
		if f.Send {
			if err := removeIfThere(incoming(job, f.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
