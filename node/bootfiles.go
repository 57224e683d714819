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

// receiveFile takes one boot file in, beside its final name.
func (n *Node) receiveFile(ctx context.Context, a *arrival, channel string, f jobs.BootFile) {
	defer a.done.Done()
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
	if err != nil && ctx.Err() == nil {
		a.mu.Lock()
		a.failed = fmt.Errorf("%s: %w", f.Path, err)
		a.mu.Unlock()
	}
}

// installBootFiles gives the files that were sent their names; one that came
// to be there meanwhile is left alone.
func (n *Node) installBootFiles(job jobs.Job) error {
	for _, f := range job.Plan.Guest.BootFiles {
		if !f.Send {
			continue
		}
		err := os.Link(incoming(job, f.Path), f.Path)
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := removeIfThere(incoming(job, f.Path)); err != nil {
			return err
		}
	}
	return nil
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
