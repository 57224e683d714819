package node

import (
	"fmt"
	"os"
	"path/filepath"
)

// draftMark tells a file that is being written from all others; a file that
// waits for a job bears the job's id instead, see incoming.
const draftMark = ".xmig-draft-"

// writeDurably puts a file in place whole or not at all, also across power loss.
func writeDurably(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := createDraft(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func createDraft(path string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+draftMark+"*")
}

// drafts are the files being written now, and those whose writer died.
func (n *Node) drafts() []string {
	var all []string
	state := n.cfg.StateDir
	for _, dir := range []string{n.cfg.ConfigDir, n.cfg.AutostartDir, state, filepath.Join(state, "arrivals"),
		filepath.Join(state, "staged"), filepath.Join(state, "watched"), filepath.Join(state, "manifests")} {
		found, _ := filepath.Glob(filepath.Join(dir, ".*"+draftMark+"*")) // the pattern is right
		all = append(all, found...)
	}
	return all
}

// dropDrafts removes what a worker that died was writing: nothing refers to a
// draft, and what it was for is written anew. Only the holder of the state
// directory's lock may: everything is a dead writer's then.
func (n *Node) dropDrafts() {
	for _, d := range n.drafts() {
		if err := removeIfThere(d); err != nil {
			n.log.Warn().Err(err).Msg("a file that was being written when its writer died stays here; it does no harm")
		}
	}
}

// syncDir makes names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
