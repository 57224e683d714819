package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"xmig/jobs"
	"xmig/node/storage"
)

// manifest is what a host keeps of a copy that was equal at both ends: the root of
// the pass that found it so, and the witness that nothing was written since. If both
// hosts still have theirs, a later pass ends without reading.
type manifest struct {
	Path    string          `json:"path"`
	Root    jobs.Digest     `json:"root"`
	Witness storage.Witness `json:"witness"`
	At      time.Time       `json:"at"`
}

// manifests lie in the state directory, one per device or file. A lost or
// broken one costs a pass that reads.
type manifests struct {
	dir string
	log zerolog.Logger
}

func (m manifests) file(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // one device has many names
	}
	return filepath.Join(m.dir, fmt.Sprintf("%x.json", sha256.Sum256([]byte(path))))
}

// load returns what is kept of path, whether it still holds or not.
func (m manifests) load(path string) (manifest, bool) {
	data, err := os.ReadFile(m.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, false
	}
	var k manifest
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		m.log.Warn().Err(err).Str("file", m.file(path)).Msg("manifest is not readable: the disk is read again")
		return manifest{}, false
	}
	return k, true
}

// root is that of the last pass over path, if nothing was written since; else zero.
func (m manifests) root(ctx context.Context, path string) (root [32]byte) {
	k, ok := m.load(path)
	if !ok {
		return root
	}
	if now, ok := m.witness(ctx, path); ok && now == k.Witness {
		return k.Root
	}
	return root
}

// witness is what the kernel says now; false: it does not tell.
func (m manifests) witness(ctx context.Context, path string) (storage.Witness, bool) {
	w, err := storage.TakeWitness(ctx, path)
	if err != nil {
		m.log.Debug().Err(err).Msg("no manifest")
		return "", false
	}
	return w, true
}

// keep stores that path had the content of this root when the witness was taken.
func (m manifests) keep(path string, root [32]byte, w storage.Witness) {
	data, err := json.Marshal(manifest{Path: path, Root: root, Witness: w, At: time.Now().UTC()})
	if err == nil {
		err = writeDurably(m.file(path), data, 0o600)
	}
	if err != nil {
		m.log.Warn().Err(err).Str("disk", path).Msg("manifest not stored: the next pass reads the disk again")
	}
}
