package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xmig/xen/xlsim"
)

// TestDraftsOfTheDead: what a worker was writing when it died goes at the next
// start, wherever it was; a file that waits for a job stays.
func TestDraftsOfTheDead(t *testing.T) {
	w := newWorld(t)
	b := w.host("b")
	vm := b.config(xlsim.GuestSpec{Name: "web01"}, mib)
	waiting := filepath.Join(b.cfg.ConfigDir, ".vmlinuz.xmig-"+job1)
	write(t, waiting, "KERNEL")
	for _, whole := range []string{b.etc("web02.cfg"), b.sessionPath(job1), b.watchedPath(vm), b.manifests.file("/dev/vg0/a"), filepath.Join(b.cfg.StateDir, "home")} {
		must(t, os.MkdirAll(filepath.Dir(whole), 0o700))
		f, err := createDraft(whole)
		must(t, err)
		must(t, f.Close())
	}
	equal(t, "drafts", len(b.drafts()), 5)
	b.dropDrafts()
	equal(t, "drafts left", strings.Join(b.drafts(), " "), "")
	equal(t, "what waits for a job", read(t, waiting), "KERNEL")
	equal(t, "a config", strings.Contains(read(t, b.etc("web01.cfg")), "web01"), true)
}
