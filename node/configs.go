package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"xmig/jobs"
	"xmig/xen"
)

// The way of a VM's config file: staged at the destination before anything is
// stopped, installed after the guest runs there, parked at the source last.

func (n *Node) stagedPath(job jobs.Job) string {
	return filepath.Join(n.cfg.StateDir, "staged", job.ID+".cfg")
}

// stage writes the config as it will be here: disks and bridges mapped, every
// other byte as it was.
func (n *Node) stage(job jobs.Job) error {
	if len(job.Plan.Guest.ConfigText) == 0 {
		return nil
	}
	text, err := mapConfig(job.Plan.Guest.ConfigText, job)
	if err != nil {
		return err
	}
	return writeDurably(n.stagedPath(job), text, 0o600)
}

// mapConfig rewrites disks and bridges of a config file for the destination.
func mapConfig(text []byte, job jobs.Job) ([]byte, error) {
	cfg, err := xen.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	disks, _ := cfg.List("disk")
	for i, spec := range disks {
		d, err := xen.ParseDisk(spec)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i+1, err)
		}
		if to := mapped(job, d.Target); to != d.Target {
			if err := cfg.SetListItem("disk", i, d.WithTarget(to)); err != nil {
				return nil, err
			}
		}
	}
	vifs, _ := cfg.List("vif")
	for i, spec := range vifs {
		v, err := xen.ParseVIF(spec)
		if err != nil {
			return nil, fmt.Errorf("vif %d: %w", i+1, err)
		}
		if to := job.Spec.Map.Bridge(v.Bridge); to != v.Bridge {
			if err := cfg.SetListItem("vif", i, v.WithBridge(to)); err != nil {
				return nil, err
			}
		}
	}
	return cfg.Bytes(), nil
}

func mapped(job jobs.Job, path string) string {
	for _, d := range job.Plan.Disks {
		if d.From == path {
			return d.To
		}
	}
	return path
}

// mapDomain rewrites disks and bridges in the JSON of a saved domain. Without
// anything to map the bytes stay as they are.
func mapDomain(text []byte, job jobs.Job) ([]byte, error) {
	if len(job.Spec.Map.Disks) == 0 && len(job.Spec.Map.Bridges) == 0 {
		return text, nil
	}
	var cfg map[string]any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&cfg); err != nil {
		return nil, fmt.Errorf("config in the saved domain: %w", err)
	}
	each(cfg["disks"], "pdev_path", func(p string) string { return mapped(job, p) })
	each(cfg["nics"], "bridge", job.Spec.Map.Bridge)
	return json.Marshal(cfg)
}

func each(list any, key string, change func(string) string) {
	items, _ := list.([]any)
	for _, it := range items {
		if m, ok := it.(map[string]any); ok {
			if s, ok := m[key].(string); ok {
				m[key] = change(s)
			}
		}
	}
}

// install puts the staged config and the autostart link in place.
func (n *Node) install(job jobs.Job) error {
	if job.Plan.Config == "" {
		return nil
	}
	text, err := os.ReadFile(n.stagedPath(job))
	if errors.Is(err, fs.ErrNotExist) { // installed before a crash
		_, err = os.Stat(job.Plan.Config)
		return err
	}
	if err != nil {
		return err
	}
	if err := writeDurably(job.Plan.Config, text, 0o644); err != nil {
		return err
	}
	if err := n.installBootFiles(job); err != nil {
		return err
	}
	if link := job.Plan.Guest.AutostartLink; link != "" {
		if err := n.link(filepath.Base(link), n.autostartText(job)); err != nil {
			return err
		}
	}
	return os.Remove(n.stagedPath(job))
}

// autostartText is what the link says here: as it was said there, unless that
// leads elsewhere because the config directory is another one.
func (n *Node) autostartText(job jobs.Job) string {
	text := job.Plan.Guest.AutostartText
	at := text
	if !filepath.IsAbs(at) {
		at = filepath.Join(n.cfg.AutostartDir, at)
	}
	if filepath.Clean(at) == filepath.Clean(job.Plan.Config) {
		return text
	}
	return job.Plan.Config
}

func (n *Node) link(name, text string) error {
	path := filepath.Join(n.cfg.AutostartDir, name)
	if have, err := os.Readlink(path); err == nil && have == text {
		return nil
	}
	if err := os.MkdirAll(n.cfg.AutostartDir, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(text, path); err != nil {
		return fmt.Errorf("autostart link: %w", err)
	}
	return syncDir(n.cfg.AutostartDir)
}

// autostart is a link that was taken away, as it was.
type autostart struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// disarm takes the autostart link away before the source commits: from then on
// a reboot of this host must not start a second copy.
func (n *Node) disarm(h *held, job jobs.Job) error {
	path := job.Plan.Guest.AutostartLink
	if path == "" {
		return nil
	}
	if err := h.say(job, factDisarmed, autostart{Path: path, Text: job.Plan.Guest.AutostartText}); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return jobs.RetryLater(jobs.CodeStorage, "take the autostart link of vm %s away on %s: %w", job.VM.Name, h.node, err)
	}
	return syncDir(filepath.Dir(path))
}

// rearm puts the autostart link back after the source went back.
func (n *Node) rearm(h *held, job jobs.Job) error {
	var was autostart
	if there, err := h.told(factDisarmed, job.Epoch, &was); !there || err != nil {
		return err
	}
	if _, err := os.Lstat(was.Path); err == nil {
		return nil
	}
	return n.link(filepath.Base(was.Path), was.Text)
}

// parkedSuffix marks a config whose VM moved away; nothing starts it.
const parkedSuffix = ".migrated-to-"

// park takes the source's config out of the way, kept for people to read. The
// newest one is kept.
func (n *Node) park(job jobs.Job) error {
	path := job.Plan.Guest.Config
	if path == "" {
		return nil
	}
	err := os.Rename(path, path+parkedSuffix+job.Destination)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return jobs.RetryLater(jobs.CodeStorage, "park the config of vm %s on %s: %w", job.VM.Name, n.cfg.Name, err)
	}
	return syncDir(filepath.Dir(path))
}
